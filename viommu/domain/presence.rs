// SPDX-License-Identifier: GPL-2.0

//! What the device has of a domain, as endpoints come and go.
//!
//! The device drops a domain's mappings with its last endpoint. The driver keeps them, and
//! *replays* them, which is to send them again, when the domain gets its first endpoint.
//!
//! Functions that count endpoints are called with the lock of what is attached held.

use kernel::prelude::*;

use super::{
    Domain,
    Kind, //
};
use crate::{
    uapi::{
        Request,
        Span, //
    },
    viommu::engine::StageError, //
};

/// What the device has of a domain's mappings.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    /// Nothing: no endpoint is attached.
    Absent,
    /// The mappings that start below this address; the rest is about to follow.
    Replaying(u64),
    /// All.
    Present,
}

impl Presence {
    /// Whether the device must be told of a change to a mapping that starts at `iova`.
    #[inline]
    pub(super) fn covers(self, iova: u64) -> bool {
        match self {
            Presence::Absent => false,
            Presence::Replaying(next) => iova < next,
            Presence::Present => true,
        }
    }
}

impl Domain {
    /// Whether the device has no endpoint id of ours in the domain.
    pub(crate) fn is_empty(&self) -> bool {
        self.state.lock().endpoints == 0
    }

    /// Whether the device has all mappings, if it has the domain.
    pub(crate) fn is_complete(&self) -> bool {
        !self.state.lock().incomplete
    }

    /// Accounts for an endpoint id that the device has attached to this domain. The first one
    /// brings the mappings. May sleep.
    ///
    /// Fails if the device does not have all of them in the end. The id counts also then.
    pub(crate) fn enter(&self) -> Result {
        let account = {
            let mut state = self.state.lock();
            state.endpoints += 1;
            if state.endpoints > 1 {
                return if state.incomplete { Err(EIO) } else { Ok(()) };
            }
            state.presence = Presence::Replaying(0);
            state.account.take()
        };
        // It is here while the device does not have the domain.
        if let Some(account) = account {
            self.device.engine.domain_is_there(self.id(), account);
        }
        self.replay()
            .inspect_err(|_| self.state.lock().incomplete = true)
    }

    /// Has the device detach an endpoint id from this domain, by `detach`, and accounts for that
    /// if it has. May sleep.
    pub(crate) fn leave_by<E>(&self, detach: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        if self.state.lock().endpoints == 1 {
            self.device.engine.domain_is_leaving(self.id());
        }
        detach().inspect_err(|_| self.device.engine.domain_stays(self.id()))?;
        self.leave();
        Ok(())
    }

    /// Accounts for an endpoint id that the device has detached from this domain. With the last
    /// one, the device has dropped the mappings.
    pub(crate) fn leave(&self) {
        let mut state = self.state.lock();
        state.endpoints = state.endpoints.saturating_sub(1);
        if state.endpoints == 0 {
            state.presence = Presence::Absent;
            state.incomplete = false;
            state.pending.clear();
            state.staged = None;
            drop(state);
            if let Some(account) = self.device.engine.domain_has_left(self.id()) {
                self.state.lock().account = Some(account);
            }
        }
    }

    /// Sends the mappings to the device, a ring-full for each notification.
    ///
    /// Mappings that are added or removed meanwhile are told to the device only below the address
    /// that the replay has reached: the rest it will find, or not find, by itself.
    fn replay(&self) -> Result {
        self.fill()?;
        let engine = &self.device.engine;
        engine.stage_all(&fmt!("mappings of domain {}", self.id()), || {
            self.stage_replay()
        })?;
        if self.kind == Kind::IdentityMapped {
            self.replace_refused()?;
        }
        engine.collect_refused(self.id(), Span::ALL)
    }

    /// Stages as many mappings as there is room for.
    fn stage_replay(&self) -> Result<(), StageError> {
        let mut state = self.state.lock();
        while let Presence::Replaying(next) = state.presence {
            let Some(mapping) = state.mappings.next_from(next) else {
                state.presence = Presence::Present;
                break;
            };
            // One that begins below was added meanwhile, and told to the device.
            if !state.presence.covers(mapping.span.first()) {
                let request = Request::Map {
                    domain: self.id(),
                    span: mapping.span,
                    phys: mapping.phys,
                    flags: mapping.flags,
                };
                self.device.engine.stage(request)?;
            }
            state.presence = match mapping.span.last().checked_add(1) {
                Some(next) => Presence::Replaying(next),
                None => Presence::Present,
            };
        }
        Ok(())
    }
}
