// SPDX-License-Identifier: GPL-2.0

//! Messages from where a console cannot be written to.
//!
//! A legacy console is written to by whoever prints, at once. If its driver then needs what the
//! printing context holds, that is a deadlock: a virtio console maps memory for DMA, so an IOMMU
//! driver must not write to it with a lock held that mapping takes.
//!
//! C header: [`include/linux/dev_printk.h`](srctree/include/linux/dev_printk.h)

use crate::{
    bindings,
    device::Device,
    fmt, //
};

/// Prints an error about a device; see [`dev_err_deferred!`](crate::dev_err_deferred).
pub fn dev_err(dev: &Device, msg: fmt::Arguments<'_>) {
    // SAFETY: `dev` is valid, and the function formats `msg`, as "%pA", before it returns.
    unsafe { bindings::dev_err_deferred(dev.as_raw(), core::ptr::from_ref(&msg).cast()) }
}

/// Prints an error-level message (level 3) prefixed with device information, like
/// [`dev_err!`](crate::dev_err), but leaves writing it to legacy consoles to an interrupt that
/// follows.
///
/// The message is in the kernel log at once. Any context, with any lock held.
///
/// # Examples
///
/// ```
/// use kernel::device::Device;
/// use kernel::dev_err_deferred;
///
/// fn refused(dev: &Device, status: u8) {
///     dev_err_deferred!(dev, "request failed with status {}\n", status);
/// }
/// ```
#[macro_export]
macro_rules! dev_err_deferred {
    ($dev:expr, $($f:tt)*) => {
        $crate::print_deferred::dev_err($dev.as_ref(), $crate::prelude::fmt!($($f)*))
    }
}
