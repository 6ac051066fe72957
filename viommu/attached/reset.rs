// SPDX-License-Identifier: GPL-2.0

//! Endpoint ids over a reset of the device, and that of the IOMMU itself.
//!
//! The device may keep its domains over a reset, so every id is detached before.

use kernel::prelude::*;

use super::{
    Attached,
    EndpointId,
    Failure, //
};
use crate::uapi::Request;

impl Attached {
    /// Attaches the IOMMU itself to the bypass domain, so that its own DMA does not depend on the
    /// global bypass. May sleep.
    pub(crate) fn attach_own(&mut self, id: u32) -> Result<(), Failure> {
        if self.own.is_none() {
            if self.by_id.get(&id).is_some() {
                return Err(Failure::NoNumber(EBUSY));
            }
            self.add_one(id).map_err(Failure::NoNumber)?;
            self.own = Some(id);
        }
        self.move_to(id, &self.bypass.clone())
    }

    /// Whether the IOMMU itself is among the ids.
    pub(crate) fn has_own(&self) -> bool {
        self.own.is_some()
    }

    /// Detaches the IOMMU itself again; the global bypass has to be open. May sleep.
    pub(crate) fn detach_own(&mut self) {
        if let Some(known) = self.own.and_then(|id| self.by_id.get_mut(&id)) {
            known.let_go(&self.device);
        }
    }

    /// Detaches every id but the IOMMU's own. What they were attached to is remembered for
    /// [`Self::resume`]. May sleep.
    ///
    /// The device gets a ring-full for each notification, and only so much time for all of it. An
    /// id that it does not let go is reported.
    pub(crate) fn detach_all(&mut self) {
        let own = self.own;
        let others = |known: &&EndpointId| own != Some(known.id);
        let ids = self.by_id.values().filter(others);
        let requests = ids.filter_map(EndpointId::detach_request);
        let detached = self.device.engine.detach_all(requests, |request, status| {
            let Request::Detach { endpoint, .. } = request else {
                return;
            };
            let failure = Failure::Refused(request, status);
            dev_err!(self.dev_of(endpoint), "cannot be detached: {}\n", failure);
            let stays = self.by_id.get(&endpoint).and_then(|id| id.now.as_ref());
            if let Some(domain) = stays {
                domain.number.abandon();
            }
        });
        match detached {
            // Of a device that was shut down before nothing is attached any more.
            Ok(()) | Err(ENODEV) => (),
            Err(error) => {
                let errno = error.to_errno();
                dev_err!(self.device.dev, "endpoints may stay attached: {}\n", errno);
            }
        }
        for known in self.by_id.values_mut() {
            if own == Some(known.id) {
                continue;
            }
            if let Some(domain) = known.now.take() {
                domain.leave();
                known.parked = Some(domain);
            }
        }
    }

    /// Attaches every id again, after [`Self::detach_all`] and a reset. May sleep.
    ///
    /// One that cannot return is blocked and reported; the others go on. Returns whether the IOMMU
    /// itself does not depend on the global bypass.
    pub(crate) fn resume(&mut self) -> bool {
        self.device.domain_ids.start_over();
        // They have a number already.
        let _ = self.start();
        let own = self.own.map_or(Ok(()), |id| self.attach_own(id));
        if let Err(failure) = &own {
            dev_err!(
                self.device.dev,
                "cannot attach itself: {}; global bypass stays open\n",
                failure
            );
        }
        let mut next = Some(0);
        while let Some(id) = next.and_then(|from| self.first_from(from)) {
            next = id.checked_add(1);
            let Some(known) = self.by_id.get_mut(&id).filter(|_| self.own != Some(id)) else {
                continue;
            };
            let to = known.parked.take();
            if let Err(failure) = self.move_to(id, &to) {
                let dev = self.dev_of(id);
                dev_err!(dev, "cannot return to its domain: {}\n", failure);
                self.block(&dev, id);
            }
        }
        own.is_ok()
    }

    /// The first id from this one on.
    fn first_from(&self, id: u32) -> Option<u32> {
        let cursor = self.by_id.cursor_lower_bound(&id)?;
        Some(*cursor.current().0)
    }
}
