// SPDX-License-Identifier: GPL-2.0

//! Messages from where a console cannot be written to.
//!
//! A legacy console is written to by whoever prints, at once. If its driver then needs what the
//! printing context holds, that is a deadlock: a virtio console maps memory for DMA, so an IOMMU
//! driver must not write to it with a lock held that mapping takes.
//!
//! C headers: [`include/linux/dev_printk.h`](srctree/include/linux/dev_printk.h),
//! [`include/linux/printk.h`](srctree/include/linux/printk.h)

use crate::{
    bindings,
    device::Device,
    fmt,
    prelude::*,
    types::NotThreadSafe, //
};

/// While it exists, nothing that this CPU prints is written to legacy consoles at once; an
/// interrupt that follows does it.
///
/// For calls of C code that may print, in places where [`dev_err_deferred!`] is right for one's own
/// messages. Keep it short, and do not sleep: except with `PREEMPT_RT`, where consoles are always
/// written to by a thread of their own, preemption is disabled.
///
/// [`dev_err_deferred!`]: crate::dev_err_deferred
///
/// # Invariants
///
/// `printk_defer()` was called, on this CPU, and `printk_defer_no_more()` was not yet.
#[must_use = "it ends when it is dropped"]
pub struct Section(NotThreadSafe);

impl Section {
    /// Begins the section. Any context.
    #[inline]
    pub fn begin() -> Self {
        // SAFETY: Can be called in any context.
        unsafe { bindings::printk_defer() };
        // INVARIANT: It was called just now. Preemption is disabled, so that it stays this CPU;
        // with `PREEMPT_RT` the functions do nothing.
        Self(NotThreadSafe)
    }
}

impl Drop for Section {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariants this ends what `printk_defer()` began, on the same CPU.
        unsafe { bindings::printk_defer_no_more() };
    }
}

/// Prints an error about a device; see [`dev_err_deferred!`](crate::dev_err_deferred).
#[cfg_attr(not(CONFIG_PRINTK), allow(unused_variables))]
pub fn dev_err(dev: &Device, msg: fmt::Arguments<'_>) {
    // The level is the first thing in the text; `LOGLEVEL_SCHED` in its place defers.
    //
    // SAFETY: `dev` is valid. The functions return C strings, which is what "%s" takes, and "%pA"
    // takes a pointer to `fmt::Arguments`. All is formatted before the function returns.
    #[cfg(CONFIG_PRINTK)]
    unsafe {
        bindings::dev_printk_emit(
            bindings::LOGLEVEL_SCHED,
            dev.as_raw(),
            c"\x013%s %s: %pA".as_char_ptr(),
            bindings::dev_driver_string(dev.as_raw()),
            dev.name().as_char_ptr(),
            core::ptr::from_ref(&msg).cast::<c_void>(),
        )
    };
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
