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

/// What an identity-mapped domain may map, of which it follows memory that comes and goes.
pub(crate) struct Reach {
    domain: Arc<Domain>,
    spans: KVec<Span>,
}

impl Reach {
    /// Creates a domain in which each of `spans` is mapped to itself. May sleep.
    ///
    /// If it is known that the device maps memory alone, only where there is memory, for as long
    /// as what is returned exists.
    pub(crate) fn new(
        device: &Arc<Device>,
        spans: impl Iterator<Item = Span>,
    ) -> Result<Pin<KBox<Follower<Self>>>> {
        let domain = Domain::new(device, Kind::IdentityMapped)?;
        let mut all = KVec::new();
        for span in spans {
            all.push(span, GFP_KERNEL)?;
        }
        let reach = Reach { domain, spans: all };
        // It follows before it looks what there is, lest something comes in between.
        let reach = KBox::pin_init(Follower::new(reach), GFP_KERNEL)?;
        let Reach { domain, spans } = reach.get();
        for &span in spans {
            if device.maps_ram_only() {
                domain.map_ram(span)?;
            } else {
                domain.map_to_itself(span)?;
            }
        }
        Ok(reach)
    }

    pub(crate) fn domain(&self) -> &Arc<Domain> {
        &self.domain
    }
}

impl Follow for Reach {
    fn add(&self, first: PhysAddr, last: PhysAddr) -> Result {
        let domain = &self.domain;
        if !domain.device.maps_ram_only() {
            // All is mapped, or about to be. Should that be refused, this is found with the rest,
            // as nobody looks what memory there is before this is over.
            return Ok(());
        }
        let block = Span::new(first, last).ok_or(EINVAL)?;
        for &span in &self.spans {
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
            self.domain.unmap_block(block);
        }
    }
}

impl Domain {
    /// Maps what is memory in a range to itself.
    fn map_ram(&self, span: Span) -> Result {
        ram::for_each_range(|first, last| {
            let Some(part) = Span::new(first, last).and_then(|ram| self.part(ram, span)) else {
                return Ok(());
            };
            match self.map_to_itself(part) {
                // It was plugged in just now.
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
        self.sync_map(part)
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
        self.map(mapping, GFP_KERNEL)
    }

    /// In an identity-mapped domain: maps only memory where the device has refused to map all.
    pub(super) fn replace_refused(&self) -> Result {
        for Mapping { span, .. } in self.walk() {
            if self.sync_map(span).is_ok() {
                continue;
            }
            self.device.learn_ram_only();
            // The device has nothing of it.
            let _ = self.remove(span, false);
            self.map_ram(span)?;
            self.sync_map(span)?;
        }
        Ok(())
    }
}
