// SPDX-License-Identifier: GPL-2.0

//! Reserved regions.

use super::Prot;
use crate::{
    alloc::flags::GFP_KERNEL,
    bindings,
    device,
    io::PhysAddr,
    page::PAGE_SIZE,
    prelude::*, //
};

/// The kind of a reserved region.
///
/// Corresponds to the C `enum iommu_resv_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ResvType {
    /// Has to be mapped to the same physical addresses at all times.
    Direct = bindings::iommu_resv_type_IOMMU_RESV_DIRECT,
    /// Like [`Direct`](Self::Direct), but may be dropped when the endpoint is assigned to a user.
    DirectRelaxable = bindings::iommu_resv_type_IOMMU_RESV_DIRECT_RELAXABLE,
    /// Must never be mapped.
    Reserved = bindings::iommu_resv_type_IOMMU_RESV_RESERVED,
    /// Doorbells of message-signaled interrupts, which the IOMMU does not translate.
    Msi = bindings::iommu_resv_type_IOMMU_RESV_MSI,
    /// A window where the kernel maps doorbells of message-signaled interrupts.
    SoftwareMsi = bindings::iommu_resv_type_IOMMU_RESV_SW_MSI,
}

/// The list of reserved regions that the core asks an endpoint for.
///
/// The order does not matter, and regions may overlap.
///
/// # Invariants
///
/// `list` points to a valid list of `struct iommu_resv_region`, which nobody else accesses for
/// `'a`. `dev` is an endpoint that has been probed.
pub struct ResvRegions<'a> {
    list: *mut bindings::list_head,
    dev: &'a device::Device,
}

impl<'a> ResvRegions<'a> {
    /// # Safety
    ///
    /// - `list` has to point to a valid list of `struct iommu_resv_region` that nobody else
    ///   accesses for `'a`.
    /// - `dev` has to be an endpoint with a fwspec that exists for `'a`.
    pub(super) unsafe fn from_raw(list: *mut bindings::list_head, dev: &'a device::Device) -> Self {
        // INVARIANT: By the safety requirements of this function.
        Self { list, dev }
    }

    /// Adds the region from `first` to `last`, inclusive.
    ///
    /// `prot` is for those kinds that are mapped. May sleep.
    ///
    /// # Errors
    ///
    /// `EINVAL` if `first` is larger than `last`, `EOVERFLOW` if an address or the length cannot be
    /// expressed in C (as for a region of 2^64 bytes), or if a region that the core is to map ends
    /// less than two pages below 2^64, `ENOMEM`.
    pub fn push(&mut self, first: u64, last: u64, prot: Prot, kind: ResvType) -> Result {
        let length = last
            .checked_sub(first)
            .ok_or(EINVAL)?
            .checked_add(1)
            .and_then(|length| usize::try_from(length).ok())
            .ok_or(EOVERFLOW)?;
        let start = PhysAddr::try_from(first).map_err(|_| EOVERFLOW)?;
        PhysAddr::try_from(last).map_err(|_| EOVERFLOW)?;
        // The core's loop over the pages of such a region counts to the page behind it, and would
        // not notice that it has come to the end of the numbers. Domains for the DMA API, the ones
        // with such mappings, have no page that is larger than the kernel's.
        if matches!(kind, ResvType::Direct | ResvType::DirectRelaxable) {
            last.checked_add(2 * PAGE_SIZE as u64).ok_or(EOVERFLOW)?;
        }

        // SAFETY: Always safe to call; it allocates a structure and fills it in.
        let region = unsafe {
            bindings::iommu_alloc_resv_region(
                start,
                length,
                prot.as_raw(),
                kind as bindings::iommu_resv_type,
                GFP_KERNEL.as_raw(),
            )
        };
        if region.is_null() {
            return Err(ENOMEM);
        }

        // SAFETY: By the type invariants, `list` is valid and not accessed by anybody else.
        // `region` is valid and not on a list. It now belongs to the list, which is what the core
        // expects: it frees each element with `kfree()`, as its `free` is null.
        unsafe { bindings::list_add_tail(&raw mut (*region).list, self.list) };

        Ok(())
    }

    /// Adds the regions that firmware demands of any IOMMU: such as an interrupt controller's
    /// pages, or memory that the firmware itself uses for DMA. May sleep.
    ///
    /// Should be used by all drivers whose endpoints come from ACPI or a devicetree.
    pub fn add_firmware_regions(&mut self) {
        // SAFETY: By the type invariants, `list` is valid and not accessed by anybody else, and
        // `dev` is an endpoint, so that it has the fwspec that the function needs.
        unsafe { bindings::iommu_dma_get_resv_regions(self.dev.as_raw(), self.list) };
    }
}
