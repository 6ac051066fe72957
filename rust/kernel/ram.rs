// SPDX-License-Identifier: GPL-2.0

//! Where there is memory, and where it comes and goes.
//!
//! C headers: [`include/linux/ioport.h`](srctree/include/linux/ioport.h),
//! [`include/linux/memory.h`](srctree/include/linux/memory.h)

use crate::{
    bindings,
    io::PhysAddr,
    prelude::*, //
};
#[cfg(CONFIG_MEMORY_HOTPLUG)]
use crate::{
    container_of,
    error::to_result,
    page::PAGE_SHIFT,
    sync::rcu,
    types::Opaque, //
};

/// Calls `f` with each range of System RAM that is online, in ascending order: the first physical
/// address and the last, inclusive. May sleep.
///
/// Where memory can be plugged in and out, a range does not reach over the end of a memory block,
/// which comes and goes as a whole. None does meanwhile; so `f` must not wait for somebody who
/// plugs memory.
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

/// Not generic, because the C functions are not exported.
#[inline(never)]
fn visit_all(walk: &mut Walk<'_>) {
    #[cfg(CONFIG_MEMORY_HOTPLUG)]
    // SAFETY: This takes a lock for reading, which is released below.
    unsafe {
        bindings::get_online_mems()
    };
    // SAFETY: The function calls `visit` with the pointer, and with a valid resource each time. It
    // keeps neither.
    unsafe {
        bindings::walk_system_ram_res(0, u64::MAX, core::ptr::from_mut(walk).cast(), Some(visit))
    };
    #[cfg(CONFIG_MEMORY_HOTPLUG)]
    // SAFETY: The lock was taken above.
    unsafe {
        bindings::put_online_mems()
    };
}

/// # Safety
///
/// `resource` has to be valid, and `walk` has to point to a [`Walk`] that nobody else uses.
unsafe extern "C" fn visit(resource: *mut bindings::resource, walk: *mut c_void) -> c_int {
    // SAFETY: By the safety requirements.
    let (resource, walk) = unsafe { (&*resource, &mut *walk.cast::<Walk<'_>>()) };

    let mut next = Some(resource.start);
    while let Some(first) = next.filter(|first| *first <= resource.end) {
        let last = resource.end.min(first | block_mask());
        if is_online(first) {
            walk.result = (walk.f)(first, last);
            if walk.result.is_err() {
                break;
            }
        }
        next = last.checked_add(1);
    }
    // Anything but 0 ends the walk.
    c_int::from(walk.result.is_err())
}

/// The bits of an address within its memory block.
#[cfg(CONFIG_MEMORY_HOTPLUG)]
fn block_mask() -> PhysAddr {
    // SAFETY: The function returns a number, which is a power of two: sections are, and a block is
    // made of as many. CAST: `PhysAddr` has at least the bits of an `unsigned long`.
    (unsafe { bindings::memory_block_size_bytes() } as PhysAddr).wrapping_sub(1)
}

/// All memory is one block, which is there for good.
#[cfg(not(CONFIG_MEMORY_HOTPLUG))]
fn block_mask() -> PhysAddr {
    PhysAddr::MAX
}

/// Whether the memory at an address is in use, and not only there.
#[cfg(CONFIG_MEMORY_HOTPLUG)]
fn is_online(address: PhysAddr) -> bool {
    // CAST: With memory hot-plug, an `unsigned long` has 64 bits.
    let pfn = (address >> PAGE_SHIFT) as c_ulong;
    // SAFETY: The function takes any number. The page is not looked at.
    !unsafe { bindings::pfn_to_online_page(pfn) }.is_null()
}

#[cfg(not(CONFIG_MEMORY_HOTPLUG))]
fn is_online(_address: PhysAddr) -> bool {
    true
}

/// Who has to know of memory before it is used, and after that.
pub trait Follow: Send + Sync + 'static {
    /// A memory block is about to be used: the first physical address and the last, inclusive. May
    /// sleep, but must not wait for somebody who plugs memory.
    ///
    /// # Errors
    ///
    /// Any: the memory stays offline then, and [`Self::remove`] follows.
    fn add(&self, first: PhysAddr, last: PhysAddr) -> Result;

    /// A memory block is not used any more, or will not be after all. That may be one for which
    /// there was no [`Self::add`]. May sleep, but must not wait for somebody who plugs memory.
    fn remove(&self, first: PhysAddr, last: PhysAddr);
}

/// Tells a [`Follow`] of memory that comes and goes, for as long as this exists.
///
/// What is online at a time after this was made, [`for_each_range`] tells; what changes between
/// the two may be told twice. Where memory cannot be plugged, there is nothing to tell.
///
/// Neither a `Follow` that waits for the drop of its own `Follower`, nor one that makes or drops
/// any in its functions, gets any further: that waits for these.
///
/// # Invariants
///
/// `block` is registered, with `Self::notified`. `_code` keeps that function in memory.
///
/// # Examples
///
/// ```
/// use kernel::{
///     io::PhysAddr,
///     prelude::*,
///     ram::{
///         Follow,
///         Follower, //
///     }, //
/// };
///
/// /// A device that has been told of all memory below its limit, and can be told of no more.
/// struct Fixed {
///     limit: PhysAddr,
/// }
///
/// impl Follow for Fixed {
///     fn add(&self, _first: PhysAddr, last: PhysAddr) -> Result {
///         if last >= self.limit {
///             return Err(ENOSPC);
///         }
///         Ok(())
///     }
///
///     fn remove(&self, _first: PhysAddr, _last: PhysAddr) {}
/// }
///
/// let follower = KBox::pin_init(Follower::new(Fixed { limit: 1 << 40 }), GFP_KERNEL)?;
///
/// assert_eq!(follower.get().limit, 1 << 40);
/// # Ok::<(), Error>(())
/// ```
#[pin_data(PinnedDrop)]
pub struct Follower<T: Follow> {
    follow: T,
    #[cfg(CONFIG_MEMORY_HOTPLUG)]
    _code: Code,
    #[cfg(CONFIG_MEMORY_HOTPLUG)]
    #[pin]
    block: Opaque<bindings::notifier_block>,
}

// SAFETY: A `Follow` can be used and dropped on any thread, and a notifier unregistered.
#[cfg(CONFIG_MEMORY_HOTPLUG)]
unsafe impl<T: Follow> Send for Follower<T> {}

// SAFETY: A shared one gives access to the `Follow` alone, which is `Sync`.
#[cfg(CONFIG_MEMORY_HOTPLUG)]
unsafe impl<T: Follow> Sync for Follower<T> {}

impl<T: Follow> Follower<T> {
    /// Returns an initializer. May sleep.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the module that calls this is being unloaded.
    pub fn new(follow: T) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            follow,
            #[cfg(CONFIG_MEMORY_HOTPLUG)]
            _code: Code::of(Self::notified as *const () as usize)?,
            #[cfg(CONFIG_MEMORY_HOTPLUG)]
            // INVARIANT: It is registered here, or there is no object.
            block <- Opaque::try_ffi_init(|block: *mut bindings::notifier_block| {
                let new = bindings::notifier_block {
                    notifier_call: Some(Self::notified),
                    ..pin_init::zeroed()
                };
                // SAFETY: `block` is valid for writes. It is unregistered when the object is
                // dropped, which is pinned. All else in it is initialized before.
                unsafe {
                    block.write(new);
                    to_result(bindings::register_memory_notifier(block))
                }
            }),
        }? Error)
    }

    /// Who is told.
    pub fn get(&self) -> &T {
        &self.follow
    }
}

#[cfg(CONFIG_MEMORY_HOTPLUG)]
impl<T: Follow> Follower<T> {
    /// # Safety
    ///
    /// `block` has to be that of a `Self`, and `data` what memory notifiers get.
    unsafe extern "C" fn notified(
        block: *mut bindings::notifier_block,
        action: c_ulong,
        data: *mut c_void,
    ) -> c_int {
        // SAFETY: By the safety requirements. The object is not dropped before its block is
        // unregistered, which waits for this to end.
        let (this, range) = unsafe {
            let this = &*container_of!(Opaque::cast_from(block), Self, block);
            (this, &*data.cast::<bindings::memory_notify>())
        };
        // A block may begin with what describes its pages, which is not in the range.
        //
        // CAST: `PhysAddr` has at least the bits of an `unsigned long`.
        let start = (range.start_pfn as PhysAddr) << PAGE_SHIFT;
        let size = (range.nr_pages as PhysAddr) << PAGE_SHIFT;
        let first = start & !block_mask();
        let last = start.wrapping_add(size).wrapping_sub(1) | block_mask();

        // CAST: The action is one of an `enum`.
        let told = match action as bindings::memory_block_state {
            bindings::memory_block_state_MEM_GOING_ONLINE => this.follow.add(first, last),
            bindings::memory_block_state_MEM_OFFLINE
            | bindings::memory_block_state_MEM_CANCEL_ONLINE => {
                this.follow.remove(first, last);
                Ok(())
            }
            _ => Ok(()),
        };
        // As notifier_from_errno() has it. CAST: Small numbers.
        match told {
            Ok(()) => bindings::NOTIFY_OK as c_int,
            Err(error) => {
                bindings::NOTIFY_STOP_MASK as c_int
                    | (bindings::NOTIFY_OK as c_int - error.to_errno())
            }
        }
    }
}

#[pinned_drop]
impl<T: Follow> PinnedDrop for Follower<T> {
    fn drop(self: Pin<&mut Self>) {
        #[cfg(CONFIG_MEMORY_HOTPLUG)]
        // SAFETY: By the type invariants, the block is registered.
        unsafe {
            bindings::unregister_memory_notifier(self.block.get())
        };
    }
}

/// Code that stays in memory.
///
/// # Invariants
///
/// Owns a reference on the module, or the pointer is null, for code that is built in.
#[cfg(CONFIG_MEMORY_HOTPLUG)]
struct Code(*mut bindings::module);

// SAFETY: A reference on a module may be given up on any thread.
#[cfg(CONFIG_MEMORY_HOTPLUG)]
unsafe impl Send for Code {}

// SAFETY: There is nothing to be done with a shared one.
#[cfg(CONFIG_MEMORY_HOTPLUG)]
unsafe impl Sync for Code {}

#[cfg(CONFIG_MEMORY_HOTPLUG)]
impl Code {
    /// Keeps the module that has a function at this address. `ENODEV` if it is being unloaded.
    ///
    /// Not generic, because a C function is not exported.
    #[inline(never)]
    fn of(function: usize) -> Result<Self> {
        let _guard = rcu::read_lock();

        // SAFETY: The RCU read lock is held, so that the module is valid, or the pointer null.
        unsafe {
            let module = bindings::__module_address(function);
            if !bindings::try_module_get(module) {
                return Err(ENODEV);
            }
            // INVARIANT: The reference was taken just now.
            Ok(Self(module))
        }
    }
}

#[cfg(CONFIG_MEMORY_HOTPLUG)]
impl Drop for Code {
    fn drop(&mut self) {
        // SAFETY: By the type invariants, we own a reference. Who drops this runs code that is kept
        // by somebody else, too.
        unsafe { bindings::module_put(self.0) };
    }
}
