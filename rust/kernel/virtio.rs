// SPDX-License-Identifier: GPL-2.0

//! Abstractions for the virtio bus.
//!
//! A driver implements [`Driver`], and [`module_virtio_driver!`](crate::module_virtio_driver) makes
//! a module of it. In its [`probe`](Driver::probe) it reads the configuration space
//! ([`Device::config_read`]) and creates the virtqueues ([`Device::find_vqs`]).
//!
//! A buffer that the device was given belongs to the queue: it goes in with [`Virtqueue::add`] and
//! comes back with [`Virtqueue::pop`], or is dropped with the queue, after the device was reset.
//! This module does that reset itself, so that a driver cannot forget it.
//!
//! Legacy devices, those without `VIRTIO_F_VERSION_1`, are not supported.
//!
//! C header: [`include/linux/virtio.h`](srctree/include/linux/virtio.h)

use crate::{
    bindings,
    device,
    device_id::RawDeviceId,
    driver,
    error::{
        from_result,
        to_result,
        VTABLE_DEFAULT_ERROR, //
    },
    prelude::*,
    types::Opaque,
    ThisModule, //
};
use core::mem::offset_of;

mod config;
mod dev;
mod queues;
mod virtqueue;

pub use self::config::{
    ConfigField,
    ConfigReader,
    ConfigValue,
    CONFIG_SPACE_MAX, //
};
pub use self::dev::{
    Device,
    Features, //
};
pub use self::queues::{
    Callback,
    QueueInfo,
    Virtqueues, //
};
pub use self::virtqueue::{
    Buffer,
    Completed,
    Notifier,
    Virtqueue, //
};
#[doc(inline)]
pub use crate::{
    virtio_config_field as config_field,
    virtio_device_table as device_table, //
};

/// An adapter for the registration of virtio drivers.
pub struct Adapter<T: Driver>(T);

// SAFETY:
// - `bindings::virtio_driver` is a C type declared as `repr(C)`.
// - `T::Data` is the type of the driver's device private data.
// - `struct virtio_driver` embeds a `struct device_driver`.
// - `DEVICE_DRIVER_OFFSET` is the correct byte offset to the embedded `struct device_driver`.
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

impl<T: Driver> Adapter<T> {
    extern "C" fn validate_callback(vdev: *mut bindings::virtio_device) -> c_int {
        // SAFETY: The virtio bus only ever calls the validate callback with a valid pointer to a
        // `struct virtio_device`, as part of its own probe.
        //
        // INVARIANT: `vdev` is valid for the duration of `validate_callback()`.
        let dev: &Device<device::Bound> =
            unsafe { &*vdev.cast::<Device<device::CoreInternal<'_>>>() };

        from_result(|| {
            if !dev.has_feature(bindings::VIRTIO_F_VERSION_1) {
                dev_err!(dev, "legacy virtio devices are not supported\n");
                return Err(ENODEV);
            }
            if T::HAS_VALIDATE {
                T::validate(dev, &mut Features::new(dev))?;
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
        // SAFETY: The virtio bus only ever calls the callback with a valid pointer to a
        // `struct virtio_device`.
        //
        // INVARIANT: `vdev` is valid for the duration of `config_changed_callback()`, and stays
        // bound, since the virtio core calls this under a lock that it takes, to end such calls,
        // before it removes the driver.
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
        // SAFETY: The transports only ever have the freeze callback called with a valid pointer to
        // a `struct virtio_device`, which is bound to this driver.
        //
        // INVARIANT: `vdev` is valid for the duration of `freeze_callback()`.
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
        // SAFETY: The transports only ever have the restore callback called with a valid pointer to
        // a `struct virtio_device`, which is bound to this driver.
        //
        // INVARIANT: `vdev` is valid for the duration of `restore_callback()`.
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

/// Declares a kernel module that exposes a single virtio driver.
///
/// # Examples
///
/// ```ignore
/// kernel::module_virtio_driver! {
///     type: MyDriver,
///     name: "Module name",
///     authors: ["Author name"],
///     description: "Description",
///     license: "GPL v2",
/// }
/// ```
#[macro_export]
macro_rules! module_virtio_driver {
    ($($f:tt)*) => {
        $crate::module_driver!(<T>, $crate::virtio::Adapter<T>, { $($f)* });
    };
}

/// Abstraction for `bindings::virtio_device_id`.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct DeviceId(bindings::virtio_device_id);

impl DeviceId {
    /// Creates the id of all devices of a type, `VIRTIO_ID_...`, whoever the vendor is.
    ///
    /// # Panics
    ///
    /// When `device` is 0, which is no type, and the end of a table. In a constant, that is an
    /// error at compile time.
    pub const fn new(device: u32) -> Self {
        assert!(device != 0);

        Self(bindings::virtio_device_id {
            device,
            vendor: bindings::VIRTIO_DEV_ANY_ID,
        })
    }

    /// The inverse of the wrapping.
    fn from_raw(id: bindings::virtio_device_id) -> Self {
        Self(id)
    }

    /// Returns the type of the device, `VIRTIO_ID_...`.
    pub const fn device(&self) -> u32 {
        self.0.device
    }

    /// Returns the vendor of the device. For a PCI device, that is its subsystem vendor.
    pub const fn vendor(&self) -> u32 {
        self.0.vendor
    }
}

// SAFETY: `DeviceId` is a `#[repr(transparent)]` wrapper of `virtio_device_id` and does not add
// additional invariants, so it's safe to transmute to `RawType`.
unsafe impl RawDeviceId for DeviceId {
    type RawType = bindings::virtio_device_id;
}

/// IdTable type for virtio drivers.
///
/// There is no driver data in it, since `struct virtio_device_id` has none. [`Device::id`] tells
/// what a driver for several types has to do with.
pub type IdTable = &'static dyn kernel::device_id::IdTable<DeviceId, ()>;

/// Creates a virtio [`IdTable`](crate::virtio::IdTable) with its alias for modpost.
///
/// Also available as [`virtio::device_table!`](crate::virtio::device_table).
#[macro_export]
macro_rules! virtio_device_table {
    ($table_name:ident, [$($id:expr),+ $(,)?]) => {
        $crate::module_device_table!(
            "virtio", $crate::virtio::DeviceId, $table_name, @none, [$($id),+]
        );
    };
}

/// The virtio driver trait.
///
/// Drivers must implement this trait in order to get a virtio driver registered.
///
/// # Examples
///
/// ```
/// use kernel::{
///     bindings,
///     device::{
///         Bound,
///         Core, //
///     },
///     prelude::*,
///     virtio::{
///         self,
///         ConfigField, //
///     }, //
/// };
///
/// const PAGE_SIZE_MASK: ConfigField<u64> =
///     virtio::config_field!(bindings::virtio_iommu_config, page_size_mask => u64);
///
/// struct MyDriver {
///     page_sizes: u64,
/// }
///
/// virtio::device_table!(
///     VIRTIO_TABLE,
///     [virtio::DeviceId::new(bindings::VIRTIO_ID_IOMMU)]
/// );
///
/// #[vtable]
/// impl virtio::Driver for MyDriver {
///     type Data<'bound> = Self;
///
///     const ID_TABLE: virtio::IdTable = &VIRTIO_TABLE;
///     const FEATURES: &'static [u32] = &[bindings::VIRTIO_IOMMU_F_MAP_UNMAP];
///
///     fn validate(dev: &virtio::Device<Bound>, features: &mut virtio::Features<'_>) -> Result {
///         features.clear(bindings::VIRTIO_RING_F_INDIRECT_DESC)?;
///         if dev.config_read(PAGE_SIZE_MASK)? == 0 {
///             return Err(EINVAL);
///         }
///         Ok(())
///     }
///
///     fn probe<'bound>(
///         dev: &'bound virtio::Device<Core<'_>>,
///     ) -> impl PinInit<Self::Data<'bound>, Error> + 'bound {
///         dev_info!(dev, "on {}\n", dev.bus_name());
///         dev.config_read(PAGE_SIZE_MASK)
///             .map(|page_sizes| Self { page_sizes })
///     }
/// }
/// ```
#[vtable]
pub trait Driver {
    /// The type of the driver's bus device private data.
    ///
    /// Shared, since [`config_changed`](Self::config_changed) can run at the same time as anything
    /// else.
    type Data<'bound>: Send + Sync + 'bound;

    /// The table of device ids supported by the driver.
    const ID_TABLE: IdTable;

    /// The feature bits that the driver knows how to use.
    ///
    /// Those of the device type: bits of the transport and the ring are up to the virtio core. Each
    /// must be less than 128.
    const FEATURES: &'static [u32];

    /// Whether to keep user space from binding and unbinding the driver through sysfs.
    const SUPPRESS_BIND_ATTRS: bool = false;

    /// Looks at the configuration space before features are negotiated. Optional.
    ///
    /// It may take features out of what is negotiated, or refuse the device with an error. Process
    /// context.
    fn validate(dev: &Device<device::Bound>, features: &mut Features<'_>) -> Result {
        let _ = (dev, features);
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Virtio driver probe.
    ///
    /// Called when a virtio device matches the driver, once features are negotiated. Process
    /// context. If it fails, the device is reset and its virtqueues are deleted.
    fn probe<'bound>(
        dev: &'bound Device<device::Core<'_>>,
    ) -> impl PinInit<Self::Data<'bound>, Error> + 'bound;

    /// Virtio driver unbind. Optional.
    ///
    /// Called when a [`Device`] is unbound from its driver. The virtqueues still work: a place for
    /// last requests. Afterwards the device is reset, the virtqueues are deleted, and then `this`
    /// is dropped. Process context.
    fn unbind<'bound>(dev: &'bound Device<device::Core<'_>>, this: Pin<&Self::Data<'bound>>) {
        let _ = (dev, this);
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Called when the device has changed its configuration space. Optional.
    ///
    /// Hard interrupt context, or with interrupts off: the configuration space cannot be read here,
    /// since that may sleep.
    fn config_changed<'bound>(dev: &'bound Device<device::Bound>, this: Pin<&Self::Data<'bound>>) {
        let _ = (dev, this);
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Called when the system shuts down, reboots, or starts another kernel. Optional.
    ///
    /// The virtqueues still work. Afterwards they are broken, and the device is reset, as they are
    /// for drivers without this callback. Process context.
    fn shutdown<'bound>(dev: &'bound Device<device::Core<'_>>, this: Pin<&Self::Data<'bound>>) {
        let _ = (dev, this);
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Called before the system sleeps or is hibernated. Optional, with [`restore`](Self::restore).
    ///
    /// The virtqueues still work. If this succeeds, the device is reset and they are deleted; if it
    /// fails, the system does not sleep. Process context.
    ///
    /// A device whose driver has no `freeze` is not told that the system sleeps, and may not know
    /// its virtqueues any more when the system has resumed.
    fn freeze<'bound>(
        dev: &'bound Device<device::Core<'_>>,
        this: Pin<&Self::Data<'bound>>,
    ) -> Result {
        let _ = (dev, this);
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Called when the system has resumed. Optional, with [`freeze`](Self::freeze).
    ///
    /// Features are negotiated; create virtqueues anew. If this fails, they are deleted again, and
    /// the driver stays bound to a device that does not work. Process context.
    fn restore<'bound>(
        dev: &'bound Device<device::Core<'_>>,
        this: Pin<&Self::Data<'bound>>,
    ) -> Result {
        let _ = (dev, this);
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}
