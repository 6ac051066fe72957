// SPDX-License-Identifier: GPL-2.0

//! PCI devices, as their DMA names them, and those that do without an IOMMU.
//!
//! C header: [`include/linux/pci.h`](srctree/include/linux/pci.h)

use crate::{
    bindings,
    container_of,
    device::Device,
    prelude::*, //
};

/// What a PCI device is known by when it issues DMA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requester {
    /// The PCI segment; 0 on most machines.
    pub segment: u32,
    /// The requester ID in the segment: bus, device and function.
    pub id: u16,
}

impl Requester {
    /// Returns that of `dev`, if it is a PCI device. Any context.
    pub fn of(dev: &Device) -> Option<Self> {
        let pdev = pci_device(dev)?;
        // SAFETY: `pdev` is valid, as `dev` is.
        Some(unsafe { Self::alias(pdev, bindings::pci_dev_id(pdev)) })
    }

    /// Calls `f` for each one that the DMA of `dev` may bear on the way to the IOMMU: that of the
    /// device, and those of bridges that put their own in its place. May sleep.
    pub fn for_each_alias(dev: &Device, mut f: impl FnMut(Self)) {
        visit_aliases(dev, &mut f);
    }

    /// # Safety
    ///
    /// `pdev` has to be valid.
    unsafe fn alias(pdev: *mut bindings::pci_dev, id: u16) -> Self {
        // SAFETY: `pdev` is valid. It has a reference on its bus for as long as it exists, and
        // neither its bus nor its number on that changes.
        let segment = unsafe { bindings::pci_domain_nr((*pdev).bus) };
        // CAST: Segments are counted from 0 on.
        let segment = segment as u32;
        Self { segment, id }
    }
}

fn pci_device(dev: &Device) -> Option<*mut bindings::pci_dev> {
    // SAFETY: `dev` is valid. A device of the PCI bus is part of a `struct pci_dev`.
    unsafe {
        bindings::dev_is_pci(dev.as_raw())
            .then(|| container_of!(dev.as_raw(), bindings::pci_dev, dev))
    }
}

/// Not generic, because the C function is not exported.
#[inline(never)]
fn visit_aliases(dev: &Device, mut f: &mut dyn FnMut(Requester)) {
    let Some(pdev) = pci_device(dev) else {
        return;
    };

    #[cfg(CONFIG_PCI)]
    // SAFETY: `pdev` is valid, as `dev` is. The data is what `visit_alias` expects.
    unsafe {
        bindings::pci_for_each_dma_alias(pdev, Some(visit_alias), (&raw mut f).cast())
    };
    #[cfg(not(CONFIG_PCI))]
    let _ = (pdev, &mut f);
}

/// # Safety
///
/// `pdev` has to be valid, and `data` has to point to a `&mut dyn FnMut(Requester)` that nobody
/// else uses.
#[cfg(CONFIG_PCI)]
unsafe extern "C" fn visit_alias(
    pdev: *mut bindings::pci_dev,
    id: u16,
    data: *mut c_void,
) -> c_int {
    // SAFETY: By the safety requirements.
    let (f, alias) = unsafe {
        (
            &mut *data.cast::<&mut dyn FnMut(Requester)>(),
            Requester::alias(pdev, id),
        )
    };
    f(alias);
    0
}

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
