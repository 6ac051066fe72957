// SPDX-License-Identifier: GPL-2.0

//! What an endpoint is attached to.

use kernel::{
    prelude::*,
    sync::Arc, //
};

use super::{
    device::Viommu,
    domain::PagingDomain, //
};

/// What an endpoint is attached to.
#[derive(Clone)]
pub(super) enum Attachment {
    /// No domain; the global bypass field decides about the endpoint's DMA.
    None,
    /// The bypass domain, which has this number: IO addresses are physical addresses.
    Bypass(u32),
    /// The domain that has no mappings.
    Blocked,
    /// A domain with mappings.
    Paging(Arc<PagingDomain>),
}

impl Attachment {
    /// The number of the domain, and whether it is the bypass domain.
    pub(super) fn domain(&self, viommu: &Viommu) -> Option<(u32, bool)> {
        match self {
            Attachment::None => None,
            Attachment::Bypass(id) => Some((*id, true)),
            Attachment::Blocked => Some((viommu.domain_ids().blocked(), false)),
            Attachment::Paging(domain) => Some((domain.id(), false)),
        }
    }

    /// The domain, if it keeps account of its endpoints.
    fn paging(&self) -> Option<&PagingDomain> {
        match self {
            Attachment::Paging(domain) => Some(domain),
            _ => None,
        }
    }

    /// Whether the device has all that the domain should have.
    pub(super) fn is_complete(&self) -> bool {
        self.paging().is_none_or(PagingDomain::is_complete)
    }

    /// Accounts for an id that was attached.
    pub(super) fn enter(&self) -> Result {
        self.paging().map_or(Ok(()), PagingDomain::enter)
    }

    /// Prepares for an id being detached: [`Self::leave`] or [`Self::stay`] follows.
    pub(super) fn prepare_leave(&self) {
        self.paging().map_or((), PagingDomain::prepare_leave)
    }

    /// Accounts for an id that could not be detached.
    pub(super) fn stay(&self) {
        self.paging().map_or((), PagingDomain::stay)
    }

    /// Accounts for an id that was detached.
    pub(super) fn leave(&self) {
        self.paging().map_or((), PagingDomain::leave)
    }

    /// Accounts for an id that the driver forgets, although the device has not detached it: no
    /// other domain gets the number.
    pub(super) fn abandon(&self) {
        self.paging().map_or((), PagingDomain::abandon)
    }
}
