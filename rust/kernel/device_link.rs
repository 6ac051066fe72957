// SPDX-License-Identifier: GPL-2.0

//! Device links.
//!
//! C header: [`include/linux/device.h`](srctree/include/linux/device.h)

use crate::{
    bindings,
    device::Device,
    sync::aref::ARef, //
};

/// A link that makes one device, the *consumer*, depend on another, the *supplier*.
///
/// For as long as it exists, the consumer (and whatever depends on it) is suspended and shut down
/// before the supplier, and resumed after it, wherever the two are in the device tree. The link is
/// *stateless*: it has no influence on which drivers are bound, and when.
///
/// Dropping this removes the link, unless another one was made for the same pair of devices. The
/// link also goes away when one of the devices is unregistered.
///
/// As it is stateless, it does not keep the supplier's driver from being unbound, nor does the
/// driver core unbind the consumer's driver first.
///
/// # Limits
///
/// The C side has no handle of a link that stays valid, so what is removed is looked up by the two
/// devices. If one of them is unregistered, the same `struct device` is registered again, and
/// somebody else links the two, then dropping this gives up a reference on that link, which is not
/// ours (or warns, if it is a managed link): it goes away too early. Nothing checks for that. PCI
/// devices are never registered twice. For other devices, drop this before they are.
///
/// # Invariants
///
/// A stateless link from `consumer` to `supplier` was made, and was not removed, other than by the
/// driver core when one of them was unregistered.
///
/// # Examples
///
/// ```
/// use kernel::{
///     device::Device,
///     device_link::DeviceLink,
///     prelude::*, //
/// };
///
/// /// Makes a `codec` go to sleep before the `clock` that drives it, which is on another bus.
/// fn order(codec: &Device, clock: &Device) -> Option<DeviceLink> {
///     let link = DeviceLink::new(codec, clock);
///
///     if link.is_none() {
///         dev_warn!(codec, "cannot depend on its clock\n");
///     }
///     link
/// }
/// ```
#[must_use = "the link is removed when this is dropped"]
pub struct DeviceLink {
    consumer: ARef<Device>,
    supplier: ARef<Device>,
}

impl DeviceLink {
    /// Makes `consumer` depend on `supplier`.
    ///
    /// Returns `None` if that is not possible: because it would make a cycle (`supplier` depends on
    /// `consumer` already, for instance as its child, or is the same device), because `supplier` is
    /// not registered, or because there is no memory.
    ///
    /// May sleep.
    pub fn new(consumer: &Device, supplier: &Device) -> Option<Self> {
        // SAFETY: Both are valid devices. The function does its own locking, and checks what is
        // described above.
        let link = unsafe {
            bindings::device_link_add(
                consumer.as_raw(),
                supplier.as_raw(),
                bindings::DL_FLAG_STATELESS,
            )
        };

        // `link` itself is not kept: it is freed when one of the devices is unregistered.
        if link.is_null() {
            return None;
        }

        // INVARIANT: The link was made just now.
        Some(Self {
            consumer: consumer.into(),
            supplier: supplier.into(),
        })
    }
}

impl Drop for DeviceLink {
    fn drop(&mut self) {
        // SAFETY: Both are valid devices, on which we have references. The function looks for a
        // link between them in the lists of the supplier, so it does nothing if there is none left.
        // If there is one, then by the type invariants the reference that it drops is ours, within
        // the limits that the documentation of the type states.
        unsafe {
            bindings::device_link_remove(self.consumer.as_raw().cast(), self.supplier.as_raw())
        };
    }
}
