// SPDX-License-Identifier: GPL-2.0

//! One endpoint id, and what the device has it attached to.

use kernel::{
    fmt,
    prelude::*,
    sync::Arc, //
};

use crate::{
    uapi::{
        Request,
        Status, //
    },
    viommu::{
        device::Device,
        domain::{
            Domain,
            Kind, //
        }, //
    }, //
};

/// What an id is attached to.
///
/// [`None`] is no domain. The global bypass field decides about DMA then, or, where a device has no
/// such field, it is blocked.
pub(super) type Attachment = Option<Arc<Domain>>;

/// Whether both are the same domain, or none.
pub(super) fn is_same(one: &Attachment, other: &Attachment) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        _ => false,
    }
}

/// Why an id could not be attached to something else.
pub(crate) enum Failure {
    /// The device refused it.
    Refused(Request, Status),
    /// The device did not answer.
    Unanswered(Error),
    /// No number was left, or no memory, for the domain.
    NoNumber(Error),
    /// The id is in a domain that did not get all of its mappings.
    Incomplete(Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, error) = match self {
            Failure::Refused(request, status) => {
                return f.write_fmt(fmt!("{request}: {status}"));
            }
            Failure::Unanswered(error) => ("device is out of use", error),
            Failure::NoNumber(error) => ("no number for the domain", error),
            Failure::Incomplete(error) => ("mappings of the domain were refused", error),
        };
        f.write_fmt(fmt!("{what} ({})", error.to_errno()))
    }
}

/// As one of the errors that the core expects of an attachment: after `EINVAL`, another domain may
/// do (`attach_dev` in include/linux/iommu.h).
impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        let error = match failure {
            Failure::Refused(_, status) => status.to_result().err().unwrap_or(ENODEV),
            Failure::Unanswered(error) | Failure::NoNumber(error) | Failure::Incomplete(error) => {
                error
            }
        };
        match error {
            EINVAL | ERANGE | ENOSYS => EINVAL,
            ENOMEM | ENOSPC => error,
            _ => ENODEV,
        }
    }
}

/// What is known of an id.
pub(super) struct EndpointId {
    pub(super) id: u32,
    /// What the device has it attached to.
    pub(super) now: Attachment,
    /// Where it goes back to, if its endpoint cannot be attached to something else.
    pub(super) before: Attachment,
    /// Where it returns to when the device can be used again.
    pub(super) parked: Attachment,
    /// How many endpoints have it.
    pub(super) users: usize,
    /// Whether the device may have detached it when it refused to attach it to something else.
    unsure: bool,
    /// Whether the device said that there is no such id.
    pub(super) unknown: bool,
}

impl EndpointId {
    pub(super) fn new(id: u32) -> Self {
        EndpointId {
            id,
            now: None,
            before: None,
            parked: None,
            users: 1,
            unsure: false,
            unknown: false,
        }
    }

    /// The request that detaches the id, if it is attached.
    pub(super) fn detach_request(&self) -> Option<Request> {
        Some(Request::Detach {
            domain: self.now.as_ref()?.number.get(),
            endpoint: self.id,
        })
    }

    /// Detaches the id. May sleep.
    pub(super) fn detach(&mut self, device: &Device) -> Result<(), Failure> {
        match self.detach_request() {
            Some(request) => self.leave_by(device, request),
            None => Ok(()),
        }
    }

    /// Sends a request that takes the id from where it is, and accounts for that. May sleep.
    fn leave_by(&mut self, device: &Device, request: Request) -> Result<(), Failure> {
        let send = || match device.engine.call(request) {
            Ok(Status::Ok) => Ok(()),
            Ok(status) => Err(Failure::Refused(request, status)),
            Err(error) => Err(Failure::Unanswered(error)),
        };
        match &self.now {
            Some(domain) => domain.leave_by(send)?,
            None => send()?,
        }
        self.now = None;
        self.unsure = false;
        Ok(())
    }

    /// Takes the id from where it is, whatever the device says. May sleep.
    pub(super) fn let_go(&mut self, device: &Device) {
        if self.detach(device).is_ok() {
            return;
        }
        self.unsure = false;
        if let Some(domain) = self.now.take() {
            // The id may have left before, or stay for good.
            domain.leave();
            if domain.is_empty() {
                domain.number.abandon();
            }
        }
    }

    /// Attaches the id to something else. A domain has a number that is of use. May sleep.
    pub(super) fn attach(&mut self, device: &Device, to: &Attachment) -> Result<(), Failure> {
        let Some(domain) = to else {
            return self.detach(device);
        };
        let request = Request::Attach {
            domain: domain.number.get(),
            endpoint: self.id,
            bypass: domain.kind == Kind::Bypass,
        };
        self.leave_by(device, request).inspect_err(|failure| {
            if let Failure::Refused(_, status) = failure {
                // QEMU detaches an id before it finds that the domain is of another kind.
                self.unsure |= *status == Status::Inval;
                self.unknown |= self.now.is_none() && *status == Status::NoEnt;
            }
        })?;
        self.now = to.clone();
        domain.enter().map_err(Failure::Incomplete)
    }

    /// Whether the id is there, and its domain with all of its mappings. The device is left alone
    /// then: it may drop a domain's mappings when its only id is attached to it again.
    pub(super) fn is_at(&self, there: &Attachment) -> bool {
        let complete = there.as_ref().is_none_or(|domain| domain.is_complete());
        is_same(&self.now, there) && complete && !self.unsure
    }
}
