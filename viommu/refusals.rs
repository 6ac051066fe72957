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

/// A domain whose last endpoint is being detached.
///
/// The device forgets the domain a moment before the driver is told. That it does not know it for
/// other requests is no failure then: there is nothing to unmap any more, and the next endpoint
/// brings what was mapped.
struct Leaving {
    domain: u32,
    /// Whether the device has said that it does not know the domain.
    denied: bool,
}

/// Reports refused requests, and remembers those that somebody has to know of.
pub(super) struct Refusals {
    dev: ARef<device::Device>,
    messages: Pin<KBox<Ratelimit>>,
    /// What nobody has come for yet.
    pub(super) failures: Failures,
    /// One at most: endpoints are detached one after the other.
    leaving: Option<Leaving>,
    /// How many there were.
    pub(super) count: u64,
}

impl Refusals {
    /// May sleep.
    pub(super) fn new(dev: ARef<device::Device>) -> Result<Self> {
        Ok(Refusals {
            dev,
            messages: KBox::pin_init(Ratelimit::default_for(c"virtio_iommu: request"), GFP_KERNEL)?,
            failures: Failures::new()?,
            leaving: None,
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
        self.leaving = Some(Leaving {
            domain,
            denied: false,
        });
    }

    /// A domain has no mapping in the device. All of its requests are answered.
    pub(super) fn forget_domain(&mut self, domain: u32) {
        self.leaving.take_if(|leaving| leaving.domain == domain);
        self.failures.forget_domain(domain);
    }

    /// The endpoint could not be detached. What the device denied meanwhile may be there after all.
    pub(super) fn stays(&mut self) -> Result<(), TooMany> {
        match self.leaving.take() {
            Some(Leaving {
                domain,
                denied: true,
            }) => {
                dev_err_deferred!(
                    self.dev,
                    "domain {} was denied, but is there: nothing is mapped in it any more\n",
                    domain
                );
                self.failures.record_unmap(domain, Span::ALL)
            }
            _ => Ok(()),
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
            if let Some(leaving) = self.leaving.as_mut().filter(|it| it.domain == domain) {
                leaving.denied = true;
                return Ok(());
            }
        }

        self.count += 1;
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
