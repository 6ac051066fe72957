// SPDX-License-Identifier: GPL-2.0

//! Devices that do without an IOMMU: those whose drivers came before that of the IOMMU, those that
//! it refuses, and those that are not behind one.
//!
//! C headers: [`include/linux/device/bus.h`](srctree/include/linux/device/bus.h),
//! [`include/linux/iommu.h`](srctree/include/linux/iommu.h),
//! [`include/linux/pci.h`](srctree/include/linux/pci.h),
//! [`include/linux/platform_device.h`](srctree/include/linux/platform_device.h)

use crate::{
    bindings,
    container_of,
    device::{
        AsBusDevice,
        Bound,
        Device, //
    },
    devres,
    error::to_result,
    prelude::*,
    sync::Arc,
    types::Opaque, //
};
use core::ptr::NonNull;

/// Returns whether a driver is bound to `dev`, and may have it do DMA. Any context.
///
/// The answer may be out of date as soon as it is there, unless the device is locked.
pub fn has_driver(dev: &Device) -> bool {
    // SAFETY: `dev` is valid. The pointer is read once, and not followed.
    !unsafe { (&raw const (*dev.as_raw()).driver).read_volatile() }.is_null()
}

/// Returns whether `dev` is there, but in no IOMMU group. Any context.
///
/// The answer may be out of date as soon as it is there. While a device is being removed, it may be
/// taken to be there until [`Change::Removed`].
pub fn is_without_group(dev: &Device) -> bool {
    let dev = dev.as_raw();
    // SAFETY: `dev` is valid. The bit field, which is written by who adds or removes the device, is
    // read once, and so is the pointer, which is not followed.
    unsafe {
        bindings::kobject::state_in_sysfs_raw(&raw const (*dev).kobj) != 0
            && (&raw const (*dev).iommu_group).read_volatile().is_null()
    }
}

/// Calls `f` for each PCI device that has a driver, but is in no IOMMU group. May sleep.
///
/// Such a device is not behind an IOMMU, or was given a driver before the driver of its IOMMU came:
/// the core does not take it over then.
pub fn for_each_without_group(mut f: impl FnMut(&Device)) {
    let mut f: &mut dyn FnMut(&Device) = &mut f;

    #[cfg(CONFIG_PCI)]
    // SAFETY: The bus is registered since early at boot. The function takes a reference on each
    // device for the time of the call; the data is what `visit` expects.
    unsafe {
        bindings::bus_for_each_dev(
            &raw const bindings::pci_bus_type,
            core::ptr::null_mut(),
            (&raw mut f).cast(),
            Some(visit),
        )
    };
    #[cfg(not(CONFIG_PCI))]
    let _ = &mut f;
}

/// # Safety
///
/// `dev` has to be valid, and `data` has to point to a `&mut dyn FnMut(&Device)` that nobody else
/// uses.
#[cfg(CONFIG_PCI)]
unsafe extern "C" fn visit(dev: *mut bindings::device, data: *mut c_void) -> c_int {
    // SAFETY: By the safety requirements.
    let f = unsafe { &mut *data.cast::<&mut dyn FnMut(&Device)>() };
    // SAFETY: The pointer is read once, and not followed.
    let group = unsafe { (&raw const (*dev).iommu_group).read_volatile() };
    // SAFETY: `dev` is valid for the duration of the call.
    let dev = unsafe { Device::from_raw(dev) };

    if group.is_null() && has_driver(dev) {
        f(dev);
    }
    0
}

/// A device that has just lost its driver, and does no DMA any more.
///
/// # Invariants
///
/// The device has no driver, and gets none as long as this exists: it is locked.
pub struct Unbound<'a>(&'a Device);

impl Unbound<'_> {
    /// Has the core make the device an endpoint of its IOMMU, if it has one and is none yet. May
    /// sleep.
    ///
    /// The core does so by itself only when a device is added, or an IOMMU is registered, and then
    /// not for one that has a driver.
    ///
    /// # Errors
    ///
    /// `ENODEV` if firmware does not name an IOMMU for it, or that does not care for it; those of
    /// attaching it to its default domain.
    // The C function is not exported to modules.
    #[inline(never)]
    pub fn find_iommu(&self) -> Result {
        // SAFETY: The device is valid. By the type invariants it has no driver, which is what the
        // function expects; it takes the locks that it needs.
        to_result(unsafe { bindings::iommu_probe_device(self.0.as_raw()) })
    }
}

/// What has become of a device.
pub enum Change<'a> {
    /// It has got a driver.
    Bound(&'a Device),
    /// It has lost its driver.
    Unbound(Unbound<'a>),
    /// It was removed.
    Removed(&'a Device),
}

/// Calls `f` whenever a PCI or platform device has got or lost its driver or was removed, until
/// `bound` loses its own.
///
/// `f` gets `bound` and what has become of that device. It may sleep, but must not wait for
/// somebody who binds or unbinds a driver. This function may sleep, too.
///
/// # Errors
///
/// `ENOMEM`.
pub fn watch_devices<D, F>(bound: &D, f: F) -> Result
where
    D: AsBusDevice<Bound> + Sync + 'static,
    F: Fn(&D, Change<'_>) + Send + Sync + 'static,
{
    let f = Arc::new(f, GFP_KERNEL)?;
    for on in buses() {
        let f = f.clone();
        let watch = try_pin_init!(Watch {
            // INVARIANT: See `devres::register` below.
            bound: NonNull::from(bound),
            f,
            bus: on,
            block <- Opaque::try_ffi_init(|block: *mut bindings::notifier_block| {
                let new = bindings::notifier_block {
                    notifier_call: Some(Watch::<D, F>::notified),
                    ..pin_init::zeroed()
                };
                // SAFETY: `block` is valid for writes. It is unregistered when the object is
                // dropped, which is pinned. All else in it is initialized before. The bus is
                // registered since early at boot.
                unsafe {
                    block.write(new);
                    to_result(bindings::bus_register_notifier(on, block))
                }
            }),
        }? Error);

        // Devres owns the object and drops it before `bound` is unbound for good, so that the
        // device stays bound, and valid, while it exists. Nobody else can drop or leak it.
        devres::register(bound.as_ref(), watch, GFP_KERNEL)?;
    }
    Ok(())
}

/// The buses that are looked at.
fn buses() -> impl Iterator<Item = *const bindings::bus_type> {
    let buses = [
        #[cfg(CONFIG_PCI)]
        &raw const bindings::pci_bus_type,
        &raw const bindings::platform_bus_type,
    ];
    buses.into_iter()
}

/// Who wants to know what becomes of the devices of a bus.
///
/// # Invariants
///
/// - `bound` is valid, and bound to its driver, while the object exists.
/// - `block` is registered with `bus`, with [`Self::notified`].
#[pin_data(PinnedDrop)]
struct Watch<D, F> {
    bound: NonNull<D>,
    f: Arc<F>,
    bus: *const bindings::bus_type,
    #[pin]
    block: Opaque<bindings::notifier_block>,
}

// SAFETY: The device can be used on any thread, as `D: Sync`, and so can the function be used and
// dropped. The notifier can be unregistered on any; the bus is there for good.
unsafe impl<D: Sync, F: Send + Sync> Send for Watch<D, F> {}

impl<D: Sync + 'static, F: Fn(&D, Change<'_>) + Sync> Watch<D, F> {
    /// # Safety
    ///
    /// `block` has to be that of a `Self`, and `data` a valid device.
    unsafe extern "C" fn notified(
        block: *mut bindings::notifier_block,
        action: c_ulong,
        data: *mut c_void,
    ) -> c_int {
        // SAFETY: By the safety requirements. The object is not dropped before its block is
        // unregistered, which waits for this to end. By the type invariants, `bound` is valid.
        let (this, bound, dev) = unsafe {
            let this = &*container_of!(Opaque::cast_from(block), Self, block);
            (this, this.bound.as_ref(), Device::from_raw(data.cast()))
        };
        // CAST: The event is one of an `enum`.
        let change = match action as bindings::bus_notifier_event {
            bindings::bus_notifier_event_BUS_NOTIFY_BOUND_DRIVER => Some(Change::Bound(dev)),
            // INVARIANT: The driver core says this under the device's lock.
            bindings::bus_notifier_event_BUS_NOTIFY_UNBOUND_DRIVER => {
                Some(Change::Unbound(Unbound(dev)))
            }
            bindings::bus_notifier_event_BUS_NOTIFY_REMOVED_DEVICE => Some(Change::Removed(dev)),
            _ => None,
        };
        if let Some(change) = change {
            (this.f)(bound, change);
        }
        // CAST: 0.
        bindings::NOTIFY_DONE as c_int
    }
}

#[pinned_drop]
impl<D, F> PinnedDrop for Watch<D, F> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariants, the block is registered with the bus.
        unsafe { bindings::bus_unregister_notifier(self.bus, self.block.get()) };
    }
}
