// SPDX-License-Identifier: GPL-2.0

#include <linux/nmi.h>

__rust_helper void rust_helper_touch_nmi_watchdog(void)
{
	touch_nmi_watchdog();
}
