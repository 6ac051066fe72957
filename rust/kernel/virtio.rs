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
    error::VTABLE_DEFAULT_ERROR,
    prelude::*, //
};

mod access;
mod adapter;
mod config;
mod dev;
mod queues;
mod segment;
mod virtqueue;

pub use self::access::{
    Access,
    Notification, //
};
pub use self::adapter::Adapter;
pub use self::config::{
    config_field,
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
pub use self::segment::Segments;
pub use self::virtqueue::{
    Buffer,
    Completed,
    Notifier,
    Virtqueue, //
};
#[doc(inline)]
pub use crate::virtio_device_table as device_table;

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
    /// Hard interrupt context, or with interrupts off; with `CONFIG_PREEMPT_RT` under a spinlock,
    /// in a thread, with interrupts on. The configuration space cannot be read here, since that
    /// may sleep.
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
