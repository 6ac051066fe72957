// SPDX-License-Identifier: GPL-2.0

//! Where the device has each endpoint id.
//!
//! The device attaches ids to domains. A PCI device can have several, and several devices can have
//! one in common: those behind a bridge that speaks for all of them. What counts is therefore kept
//! by id, and is what the device was last known to have, also after a failure half-way.

mod attachment;
mod id;

use kernel::{
    device,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNode, //
    }, //
};

use self::id::Place;
pub(super) use self::{
    attachment::{
        Attachment,
        PlainDomain, //
    },
    id::Failure, //
};
use super::{
    device::Viommu,
    domain_ids::DomainId, //
};
use crate::uapi::{
    Request,
    Status, //
};

/// How many numbers a domain tries that the device has a domain of another kind for.
const MAX_NUMBERS: usize = 8;

/// The endpoint ids of a device. Changed with the lock of the places held, which protects it.
pub(super) struct Places {
    by_id: RBTree<u32, Place>,
    /// The id of the IOMMU itself, if its own DMA goes through it.
    own: Option<u32>,
}

impl Places {
    pub(super) fn new() -> Self {
        Places {
            by_id: RBTree::new(),
            own: None,
        }
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
        if let Some(place) = self.by_id.get_mut(&id) {
            place.users += 1;
            return Ok(());
        }
        let node = RBTreeNode::new(id, Place::new(id), GFP_KERNEL)?;
        self.by_id.insert(node);
        Ok(())
    }

    /// Removes an endpoint that has these ids. It was detached, or never attached.
    pub(super) fn remove(&mut self, ids: &[u32]) {
        for id in ids {
            if let Some(place) = self.by_id.get_mut(id) {
                place.users -= 1;
                if place.users == 0 {
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
        viommu: &Viommu,
        dev: &device::Device,
        ids: &[u32],
        to: &Attachment,
    ) -> Result<(), Failure> {
        let mut result = Ok(());
        let mut left_out = 0;
        let mut done = 0;
        for &id in ids {
            done += 1;
            let Some(place) = self.by_id.get_mut(&id) else {
                continue;
            };
            place.before = place.now.clone();
            if place.unknown && left_out + 1 < ids.len() {
                left_out += 1;
                continue;
            }
            let Err(failure) = self.move_to(viommu, id, to) else {
                continue;
            };
            let unknown = self.by_id.get(&id).is_some_and(|place| place.unknown);
            if !unknown || left_out + 1 == ids.len() {
                result = Err(failure);
                break;
            }
            left_out += 1;
            dev_info!(dev, "IOMMU does not know endpoint id {}: left out\n", id);
        }
        for &id in &ids[..done] {
            match result {
                Ok(()) => self.forget_before(id),
                Err(_) => self.go_back(viommu, dev, id),
            }
        }
        result
    }

    fn forget_before(&mut self, id: u32) {
        if let Some(place) = self.by_id.get_mut(&id) {
            place.before = Attachment::None;
        }
    }

    /// Attaches an id to something else. May sleep.
    ///
    /// On failure it either stays where it is, or is in a paging domain that did not get all of its
    /// mappings.
    fn move_to(&mut self, viommu: &Viommu, id: u32, to: &Attachment) -> Result<(), Failure> {
        let mut tries = MAX_NUMBERS;
        loop {
            let Some(place) = self.by_id.get_mut(&id) else {
                return Ok(());
            };
            if place.is_at(viommu, to) {
                return Ok(());
            }
            if place.now.is(viommu, to) {
                // Some devices drop the domain when it is attached again, others do not.
                place.let_go(viommu);
            }
            let number = to.id(viommu).filter(|_| to.is_empty(viommu));
            if let Some(number) = number {
                self.take_number(viommu, number)
                    .map_err(Failure::NoNumber)?;
            }
            let Some(place) = self.by_id.get_mut(&id) else {
                return Ok(());
            };
            let attached = place.attach(viommu, to);
            match (number, &attached) {
                (Some(number), Err(Failure::Refused(_, Status::Inval))) if tries > 0 => {
                    // Somebody else's domain of the other kind may have that number.
                    tries -= 1;
                    number.spoil();
                }
                _ => return attached,
            }
        }
    }

    /// Makes sure that a domain of ours, which nothing is attached to, has a number that the device
    /// has no other domain for. May sleep.
    fn take_number(&self, viommu: &Viommu, number: &DomainId) -> Result {
        if number.ensure(viommu.domain_ids())? && viommu.domain_ids().is_narrow() {
            self.empty(viommu, number.get());
        }
        Ok(())
    }

    /// Reserves numbers for what blocks and for the bypass domain, so that there is one for them
    /// when the others are in use. May sleep.
    pub(super) fn reserve(&self, viommu: &Viommu) -> Result {
        for to in [Attachment::Blocked, Attachment::Bypass] {
            if let Some(number) = to.id(viommu) {
                self.take_number(viommu, number)?;
            }
        }
        Ok(())
    }

    /// Empties a domain that the device may have for somebody else. May sleep.
    fn empty(&self, viommu: &Viommu, domain: u32) {
        let span = viommu.config().input;
        let unmapped = viommu.engine().call(Request::Unmap { domain, span });
        if matches!(unmapped, Ok(Status::NoEnt) | Err(_)) {
            return;
        }
        for place in self.by_id.values() {
            if place.now.id(viommu).is_none() {
                let endpoint = place.id;
                let _ = viommu.engine().call(Request::Detach { domain, endpoint });
            }
        }
    }

    /// Returns an id to where it was before. May sleep.
    ///
    /// A domain without some of its mappings is worse than none: if need be, DMA is blocked.
    fn go_back(&mut self, viommu: &Viommu, dev: &device::Device, id: u32) {
        let Some(place) = self.by_id.get_mut(&id) else {
            return;
        };
        let before = core::mem::replace(&mut place.before, Attachment::None);
        if let Err(failure) = self.move_to(viommu, id, &before) {
            dev_err!(dev, "cannot go back to its former domain: {}\n", failure);
            self.block(viommu, dev, id);
        }
    }

    /// Blocks an id that cannot be where it should be. May sleep.
    fn block(&mut self, viommu: &Viommu, dev: &device::Device, id: u32) {
        match self.move_to(viommu, id, &Attachment::Blocked) {
            Ok(()) => dev_err!(dev, "domain is lost; DMA is blocked\n"),
            Err(failure) => {
                dev_err!(
                    dev,
                    "domain is lost, and DMA cannot be blocked: {}\n",
                    failure
                )
            }
        }
    }

    /// Detaches those ids of an endpoint that no other endpoint has, so that the device forgets
    /// them. May sleep.
    pub(super) fn detach(&mut self, viommu: &Viommu, dev: &device::Device, ids: &[u32]) {
        for &id in ids {
            let Some(place) = self.by_id.get_mut(&id) else {
                continue;
            };
            if place.users > 1 {
                continue;
            }
            let Err(failure) = place.detach(viommu) else {
                continue;
            };
            // With the device gone there is nothing to detach from.
            if !matches!(failure, Failure::Unanswered(ENODEV)) {
                dev_err!(dev, "cannot be detached: {}\n", failure);
                self.block(viommu, dev, id);
            }
            if let Some(place) = self.by_id.get_mut(&id) {
                let left = core::mem::replace(&mut place.now, Attachment::None);
                if let Attachment::Paging(domain) = &left {
                    domain.number().abandon();
                }
                left.leave(viommu);
            }
        }
    }

    /// Attaches the IOMMU itself to the bypass domain, so that its own DMA does not depend on the
    /// global bypass. May sleep.
    pub(super) fn attach_own(&mut self, viommu: &Viommu, id: u32) -> Result<(), Failure> {
        if self.own.is_none() {
            if self.by_id.get(&id).is_some() {
                return Err(Failure::NoNumber(EBUSY));
            }
            self.add_one(id).map_err(Failure::NoNumber)?;
            self.own = Some(id);
        }
        self.move_to(viommu, id, &Attachment::Bypass)
    }

    /// Whether the IOMMU itself is among the ids.
    pub(super) fn has_own(&self) -> bool {
        self.own.is_some()
    }

    /// Detaches the IOMMU itself again; the global bypass has to be open. May sleep.
    pub(super) fn detach_own(&mut self, viommu: &Viommu) {
        if let Some(place) = self.own.and_then(|id| self.by_id.get_mut(&id)) {
            place.let_go(viommu);
        }
    }

    /// Detaches every id but the IOMMU's own, as has to be before a reset: the device may keep its
    /// domains over that. What they were attached to is remembered for [`Self::resume`]. May sleep.
    ///
    /// The device gets a ring-full for each notification, and only so much time for all of it. An
    /// id that it does not let go is reported.
    pub(super) fn detach_all(&mut self, viommu: &Viommu) {
        let by_id = &self.by_id;
        let requests = by_id
            .values()
            .filter(|place| self.own != Some(place.id))
            .filter_map(|place| place.detach_request(viommu));
        let detached = viommu.engine().detach_all(requests, |request, status| {
            let Request::Detach { endpoint, .. } = request else {
                return;
            };
            let found = viommu.endpoints().device(endpoint);
            let dev = found.as_deref().unwrap_or(viommu.dev());
            dev_err!(
                dev,
                "cannot be detached: {}\n",
                Failure::Refused(request, status)
            );
            if let Some(Attachment::Paging(domain)) = by_id.get(&endpoint).map(|place| &place.now) {
                domain.number().abandon();
            }
        });
        if let Err(error) = detached {
            // Of a device that was shut down before nothing is attached any more.
            if error != ENODEV {
                let errno = error.to_errno();
                dev_err!(viommu.dev(), "endpoints may stay attached: {}\n", errno);
            }
        }
        for place in self.by_id.values_mut() {
            if self.own != Some(place.id) && place.now.id(viommu).is_some() {
                place.parked = core::mem::replace(&mut place.now, Attachment::None);
                place.parked.leave(viommu);
            }
        }
    }

    /// Attaches every id again, after [`Self::detach_all`] and a reset. May sleep.
    ///
    /// One that cannot return is blocked and reported; the others go on.
    pub(super) fn resume(&mut self, viommu: &Viommu) {
        viommu.domain_ids().start_over();
        // They have a number already.
        let _ = self.reserve(viommu);
        if let Some(Err(failure)) = self.own.map(|id| self.attach_own(viommu, id)) {
            dev_err!(viommu.dev(), "cannot attach itself: {}\n", failure);
        }
        let mut next = Some(0);
        while let Some(id) = next.and_then(|from| self.first_from(from)) {
            next = id.checked_add(1);
            let Some(place) = self.by_id.get_mut(&id).filter(|_| self.own != Some(id)) else {
                continue;
            };
            let to = core::mem::replace(&mut place.parked, Attachment::None);
            let Err(failure) = self.move_to(viommu, id, &to) else {
                continue;
            };
            let endpoint = viommu.endpoints().device(id);
            let dev = endpoint.as_deref().unwrap_or(viommu.dev());
            dev_err!(dev, "cannot return to its domain: {}\n", failure);
            self.block(viommu, dev, id);
        }
    }

    /// The first id from this one on.
    fn first_from(&self, id: u32) -> Option<u32> {
        let cursor = self.by_id.cursor_lower_bound(&id)?;
        Some(*cursor.current().0)
    }
}
