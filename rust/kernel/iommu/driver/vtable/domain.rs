// SPDX-License-Identifier: GPL-2.0

//! The functions of `iommu_domain_ops`. For the rules see [the parent module](super).

use super::{
    Bypass,
    Paging,
    VTable, //
};
use crate::{
    alloc::Flags,
    bindings,
    error::from_result,
    io::PhysAddr,
    iommu::driver::{
        domain::{
            granule,
            is_range,
            whole_granules, //
        },
        object::EndpointObject,
        AttachTo,
        Domain,
        Driver,
        Gather,
        Prot, //
    },
    prelude::*, //
};

impl<T: Driver> VTable<T> {
    /// Returns the endpoint that `dev` is, unless it is one of another driver.
    ///
    /// # Safety
    ///
    /// `domain` and `dev` have to be valid for `'a`; `domain` with one of the `ops` of this table,
    /// and `dev` an endpoint of some IOMMU.
    unsafe fn manages<'a>(
        domain: *mut bindings::iommu_domain,
        dev: *mut bindings::device,
    ) -> Result<Pin<&'a EndpointObject<T>>> {
        // SAFETY: `dev` is an endpoint, so it has a `struct dev_iommu` with an IOMMU, which has a
        // table.
        let ops = unsafe { (*(*(*dev).iommu).iommu_dev).ops };

        // The core writes down where it has a domain from. The blocked domain, which is static, is
        // the one of that table. This is how the core compares the two as well.
        //
        // SAFETY: `domain` and `ops` are valid.
        let same = unsafe {
            (*domain).owner == ops
                || (*ops).blocked_domain == domain
                || (*ops).release_domain == domain
        };
        if !same {
            return Err(EINVAL);
        }

        // SAFETY: `ops` is `Self::OPS`: `domain` has one of our tables, so it was allocated by one
        // of our functions, which were called through `Self::OPS` and no other, or it is `BLOCKED`,
        // which no other table refers to. Hence the endpoint rule applies to `dev`.
        Ok(unsafe { EndpointObject::from_dev(dev) })
    }

    /// Attaches an endpoint to a domain, and has faults reported there.
    ///
    /// # Safety
    ///
    /// `domain` has to be valid until this is called for the endpoint again, or it is released.
    unsafe fn attach(
        ep: &EndpointObject<T>,
        domain: *mut bindings::iommu_domain,
        attach: impl FnOnce() -> Result,
    ) -> Result<c_int> {
        // The core may free the old domain even if this fails.
        //
        // SAFETY: Null is no domain.
        unsafe { ep.set_domain(core::ptr::null_mut()) };
        attach()?;
        // SAFETY: By the safety requirements.
        unsafe { ep.set_domain(domain) };
        Ok(0)
    }

    /// # Safety
    ///
    /// The domain rule applies to `raw`, and `dev` has to be an endpoint.
    pub(super) unsafe extern "C" fn paging_attach_dev(
        raw: *mut bindings::iommu_domain,
        dev: *mut bindings::device,
        _old: *mut bindings::iommu_domain,
    ) -> c_int {
        from_result(|| {
            // SAFETY: By the safety requirements.
            let ep = unsafe { Self::manages(raw, dev) }?;
            // SAFETY: By the domain rule.
            let domain = unsafe { <Paging<T>>::from_raw(raw) };

            if !domain.is_for(&ep) {
                return Err(EINVAL);
            }

            // SAFETY: `raw` is valid until the core frees it, which is after it has called a
            // function like this one for each endpoint that it is attached to.
            unsafe {
                Self::attach(&ep, raw, || {
                    T::attach(ep.data(), AttachTo::Domain(domain.data()))
                })
            }
        })
    }

    /// # Safety
    ///
    /// The domain rule applies to `raw`, and `dev` has to be an endpoint.
    pub(super) unsafe extern "C" fn bypass_attach_dev(
        raw: *mut bindings::iommu_domain,
        dev: *mut bindings::device,
        _old: *mut bindings::iommu_domain,
    ) -> c_int {
        from_result(|| {
            // SAFETY: By the safety requirements.
            let ep = unsafe { Self::manages(raw, dev) }?;
            // SAFETY: By the domain rule.
            let domain = unsafe { <Bypass<T>>::from_raw(raw) };

            // Another instance may not be able to let DMA pass.
            if !domain.is_for(&ep) {
                return Err(EINVAL);
            }

            // SAFETY: As in `paging_attach_dev`.
            unsafe { Self::attach(&ep, raw, || T::attach(ep.data(), AttachTo::Identity)) }
        })
    }

    /// # Safety
    ///
    /// `domain` has to be [`Self::BLOCKED`], and `dev` has to be an endpoint.
    pub(super) unsafe extern "C" fn blocked_attach_dev(
        domain: *mut bindings::iommu_domain,
        dev: *mut bindings::device,
        _old: *mut bindings::iommu_domain,
    ) -> c_int {
        from_result(|| {
            // SAFETY: By the safety requirements.
            let ep = unsafe { Self::manages(domain, dev) }?;

            // SAFETY: The domain is static.
            unsafe { Self::attach(&ep, domain, || T::attach(ep.data(), AttachTo::Blocked)) }
        })
    }

    /// Maps a range of a domain.
    ///
    /// # Safety
    ///
    /// The domain rule applies to `raw`.
    #[inline(always)]
    unsafe fn map(
        raw: *mut bindings::iommu_domain,
        iova: c_ulong,
        paddr: bindings::phys_addr_t,
        size: usize,
        prot: c_int,
        gfp: bindings::gfp_t,
    ) -> Result {
        // SAFETY: By the domain rule.
        let domain = unsafe { <Paging<T>>::from_raw(raw) };

        if !is_range(iova, size) {
            return Err(EINVAL);
        }
        paddr
            .checked_add(PhysAddr::try_from(size - 1)?)
            .ok_or(EINVAL)?;

        domain.data().map(
            // CAST: An `unsigned long` has at most 64 bits.
            iova as u64,
            paddr,
            size,
            Prot::from_raw(prot),
            Flags::from_raw(gfp),
        )
    }

    /// Unmaps a range of a domain. Returns how many bytes were unmapped.
    ///
    /// # Safety
    ///
    /// The domain rule applies to `raw`. `gather` has to be null, or initialized and not in use by
    /// anybody else.
    #[inline]
    unsafe fn unmap(
        raw: *mut bindings::iommu_domain,
        iova: c_ulong,
        size: usize,
        gather: *mut bindings::iommu_iotlb_gather,
    ) -> usize {
        // SAFETY: By the domain rule.
        let domain = unsafe { <Paging<T>>::from_raw(raw) };
        // SAFETY: By the safety requirements.
        let mut gather = unsafe { Gather::from_raw(gather) };

        if !is_range(iova, size) {
            return 0;
        }

        // CAST: An `unsigned long` has at most 64 bits.
        let done = domain.data().unmap(iova as u64, size, &mut gather);
        if done == size {
            return done;
        }
        // Callers go on behind. The core has a `BUG_ON()` for an address there that is not that of
        // a page, and does not look for an overflow.
        //
        // SAFETY: By the domain rule.
        whole_granules(iova, done, unsafe { Self::page_sizes(raw) })
    }

    /// Returns the page sizes that the core knows for a domain.
    ///
    /// # Safety
    ///
    /// The domain rule applies to `raw`.
    #[inline]
    unsafe fn page_sizes(raw: *mut bindings::iommu_domain) -> c_ulong {
        // SAFETY: By the domain rule, `raw` is valid. The core does not change the number.
        unsafe { (*raw).pgsize_bitmap }
    }

    /// # Safety
    ///
    /// The domain rule applies to the domain of `pt`. `mapped` has to be valid for reads and
    /// writes.
    pub(super) unsafe extern "C" fn map_range(
        pt: *mut bindings::pt_iommu,
        iova: bindings::dma_addr_t,
        paddr: bindings::phys_addr_t,
        len: bindings::dma_addr_t,
        prot: c_uint,
        gfp: bindings::gfp_t,
        mapped: *mut usize,
    ) -> c_int {
        from_result(|| {
            // SAFETY: By the domain rule, `pt` is valid.
            let domain = unsafe { &raw mut (*pt).domain };
            // SAFETY: By the domain rule.
            let granule = granule(unsafe { Self::page_sizes(domain) });
            // The types depend on the architecture.
            let (iova, size) = (c_ulong::try_from(iova)?, usize::try_from(len)?);

            // The core, which looks at this before it calls `map_pages`, does not here.
            //
            // CAST: Only low bits are looked at.
            if (iova | size | paddr as c_ulong) & granule.wrapping_sub(1) != 0 {
                return Err(EINVAL);
            }

            // CAST: A bitmap.
            //
            // SAFETY: By the domain rule.
            unsafe { Self::map(domain, iova, paddr, size, prot as c_int, gfp) }?;
            // The sum is of what the core has asked for.
            //
            // SAFETY: `mapped` is valid for reads and writes.
            unsafe { *mapped = (*mapped).wrapping_add(size) };
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// The domain rule applies to the domain of `pt`. `gather` has to be null, or initialized and
    /// not in use by anybody else.
    pub(super) unsafe extern "C" fn unmap_range(
        pt: *mut bindings::pt_iommu,
        iova: bindings::dma_addr_t,
        len: bindings::dma_addr_t,
        gather: *mut bindings::iommu_iotlb_gather,
    ) -> usize {
        // SAFETY: By the domain rule, `pt` is valid.
        let domain = unsafe { &raw mut (*pt).domain };
        // SAFETY: By the domain rule.
        let granule = granule(unsafe { Self::page_sizes(domain) });

        // The types depend on the architecture.
        let (Ok(iova), Ok(size)) = (c_ulong::try_from(iova), usize::try_from(len)) else {
            return 0;
        };
        if (iova | size) & granule.wrapping_sub(1) != 0 {
            return 0;
        }

        // The size is 0, which is no range, when the core undoes what a failed `map_range` did.
        //
        // SAFETY: By the safety requirements.
        unsafe { Self::unmap(domain, iova, size, gather) }
    }

    /// For kernels without `CONFIG_IOMMU_PT`, as the next one.
    ///
    /// # Safety
    ///
    /// The domain rule applies to `domain`, and `mapped` has to be valid for writes.
    pub(super) unsafe extern "C" fn map_pages(
        domain: *mut bindings::iommu_domain,
        iova: c_ulong,
        paddr: bindings::phys_addr_t,
        pgsize: usize,
        pgcount: usize,
        prot: c_int,
        gfp: bindings::gfp_t,
        mapped: *mut usize,
    ) -> c_int {
        from_result(|| {
            let size = pgsize.checked_mul(pgcount).ok_or(EINVAL)?;
            // SAFETY: By the domain rule.
            unsafe { Self::map(domain, iova, paddr, size, prot, gfp) }?;
            // SAFETY: `mapped` is valid for writes.
            unsafe { *mapped = size };
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// The domain rule applies to `domain`. `gather` has to be null, or initialized and not in use
    /// by anybody else.
    pub(super) unsafe extern "C" fn unmap_pages(
        domain: *mut bindings::iommu_domain,
        iova: c_ulong,
        pgsize: usize,
        pgcount: usize,
        gather: *mut bindings::iommu_iotlb_gather,
    ) -> usize {
        let Some(size) = pgsize.checked_mul(pgcount) else {
            return 0;
        };
        // SAFETY: By the safety requirements.
        unsafe { Self::unmap(domain, iova, size, gather) }
    }

    /// # Safety
    ///
    /// The domain rule applies to `domain`.
    pub(super) unsafe extern "C" fn flush_iotlb_all(domain: *mut bindings::iommu_domain) {
        // SAFETY: By the domain rule.
        let domain = unsafe { <Paging<T>>::from_raw(domain) };

        domain.data().flush_all();
    }

    /// # Safety
    ///
    /// The domain rule applies to `domain`.
    pub(super) unsafe extern "C" fn iotlb_sync_map(
        domain: *mut bindings::iommu_domain,
        iova: c_ulong,
        size: usize,
    ) -> c_int {
        from_result(|| {
            // SAFETY: By the domain rule.
            let domain = unsafe { <Paging<T>>::from_raw(domain) };

            if size != 0 {
                if !is_range(iova, size) {
                    return Err(EINVAL);
                }
                // CAST: An `unsigned long` has at most 64 bits.
                domain.data().sync_map(iova as u64, size)?;
            }
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// The domain rule applies to `domain`. `gather` has to be null, or initialized and not in use
    /// by anybody else.
    pub(super) unsafe extern "C" fn iotlb_sync(
        domain: *mut bindings::iommu_domain,
        gather: *mut bindings::iommu_iotlb_gather,
    ) {
        // SAFETY: By the domain rule.
        let domain = unsafe { <Paging<T>>::from_raw(domain) };
        // SAFETY: By the safety requirements.
        let gather = unsafe { Gather::from_raw(gather) };

        domain.data().sync(&gather);
    }

    /// # Safety
    ///
    /// The domain rule applies to `domain`.
    pub(super) unsafe extern "C" fn iova_to_phys(
        domain: *mut bindings::iommu_domain,
        iova: bindings::dma_addr_t,
    ) -> bindings::phys_addr_t {
        // SAFETY: By the domain rule.
        let domain = unsafe { <Paging<T>>::from_raw(domain) };

        // The type depends on the architecture.
        #[allow(clippy::useless_conversion)]
        let iova = u64::from(iova);

        // The core takes 0 for "not mapped".
        domain.data().iova_to_phys(iova).unwrap_or(0)
    }
}
