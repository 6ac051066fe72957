// SPDX-License-Identifier: GPL-2.0

//! What the IOMMU core asks of an IOMMU, of its endpoints and of its domains.

use core::pin::Pin;

use kernel::{
    alloc::Flags,
    device,
    io::PhysAddr,
    iommu::driver::{
        self,
        has_driver,
        AttachTo,
        Capability,
        DomainConfig,
        FaultSink,
        FwSpec,
        Gather,
        Identity,
        Prot,
        ResvRegions, //
    },
    prelude::*,
    ram::Follower,
    sync::{
        Arc,
        ArcBorrow, //
    }, //
};

use super::{
    attached::To,
    domain::{
        Domain,
        Kind,
        Mapping,
        Reach, //
    },
    endpoint::Endpoint,
    iommu::Viommu, //
};
use crate::uapi::Span;

/// Initialises a place in memory with a value made before.
fn ready<T>(value: T) -> impl PinInit<T, Error> {
    Ok::<T, Error>(value)
}

impl driver::Driver for Viommu {
    type Module = crate::DriverModule;
    type Endpoint = Endpoint;
    type Domain = DomainHandle;

    // The endpoint id.
    const OF_CELLS: Option<u32> = Some(1);

    fn probe(
        this: ArcBorrow<'_, Self>,
        dev: &device::Device,
        fwspec: FwSpec<'_>,
    ) -> Result<impl PinInit<Endpoint, Error>> {
        Ok(ready(Endpoint::new(this.into(), dev, fwspec)?))
    }

    fn refused(this: ArcBorrow<'_, Self>, dev: &device::Device, error: Error) {
        // With `ENODEV` it is not behind this IOMMU.
        if error != ENODEV {
            dev_err!(dev, "gets no IOMMU: its DMA is left to the global bypass\n");
            this.note_refused(dev);
        }
    }

    fn release(endpoint: Pin<&Endpoint>, dev: &device::Device) {
        if has_driver(dev) {
            dev_warn!(dev, "loses its IOMMU: global bypass stays closed\n");
            endpoint.viommu.outside.note_deserted();
        }
        endpoint.detach();
    }

    fn faults(endpoint: Pin<&Endpoint>) -> Option<Arc<FaultSink>> {
        Some(endpoint.entry.faults.clone())
    }

    fn capable(_endpoint: Pin<&Endpoint>, capability: Capability) -> bool {
        matches!(
            capability,
            Capability::CacheCoherency | Capability::DeferredFlush
        )
    }

    fn resv_regions(
        endpoint: Pin<&Endpoint>,
        _dev: &device::Device,
        out: &mut ResvRegions<'_>,
    ) -> Result {
        endpoint.report_regions(out)
    }

    fn alloc_paging(
        endpoint: Pin<&Endpoint>,
    ) -> Result<(impl PinInit<DomainHandle, Error>, DomainConfig)> {
        let device = &endpoint.viommu.device;
        device.check_granule()?;
        let domain = Domain::new(device, Kind::Paging)?;
        Ok((DomainHandle::new(domain, None), device.domain_config()))
    }

    fn alloc_identity(
        endpoint: Pin<&Endpoint>,
    ) -> Result<Identity<(impl PinInit<DomainHandle, Error>, DomainConfig)>> {
        let device = &endpoint.viommu.device;
        if device.config.bypass.is_some() {
            return Ok(Identity::Bypass);
        }
        let reach = Reach::new(device, endpoint.gaps())?;
        let domain = reach.get().domain().clone();
        Ok(Identity::Mapped((
            DomainHandle::new(domain, Some(reach)),
            device.domain_config(),
        )))
    }

    fn attach(endpoint: Pin<&Endpoint>, to: AttachTo<'_, DomainHandle>) -> Result {
        endpoint.attach(&match to {
            AttachTo::Domain(domain) => To::Domain(domain.domain.clone()),
            AttachTo::Identity => To::Identity,
            AttachTo::Blocked => To::Blocked,
        })
    }
}

/// What the IOMMU core holds of a domain. Endpoints attached to it hold it too, but do not follow
/// the memory that an identity-mapped one is made of: the core does not let go of it before.
pub(crate) struct DomainHandle {
    domain: Arc<Domain>,
    _follows: Option<Pin<KBox<Follower<Reach>>>>,
}

impl DomainHandle {
    fn new(
        domain: Arc<Domain>,
        follows: Option<Pin<KBox<Follower<Reach>>>>,
    ) -> impl PinInit<Self, Error> {
        ready(DomainHandle {
            domain,
            _follows: follows,
        })
    }
}

impl driver::Domain for DomainHandle {
    #[inline(always)]
    fn map(
        self: Pin<&Self>,
        iova: u64,
        paddr: PhysAddr,
        size: usize,
        prot: Prot,
        gfp: Flags,
    ) -> Result {
        let span = Span::from_size(iova, size).ok_or(EINVAL)?;
        // The core leaves the aperture to who calls it.
        if !self.domain.device.config.input.contains(span) {
            return Err(ERANGE);
        }
        let mapping = Mapping {
            span,
            phys: paddr,
            flags: self.domain.device.map_flags(prot)?,
        };
        self.domain.map(mapping, gfp)
    }

    #[inline]
    fn unmap(self: Pin<&Self>, iova: u64, size: usize, gather: &mut Gather<'_>) -> usize {
        let Some(span) = Span::from_size(iova, size) else {
            return 0;
        };
        let Some(removed) = self.domain.remove(span, gather.queued()) else {
            return 0;
        };
        let to_tell = removed.to_tell;
        let removed = removed.span;
        if to_tell && !gather.extend(removed.first(), removed.last()) {
            // It does not touch what was gathered before: that goes to the device.
            if let Some(before) = gathered(gather) {
                self.domain.unmap_and_sync(before);
            }
            if !gather.restart(removed.first(), removed.last()) {
                // There is nothing to gather with: the core will not wait for this one.
                self.domain.unmap_and_sync(removed);
            }
        }
        usize::try_from(removed.size_saturating()).unwrap_or(usize::MAX)
    }

    #[inline]
    fn iova_to_phys(self: Pin<&Self>, iova: u64) -> Option<PhysAddr> {
        self.domain.translate(iova)
    }

    fn flush_all(self: Pin<&Self>) {
        self.domain.flush();
    }

    #[inline]
    fn sync(self: Pin<&Self>, gather: &Gather<'_>) {
        // With nothing gathered, there is nothing that the device has to be told.
        if let Some(span) = gathered(gather) {
            self.domain.unmap_and_sync(span);
        }
    }

    #[inline]
    fn sync_map(self: Pin<&Self>, iova: u64, size: usize) -> Result {
        let span = Span::from_size(iova, size).ok_or(EINVAL)?;
        self.domain.sync_map(span)
    }
}

/// The range that is to be unmapped with the next sync.
#[inline]
fn gathered(gather: &Gather<'_>) -> Option<Span> {
    let (first, last) = gather.range()?;
    Span::new(first, last)
}
