// SPDX-License-Identifier: GPL-2.0

#include <linux/preempt.h>
#include <linux/printk.h>

/* With PREEMPT_RT, who prints does not write to legacy consoles in any case. */
__rust_helper void rust_helper_printk_defer(void)
{
	if (!IS_ENABLED(CONFIG_PREEMPT_RT)) {
		preempt_disable();
		printk_deferred_enter();
	}
}

__rust_helper void rust_helper_printk_defer_no_more(void)
{
	if (!IS_ENABLED(CONFIG_PREEMPT_RT)) {
		printk_deferred_exit();
		preempt_enable();
	}
}
