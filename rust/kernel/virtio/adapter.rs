// SPDX-License-Identifier: GPL-2.0

//! What is between the virtio core and a [`Driver`].

use super::{
    queues,
    Device,
    Driver,
    Features, //
};
use crate::{
    bindings,
    device,
    driver,
    error::{
        from_result,
        to_result, //
    },
    prelude::*,
    types::Opaque,
    ThisModule, //
};
use core::mem::offset_of;

/// An adapter for the registration of virtio drivers.
pub struct Adapter<T: Driver>(T);

// SAFETY: `bindings::virtio_driver` is a C type declared as `repr(C)`, which embeds a
// `struct device_driver` at `DEVICE_DRIVER_OFFSET`. `T::Data` is the type of the driver's device
// private data.
unsafe impl<T: Driver> driver::DriverLayout for Adapter<T> {
    type DriverType = bindings::virtio_driver;
    type DriverData<'bound> = T::Data<'bound>;
    const DEVICE_DRIVER_OFFSET: usize = offset_of!(Self::DriverType, driver);
}

// SAFETY: A call to `unregister` for a given instance of `DriverType` is guaranteed to be valid if
// a preceding call to `register` has been successful.
unsafe impl<T: Driver> driver::RegistrationOps for Adapter<T> {
    unsafe fn register(
        vdrv: &Opaque<Self::DriverType>,
        name: &'static CStr,
        module: &'static ThisModule,
    ) -> Result {
        const_assert!(
            T::HAS_FREEZE == T::HAS_RESTORE,
            "`freeze` and `restore` only make sense together"
        );
        const_assert!(
            features_are_valid(T::FEATURES),
            "`FEATURES` has a bit that cannot be a feature"
        );

        let vdrv = vdrv.get();
        // SAFETY: It's safe to set the fields of `struct virtio_driver` on initialization.
        unsafe {
            (*vdrv).driver.name = name.as_char_ptr();
            (*vdrv).driver.suppress_bind_attrs = T::SUPPRESS_BIND_ATTRS;
            (*vdrv).id_table = T::ID_TABLE.as_ptr();
            (*vdrv).feature_table = T::FEATURES.as_ptr();
            // CAST: Features are few.
            (*vdrv).feature_table_size = T::FEATURES.len() as c_uint;
            (*vdrv).validate = Some(Self::validate_callback);
            (*vdrv).probe = Some(Self::probe_callback);
            (*vdrv).remove = Some(Self::remove_callback);
            if T::HAS_CONFIG_CHANGED {
                (*vdrv).config_changed = Some(Self::config_changed_callback);
            }
            if T::HAS_SHUTDOWN {
                (*vdrv).shutdown = Some(Self::shutdown_callback);
            }
            if T::HAS_FREEZE {
                (*vdrv).freeze = Some(Self::freeze_callback);
                (*vdrv).restore = Some(Self::restore_callback);
            }
        }

        // SAFETY: `vdrv` is guaranteed to be a valid `DriverType`.
        to_result(unsafe { bindings::__register_virtio_driver(vdrv, module.as_ptr()) })
    }

    unsafe fn unregister(vdrv: &Opaque<Self::DriverType>) {
        // SAFETY: `vdrv` is guaranteed to be a valid `DriverType`.
        unsafe { bindings::unregister_virtio_driver(vdrv.get()) }
    }
}

/// Whether all bits are within what the virtio core has room for.
const fn features_are_valid(bits: &[u32]) -> bool {
    let mut i = 0;
    while i < bits.len() {
        if bits[i] >= bindings::VIRTIO_FEATURES_BITS {
            return false;
        }
        i += 1;
    }
    true
}

/// The lock of a device, under which the driver core binds and unbinds it.
///
/// # Invariants
///
/// `dev` is valid, and this thread holds its lock.
struct BindingLock {
    dev: *mut bindings::device,
}

impl BindingLock {
    /// Locks a device that has a driver. May sleep.
    ///
    /// Returns `None` if the driver was unbound before the lock was there.
    ///
    /// # Safety
    ///
    /// `vdev` must be valid until this is dropped. It must have been bound to a driver through
    /// [`Adapter`], and not to another one since.
    unsafe fn new(vdev: *mut bindings::virtio_device) -> Option<Self> {
        // SAFETY: By the safety requirements `vdev` is valid.
        let dev = unsafe { &raw mut (*vdev).dev };
        // SAFETY: As above.
        unsafe { bindings::device_lock(dev) };
        // INVARIANT: It was locked just now.
        let lock = Self { dev };

        // SAFETY: As above. The driver's data is there from its probe until it is unbound.
        (!unsafe { bindings::dev_get_drvdata(dev) }.is_null()).then_some(lock)
    }
}

impl Drop for BindingLock {
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::device_unlock(self.dev) };
    }
}

impl<T: Driver> Adapter<T> {
    extern "C" fn validate_callback(vdev: *mut bindings::virtio_device) -> c_int {
        // INVARIANT: `vdev` is valid for the duration of `validate_callback()`.
        //
        // SAFETY: The virtio bus only ever calls the validate callback with a valid pointer to a
        // `struct virtio_device`, as part of its own probe.
        let dev = unsafe { &*vdev.cast::<Device<device::CoreInternal<'_>>>() };
        let dev: &Device<device::Bound> = dev;

        from_result(|| {
            if !dev.has_feature(bindings::VIRTIO_F_VERSION_1) {
                dev_err!(dev, "legacy virtio devices are not supported\n");
                return Err(ENODEV);
            }
            if T::HAS_VALIDATE {
                // SAFETY: This is the callback, and there is no other `Features` in it.
                let mut features = unsafe { Features::new(dev) };

                T::validate(dev, &mut features)?;
            }
            Ok(0)
        })
    }

    extern "C" fn probe_callback(vdev: *mut bindings::virtio_device) -> c_int {
        // SAFETY: The virtio bus only ever calls the probe callback with a valid pointer to a
        // `struct virtio_device`.
        //
        // INVARIANT: `vdev` is valid for the duration of `probe_callback()`.
        let dev = unsafe { &*vdev.cast::<Device<device::CoreInternal<'_>>>() };

        // What another driver may have left there is none of ours.
        //
        // SAFETY: `vdev` is valid. The field is the driver's, and the driver is not at work yet.
        unsafe { (*vdev).priv_ = core::ptr::null_mut() };

        from_result(|| {
            let data = T::probe(dev);

            dev.as_ref().set_drvdata(data).inspect_err(|_| {
                if queues::delete(dev) {
                    // As the virtio core does after a removal, so that a later probe finds the
                    // device as the first one did.
                    //
                    // SAFETY: `vdev` is valid, and this context may sleep.
                    unsafe {
                        bindings::virtio_add_status(vdev, bindings::VIRTIO_CONFIG_S_ACKNOWLEDGE)
                    };
                }
            })?;
            Ok(0)
        })
    }

    extern "C" fn remove_callback(vdev: *mut bindings::virtio_device) {
        // SAFETY: The virtio bus only ever calls the remove callback with a valid pointer to a
        // `struct virtio_device`.
        //
        // INVARIANT: `vdev` is valid for the duration of `remove_callback()`.
        let dev = unsafe { &*vdev.cast::<Device<device::CoreInternal<'_>>>() };

        // SAFETY: `remove_callback` is only ever called after a successful call to
        // `probe_callback`, hence it's guaranteed that `Device::set_drvdata()` has been called
        // and stored a `Pin<KBox<T::Data<'_>>>`.
        let data = unsafe { dev.as_ref().drvdata_borrow::<T::Data<'_>>() };

        if T::HAS_UNBIND {
            T::unbind(dev, data);
        }

        if !queues::delete(dev) {
            // The virtio core expects the device to be reset.
            //
            // SAFETY: `vdev` is valid, and this context may sleep.
            unsafe { bindings::virtio_reset_device(vdev) };
        }
    }

    extern "C" fn config_changed_callback(vdev: *mut bindings::virtio_device) {
        // INVARIANT: `vdev` is valid for the duration of `config_changed_callback()`, and stays
        // bound, since the virtio core calls this under a lock that it takes, to end such calls,
        // before it removes the driver.
        //
        // SAFETY: The virtio bus only ever calls the callback with a valid pointer to a
        // `struct virtio_device`.
        let dev = unsafe { &*vdev.cast::<Device<device::BoundInternal>>() };

        // SAFETY: The virtio core lets such calls begin once `probe_callback` was successful, so
        // that it stored a `Pin<KBox<T::Data<'_>>>`, and ends them before `remove_callback`.
        let data = unsafe { dev.as_ref().drvdata_borrow::<T::Data<'_>>() };

        T::config_changed(dev, data);
    }

    extern "C" fn shutdown_callback(vdev: *mut bindings::virtio_device) {
        // SAFETY: The virtio bus only ever calls the shutdown callback with a valid pointer to a
        // `struct virtio_device`, which is bound to this driver.
        //
        // INVARIANT: `vdev` is valid for the duration of `shutdown_callback()`.
        let dev = unsafe { &*vdev.cast::<Device<device::CoreInternal<'_>>>() };

        // SAFETY: The driver core calls this under the device lock, and the virtio core only if
        // there is a driver, so that `probe_callback` was successful.
        let data = unsafe { dev.as_ref().drvdata_borrow::<T::Data<'_>>() };

        T::shutdown(dev, data);

        // SAFETY: `vdev` is valid, and this context may sleep.
        unsafe { bindings::virtio_device_shutdown(vdev) };
    }

    extern "C" fn freeze_callback(vdev: *mut bindings::virtio_device) -> c_int {
        // Other callbacks are called under it, but transports call this one without.
        //
        // SAFETY: The transports only ever have the freeze callback called with a valid pointer to
        // a `struct virtio_device`, and for the driver that it is bound to. No driver is bound to
        // a device while the system goes to sleep or resumes (`device_block_probing()`).
        let Some(_lock) = (unsafe { BindingLock::new(vdev) }) else {
            return 0;
        };

        // SAFETY: `vdev` is valid, see above.
        //
        // INVARIANT: `vdev` is valid for the duration of `freeze_callback()`. It stays bound while
        // it is locked.
        let dev = unsafe { &*vdev.cast::<Device<device::CoreInternal<'_>>>() };

        // SAFETY: The device is bound to this driver, so `probe_callback` was successful.
        let data = unsafe { dev.as_ref().drvdata_borrow::<T::Data<'_>>() };

        from_result(|| {
            T::freeze(dev, data)?;
            queues::delete(dev);
            Ok(0)
        })
    }

    extern "C" fn restore_callback(vdev: *mut bindings::virtio_device) -> c_int {
        // Other callbacks are called under it, but transports call this one without.
        //
        // SAFETY: The transports only ever have the restore callback called with a valid pointer to
        // a `struct virtio_device`, and for the driver that it is bound to. No driver is bound to
        // a device while the system goes to sleep or resumes (`device_block_probing()`).
        let Some(_lock) = (unsafe { BindingLock::new(vdev) }) else {
            return 0;
        };

        // SAFETY: `vdev` is valid, see above.
        //
        // INVARIANT: `vdev` is valid for the duration of `restore_callback()`. It stays bound while
        // it is locked.
        let dev = unsafe { &*vdev.cast::<Device<device::CoreInternal<'_>>>() };

        // SAFETY: The device is bound to this driver, so `probe_callback` was successful.
        let data = unsafe { dev.as_ref().drvdata_borrow::<T::Data<'_>>() };

        from_result(|| {
            T::restore(dev, data).inspect_err(|_| {
                queues::delete(dev);
            })?;
            Ok(0)
        })
    }
}
