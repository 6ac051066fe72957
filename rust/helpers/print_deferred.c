// SPDX-License-Identifier: GPL-2.0

#include <linux/device.h>
#include <linux/printk.h>

__rust_helper void rust_helper_dev_err_deferred(const struct device *dev,
						const void *rust_fmt_argument)
{
	/* LOGLEVEL_SCHED defers; the level is then taken from the text. */
	dev_printk_emit(LOGLEVEL_SCHED, dev, KERN_ERR "%s %s: %pA",
			dev_driver_string(dev), dev_name(dev),
			rust_fmt_argument);
}
