// SPDX-License-Identifier: GPL-2.0

//! Registration of an IOMMU.

use super::{
    registry,
    vtable::VTable,
    Driver, //
};
use crate::{
    bindings,
    device::{
        property::FwNode,
        Bound,
        Device, //
    },
    devres::Devres,
    error::to_result,
    prelude::*,
    sync::{
        aref::ARef,
        rcu,
        Arc,
        ArcBorrow, //
    },
    types::Opaque,
    ModuleMetadata, //
};
use core::any::TypeId;

/// The C structure of an IOMMU, and its device in `/sys/class/iommu/`.
///
/// # Invariants
///
/// `iommu_device_sysfs_add()` was successful.
#[pin_data(PinnedDrop)]
struct IommuDevice {
    #[pin]
    raw: Opaque<bindings::iommu_device>,
    /// What endpoints refer to. The reference keeps the address from being used for another node.
    fwnode: ARef<FwNode>,
}

impl IommuDevice {
    fn new<'a>(
        fwnode: ARef<FwNode>,
        parent: &'a Device<Bound>,
        name: &'a CStr,
    ) -> impl PinInit<Self, Error> + 'a {
        // INVARIANT: The initializer fails if `iommu_device_sysfs_add()` does; it is the last thing
        // that can.
        try_pin_init!(Self {
            fwnode,
            raw <- Opaque::try_ffi_init(move |slot: *mut bindings::iommu_device| {
                // SAFETY: `slot` is valid for writes.
                unsafe { slot.write(pin_init::zeroed()) };

                // SAFETY: `slot` is a zeroed `struct iommu_device`, as C drivers pass it. `parent`
                // is bound, hence registered. The format takes one string.
                to_result(unsafe {
                    bindings::iommu_device_sysfs_add(
                        slot,
                        parent.as_raw(),
                        core::ptr::null_mut(),
                        c"%s".as_char_ptr(),
                        name.as_char_ptr(),
                    )
                })
            }),
        }? Error)
    }
}

#[pinned_drop]
impl PinnedDrop for IommuDevice {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariants, there is a device to remove. It is not used any more:
        // the core uses it for as long as there is an endpoint or a registration, and each of them
        // has an `Arc` of the instance that `self` is part of.
        unsafe { bindings::iommu_device_sysfs_remove(self.raw.get()) };
    }
}

// SAFETY: Neither the C structure nor the reference on the firmware node is tied to a thread.
unsafe impl Send for IommuDevice {}

// SAFETY: The C structure is only accessed by the core, which does its own locking, and of the
// firmware node only the address is used.
unsafe impl Sync for IommuDevice {}

/// An IOMMU, for as long as it has a registration or an endpoint.
#[pin_data]
pub(super) struct Instance<T: Driver> {
    #[pin]
    iommu: IommuDevice,
    data: Arc<T>,
}

impl<T: Driver> Instance<T> {
    /// Finds the instance that belongs to a firmware node.
    ///
    /// # Safety
    ///
    /// The caller has to hold the core's `iommu_probe_device_lock`.
    pub(super) unsafe fn find(fwnode: *mut bindings::fwnode_handle) -> Option<Arc<Self>> {
        // SAFETY: The caller holds the lock.
        let this = unsafe { registry::find(TypeId::of::<Self>(), fwnode) }?;

        // SAFETY: `Registered::new` is the only function that adds entries for
        // `TypeId::of::<Self>`, and what it adds is the pointer of an `Arc<Self>` that it keeps for
        // as long as the entry exists, which is at least until the caller unlocks. There is no
        // `UniqueArc` for it.
        Some(unsafe { ArcBorrow::from_raw(this.cast::<Self>()) }.into())
    }

    /// Returns the C structure.
    pub(super) fn as_raw(&self) -> *mut bindings::iommu_device {
        self.iommu.raw.get()
    }

    /// Returns the firmware node.
    fn fwnode(&self) -> *mut bindings::fwnode_handle {
        self.iommu.fwnode.as_raw()
    }

    /// Returns the driver's data.
    pub(super) fn data(&self) -> &Arc<T> {
        &self.data
    }
}

/// An instance that the core knows.
///
/// # Invariants
///
/// - The registry has an entry for the instance.
/// - `iommu_device_register()` was successful, with the vtable of `T`.
struct Registered<T: Driver>(Arc<Instance<T>>);

impl<T: Driver> Registered<T> {
    /// # Safety
    ///
    /// The result has to be dropped before `T::Module` can be unloaded.
    unsafe fn new(hwdev: &Device<Bound>, instance: Arc<Instance<T>>) -> Result<Self> {
        // What keeps the code of `T` in memory are references on `T::Module`.
        if !is_in_module(VTable::<T>::OPS, T::Module::THIS_MODULE.as_ptr()) {
            return Err(EINVAL);
        }

        let key = TypeId::of::<Instance<T>>();
        let fwnode = instance.fwnode();

        // First, because the core probes endpoints in `iommu_device_register()`.
        //
        // SAFETY: The pointer is that of an `Instance<T>`, which is `Sync`. The `Arc` is kept until
        // the entry has been removed, here or when `Self` is dropped.
        unsafe { registry::insert(key, fwnode, Arc::as_ptr(&instance).cast()) }?;

        // - The `struct iommu_device` has been initialized, is not registered, and does not move.
        //   It lives until it has been unregistered (on error, the core does that itself), and as
        //   each endpoint has an `Arc`, for as long as an endpoint refers to it.
        // - The vtable is static. It lives as long as its module, which is its `owner`, as checked
        //   above. The core has a reference on that for each endpoint. The caller unregisters
        //   before the module can be unloaded. The vtable is right for whatever the core calls it
        //   with, see there.
        // - `hwdev` is a valid device. The firmware node that the core takes from it is the one in
        //   the instance, where there is a reference on it: that of a bound device does not change.
        //
        // SAFETY: The three points above are what the function needs.
        let ret = to_result(unsafe {
            bindings::iommu_device_register(instance.as_raw(), VTable::<T>::OPS, hwdev.as_raw())
        });

        if let Err(e) = ret {
            // The core has released the endpoints that it had found, and has forgotten the IOMMU.
            // This waits for everybody who still looks at it.
            registry::remove(key, fwnode);
            return Err(e);
        }

        // INVARIANT: See above.
        Ok(Self(instance))
    }
}

impl<T: Driver> Drop for Registered<T> {
    fn drop(&mut self) {
        // The order is what keeps an endpoint from slipping in:
        //
        // 1. From here on, `probe_device` does not find the instance any more. All devices for
        //    which it had been successful are in their groups.
        registry::remove(TypeId::of::<Instance<T>>(), self.0.fwnode());

        // 2. So this finds and releases them, except for one that is off its bus already, in the
        //    middle of `device_del()`. The notifier of `device_del()` releases that, with the help
        //    of its own reference on the instance. After that the core does not find the instance
        //    any more.
        //
        // SAFETY: By the type invariants, the IOMMU is registered.
        unsafe { bindings::iommu_device_unregister(self.0.as_raw()) };

        // 3. The core's lookup by firmware node (`iommu_from_fwnode()`) uses what it has found
        //    under `iommu_probe_device_lock`, and without a reference. Wait for that.
        registry::synchronize();
    }
}

/// Returns whether the table is part of `module`, where null stands for the kernel itself.
///
/// Not generic, because the C function is not exported.
#[inline(never)]
fn is_in_module(ops: &'static bindings::iommu_ops, module: *mut bindings::module) -> bool {
    let _guard = rcu::read_lock();

    // SAFETY: The RCU read lock is held. The result is only compared.
    let found = unsafe { bindings::__module_address(core::ptr::from_ref(ops).addr()) };

    found == module
}

/// Returns whether the driver that `dev` is bound to is part of `module`, where null stands for the
/// kernel itself.
fn is_driven_by(dev: &Device<Bound>, module: *mut bindings::module) -> bool {
    // SAFETY: `dev` is bound, so it has a driver, which is valid until `dev` is unbound.
    unsafe { (*(*dev.as_raw()).driver).owner == module }
}

/// The registration of an IOMMU.
///
/// Dropping it unregisters the IOMMU. If it is never dropped, the unbind of the parent that was
/// given to [`Registration::new`] unregisters.
///
/// To unregister is to release all endpoints. They are left blocked, see
/// [`Driver::attach_blocked`]. When it is done, an endpoint is left only if it was being unplugged
/// at the same time.
///
/// The core does not take the drivers of endpoints into account: one that has DMA under way, or
/// mappings, is neither stopped nor told. It is advisable to keep users from unbinding an IOMMU
/// that has endpoints.
pub struct Registration<T: Driver> {
    _registered: Devres<Registered<T>>,
}

impl<T: Driver> Registration<T> {
    /// Registers an IOMMU.
    ///
    /// `hwdev` is the device whose firmware node ACPI or a devicetree refers to as the IOMMU of an
    /// endpoint. `parent` is the device that the caller drives; it becomes the parent of the device
    /// `name` in `/sys/class/iommu/`. Both may be the same.
    ///
    /// All endpoints that exist are probed and attached to their default domains before this
    /// returns, so `data` has to be ready for use. May sleep; must not be called in a callback of
    /// [`Driver`] or [`Domain`](super::Domain).
    ///
    /// # Errors
    ///
    /// `ENODEV` if `hwdev` has no firmware node, so that nothing can refer to it. `EBUSY` if a `T`
    /// is registered for the same firmware node already. `EINVAL` if [`Driver::Module`] is not the
    /// module that `T`'s code is in, or not the one that `parent` has its driver from. Otherwise
    /// `ENOMEM`, an error of sysfs (`EEXIST` for a `name` that is taken), or that of a group of
    /// endpoints that could not be given a default domain. On error, all endpoints have been
    /// released again.
    pub fn new(
        hwdev: &Device<Bound>,
        parent: &Device<Bound>,
        name: &CStr,
        data: Arc<T>,
    ) -> Result<Self> {
        // The `Devres` ends with the binding of `parent`, at the latest, and no driver of a module
        // is left bound when the module is unloaded.
        if !is_driven_by(parent, T::Module::THIS_MODULE.as_ptr()) {
            return Err(EINVAL);
        }

        // The core takes null for the IOMMU of all devices that firmware does not mention.
        let fwnode: ARef<FwNode> = hwdev.fwnode().ok_or(ENODEV)?.into();

        let instance = Arc::pin_init(
            try_pin_init!(Instance {
                iommu <- IommuDevice::new(fwnode, parent, name),
                data,
            }? Error),
            GFP_KERNEL,
        )?;

        // SAFETY: The `Devres` drops it, as argued above, or this function does.
        let registered = unsafe { Registered::new(hwdev, instance) }?;

        Ok(Self {
            _registered: Devres::new(parent, registered)?,
        })
    }
}
