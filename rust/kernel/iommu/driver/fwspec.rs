// SPDX-License-Identifier: GPL-2.0

//! What firmware says about an endpoint.

use crate::{
    bindings,
    device, //
};
use core::{
    marker::PhantomData,
    slice, //
};

/// What firmware (ACPI or a devicetree) says about how an endpoint is connected to its IOMMU.
///
/// Corresponds to the C `struct iommu_fwspec`.
///
/// # Invariants
///
/// `raw` points to a valid `struct iommu_fwspec` that does not change or move for `'a`, and whose
/// `ids` has `num_ids` elements.
#[derive(Clone, Copy)]
pub struct FwSpec<'a> {
    raw: *const bindings::iommu_fwspec,
    _life: PhantomData<&'a bindings::iommu_fwspec>,
}

impl<'a> FwSpec<'a> {
    /// Returns the fwspec of `dev`, if there is one.
    ///
    /// # Safety
    ///
    /// The caller has to hold the core's `iommu_probe_device_lock`, for `'a`.
    pub(super) unsafe fn of(dev: &'a device::Device) -> Option<Self> {
        // SAFETY: `dev` is valid. Its `iommu` is only set or freed under `iommu_probe_device_lock`
        // for as long as it has no IOMMU, and by the endpoint's release otherwise.
        let iommu = unsafe { (*dev.as_raw()).iommu };
        if iommu.is_null() {
            return None;
        }

        // SAFETY: `iommu` is valid, see above.
        let raw = unsafe { (*iommu).fwspec };
        if raw.is_null() {
            return None;
        }

        // INVARIANT: A `struct iommu_fwspec` is reallocated by `iommu_fwspec_add_ids()`, which
        // keeps `num_ids` and `ids` consistent, and freed by `iommu_fwspec_free()` and
        // `dev_iommu_free()`. For an endpoint that is about to be probed all of them run under
        // `iommu_probe_device_lock`, which is held for `'a`.
        Some(Self {
            raw,
            _life: PhantomData,
        })
    }

    /// Returns the IDs by which the IOMMU knows the endpoint, in the order of the firmware's
    /// tables.
    ///
    /// There is more than one if the endpoint has aliases. There may be duplicates.
    pub fn ids(&self) -> &'a [u32] {
        // SAFETY: By the type invariants, `raw` is valid.
        let (ids, len) = unsafe { (&raw const (*self.raw).ids, (*self.raw).num_ids) };

        // SAFETY: By the type invariants, there are `len` elements, which do not change for `'a`.
        // CAST: `len` counts elements in memory, so it fits into a `usize`.
        unsafe { slice::from_raw_parts(ids.cast::<u32>(), len as usize) }
    }

    /// Returns the firmware node of the IOMMU.
    pub(super) fn iommu_fwnode(&self) -> *mut bindings::fwnode_handle {
        // SAFETY: By the type invariants, `raw` is valid.
        unsafe { (*self.raw).iommu_fwnode }
    }
}
