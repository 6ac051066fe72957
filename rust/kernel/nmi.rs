// SPDX-License-Identifier: GPL-2.0

//! The detectors of lockups.
//!
//! C header: [`include/linux/nmi.h`](srctree/include/linux/nmi.h)

use crate::bindings;

/// Tells the detectors of hard and soft lockups that this CPU is not locked up.
///
/// To be called now and then by who waits for long, perhaps with interrupts disabled, and sees to
/// it that the wait ends. Any context.
///
/// # Examples
///
/// ```
/// use kernel::nmi;
/// use kernel::processor::cpu_relax;
///
/// fn wait(mut looks: u32, is_done: impl Fn() -> bool) -> bool {
///     while looks > 0 && !is_done() {
///         nmi::touch_watchdog();
///         cpu_relax();
///         looks -= 1;
///     }
///     looks > 0
/// }
///
/// assert!(!wait(100, || false));
/// ```
#[inline]
pub fn touch_watchdog() {
    // SAFETY: It only sets variables of a CPU, in any context, and may set those of the CPU that it
    // has just left.
    unsafe { bindings::touch_nmi_watchdog() };
}
