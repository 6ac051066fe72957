// SPDX-License-Identifier: GPL-2.0

//! Where the device has each endpoint id.
//!
//! The device attaches ids to domains. A PCI device can have several, and several devices can have
//! one in common: those behind a bridge that speaks for all of them. What counts is therefore kept
//! by id, and is what the device was last known to have, also after a failure half-way.

mod id;
mod reset;
mod show;

use kernel::{
    device,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNode, //
    },
    sync::{
        aref::ARef,
        Arc, //
    }, //
};

pub(super) use self::id::Failure;
use self::id::{
    is_same,
    Attachment,
    EndpointId, //
};
use super::{
    device::Device,
    domain::{
        Domain,
        Kind, //
    },
    endpoint_table::EndpointTable, //
};
use crate::uapi::{
    Request,
    Status, //
};

/// How many numbers a domain tries that the device has a domain of another kind for.
const MAX_NUMBERS: usize = 8;

/// What an endpoint can be attached to.
pub(super) enum To {
    /// A domain with mappings.
    Domain(Arc<Domain>),
    /// The bypass domain: IO addresses are physical addresses.
    Identity,
    /// What blocks: a domain without mappings or, on a device that has no global bypass field and
    /// blocks what is in no domain, none.
    Blocked,
}

/// The endpoint ids of a device.
///
/// One after the other attaches and detaches: groups that share a domain do not share a lock.
pub(super) struct Attached {
    device: Arc<Device>,
    endpoints: Arc<EndpointTable>,
    by_id: RBTree<u32, EndpointId>,
    /// The bypass domain, and the one that blocks, if the device has the global bypass field.
    bypass: Attachment,
    blocked: Attachment,
    /// The id of the IOMMU itself, if its own DMA goes through it.
    own: Option<u32>,
}

impl Attached {
    /// No endpoint yet. May sleep.
    pub(super) fn new(device: Arc<Device>, endpoints: Arc<EndpointTable>) -> Result<Self> {
        let make = |kind| match device.config.bypass {
            Some(_) => Domain::new(&device, kind).map(Some),
            None => Ok(None),
        };
        let (bypass, blocked) = (make(Kind::Bypass)?, make(Kind::Blocked)?);
        Ok(Attached {
            device,
            endpoints,
            by_id: RBTree::new(),
            bypass,
            blocked,
            own: None,
        })
    }

    /// Reserves numbers for the bypass domain and for the one that blocks, so that there are some
    /// when others are in use. The request queue is ready. May sleep.
    pub(super) fn start(&self) -> Result {
        for domain in [&self.blocked, &self.bypass].into_iter().flatten() {
            self.take_number(domain)?;
        }
        Ok(())
    }

    /// Adds an endpoint that has these ids. On failure, none of them. May sleep.
    pub(super) fn add(&mut self, ids: &[u32]) -> Result {
        for (done, &id) in ids.iter().enumerate() {
            if let Err(error) = self.add_one(id) {
                self.remove(&ids[..done]);
                return Err(error);
            }
        }
        Ok(())
    }

    fn add_one(&mut self, id: u32) -> Result {
        if let Some(known) = self.by_id.get_mut(&id) {
            known.users += 1;
            return Ok(());
        }
        let node = RBTreeNode::new(id, EndpointId::new(id), GFP_KERNEL)?;
        self.by_id.insert(node);
        Ok(())
    }

    /// Removes an endpoint that has these ids. It was detached, or never attached.
    pub(super) fn remove(&mut self, ids: &[u32]) {
        for id in ids {
            if let Some(known) = self.by_id.get_mut(id) {
                known.users -= 1;
                if known.users == 0 {
                    self.by_id.remove(id);
                }
            }
        }
    }

    /// Attaches an endpoint, with all its ids, to something else. May sleep.
    ///
    /// On failure it goes back to where it was, and the domains are as they were. An id that the
    /// device does not know is left out, if it knows another one.
    pub(super) fn attach(
        &mut self,
        dev: &device::Device,
        ids: &[u32],
        to: &To,
    ) -> Result<(), Failure> {
        let to = match to {
            To::Domain(domain) => Some(domain.clone()),
            To::Identity => self.bypass.clone(),
            To::Blocked => self.blocked.clone(),
        };
        let mut result = Ok(());
        let mut left_out = 0;
        let mut done = 0;
        for &id in ids {
            done += 1;
            let Some(known) = self.by_id.get_mut(&id) else {
                continue;
            };
            known.before = known.now.clone();
            if known.unknown && left_out + 1 < ids.len() {
                left_out += 1;
                continue;
            }
            let Err(failure) = self.move_to(id, &to) else {
                continue;
            };
            let unknown = self.by_id.get(&id).is_some_and(|known| known.unknown);
            if !unknown || left_out + 1 == ids.len() {
                result = Err(failure);
                break;
            }
            left_out += 1;
            dev_info!(dev, "IOMMU does not know endpoint id {}: left out\n", id);
        }
        for &id in &ids[..done] {
            let before = self
                .by_id
                .get_mut(&id)
                .and_then(|known| known.before.take());
            if result.is_err() {
                self.go_back(dev, id, &before);
            }
        }
        result
    }

    /// Attaches an id to something else. May sleep.
    ///
    /// On failure it either stays where it is, or is in a paging domain that did not get all of its
    /// mappings.
    fn move_to(&mut self, id: u32, to: &Attachment) -> Result<(), Failure> {
        let mut tries = MAX_NUMBERS;
        loop {
            let Some(known) = self.by_id.get_mut(&id) else {
                return Ok(());
            };
            if known.is_at(to) {
                return Ok(());
            }
            if is_same(&known.now, to) {
                // Some devices drop the domain when it is attached again, others do not.
                known.let_go(&self.device);
            }
            let fresh = to.as_deref().filter(|domain| domain.is_empty());
            if let Some(domain) = fresh {
                self.take_number(domain).map_err(Failure::NoNumber)?;
            }
            let Some(known) = self.by_id.get_mut(&id) else {
                return Ok(());
            };
            let attached = known.attach(&self.device, to);
            match (fresh, &attached) {
                (Some(domain), Err(Failure::Refused(_, Status::Inval))) if tries > 0 => {
                    // Somebody else's domain of the other kind may have that number.
                    tries -= 1;
                    domain.number.spoil();
                }
                _ => return attached,
            }
        }
    }

    /// Makes sure that a domain of ours, which nothing is attached to, has a number that the device
    /// has no other domain for. May sleep.
    fn take_number(&self, domain: &Domain) -> Result {
        let ids = &self.device.domain_ids;
        if domain.number.ensure(ids)? && ids.is_narrow() {
            self.empty(domain.number.get());
        }
        Ok(())
    }

    /// Empties a domain that the device may have for somebody else. May sleep.
    fn empty(&self, domain: u32) {
        let engine = &self.device.engine;
        let span = self.device.config.input;
        let unmapped = engine.call(Request::Unmap { domain, span });
        if matches!(unmapped, Ok(Status::NoEnt) | Err(_)) {
            return;
        }
        for known in self.by_id.values().filter(|known| known.now.is_none()) {
            let endpoint = known.id;
            let _ = engine.call(Request::Detach { domain, endpoint });
        }
    }

    /// Returns an id to where it was before. May sleep.
    ///
    /// A domain without some of its mappings is worse than none: if need be, DMA is blocked.
    fn go_back(&mut self, dev: &device::Device, id: u32, before: &Attachment) {
        if let Err(failure) = self.move_to(id, before) {
            dev_err!(dev, "cannot go back to its former domain: {}\n", failure);
            self.block(dev, id);
        }
    }

    /// Blocks an id that cannot be where it should be. May sleep.
    fn block(&mut self, dev: &device::Device, id: u32) {
        match self.move_to(id, &self.blocked.clone()) {
            Ok(()) => dev_err!(dev, "domain is lost; DMA is blocked\n"),
            Err(failure) => dev_err!(
                dev,
                "domain is lost, and DMA cannot be blocked: {}\n",
                failure
            ),
        }
    }

    /// Detaches those ids of an endpoint that no other endpoint has, so that the device forgets
    /// them. May sleep.
    pub(super) fn detach(&mut self, dev: &device::Device, ids: &[u32]) {
        for &id in ids {
            let Some(known) = self.by_id.get_mut(&id).filter(|known| known.users == 1) else {
                continue;
            };
            let Err(failure) = known.detach(&self.device) else {
                continue;
            };
            // With the device gone there is nothing to detach from.
            if !matches!(failure, Failure::Unanswered(ENODEV)) {
                dev_err!(dev, "cannot be detached: {}\n", failure);
                self.block(dev, id);
            }
            let known = self.by_id.get_mut(&id);
            if let Some(domain) = known.and_then(|known| known.now.take()) {
                // The id may stay there for good, which does no harm where it is blocked.
                if domain.kind != Kind::Blocked {
                    domain.number.abandon();
                }
                domain.leave();
            }
        }
    }

    /// The device that messages about an id are to name.
    fn dev_of(&self, id: u32) -> ARef<device::Device> {
        let dev = self.endpoints.device(id);
        dev.unwrap_or_else(|| self.device.dev.clone())
    }
}
