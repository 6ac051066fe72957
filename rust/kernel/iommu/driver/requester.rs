// SPDX-License-Identifier: GPL-2.0

//! PCI devices, as their DMA names them.
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
