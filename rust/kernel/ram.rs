// SPDX-License-Identifier: GPL-2.0

//! Where there is memory.
//!
//! C header: [`include/linux/ioport.h`](srctree/include/linux/ioport.h)

use crate::{
    bindings,
    io::PhysAddr,
    prelude::*, //
};

/// Calls `f` with each range of System RAM, in ascending order: the first physical address and the
/// last, inclusive. Memory that was plugged in counts once it is online. May sleep.
///
/// # Errors
///
/// That of the first `f` that fails; the rest is not visited.
///
/// # Examples
///
/// ```
/// use kernel::{
///     prelude::*,
///     ram, //
/// };
///
/// // What a dump has to have room for.
/// let mut bytes = 0;
/// ram::for_each_range(|first, last| {
///     bytes += last - first + 1;
///     Ok(())
/// })?;
///
/// assert!(bytes > 0);
/// # Ok::<(), Error>(())
/// ```
pub fn for_each_range(mut f: impl FnMut(PhysAddr, PhysAddr) -> Result) -> Result {
    let mut walk = Walk {
        f: &mut f,
        result: Ok(()),
    };
    visit_all(&mut walk);
    walk.result
}

struct Walk<'a> {
    f: &'a mut dyn FnMut(PhysAddr, PhysAddr) -> Result,
    result: Result,
}

/// Not generic, because the C function is not exported.
#[inline(never)]
fn visit_all(walk: &mut Walk<'_>) {
    // SAFETY: The function calls `visit` with the pointer, and with a valid resource each time. It
    // keeps neither.
    unsafe {
        bindings::walk_system_ram_res(0, u64::MAX, core::ptr::from_mut(walk).cast(), Some(visit))
    };
}

/// # Safety
///
/// `resource` has to be valid, and `walk` has to point to a [`Walk`] that nobody else uses.
unsafe extern "C" fn visit(resource: *mut bindings::resource, walk: *mut c_void) -> c_int {
    // SAFETY: By the safety requirements.
    let (resource, walk) = unsafe { (&*resource, &mut *walk.cast::<Walk<'_>>()) };

    walk.result = (walk.f)(resource.start, resource.end);
    // Anything but 0 ends the walk.
    c_int::from(walk.result.is_err())
}
