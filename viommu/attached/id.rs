// SPDX-License-Identifier: GPL-2.0

//! One endpoint id, and what the device has it attached to.

use kernel::{
    fmt,
    prelude::*, //
};

use super::attachment::Attachment;
use crate::uapi::{
    Request,
    Status, //
};
use crate::viommu::device::Viommu;

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
        match self {
            Failure::Refused(request, status) => f.write_fmt(fmt!("{request}: {status}")),
            Failure::Unanswered(error) => {
                f.write_fmt(fmt!("device is out of use ({})", error.to_errno()))
            }
            Failure::NoNumber(error) => {
                f.write_fmt(fmt!("no number for the domain ({})", error.to_errno()))
            }
            Failure::Incomplete(error) => f.write_fmt(fmt!(
                "mappings of the domain were refused ({})",
                error.to_errno()
            )),
        }
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
pub(super) struct Place {
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

impl Place {
    pub(super) fn new(id: u32) -> Self {
        Place {
            id,
            now: Attachment::None,
            before: Attachment::None,
            parked: Attachment::None,
            users: 1,
            unsure: false,
            unknown: false,
        }
    }

    /// The request that detaches the id, if it is attached.
    pub(super) fn detach_request(&self, viommu: &Viommu) -> Option<Request> {
        Some(Request::Detach {
            domain: self.now.id(viommu)?.get(),
            endpoint: self.id,
        })
    }

    /// Detaches the id. May sleep.
    pub(super) fn detach(&mut self, viommu: &Viommu) -> Result<(), Failure> {
        if let Some(request) = self.detach_request(viommu) {
            self.leave_with(viommu, request)?;
        }
        Ok(())
    }

    /// Sends a request that takes the id from where it is, and accounts for that. May sleep.
    fn leave_with(&mut self, viommu: &Viommu, request: Request) -> Result<(), Failure> {
        self.now.prepare_leave();
        let sent = match viommu.engine().call(request) {
            Ok(Status::Ok) => Ok(()),
            Ok(status) => Err(Failure::Refused(request, status)),
            Err(error) => Err(Failure::Unanswered(error)),
        };
        sent.inspect_err(|_| self.now.stay())?;
        self.now.leave(viommu);
        self.now = Attachment::None;
        self.unsure = false;
        Ok(())
    }

    /// Takes the id from where it is, whatever the device says. May sleep.
    pub(super) fn let_go(&mut self, viommu: &Viommu) {
        if self.detach(viommu).is_ok() {
            return;
        }
        // It may have left before, or stay for good.
        let left = core::mem::replace(&mut self.now, Attachment::None);
        left.leave(viommu);
        self.unsure = false;
        if let Some(id) = left.id(viommu).filter(|_| left.is_empty(viommu)) {
            id.abandon();
            id.spoil();
        }
    }

    /// Attaches the id to something else, whose number is known to be of use. May sleep.
    pub(super) fn attach(&mut self, viommu: &Viommu, to: &Attachment) -> Result<(), Failure> {
        match to.id(viommu) {
            Some(domain) => {
                let request = Request::Attach {
                    domain: domain.get(),
                    endpoint: self.id,
                    bypass: matches!(to, Attachment::Bypass),
                };
                let sent = self.leave_with(viommu, request);
                if let Err(Failure::Refused(_, status)) = &sent {
                    // QEMU detaches an id before it finds that the domain is of another kind.
                    self.unsure |= *status == Status::Inval;
                    let nowhere = self.now.id(viommu).is_none();
                    self.unknown |= nowhere && *status == Status::NoEnt;
                }
                sent?;
            }
            None => self.detach(viommu)?,
        }
        self.now = to.clone();
        self.now.enter(viommu).map_err(Failure::Incomplete)
    }

    /// Whether the id is there, and its domain with all of its mappings. The device is left alone
    /// then: it may drop a domain's mappings when its only id is attached to it again.
    pub(super) fn is_at(&self, viommu: &Viommu, there: &Attachment) -> bool {
        self.now.is(viommu, there) && there.is_complete() && !self.unsure
    }
}
