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
        Core,
        Device, //
    },
    devres,
    error::to_result,
    new_mutex,
    prelude::*,
    sync::{
        rcu,
        Arc,
        Mutex, //
    },
    types::Opaque, //
};
use core::ptr::NonNull;

use super::registry;

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
    // SAFETY: `dev` is valid. The pointer is read once, and not followed.
    unsafe {
        bindings::device_is_registered(dev)
            && (&raw const (*dev).iommu_group).read_volatile().is_null()
    }
}

/// A PCI device that is in no IOMMU group.
pub enum WithoutGroup<'a> {
    /// It has no driver.
    Unbound(Unbound<'a>),
    /// It has a driver, or is locked, so that it may be about to get one.
    Used(&'a Device),
}

/// Calls `f` for each PCI device that is in no IOMMU group. May sleep.
///
/// Such a device is not behind an IOMMU, or was given a driver before the driver of its IOMMU came,
/// or just when that came: the core does not take it over then.
pub fn for_each_without_group(mut f: impl FnMut(WithoutGroup<'_>)) {
    let mut f: &mut dyn FnMut(WithoutGroup<'_>) = &mut f;

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
/// `dev` has to be valid, and `data` has to point to a `&mut dyn FnMut(WithoutGroup<'_>)` that
/// nobody else uses.
#[cfg(CONFIG_PCI)]
unsafe extern "C" fn visit(dev: *mut bindings::device, data: *mut c_void) -> c_int {
    // SAFETY: By the safety requirements.
    let f = unsafe { &mut *data.cast::<&mut dyn FnMut(WithoutGroup<'_>)>() };
    // SAFETY: `dev` is valid for the duration of the call.
    let (device, lock) = unsafe { (Device::from_raw(dev), &raw mut (*dev).mutex) };
    // SAFETY: The pointer is read once, and not followed.
    let has_group = || unsafe { !(&raw const (*dev).iommu_group).read_volatile().is_null() };

    if has_group() {
        return 0;
    }
    // The device's lock is not waited for: its owner may be waiting for the caller.
    // SAFETY: The device is valid.
    if unsafe { bindings::mutex_trylock(lock) } == 0 {
        f(WithoutGroup::Used(device));
        return 0;
    }
    if has_driver(device) {
        f(WithoutGroup::Used(device));
    } else if !has_group() {
        // INVARIANT: It is locked, and has no driver.
        f(WithoutGroup::Unbound(Unbound(device)));
    }
    // SAFETY: It was locked above, by this thread.
    unsafe { bindings::mutex_unlock(lock) };
    0
}

/// A device that has no driver, and does no DMA.
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
    /// not for one that has a driver, or is just being refused by one.
    ///
    /// # Errors
    ///
    /// `ENODEV` if firmware does not name an IOMMU for it, or that does not care for it; those of
    /// attaching it to its default domain.
    // The C function is not exported to modules.
    #[inline(never)]
    pub fn find_iommu(&self) -> Result {
        let _turn = registry::turn();
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
/// the driver of `bound` is about to go.
///
/// To be called while `bound` is being probed, which `core` shows: that is the same device. `f`
/// gets `bound` and what has become of that device, in one call after the other. It may sleep, but
/// must neither bind nor unbind a driver, nor wait for somebody who does. This function may sleep,
/// too.
///
/// # Errors
///
/// `EINVAL` if `core` is another device or is not being probed, or if `F`'s code is not in the
/// module that its driver is in. `EOPNOTSUPP` if the kernel is made to unbind each driver once, to
/// see that it can (`CONFIG_DEBUG_TEST_DRIVER_REMOVE`), except for one with `suppress_bind_attrs`.
/// `ENOMEM`.
///
/// # Examples
///
/// ```
/// use kernel::{
///     device::{
///         Bound,
///         Core, //
///     },
///     iommu::driver::{
///         for_each_without_group,
///         watch_devices,
///         Change, //
///     },
///     pci,
///     prelude::*, //
/// };
///
/// /// Takes over, into an IOMMU that came late, each device that its driver lets go.
/// fn take_over(iommu: &pci::Device<Core<'_>>) -> Result {
///     let mut outside = 0;
///     for_each_without_group(|_| outside += 1);
///     dev_info!(iommu, "{} devices do without an IOMMU\n", outside);
///
///     let bound: &pci::Device<Bound> = iommu;
///     watch_devices(iommu.as_ref(), bound, |iommu, change| {
///         if let Change::Unbound(dev) = change {
///             if dev.find_iommu().is_ok() {
///                 dev_info!(iommu, "has one more endpoint\n");
///             }
///         }
///     })
/// }
/// ```
pub fn watch_devices<D, F>(core: &Device<Core<'_>>, bound: &D, f: F) -> Result
where
    D: AsBusDevice<Bound> + Sync + 'static,
    F: Fn(&D, Change<'_>) + Send + 'static,
{
    if core.as_raw() != bound.as_ref().as_raw() {
        return Err(EINVAL);
    }
    check_watcher(core, Watch::<D, F>::notified as *const () as usize)?;

    let f = Arc::pin_init(new_mutex!(Some(KBox::new(f, GFP_KERNEL)?)), GFP_KERNEL)?;
    // SAFETY: `core` is being probed, so it is on a bus, and stays there.
    let own = unsafe { (*core.as_raw()).bus };
    // The own one comes first, and goes last: it says when it is over.
    let result = Watch::register(bound, own, f.clone()).and_then(|()| {
        let mut others = buses().filter(|bus| *bus != own);
        others.try_for_each(|bus| Watch::register(bound, bus, f.clone()))
    });
    if result.is_err() {
        let f = f.lock().take();
        drop(f);
    }
    result
}

/// Whether the driver that `dev` is being probed by is that of the module with a function at this
/// address, so that the function is there until `dev` is unbound; and whether that is announced.
///
/// Not generic, because the C functions are not exported.
#[inline(never)]
fn check_watcher(dev: &Device<Core<'_>>, function: usize) -> Result {
    let _guard = rcu::read_lock();

    // SAFETY: The RCU read lock is held, and the module's address is only compared. In a callback
    // of its bus, `dev` is locked and has a driver.
    unsafe {
        let driver = (*dev.as_raw()).driver;
        let module = bindings::__module_address(function);
        if module != (*driver).owner || bindings::device_is_bound(dev.as_raw()) {
            return Err(EINVAL);
        }
        if cfg!(CONFIG_DEBUG_TEST_DRIVER_REMOVE) && !(*driver).suppress_bind_attrs {
            return Err(EOPNOTSUPP);
        }
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
/// - `bound` is valid, and on its bus, while the object exists.
/// - `bound` is bound to its driver, and nothing that devres has for it was released, while there
///   is a function in `f`.
/// - `block` is registered with `bus`, with [`Self::notified`].
#[pin_data(PinnedDrop)]
struct Watch<D, F> {
    bound: NonNull<D>,
    f: Arc<Mutex<Option<KBox<F>>>>,
    bus: *const bindings::bus_type,
    #[pin]
    block: Opaque<bindings::notifier_block>,
}

// SAFETY: The device can be used on any thread, as `D: Sync`, and the function can be called and
// dropped on any. The notifier can be unregistered on any; the bus is there while the object is.
unsafe impl<D: Sync, F: Send> Send for Watch<D, F> {}

impl<D, F> Watch<D, F>
where
    D: AsBusDevice<Bound> + Sync + 'static,
    F: Fn(&D, Change<'_>) + Send + 'static,
{
    /// Has devres of `bound`, which is being probed, own a new one.
    fn register(
        bound: &D,
        on: *const bindings::bus_type,
        f: Arc<Mutex<Option<KBox<F>>>>,
    ) -> Result {
        let watch = try_pin_init!(Self {
            // INVARIANT: Devres drops the object before `bound` is unbound for good, and nobody
            // else can drop or leak it. So `bound` is valid, and on its bus. Before devres begins
            // with that, the driver core tells the bus, and `f` is emptied.
            bound: NonNull::from(bound),
            f,
            bus: on,
            block <- Opaque::try_ffi_init(|block: *mut bindings::notifier_block| {
                let new = bindings::notifier_block {
                    notifier_call: Some(Self::notified),
                    ..pin_init::zeroed()
                };
                // SAFETY: `block` is valid for writes. It is unregistered when the object is
                // dropped, which is pinned. All else in it is initialized before. The bus is
                // registered: those of `buses()` since early at boot, and that of `bound` for as
                // long as it has devices.
                unsafe {
                    block.write(new);
                    to_result(bindings::bus_register_notifier(on, block))
                }
            }),
        }? Error);
        devres::register(bound.as_ref(), watch, GFP_KERNEL)
    }

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
            // The driver is about to be unbound, or its probe has failed: devres is next.
            bindings::bus_notifier_event_BUS_NOTIFY_UNBIND_DRIVER
            | bindings::bus_notifier_event_BUS_NOTIFY_DRIVER_NOT_BOUND
                if dev.as_raw() == bound.as_ref().as_raw() =>
            {
                let f = this.f.lock().take();
                drop(f);
                None
            }
            // INVARIANT: The driver core says this under the device's lock.
            bindings::bus_notifier_event_BUS_NOTIFY_UNBOUND_DRIVER => {
                Some(Change::Unbound(Unbound(dev)))
            }
            bindings::bus_notifier_event_BUS_NOTIFY_REMOVED_DEVICE => Some(Change::Removed(dev)),
            _ => None,
        };
        let is_looked_at = buses().any(|bus| bus == this.bus);
        if let Some(change) = change.filter(|_| is_looked_at) {
            if let Some(f) = &*this.f.lock() {
                f(bound, change);
            }
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
