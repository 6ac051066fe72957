// SPDX-License-Identifier: GPL-2.0

//! What an endpoint is attached to.

use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    }, //
};

use crate::viommu::{
    device::Viommu,
    domain::PagingDomain,
    domain_ids::DomainId, //
};

/// A domain of which the driver knows no more than the number: it never has a mapping.
pub(crate) struct PlainDomain {
    id: DomainId,
    /// Attached endpoint ids. Changed with the lock of the places held.
    endpoints: Atomic<usize>,
}

impl PlainDomain {
    /// `none` is what stands for no number.
    pub(crate) const fn new(none: u32) -> Self {
        PlainDomain {
            id: DomainId::new(none),
            endpoints: Atomic::new(0),
        }
    }

    /// The number of the domain.
    pub(crate) fn id(&self) -> &DomainId {
        &self.id
    }

    fn enter(&self) {
        self.endpoints
            .store(self.endpoints.load(Relaxed) + 1, Relaxed);
    }

    fn leave(&self) {
        self.endpoints
            .store(self.endpoints.load(Relaxed).saturating_sub(1), Relaxed);
    }
}

/// What an endpoint is attached to.
#[derive(Clone)]
pub(crate) enum Attachment {
    /// No domain; the global bypass field decides about the endpoint's DMA.
    None,
    /// The bypass domain: IO addresses are physical addresses.
    Bypass,
    /// What blocks: a domain without mappings, or no domain, where the device has no global bypass
    /// field and blocks what is in none.
    Blocked,
    /// A domain with mappings.
    Paging(Arc<PagingDomain>),
}

impl Attachment {
    /// The number of the domain in the device.
    pub(crate) fn id<'a>(&'a self, viommu: &'a Viommu) -> Option<&'a DomainId> {
        match self {
            Attachment::Paging(domain) => Some(domain.number()),
            _ => self.plain(viommu).map(PlainDomain::id),
        }
    }

    /// The domain, if it has no mappings.
    fn plain<'a>(&self, viommu: &'a Viommu) -> Option<&'a PlainDomain> {
        match self {
            Attachment::None | Attachment::Paging(_) => None,
            Attachment::Bypass => viommu.bypass_domain(),
            Attachment::Blocked => viommu.blocked_domain(),
        }
    }

    /// The domain, if it keeps account of its endpoints.
    fn paging(&self) -> Option<&PagingDomain> {
        match self {
            Attachment::Paging(domain) => Some(domain),
            _ => None,
        }
    }

    /// Whether both are the same domain, or none.
    pub(crate) fn is(&self, viommu: &Viommu, other: &Attachment) -> bool {
        match (self.id(viommu), other.id(viommu)) {
            (Some(one), Some(other)) => core::ptr::eq(one, other),
            (None, None) => true,
            _ => false,
        }
    }

    /// Whether the device has no endpoint id of ours in the domain.
    pub(crate) fn is_empty(&self, viommu: &Viommu) -> bool {
        match self {
            Attachment::Paging(domain) => domain.is_empty(),
            _ => self
                .plain(viommu)
                .is_none_or(|domain| domain.endpoints.load(Relaxed) == 0),
        }
    }

    /// Whether the device has all that the domain should have.
    pub(crate) fn is_complete(&self) -> bool {
        self.paging().is_none_or(PagingDomain::is_complete)
    }

    /// Accounts for an id that was attached.
    pub(crate) fn enter(&self, viommu: &Viommu) -> Result {
        if let Some(domain) = self.plain(viommu) {
            domain.enter();
        }
        self.paging().map_or(Ok(()), PagingDomain::enter)
    }

    /// Prepares for an id being detached: [`Self::leave`] or [`Self::stay`] follows.
    pub(crate) fn prepare_leave(&self) {
        self.paging().map_or((), PagingDomain::prepare_leave)
    }

    /// Accounts for an id that could not be detached.
    pub(crate) fn stay(&self) {
        self.paging().map_or((), PagingDomain::stay)
    }

    /// Accounts for an id that was detached.
    pub(crate) fn leave(&self, viommu: &Viommu) {
        if let Some(domain) = self.plain(viommu) {
            domain.leave();
        }
        self.paging().map_or((), PagingDomain::leave)
    }
}
