// SPDX-License-Identifier: GPL-2.0

//! Where the device has each endpoint id.
//!
//! The device attaches ids to domains. A PCI device can have several, and several devices can have
//! one in common: those behind a bridge that speaks for all of them. What counts is therefore kept
//! by id, and is what the device was last known to have, also after a failure half-way.

use kernel::{
    device,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNode, //
    }, //
};

use super::{
    attachment::Attachment,
    device::Viommu, //
};
use crate::uapi::Request;

/// What is known of an id.
struct Place {
    id: u32,
    /// What the device has it attached to.
    now: Attachment,
    /// Where it goes back to, if its endpoint cannot be attached to something else.
    before: Attachment,
    /// How many endpoints have it.
    users: usize,
}

impl Place {
    /// Attaches the id to something else. May sleep.
    ///
    /// On failure it either stays where it is, or is in a paging domain that did not get all of its
    /// mappings.
    fn move_to(&mut self, viommu: &Viommu, to: &Attachment) -> Result {
        self.now.prepare_leave();
        self.request(viommu, to).inspect_err(|_| self.now.stay())?;
        self.now.leave();
        self.now = to.clone();
        self.now.enter()
    }

    fn request(&self, viommu: &Viommu, to: &Attachment) -> Result {
        let endpoint = self.id;
        let request = match (to.domain(viommu), self.now.domain(viommu)) {
            (Some((domain, bypass)), _) => Request::Attach {
                domain,
                endpoint,
                bypass,
            },
            (None, Some((domain, _))) => Request::Detach { domain, endpoint },
            (None, None) => return Ok(()),
        };
        viommu.engine().call(request)
    }

    /// Whether the id is there, and its domain with all of its mappings. The device is left alone
    /// then: it may drop a domain's mappings when its only id is attached to it again.
    fn is_at(&self, viommu: &Viommu, there: &Attachment) -> bool {
        self.now.domain(viommu) == there.domain(viommu) && there.is_complete()
    }

    /// Goes back to where the id was before. May sleep.
    ///
    /// A domain without some of its mappings is worse than none: if need be, DMA is blocked.
    fn go_back(&mut self, viommu: &Viommu, dev: &device::Device) {
        let before = core::mem::replace(&mut self.before, Attachment::None);
        if self.is_at(viommu, &before) {
            return;
        }
        let Err(error) = self.move_to(viommu, &before) else {
            return;
        };
        dev_err!(
            dev,
            "cannot go back to its former domain: {}\n",
            error.to_errno()
        );
        self.block(viommu, dev);
    }

    /// Attaches the id to the domain that has no mappings. May sleep.
    fn block(&mut self, viommu: &Viommu, dev: &device::Device) {
        match self.move_to(viommu, &Attachment::Blocked) {
            Ok(()) => dev_err!(dev, "domain is lost; DMA is blocked\n"),
            Err(error) => dev_err!(
                dev,
                "domain is lost, and DMA cannot be blocked: {}\n",
                error.to_errno()
            ),
        }
    }
}

/// The endpoint ids of a device. Changed with the lock of the places held, which protects it.
pub(super) struct Places {
    by_id: RBTree<u32, Place>,
}

impl Places {
    pub(super) fn new() -> Self {
        Places {
            by_id: RBTree::new(),
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
        let place = Place {
            id,
            now: Attachment::None,
            before: Attachment::None,
            users: 1,
        };
        self.by_id.insert(RBTreeNode::new(id, place, GFP_KERNEL)?);
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
    /// On failure it goes back to where it was, and the domains are as they were.
    pub(super) fn attach(
        &mut self,
        viommu: &Viommu,
        dev: &device::Device,
        ids: &[u32],
        to: &Attachment,
    ) -> Result {
        let mut result = Ok(());
        let mut done = 0;
        for id in ids {
            done += 1;
            let Some(place) = self.by_id.get_mut(id) else {
                continue;
            };
            place.before = place.now.clone();
            if place.is_at(viommu, to) {
                continue;
            }
            result = place.move_to(viommu, to);
            if result.is_err() {
                break;
            }
        }
        for id in &ids[..done] {
            if let Some(place) = self.by_id.get_mut(id) {
                match result {
                    Ok(()) => place.before = Attachment::None,
                    Err(_) => place.go_back(viommu, dev),
                }
            }
        }
        result
    }

    /// Detaches those ids of an endpoint that no other endpoint has, so that the device forgets
    /// them. May sleep.
    pub(super) fn detach(&mut self, viommu: &Viommu, dev: &device::Device, ids: &[u32]) {
        for id in ids {
            let Some(place) = self.by_id.get_mut(id) else {
                continue;
            };
            if place.users > 1 {
                continue;
            }
            let Err(error) = place.move_to(viommu, &Attachment::None) else {
                continue;
            };
            // With the device gone there is nothing to detach from.
            if error != ENODEV {
                dev_err!(dev, "cannot detach: {}\n", error.to_errno());
                place.block(viommu, dev);
            }
            let left = core::mem::replace(&mut place.now, Attachment::None);
            left.abandon();
            left.leave();
        }
    }

    /// Accounts for a device that is about to be reset: it forgets every attachment, the driver
    /// does not.
    pub(super) fn suspend(&mut self) {
        for place in self.by_id.values_mut() {
            place.now.leave();
        }
    }

    /// Attaches every id again, after [`Self::suspend`] and a reset. May sleep.
    ///
    /// One that cannot return is blocked and reported; the others go on.
    pub(super) fn resume(&mut self, viommu: &Viommu) {
        for place in self.by_id.values_mut() {
            let to = core::mem::replace(&mut place.now, Attachment::None);
            let Err(error) = place.move_to(viommu, &to) else {
                continue;
            };
            let endpoint = viommu.endpoints().device(place.id);
            let dev = endpoint.as_deref().unwrap_or(viommu.dev());
            dev_err!(dev, "cannot return to its domain: {}\n", error.to_errno());
            place.block(viommu, dev);
        }
    }
}
