// SPDX-License-Identifier: GPL-2.0

//! One IOMMU: the C structure, and the driver's data.

use super::{
    registry,
    Driver, //
};
use crate::{
    bindings,
    device::{
        Bound,
        Device, //
    },
    error::to_result,
    prelude::*,
    sync::{
        Arc,
        ArcBorrow, //
    },
    types::Opaque,
    ModuleMetadata, //
};

/// The C structure of an IOMMU, and its device in `/sys/class/iommu/`.
///
/// # Invariants
///
/// `iommu_device_sysfs_add()` was successful.
#[pin_data(PinnedDrop)]
struct IommuDevice {
    #[pin]
    raw: Opaque<bindings::iommu_device>,
    /// What endpoints refer to. Only compared.
    fwnode: *mut bindings::fwnode_handle,
}

impl IommuDevice {
    fn new<'a>(
        fwnode: *mut bindings::fwnode_handle,
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

// SAFETY: The C structure is not tied to a thread, and of the firmware node only the address is
// used.
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
    /// Returns one that the core does not know yet.
    ///
    /// `fwnode` is what endpoints refer to. `parent` becomes the parent of the device `name` in
    /// `/sys/class/iommu/`.
    pub(super) fn new(
        fwnode: *mut bindings::fwnode_handle,
        parent: &Device<Bound>,
        name: &CStr,
        data: Arc<T>,
    ) -> Result<Arc<Self>> {
        Arc::pin_init(
            try_pin_init!(Self {
                iommu <- IommuDevice::new(fwnode, parent, name),
                data,
            }? Error),
            GFP_KERNEL,
        )
    }

    /// Finds the instance that belongs to a firmware node.
    ///
    /// # Safety
    ///
    /// The caller has to hold the core's `iommu_probe_device_lock`.
    pub(super) unsafe fn find(fwnode: *mut bindings::fwnode_handle) -> Option<Arc<Self>> {
        // SAFETY: The caller holds the lock.
        let this = unsafe { registry::find(Self::key(), fwnode) }?;

        // SAFETY: `Registered::register` is the only function that adds entries for `Self::key()`,
        // once it has checked that `T` is a type of `T::Module`. What it adds is the pointer of an
        // `Arc<Self>` that it keeps for as long as the entry exists, which is at least until the
        // caller unlocks. There is no `UniqueArc` for it.
        Some(unsafe { ArcBorrow::from_raw(this.cast::<Self>()) }.into())
    }

    /// Returns what the registry knows this type by.
    pub(super) fn key() -> registry::Key {
        registry::Key::of::<Self>(T::Module::THIS_MODULE.as_ptr())
    }

    /// Returns the C structure.
    pub(super) fn as_raw(&self) -> *mut bindings::iommu_device {
        self.iommu.raw.get()
    }

    /// Returns the firmware node.
    pub(super) fn fwnode(&self) -> *mut bindings::fwnode_handle {
        self.iommu.fwnode
    }

    /// Returns the driver's data.
    pub(super) fn data(&self) -> &Arc<T> {
        &self.data
    }
}
