// SPDX-License-Identifier: GPL-2.0

//! What becomes of a request that the device refused and that no caller collects.

use kernel::{
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
    Status, //
};

/// Reports refused requests, and remembers those that somebody has to know of.
pub(super) struct Refusals {
    dev: ARef<device::Device>,
    messages: Pin<KBox<Ratelimit>>,
    /// What nobody has come for yet.
    pub(super) failures: Failures,
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
            count: 0,
        })
    }

    /// Looks at the status that the device gave to a request, unless that is a PROBE.
    ///
    /// Fails if there are more refusals than can be remembered.
    #[cold]
    pub(super) fn note(&mut self, request: Option<Request>, status: Status) -> Result<(), TooMany> {
        let Some(request) = request else {
            return Ok(());
        };
        self.count += 1;
        let recorded = match request {
            Request::Map { domain, span, .. } => {
                let error = status.to_result().err().unwrap_or(EIO);
                self.failures.record_map(domain, span, error)
            }
            Request::Unmap { domain, span } => self.failures.record_unmap(domain, span),
            _ => Ok(()),
        };
        if self.messages.check() {
            dev_err!(self.dev, "{} failed: {}\n", request, status);
        }
        recorded
    }
}
