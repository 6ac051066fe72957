// SPDX-License-Identifier: GPL-2.0

//! Random numbers.
//!
//! C header: [`include/linux/random.h`](srctree/include/linux/random.h)

use crate::bindings;

/// Returns a random number. Any context.
///
/// It is as hard to predict as anything is at that time: early at boot, before the kernel has
/// gathered entropy, that may not be much.
///
/// # Examples
///
/// ```
/// use kernel::random;
///
/// // Two that have got into each other's way try again, but not at the same time.
/// let milliseconds = 10 + random::get_u32() % 8;
///
/// assert!((10..18).contains(&milliseconds));
/// ```
pub fn get_u32() -> u32 {
    // SAFETY: Always safe to call.
    unsafe { bindings::get_random_u32() }
}
