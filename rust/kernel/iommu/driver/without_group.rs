// SPDX-License-Identifier: GPL-2.0

//! PCI devices that do without an IOMMU: those whose drivers came before that of the IOMMU, and
//! those that are not behind one.
//!
//! C headers: [`include/linux/device/bus.h`](srctree/include/linux/device/bus.h),
//! [`include/linux/iommu.h`](srctree/include/linux/iommu.h),
//! [`include/linux/pci.h`](srctree/include/linux/pci.h)

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

/// A PCI device that has just lost its driver, and does no DMA any more.
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

/// Calls `f` whenever a PCI device has lost its driver, until `bound` loses its own.
///
/// `f` gets `bound` and that PCI device. It may sleep, but must not wait for somebody who binds or
/// unbinds a driver. This function may sleep, too.
///
/// # Errors
///
/// `ENOMEM`. Without PCI there is nothing to do, which is no error.
pub fn when_driver_is_gone<D, F>(bound: &D, f: F) -> Result
where
    D: AsBusDevice<Bound> + Sync + 'static,
    F: Fn(&D, Unbound<'_>) + Send + Sync + 'static,
{
    let watch = try_pin_init!(Watch {
        // INVARIANT: See `devres::register` below.
        bound: NonNull::from(bound),
        f,
        block <- Opaque::try_ffi_init(|block: *mut bindings::notifier_block| {
            let new = bindings::notifier_block {
                notifier_call: Some(Watch::<D, F>::notified),
                ..pin_init::zeroed()
            };
            // SAFETY: `block` is valid for writes. It is unregistered when the object is dropped,
            // which is pinned. All else in it is initialized before.
            unsafe {
                block.write(new);
                watch_bus(block)
            }
        }),
    }? Error);

    // Devres owns the object and drops it before `bound` is unbound for good, so that the device
    // stays bound, and valid, while it exists. Nobody else can drop or leak it.
    devres::register(bound.as_ref(), watch, GFP_KERNEL)
}

/// Who wants to know of PCI devices that have lost their drivers.
///
/// # Invariants
///
/// - `bound` is valid, and bound to its driver, while the object exists.
/// - `block` is registered with the PCI bus, if there is one, with [`Self::notified`].
#[pin_data(PinnedDrop)]
struct Watch<D, F> {
    bound: NonNull<D>,
    f: F,
    #[pin]
    block: Opaque<bindings::notifier_block>,
}

// SAFETY: The device can be used on any thread, as `D: Sync`. The notifier can be unregistered on
// any.
unsafe impl<D: Sync, F: Send> Send for Watch<D, F> {}

impl<D: Sync + 'static, F: Fn(&D, Unbound<'_>) + Sync> Watch<D, F> {
    /// # Safety
    ///
    /// `block` has to be that of a `Self`, and `data` a valid device.
    unsafe extern "C" fn notified(
        block: *mut bindings::notifier_block,
        action: c_ulong,
        data: *mut c_void,
    ) -> c_int {
        // CAST: The event is one of an `enum`.
        if action == bindings::bus_notifier_event_BUS_NOTIFY_UNBOUND_DRIVER as c_ulong {
            // SAFETY: By the safety requirements. The object is not dropped before its block is
            // unregistered, which waits for this to end. By the type invariants, `bound` is valid.
            let (this, bound, dev) = unsafe {
                let this = &*container_of!(Opaque::cast_from(block), Self, block);
                (this, this.bound.as_ref(), Device::from_raw(data.cast()))
            };
            // INVARIANT: The driver core says this under the device's lock.
            (this.f)(bound, Unbound(dev));
        }
        // CAST: 0.
        bindings::NOTIFY_DONE as c_int
    }
}

#[pinned_drop]
impl<D, F> PinnedDrop for Watch<D, F> {
    fn drop(self: Pin<&mut Self>) {
        #[cfg(CONFIG_PCI)]
        // SAFETY: By the type invariants, the block is registered.
        unsafe {
            bindings::bus_unregister_notifier(&raw const bindings::pci_bus_type, self.block.get())
        };
    }
}

/// # Safety
///
/// `block` has to be initialized, and valid until it is unregistered. Its function may be called
/// from now on.
unsafe fn watch_bus(block: *mut bindings::notifier_block) -> Result {
    #[cfg(CONFIG_PCI)]
    // SAFETY: The bus is registered since early at boot. The rest is by the safety requirements.
    to_result(unsafe {
        bindings::bus_register_notifier(&raw const bindings::pci_bus_type, block)
    })?;
    let _ = block;
    Ok(())
}
