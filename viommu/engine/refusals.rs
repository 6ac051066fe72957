// SPDX-License-Identifier: GPL-2.0

//! What becomes of a request that the device refused and that no caller collects.

use kernel::{
    dev_err_deferred,
    device,
    prelude::*,
    ratelimit::Ratelimit,
    sync::aref::ARef, //
};

use super::failures::{
    Failures,
    TooMany, //
};
use crate::uapi::{
    Request,
    Span,
    Status, //
};

/// Domains whose last endpoint is being detached.
///
/// The device forgets a domain a moment before the driver is told. That it does not know it for
/// other requests is no failure then: there is nothing to unmap any more, and the next endpoint
/// brings what was mapped.
enum Leaving {
    None,
    /// Endpoints are detached one after the other.
    One {
        domain: u32,
        /// Whether the device has said that it does not know the domain.
        denied: bool,
    },
    /// All endpoints are detached, because the device is about to be reset.
    All,
}

/// Reports refused requests, and remembers those that somebody has to know of.
pub(super) struct Refusals {
    dev: ARef<device::Device>,
    messages: Pin<KBox<Ratelimit>>,
    /// What nobody has come for yet.
    pub(super) failures: Failures,
    /// The DETACH requests that the device refused, of those that no caller waits for.
    pub(super) undetached: KVec<(Request, Status)>,
    leaving: Leaving,
    /// How many there were.
    pub(super) count: u64,
}

impl Refusals {
    /// There are at most `slots` requests at a time. May sleep.
    pub(super) fn new(dev: ARef<device::Device>, slots: usize) -> Result<Self> {
        Ok(Refusals {
            dev,
            messages: KBox::pin_init(Ratelimit::default_for(c"virtio_iommu: request"), GFP_KERNEL)?,
            failures: Failures::new()?,
            undetached: KVec::with_capacity(slots, GFP_KERNEL)?,
            leaving: Leaving::None,
            count: 0,
        })
    }

    /// Whether to log one more message about a request.
    pub(super) fn may_complain(&self) -> bool {
        self.messages.check()
    }

    /// The last endpoint of a domain is about to be detached. [`Self::forget_domain`] or
    /// [`Self::stays`] follows.
    pub(super) fn is_leaving(&mut self, domain: u32) {
        if !matches!(self.leaving, Leaving::All) {
            let denied = false;
            self.leaving = Leaving::One { domain, denied };
        }
    }

    /// All endpoints are about to be detached. Until [`Self::clear`].
    pub(super) fn all_are_leaving(&mut self) {
        self.leaving = Leaving::All;
    }

    /// Forgets everything: the device has been reset.
    pub(super) fn clear(&mut self) {
        self.failures.clear();
        self.leaving = Leaving::None;
    }

    /// A domain has no mapping in the device. All of its requests are answered.
    pub(super) fn forget_domain(&mut self, domain: u32) {
        if matches!(self.leaving, Leaving::One { domain: one, .. } if one == domain) {
            self.leaving = Leaving::None;
        }
        self.failures.forget_domain(domain);
    }

    /// The endpoint could not be detached. What the device denied meanwhile may be there after all.
    pub(super) fn stays(&mut self) -> Result<(), TooMany> {
        let Leaving::One { domain, denied } = self.leaving else {
            return Ok(());
        };
        self.leaving = Leaving::None;
        if !denied {
            return Ok(());
        }
        dev_err_deferred!(
            self.dev,
            "domain {} was denied, but is there: nothing is mapped in it any more\n",
            domain
        );
        self.failures.record_unmap(domain, Span::ALL)
    }

    /// Whether it is known that the device denies this domain.
    fn is_denied(&mut self, domain: u32) -> bool {
        match &mut self.leaving {
            Leaving::One {
                domain: one,
                denied,
            } if *one == domain => {
                *denied = true;
                true
            }
            Leaving::All => true,
            _ => false,
        }
    }

    /// Looks at the status that the device gave to a request, unless that is a PROBE.
    ///
    /// Fails if there are more refusals than can be remembered.
    #[cold]
    pub(super) fn note(&mut self, request: Option<Request>, status: Status) -> Result<(), TooMany> {
        let Some(request) = request else {
            return Ok(());
        };
        if let (Request::Map { domain, .. } | Request::Unmap { domain, .. }, Status::NoEnt) =
            (request, status)
        {
            if self.is_denied(domain) {
                return Ok(());
            }
        }

        self.count += 1;
        if let Request::Detach { .. } = request {
            // There is room for a ring-full; who sent them takes them out.
            let _ = self.undetached.push_within_capacity((request, status));
            return Ok(());
        }
        let recorded = match request {
            Request::Map { domain, span, .. } => {
                let error = status.to_result().err().unwrap_or(EIO);
                self.failures.record_map(domain, span, error)
            }
            Request::Unmap { domain, span } => self.failures.record_unmap(domain, span),
            _ => Ok(()),
        };
        if self.may_complain() {
            dev_err_deferred!(self.dev, "{} failed: {}\n", request, status);
        }
        recorded
    }
}
