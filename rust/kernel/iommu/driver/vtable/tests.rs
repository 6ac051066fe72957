// SPDX-License-Identifier: GPL-2.0

//! KUnit tests of what the core makes of a range: how it calls a domain, and what it is told.

use super::{
    domain_free,
    Paging,
    VTable, //
};
use crate::{
    alloc::Flags,
    bindings,
    device::Device,
    error::to_result,
    io::PhysAddr,
    iommu::driver::{
        AttachTo,
        Capability,
        Domain,
        DomainConfig,
        Driver,
        FwSpec,
        Gather,
        Geometry,
        Identity,
        Prot,
        ProtFlag,
        ResvRegions, //
    },
    prelude::*,
    sync::{
        new_spinlock,
        Arc,
        ArcBorrow,
        SpinLock, //
    },
    ModuleMetadata, //
};

/// The kernel itself.
struct Here;

impl ModuleMetadata for Here {
    const NAME: &'static CStr = c"rust_iommu_driver_ranges";
    // SAFETY: This is built in, where the module is null.
    const THIS_MODULE: ThisModule = unsafe { ThisModule::from_ptr(core::ptr::null_mut()) };
}

/// An IOMMU that has no endpoint.
struct Iommu;

impl Driver for Iommu {
    type Module = Here;
    type Endpoint = ();
    type Domain = Space;

    fn probe(_: ArcBorrow<'_, Self>, _: &Device, _: FwSpec<'_>) -> Result<impl PinInit<(), Error>> {
        Err::<Result<(), Error>, _>(ENODEV)
    }

    fn release(_: Pin<&()>, _: &Device) {}

    fn capable(_: Pin<&()>, _: Capability) -> bool {
        false
    }

    fn resv_regions(_: Pin<&()>, _: &Device, _: &mut ResvRegions<'_>) -> Result {
        Ok(())
    }

    fn alloc_paging(_: Pin<&()>) -> Result<(impl PinInit<Space, Error>, DomainConfig)> {
        Ok((Space::new(), CONFIG))
    }

    fn alloc_identity(
        ep: Pin<&()>,
    ) -> Result<Identity<(impl PinInit<Space, Error>, DomainConfig)>> {
        Ok(Identity::Mapped(Self::alloc_paging(ep)?))
    }

    fn attach(_: Pin<&()>, _: AttachTo<'_, Space>) -> Result {
        Ok(())
    }
}

const GRANULE: usize = 0x1000;

/// Any size, as a device has it that prefers none.
const CONFIG: DomainConfig = DomainConfig {
    page_sizes: !(GRANULE as u64 - 1),
    geometry: Geometry {
        first: 0,
        last: u64::MAX,
    },
};

/// What a domain was asked for, and what it is to answer.
#[derive(Default)]
struct Calls {
    mapped: Option<(u64, PhysAddr, usize)>,
    maps: usize,
    unmapped: Option<(u64, usize)>,
    unmaps: usize,
    sync_maps: usize,
    syncs: usize,
    refuses: bool,
    notes: bool,
    /// What it says was unmapped, if it does not tell the truth.
    claims: Option<usize>,
}

#[pin_data]
struct Space {
    #[pin]
    calls: SpinLock<Calls>,
}

impl Space {
    fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            calls <- new_spinlock!(Calls::default()),
        }? Error)
    }
}

impl Domain for Space {
    fn map(
        self: Pin<&Self>,
        iova: u64,
        paddr: PhysAddr,
        size: usize,
        prot: Prot,
        _: Flags,
    ) -> Result {
        let mut calls = self.calls.lock();

        assert!(prot == (ProtFlag::Read | ProtFlag::Write));
        calls.maps += 1;
        calls.mapped = Some((iova, paddr, size));
        if calls.refuses {
            return Err(ENOSPC);
        }
        Ok(())
    }

    fn unmap(self: Pin<&Self>, iova: u64, size: usize, gather: &mut Gather<'_>) -> usize {
        let mut calls = self.calls.lock();

        calls.unmaps += 1;
        calls.unmapped = Some((iova, size));
        if calls.notes {
            gather.add_range(iova, iova + (size as u64 - 1));
        }
        calls.claims.unwrap_or(size)
    }

    fn iova_to_phys(self: Pin<&Self>, _: u64) -> Option<PhysAddr> {
        None
    }

    fn flush_all(self: Pin<&Self>) {}

    fn sync(self: Pin<&Self>, _: &Gather<'_>) {
        self.calls.lock().syncs += 1;
    }

    fn sync_map(self: Pin<&Self>, _: u64, _: usize) -> Result {
        self.calls.lock().sync_maps += 1;
        Ok(())
    }
}

/// A domain that has no endpoint, for the functions of the core.
///
/// # Invariants
///
/// It is from `Paging::<Iommu>::alloc()`, and not freed.
struct CoreDomain(*mut bindings::iommu_domain);

impl CoreDomain {
    fn new() -> Result<Self> {
        let config = CONFIG.validate(false)?;

        // SAFETY: The tables are for this type of domain.
        let domain = unsafe {
            <Paging<Iommu>>::alloc(
                Arc::new(Iommu, GFP_KERNEL)?,
                Space::new(),
                Some(config),
                VTable::<Iommu>::PAGING_OPS,
                Some(VTable::<Iommu>::RANGE_OPS),
            )
        }?;
        // As the core does when it gets one.
        //
        // SAFETY: Nobody else has the domain yet.
        unsafe { (*domain).type_ = bindings::IOMMU_DOMAIN_UNMANAGED };

        // INVARIANT: It is new.
        Ok(Self(domain))
    }

    /// What the domain was asked for.
    fn with<R>(&self, look: impl FnOnce(&mut Calls) -> R) -> R {
        // SAFETY: By the type invariants.
        let object = unsafe { <Paging<Iommu>>::from_raw(self.0) };

        let mut calls = object.data().get_ref().calls.lock();
        look(&mut calls)
    }

    fn map(&self, iova: usize, paddr: PhysAddr, size: usize) -> Result {
        let prot = bindings::IOMMU_READ | bindings::IOMMU_WRITE;

        // SAFETY: By the type invariants, the domain is valid.
        to_result(unsafe {
            bindings::iommu_map(
                self.0,
                iova,
                paddr,
                size,
                prot as c_int,
                bindings::GFP_KERNEL,
            )
        })
    }

    fn unmap(&self, iova: usize, size: usize) -> usize {
        // SAFETY: By the type invariants, the domain is valid.
        unsafe { bindings::iommu_unmap(self.0, iova, size) }
    }
}

impl Drop for CoreDomain {
    fn drop(&mut self) {
        // SAFETY: By the type invariants; nobody uses it after this.
        unsafe { domain_free(self.0) };
    }
}

#[kunit_tests(rust_iommu_driver_ranges)]
mod ranges {
    use super::*;

    /// Neither an address nor the size is that of a large page.
    const IOVA: usize = 0x7000;
    const PHYS: PhysAddr = 0x4_3000;
    const SIZE: usize = 0x70_5000;

    #[test]
    fn a_range_is_one_call() -> Result {
        let domain = CoreDomain::new()?;

        domain.with(|calls| calls.notes = true);
        domain.map(IOVA, PHYS, SIZE)?;
        domain.with(|calls| {
            assert_eq!((calls.maps, calls.sync_maps), (1, 1));
            assert_eq!(calls.mapped, Some((IOVA as u64, PHYS, SIZE)));
        });
        assert_eq!(domain.unmap(IOVA, SIZE), SIZE);
        domain.with(|calls| {
            assert_eq!((calls.unmaps, calls.syncs), (1, 1));
            assert_eq!(calls.unmapped, Some((IOVA as u64, SIZE)));
        });
        Ok(())
    }

    #[test]
    fn the_core_knows_all_page_sizes() -> Result {
        let domain = CoreDomain::new()?;

        // SAFETY: The domain is valid.
        let sizes = unsafe { (*domain.0).pgsize_bitmap };
        if cfg!(CONFIG_IOMMU_PT) {
            assert_eq!(sizes, !(GRANULE - 1));
        } else {
            assert_eq!(sizes, GRANULE);
        }
        Ok(())
    }

    #[test]
    fn what_is_refused_is_not_unmapped() -> Result {
        let domain = CoreDomain::new()?;

        domain.with(|calls| calls.refuses = true);
        assert_eq!(domain.map(IOVA, PHYS, SIZE), Err(ENOSPC));
        domain.with(|calls| assert_eq!((calls.maps, calls.unmaps), (1, 0)));
        Ok(())
    }

    #[test]
    fn parts_of_a_granule_are_refused() -> Result {
        let domain = CoreDomain::new()?;

        for (iova, phys, size) in [
            (IOVA + 0x800, PHYS, SIZE),
            (IOVA, PHYS + 0x800, SIZE),
            (IOVA, PHYS, SIZE + 0x800),
            (IOVA + 0x800, PHYS + 0x800, 2 * GRANULE),
        ] {
            assert_eq!(domain.map(iova, phys, size), Err(EINVAL));
        }
        assert_eq!(domain.unmap(IOVA + 0x800, SIZE), 0);
        assert_eq!(domain.unmap(IOVA, SIZE + 0x800), 0);
        domain.with(|calls| assert_eq!((calls.maps, calls.unmaps), (0, 0)));
        Ok(())
    }

    #[test]
    fn what_overflows_is_refused() -> Result {
        let domain = CoreDomain::new()?;

        assert_eq!(
            domain.map(0, PhysAddr::MAX - 0xfff, 2 * GRANULE),
            Err(EINVAL)
        );
        assert_eq!(domain.unmap(usize::MAX - 0xfff, 2 * GRANULE), 0);
        domain.with(|calls| assert_eq!((calls.maps, calls.unmaps), (0, 0)));
        Ok(())
    }

    #[test]
    fn claims_are_whole_granules() -> Result {
        let domain = CoreDomain::new()?;

        for (claim, told) in [
            (SIZE + 1, SIZE),
            (2 * SIZE + 1, 2 * SIZE),
            (usize::MAX, usize::MAX - 0x7fff),
        ] {
            domain.with(|calls| calls.claims = Some(claim));
            assert_eq!(domain.unmap(IOVA, SIZE), told);
        }
        Ok(())
    }

    #[test]
    fn nothing_noted_is_not_synced() -> Result {
        let domain = CoreDomain::new()?;

        assert_eq!(domain.unmap(IOVA, SIZE), SIZE);
        domain.with(|calls| assert_eq!(calls.syncs, usize::from(!cfg!(CONFIG_IOMMU_PT))));
        Ok(())
    }
}
