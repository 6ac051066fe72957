// SPDX-License-Identifier: GPL-2.0

//! What becomes of a request that the device refused and that no caller collects.

use kernel::{
    dev_err_deferred,
    device,
    prelude::*,
    ratelimit::Ratelimit,
    sync::aref::ARef, //
};

use super::accounts::Accounts;
use crate::uapi::{
    Request,
    Status, //
};

/// Reports refused requests, and remembers those that somebody has to know of.
pub(super) struct Refused {
    dev: ARef<device::Device>,
    messages: Pin<KBox<Ratelimit>>,
    pub(super) accounts: Accounts,
    /// The DETACH requests that the device refused, of those that no caller waits for.
    pub(super) undetached: KVec<(Request, Status)>,
    /// How many there were.
    pub(super) count: u64,
}

impl Refused {
    /// There are at most `slots` requests at a time. May sleep.
    pub(super) fn new(dev: ARef<device::Device>, slots: usize) -> Result<Self> {
        Ok(Refused {
            dev,
            messages: KBox::pin_init(Ratelimit::default_for(c"virtio_iommu: request"), GFP_KERNEL)?,
            accounts: Accounts::new(),
            undetached: KVec::with_capacity(slots, GFP_KERNEL)?,
            count: 0,
        })
    }

    /// Whether to log one more message about a request.
    pub(super) fn may_complain(&self) -> bool {
        self.messages.check()
    }

    /// The last endpoint of a domain could not be detached.
    pub(super) fn stays(&mut self, domain: u32) {
        if self.accounts.stays(domain) {
            dev_err_deferred!(
                self.dev,
                "domain {} was denied, but is there: nothing is mapped in it any more\n",
                domain
            );
        }
    }

    /// Looks at the status of a request that the device refused. If all endpoints are about to be
    /// detached (`all_leave`), the device may deny any domain.
    #[cold]
    pub(super) fn note(&mut self, request: Request, status: Status, all_leave: bool) {
        if let (Request::Map { domain, .. } | Request::Unmap { domain, .. }, Status::NoEnt) =
            (request, status)
        {
            if all_leave || self.accounts.deny(domain) {
                return;
            }
        }

        self.count += 1;
        match request {
            Request::Map { domain, span, .. } => {
                let error = status.to_result().err().unwrap_or(EIO);
                self.accounts.miss(domain, span, error);
            }
            Request::Unmap { domain, span } => self.accounts.bar(domain, span),
            Request::Detach { .. } => {
                // There is room for a ring-full; who sent them takes them out.
                let _ = self.undetached.push_within_capacity((request, status));
                return;
            }
            _ => (),
        }
        if self.may_complain() {
            dev_err_deferred!(self.dev, "{} failed: {}\n", request, status);
        }
    }
}
