// SPDX-License-Identifier: GPL-2.0

//! Domains in which each address is mapped to itself, for a device without bypass domains.

use kernel::{
    prelude::*,
    ram,
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

impl Domain {
    /// Creates a domain in which each of `spans` is mapped to itself. May sleep.
    ///
    /// If it is known that the device maps memory alone, only where there is memory.
    pub(crate) fn new_identity_mapped(
        device: &Arc<Device>,
        spans: impl Iterator<Item = Span>,
    ) -> Result<Arc<Self>> {
        let domain = Self::new(device, Kind::IdentityMapped)?;
        for span in spans {
            if device.maps_ram_only() {
                domain.map_ram(span)?;
            } else {
                domain.map_to_itself(span)?;
            }
        }
        Ok(domain)
    }

    /// Maps what is memory in a range to itself.
    fn map_ram(&self, span: Span) -> Result {
        let granule = self.device.config.granule;
        ram::for_each_range(|first, last| {
            let ram = Span::new(first, last).and_then(|ram| ram.align_in(granule));
            match ram.and_then(|ram| ram.common(span)) {
                Some(part) => self.map_to_itself(part),
                None => Ok(()),
            }
        })
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
