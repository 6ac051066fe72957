// SPDX-License-Identifier: GPL-2.0

//! What the IOMMU core asks of a paging domain.

use core::pin::Pin;

use kernel::{
    alloc::Flags,
    io::PhysAddr,
    iommu::driver::{
        self,
        Gather,
        Prot, //
    },
    prelude::*,
    sync::Arc, //
};

use super::{
    attached::Attachment,
    device::Viommu,
    domain::{
        Mapping,
        PagingDomain, //
    },
    endpoint::EndpointHandle, //
};
use crate::uapi::Span;

/// The range that is to be unmapped with the next sync.
#[inline]
fn gathered(gather: &Gather<'_>) -> Option<Span> {
    let (first, last) = gather.range()?;
    Span::new(first, last)
}

/// What the IOMMU core holds of a domain. Endpoints attached to it hold it too.
pub(crate) struct DomainHandle(pub(super) Arc<PagingDomain>);

impl driver::Domain for DomainHandle {
    type Driver = Viommu;

    fn attach(self: Pin<&Self>, endpoint: Pin<&EndpointHandle>) -> Result {
        let to = Attachment::Paging(self.0.clone());
        endpoint.endpoint.attach(&to)
    }

    #[inline]
    fn map_pages(
        self: Pin<&Self>,
        iova: u64,
        paddr: PhysAddr,
        pgsize: usize,
        pgcount: usize,
        prot: Prot,
        gfp: Flags,
    ) -> Result<usize> {
        let size = pgsize.checked_mul(pgcount).ok_or(EINVAL)?;
        let span = Span::from_size(iova, size).ok_or(EINVAL)?;
        let mapping = Mapping {
            span,
            phys: paddr,
            flags: self.0.viommu().map_flags(prot)?,
        };
        self.0.map(mapping, gfp)?;
        Ok(size)
    }

    #[inline]
    fn unmap_pages(
        self: Pin<&Self>,
        iova: u64,
        pgsize: usize,
        pgcount: usize,
        gather: &mut Gather<'_>,
    ) -> usize {
        let size = pgsize.saturating_mul(pgcount);
        let Some(span) = Span::from_size(iova, size) else {
            return 0;
        };
        let Some(removed) = self.0.remove(span, gather.queued()) else {
            return 0;
        };
        let to_tell = removed.to_tell;
        let removed = removed.span;
        if to_tell && !gather.extend(removed.first(), removed.last()) {
            // It does not touch what was gathered before: that goes to the device.
            if let Some(before) = gathered(gather) {
                self.0.stage_unmap(before);
            }
            if !gather.restart(removed.first(), removed.last()) {
                // There is nothing to gather with: the core will not wait for this one.
                self.0.unmap_and_sync(removed);
            }
        }
        usize::try_from(removed.size_saturating()).unwrap_or(usize::MAX)
    }

    #[inline]
    fn iova_to_phys(self: Pin<&Self>, iova: u64) -> Option<PhysAddr> {
        self.0.translate(iova)
    }

    fn flush_all(self: Pin<&Self>) {
        self.0.flush();
    }

    #[inline]
    fn sync(self: Pin<&Self>, gather: &Gather<'_>) {
        // With nothing gathered, there is nothing that the device has to be told.
        if let Some(span) = gathered(gather) {
            self.0.unmap_and_sync(span);
        }
    }

    #[inline]
    fn sync_map(self: Pin<&Self>, iova: u64, size: usize) -> Result {
        let span = Span::from_size(iova, size).ok_or(EINVAL)?;
        self.0.sync_map(span)
    }
}
