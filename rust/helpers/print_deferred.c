// SPDX-License-Identifier: GPL-2.0

#include <linux/device.h>
#include <linux/preempt.h>
#include <linux/printk.h>

__rust_helper void rust_helper_dev_err_deferred(const struct device *dev,
						const void *rust_fmt_argument)
{
	/* LOGLEVEL_SCHED defers; the level is then taken from the text. */
	dev_printk_emit(LOGLEVEL_SCHED, dev, KERN_ERR "%s %s: %pA",
			dev_driver_string(dev), dev_name(dev),
			rust_fmt_argument);
}

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
