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
///
/// # Examples
///
/// ```
/// use kernel::{
///     device::Device,
///     iommu::driver::Requester,
///     prelude::*, //
/// };
///
/// /// Enters a device into the table that an interrupt controller accepts MSIs by.
/// fn accept(dev: &Device, segment: u32, table: &mut KVec<u16>) -> Result {
///     let mut result = Ok(());
///     Requester::for_each_alias(dev, |alias| {
///         if alias.segment == segment && !table.contains(&alias.id) && result.is_ok() {
///             result = table.push(alias.id, GFP_KERNEL);
///         }
///     });
///     Ok(result?)
/// }
/// ```
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
        // SAFETY: `pdev` is valid, as `dev` is. It keeps its bus, and its number on that.
        let id = unsafe { bindings::pci_dev_id(pdev) };
        let segment = segment(dev)?;
        Some(Self { segment, id })
    }

    /// Calls `f` for each one that the DMA of `dev` may bear on the way to the IOMMU: that of the
    /// device, and those of bridges that put their own in its place. May sleep.
    ///
    /// On x86 the host bridge has to be there, as for everybody who calls
    /// `pci_for_each_dma_alias()`: VMD and Hyper-V free what is known of theirs with it.
    pub fn for_each_alias(dev: &Device, mut f: impl FnMut(Self)) {
        let Some(segment) = segment(dev) else {
            return;
        };
        visit_aliases(dev, &mut |id| f(Self { segment, id }));
    }
}

/// The PCI segment of a PCI device, from its name: `0000:00:01.0`. What `pci_domain_nr()` asks may
/// be gone before the device.
fn segment(dev: &Device) -> Option<u32> {
    let segment = dev.name().to_str().ok()?.split(':').next()?;
    u32::from_str_radix(segment, 16).ok()
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
fn visit_aliases(dev: &Device, mut f: &mut dyn FnMut(u16)) {
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
/// `data` has to point to a `&mut dyn FnMut(u16)` that nobody else uses.
#[cfg(CONFIG_PCI)]
unsafe extern "C" fn visit_alias(_: *mut bindings::pci_dev, id: u16, data: *mut c_void) -> c_int {
    // SAFETY: By the safety requirements.
    let f = unsafe { &mut *data.cast::<&mut dyn FnMut(u16)>() };
    f(id);
    0
}
