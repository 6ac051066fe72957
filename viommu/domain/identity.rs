// SPDX-License-Identifier: GPL-2.0

//! Domains in which each address is mapped to itself, for a device without bypass domains.

use core::pin::Pin;

use kernel::{
    io::PhysAddr,
    prelude::*,
    ram::{
        self,
        Follow,
        Follower, //
    },
    sync::Arc, //
};

use super::{
    Domain,
    Kind,
    Mapping, //
};
use crate::{
    uapi::{
        MapFlag,
        Span, //
    },
    viommu::device::Device, //
};

/// An identity-mapped domain, for which it follows memory that comes and goes.
pub(crate) struct Reach(Arc<Domain>);

impl Reach {
    /// Creates a domain in which each of `spans` is mapped to itself. May sleep.
    ///
    /// If it is known that the device maps memory alone, only where there is memory, for as long
    /// as what is returned exists.
    pub(crate) fn new(
        device: &Arc<Device>,
        spans: impl Iterator<Item = Span>,
    ) -> Result<Pin<KBox<Follower<Self>>>> {
        let mut all = KVec::new();
        for span in spans {
            all.push(span, GFP_KERNEL)?;
        }
        let domain = Domain::with_reach(device, Kind::IdentityMapped, all)?;
        // It follows before it looks what there is, lest something comes in between.
        let reach = KBox::pin_init(Follower::new(Reach(domain)), GFP_KERNEL)?;
        reach.get().0.fill()?;
        Ok(reach)
    }

    pub(crate) fn domain(&self) -> &Arc<Domain> {
        &self.0
    }
}

impl Follow for Reach {
    fn add(&self, first: PhysAddr, last: PhysAddr) -> Result {
        let domain = &self.0;
        if !domain.device.maps_ram_only() {
            // All is mapped, or about to be. Should that be refused, this is found with the rest,
            // as nobody looks what memory there is before this is over.
            return Ok(());
        }
        let block = Span::new(first, last).ok_or(EINVAL)?;
        for &span in &domain.reach {
            domain.map_block(block, span).inspect_err(|error| {
                dev_err!(
                    domain.device.dev,
                    "memory {} stays offline: cannot be mapped in identity domain {}: {}\n",
                    block,
                    domain.number.get(),
                    error.to_errno()
                );
            })?;
        }
        Ok(())
    }

    fn remove(&self, first: PhysAddr, last: PhysAddr) {
        if let Some(block) = Span::new(first, last) {
            self.0.unmap_block(block);
        }
    }
}

impl Domain {
    /// In an identity-mapped domain: maps what it may reach and has not mapped. May sleep.
    pub(super) fn fill(&self) -> Result {
        if !self.state.lock().unfilled {
            return Ok(());
        }
        for &span in &self.reach {
            if self.device.maps_ram_only() {
                self.map_ram(span)?;
            } else {
                self.map_to_itself(span)?;
            }
        }
        self.state.lock().unfilled = false;
        Ok(())
    }

    /// Maps what is memory in a range to itself.
    fn map_ram(&self, span: Span) -> Result {
        ram::for_each_range(|first, last| {
            let Some(part) = Span::new(first, last).and_then(|ram| self.part(ram, span)) else {
                return Ok(());
            };
            match self.map_to_itself(part) {
                // It was plugged in just now, or was mapped before another one failed.
                Err(EEXIST) => Ok(()),
                mapped => mapped,
            }
        })
    }

    /// The whole granules of memory that are in a range.
    fn part(&self, ram: Span, span: Span) -> Option<Span> {
        ram.align_in(self.device.config.granule)?.common(span)
    }

    /// Maps a memory block to itself, as far as it is in a range, and waits for the device.
    fn map_block(&self, block: Span, span: Span) -> Result {
        let Some(part) = self.part(block, span) else {
            return Ok(());
        };
        match self.map_to_itself(part) {
            // This domain has more than memory, as the device took it before it refused that.
            Err(EEXIST) => return Ok(()),
            mapped => mapped?,
        }
        let synced = self.sync_block(part);
        if synced.is_err() {
            // The device has nothing of it.
            let _ = self.remove(part, false);
        }
        synced
    }

    fn sync_block(&self, part: Span) -> Result {
        let engine = &self.device.engine;
        engine.sync_sleeping(&fmt!("memory {} in domain {}", part, self.id()))?;
        engine.collect_refused(self.id(), part)
    }

    /// Removes what was mapped of a memory block alone, and waits for the device.
    fn unmap_block(&self, block: Span) {
        let inside = |mapping: &Mapping| block.contains(mapping.span);
        for Mapping { span, .. } in self.walk().filter(inside) {
            let removed = self.remove(span, false);
            if removed.is_some_and(|removed| removed.to_tell) {
                self.unmap_and_sync(span);
            }
        }
    }

    fn map_to_itself(&self, span: Span) -> Result {
        let mapping = Mapping {
            span,
            phys: span.first(),
            flags: MapFlag::Read | MapFlag::Write,
        };
        let engine = &self.device.engine;
        self.map_when(mapping, GFP_KERNEL, |error| {
            engine.make_room_sleeping(error, &fmt!("memory {} in domain {}", span, self.id()))
        })
    }

    /// In an identity-mapped domain: maps only memory where the device has refused to map all. May
    /// sleep.
    pub(super) fn replace_refused(&self) -> Result {
        let engine = &self.device.engine;
        for Mapping { span, .. } in self.walk() {
            if engine.collect_refused(self.id(), span).is_ok() {
                continue;
            }
            self.device.learn_ram_only();
            // Should the rest of this fail, the next endpoint makes up for it.
            self.state.lock().unfilled = true;
            // The device has nothing of it.
            let _ = self.remove(span, false);
        }
        self.fill()?;
        engine.sync_sleeping(&fmt!("mappings of domain {}", self.id()))
    }
}
