// SPDX-License-Identifier: GPL-2.0

//! Which object of a driver belongs to which firmware node.
//!
//! The core tells a driver that a device was found behind one of its IOMMUs, but not behind which:
//! C drivers search their bus for the firmware node that the device's fwspec has. This is the table
//! that Rust drivers have for that.
//!
//! The core's `iommu_probe_device_lock` protects it. The core holds the lock for the whole time in
//! which it looks up an IOMMU by firmware node, calls `probe_device`, and puts the device into its
//! group. That gives [`remove`] its meaning: when it returns, no `probe_device` that found the
//! entry is under way, each device that one was successful for is in its group, where an
//! unregistration finds it, and no later one finds the entry.
//!
//! Nothing in here is generic, because the lock is not exported to modules.

use crate::{
    bindings,
    error::code::EBUSY,
    global_lock,
    prelude::*,
    sync::{
        GlobalGuard,
        SetOnce, //
    }, //
};
use core::{
    any::TypeId,
    cell::UnsafeCell, //
};

/// Proof that the core's `iommu_probe_device_lock` is held by this thread.
struct ProbeLock(());

impl ProbeLock {
    fn lock() -> Self {
        // SAFETY: This is an initialized mutex that lives for ever.
        unsafe { bindings::mutex_lock(&raw mut bindings::iommu_probe_device_lock) };

        Self(())
    }
}

impl Drop for ProbeLock {
    fn drop(&mut self) {
        // SAFETY: `Self` is only made by `lock()`, which has locked the mutex, and is neither
        // cloned nor sent to another thread by the functions of this module.
        unsafe { bindings::mutex_unlock(&raw mut bindings::iommu_probe_device_lock) };
    }
}

/// Stands for a type.
///
/// A [`TypeId`] alone does not: it is made of the names of the crate and of the type, and two
/// modules may have a crate of the same name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    id: TypeId,
    module: *mut bindings::module,
}

impl Key {
    /// The key of `T`, which is a type of `module`, where null stands for the kernel itself.
    pub(super) fn of<T: 'static>(module: *mut bindings::module) -> Self {
        Self {
            id: TypeId::of::<T>(),
            module,
        }
    }
}

struct Entry {
    /// The type that `object` points to.
    key: Key,
    /// The firmware node. Only compared.
    fwnode: *mut bindings::fwnode_handle,
    /// The driver's data, which stands for the IOMMU. Only compared.
    data: *const c_void,
    object: *const c_void,
}

/// # Invariants
///
/// The vector is only accessed with `iommu_probe_device_lock` held.
struct Registry(UnsafeCell<KVec<Entry>>);

// SAFETY: By the type invariants, there is no concurrent access. The pointers in the vector may be
// used by any thread: what is pointed to is `Sync`, see `insert`.
unsafe impl Sync for Registry {}

static REGISTRY: Registry = Registry(UnsafeCell::new(KVec::new()));

/// Adds an entry. May sleep.
///
/// # Errors
///
/// `EBUSY` if there is an entry for the same type with the same firmware node or the same data,
/// `ENOMEM`.
///
/// # Safety
///
/// `object` has to point to a `Sync` object of the type that `key` stands for, which has to be
/// valid until [`remove`] has returned for the same type and firmware node (unless this fails).
#[inline(never)]
pub(super) unsafe fn insert(
    key: Key,
    fwnode: *mut bindings::fwnode_handle,
    data: *const c_void,
    object: *const c_void,
) -> Result {
    let _lock = ProbeLock::lock();
    // SAFETY: The lock is held until the function returns, and there is no other reference in this
    // function.
    let entries = unsafe { &mut *REGISTRY.0.get() };

    if entries
        .iter()
        .any(|e| e.key == key && (e.fwnode == fwnode || e.data == data))
    {
        return Err(EBUSY);
    }

    entries.push(
        Entry {
            key,
            fwnode,
            data,
            object,
        },
        GFP_KERNEL,
    )?;

    Ok(())
}

/// Removes an entry, if there is one, and waits for all users of the table. May sleep.
#[inline(never)]
pub(super) fn remove(key: Key, fwnode: *mut bindings::fwnode_handle) {
    let _lock = ProbeLock::lock();
    // SAFETY: The lock is held until the function returns, and there is no other reference in this
    // function.
    let entries = unsafe { &mut *REGISTRY.0.get() };

    entries.retain(|e| e.key != key || e.fwnode != fwnode);
}

global_lock! {
    // SAFETY: `turn()`, which alone uses it, initializes it before.
    unsafe(uninit) static ONE_AT_A_TIME: Mutex<()> = ();
}

/// While it exists, no IOMMU comes or goes, and no device without a driver looks for its own.
pub(super) struct Turn {
    _guard: GlobalGuard<ONE_AT_A_TIME>,
}

/// Waits until no IOMMU comes or goes, and no device without a driver looks for its own. May sleep;
/// not under the core's probe lock.
///
/// To find the endpoints of one that goes, the core looks at all devices, and at some without a
/// lock. A device that is none may have its `dev->iommu` freed at the end of such a look.
#[inline(never)]
pub(super) fn turn() -> Turn {
    static READY: SetOnce<()> = SetOnce::new();
    {
        let _lock = ProbeLock::lock();
        if READY.populate(()) {
            // SAFETY: Only one call populates, and the others wait for the probe lock before they
            // use it.
            unsafe { ONE_AT_A_TIME.init() };
        }
    }
    Turn {
        _guard: ONE_AT_A_TIME.lock(),
    }
}

/// Waits until all that is done under the core's probe lock now is done.
#[inline(never)]
pub(super) fn synchronize() {
    drop(ProbeLock::lock());
}

/// Looks up an entry.
///
/// The object is of the type that `key` stands for and valid for as long as the caller keeps the
/// lock.
///
/// # Safety
///
/// The caller has to hold `iommu_probe_device_lock`.
#[inline(never)]
pub(super) unsafe fn find(key: Key, fwnode: *mut bindings::fwnode_handle) -> Option<*const c_void> {
    // SAFETY: The caller holds the lock, and nothing in this function calls code that could make
    // another reference.
    let entries = unsafe { &*REGISTRY.0.get() };

    entries
        .iter()
        .find(|e| e.key == key && e.fwnode == fwnode)
        .map(|e| e.object)
}
