// SPDX-License-Identifier: GPL-2.0

//! Registration of an IOMMU.

use super::{
    instance::Instance,
    registry,
    vtable::VTable,
    Driver, //
};
use crate::{
    bindings,
    device::{
        Bound,
        Core,
        Device, //
    },
    devres,
    error::to_result,
    new_mutex,
    prelude::*,
    sync::{
        aref::ARef,
        rcu,
        Arc,
        Mutex, //
    },
    warn_on,
    ModuleMetadata, //
};

/// An instance that the core knows, until it is unregistered.
///
/// # Invariants
///
/// If there is an instance:
///
/// - The registry has an entry for it.
/// - `iommu_device_register()` was successful, with the vtable of `T`.
#[pin_data]
struct Registered<T: Driver> {
    #[pin]
    instance: Mutex<Option<Arc<Instance<T>>>>,
}

impl<T: Driver> Registered<T> {
    /// Returns one without an instance.
    fn new() -> Result<Arc<Self>> {
        // INVARIANT: There is no instance.
        Arc::pin_init(
            pin_init!(Self {
                instance <- new_mutex!(None),
            }),
            GFP_KERNEL,
        )
    }

    /// Registers an instance. There is none before.
    ///
    /// # Safety
    ///
    /// - [`Self::unregister`] has to be called before `T::Module` can be unloaded, and before
    ///   `hwdev` is removed.
    unsafe fn register(&self, hwdev: &Device, instance: Arc<Instance<T>>) -> Result {
        // What keeps the code of `T` in memory are references on `T::Module`.
        if !is_in_module(VTable::<T>::OPS, T::Module::THIS_MODULE.as_ptr()) {
            return Err(EINVAL);
        }

        let key = Instance::<T>::key();
        let fwnode = instance.fwnode();
        let data = Arc::as_ptr(instance.data()).cast();

        // First, because the core probes endpoints in `iommu_device_register()`.
        //
        // SAFETY: The pointer is that of an `Instance<T>`, which is `Sync`. The `Arc` is kept until
        // the entry has been removed, here or in `unregister`.
        unsafe { registry::insert(key, fwnode, data, Arc::as_ptr(&instance).cast()) }?;

        let turn = registry::turn();
        // - The `struct iommu_device` has been initialized, is not registered, and does not move.
        //   It lives until it has been unregistered (on error, the core does that itself), and as
        //   each endpoint has an `Arc`, for as long as an endpoint refers to it.
        // - The vtable is static. It lives as long as its module, which is its `owner`, as checked
        //   above. The core has a reference on that for each endpoint. The caller unregisters
        //   before the module can be unloaded. The vtable is right for whatever the core calls it
        //   with, see there.
        // - `hwdev` is a valid device. The firmware node that the core takes from it is there for
        //   as long as `hwdev` is, which the caller sees to, so that its address is not that of
        //   another. It is the one in the instance; were it not, `probe_device` would find none.
        //
        // SAFETY: The three points above are what the function needs.
        let ret = to_result(unsafe {
            bindings::iommu_device_register(instance.as_raw(), VTable::<T>::OPS, hwdev.as_raw())
        });
        drop(turn);

        if let Err(e) = ret {
            // The core has released the endpoints that it had found, and has forgotten the IOMMU.
            // This waits for everybody who still looks at it. An endpoint may have slipped in
            // before the core forgot the IOMMU. Then it stays, with its own reference on the
            // instance, and is not told.
            registry::remove(key, fwnode);
            return Err(e);
        }

        // INVARIANT: See above.
        *self.instance.lock() = Some(instance);
        Ok(())
    }

    /// Unregisters, or waits until who has begun it is done. May sleep.
    fn unregister(&self) {
        let mut place = self.instance.lock();
        // INVARIANT: There is no instance any more.
        let Some(instance) = place.take() else {
            return;
        };

        // The order is what keeps an endpoint from slipping in:
        //
        // 1. From here on, `probe_device` does not find the instance any more. All devices for
        //    which it had been successful are in their groups.
        registry::remove(Instance::<T>::key(), instance.fwnode());

        let turn = registry::turn();
        // 2. So this finds and releases them, except for one that is off its bus already, in the
        //    middle of `device_del()`. The notifier of `device_del()` releases that, with the help
        //    of its own reference on the instance. After that the core does not find the instance
        //    any more.
        //
        // SAFETY: By the type invariants, the IOMMU was registered.
        unsafe { bindings::iommu_device_unregister(instance.as_raw()) };
        drop(turn);

        // 3. The core's lookup by firmware node (`iommu_from_fwnode()`) uses what it has found
        //    under `iommu_probe_device_lock`, and without a reference. Wait for that.
        registry::synchronize();
    }
}

/// Unregisters when it is dropped.
struct AtUnbind<T: Driver>(Arc<Registered<T>>);

impl<T: Driver> Drop for AtUnbind<T> {
    fn drop(&mut self) {
        self.0.unregister();
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

/// Returns whether `dev` is `hwdev`, or below it.
fn is_at_or_below(dev: &Device<Bound>, hwdev: &Device) -> bool {
    let mut next = dev.as_raw();
    while !next.is_null() {
        if next == hwdev.as_raw() {
            return true;
        }
        // SAFETY: `next` is `dev`, or was found above it. A device that is bound is registered, and
        // so is each one above it; it has a reference on its parent, which is set before that.
        next = unsafe { (*next).parent };
    }
    false
}

/// The registration of an IOMMU.
///
/// It ends when [`Registration::unregister`] is called, and else when the parent that was given to
/// [`Registration::new`] is unbound. Dropping it does not end it: that could happen anywhere, as in
/// a callback of [`Driver`], which would be left with an endpoint that is gone.
///
/// To unregister is to release all endpoints, see [`Driver::release`]. When it is done, an endpoint
/// is left only if it was being unplugged at the same time.
///
/// The core does not take the drivers of endpoints into account: one that has DMA under way, or
/// mappings, is neither stopped nor told. If it maps or unmaps meanwhile, the core uses memory that
/// is freed. Keep users from unbinding an IOMMU that has endpoints, as drivers in C do with
/// `suppress_bind_attrs`. The device below can still be taken away.
pub struct Registration<T: Driver> {
    registered: Arc<Registered<T>>,
    parent: ARef<Device>,
}

impl<T: Driver> Registration<T> {
    /// Registers an IOMMU.
    ///
    /// `hwdev` is the device whose firmware node ACPI or a devicetree refers to as the IOMMU of an
    /// endpoint. `parent` is the device that the caller drives; it becomes the parent of the device
    /// `name` in `/sys/class/iommu/`. `hwdev` is the same device, or one above it.
    ///
    /// All endpoints that exist are probed and attached to their default domains before this
    /// returns, so `data` has to be ready for use. May sleep; must not be called in a callback of
    /// [`Driver`] or [`Domain`](super::Domain).
    ///
    /// # Errors
    ///
    /// `ENODEV` if `hwdev` has no firmware node, so that nothing can refer to it. `EBUSY` if a `T`
    /// is registered for the same firmware node already, or `data` for another one. `EINVAL` if
    /// [`Driver::Module`] is not the module that `T`'s code is in, or not the one that `parent` has
    /// its driver from, or if `parent` is not below `hwdev`. Otherwise `ENOMEM`, an error of sysfs
    /// (`EEXIST` for a `name` that is taken), or that of a group of endpoints that could not be
    /// given a default domain. On error, all endpoints that there were have been released again.
    /// One that is plugged in just then may keep the IOMMU that it found; it has its own reference
    /// on `data`.
    pub fn new(
        hwdev: &Device,
        parent: &Device<Core<'_>>,
        name: &CStr,
        data: Arc<T>,
    ) -> Result<Self> {
        // The registration ends with the binding of `parent`, at the latest. No driver of a module
        // is left bound when the module is unloaded, and none when a device above is removed.
        if !is_driven_by(parent, T::Module::THIS_MODULE.as_ptr()) || !is_at_or_below(parent, hwdev)
        {
            return Err(EINVAL);
        }

        // The core takes null for the IOMMU of all devices that firmware does not mention.
        let fwnode = hwdev.fwnode().ok_or(ENODEV)?.as_raw();

        let instance = Instance::new(fwnode, parent, name, data)?;

        // First, because endpoints are not to be taken in and released again.
        let registered = Registered::new()?;
        devres::register(parent, AtUnbind(registered.clone()), GFP_KERNEL)?;

        // SAFETY: It is unregistered when `parent` is unbound, as argued above.
        unsafe { registered.register(hwdev, instance) }?;

        Ok(Self {
            registered,
            parent: parent.into(),
        })
    }

    /// Unregisters the IOMMU, if that has not been done before. May sleep.
    ///
    /// `parent` is the device that was given to [`Registration::new`]. With another, this warns and
    /// does nothing. A reference to it with this context is there in callbacks of its bus only:
    /// not in those of [`Driver`] and [`Domain`](super::Domain), whose endpoints and domains this
    /// takes away.
    pub fn unregister(&self, parent: &Device<Core<'_>>) {
        if !warn_on!(parent.as_raw() != self.parent.as_raw()) {
            self.registered.unregister();
        }
    }
}
