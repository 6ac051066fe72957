// SPDX-License-Identifier: GPL-2.0

//! Who depends on the global bypass, because it is attached to no domain and works all the same.
//!
//! Nothing that works without this driver may stop working because of it. So the global bypass
//! stays open if one of these is there, and a message names it.

use kernel::{
    device,
    iommu::driver::{
        for_each_without_group,
        Requester, //
    },
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        SetOnce, //
    }, //
};

use super::device::Device;

/// How the endpoints of a PCI segment are numbered.
#[derive(Clone, Copy)]
struct Numbering {
    segment: u32,
    /// What is added to a requester id.
    offset: u32,
}

/// What is known of devices that are not endpoints.
pub(super) struct Outside {
    /// How the IOMMU itself appears on the PCI bus, if it is a PCI device.
    own: Option<Requester>,
    /// How endpoints are numbered, once there is one.
    numbering: SetOnce<Numbering>,
    /// Whether there was a device that could not become an endpoint.
    refused: Atomic<bool>,
    /// Whether an endpoint was left that had a driver.
    deserted: Atomic<bool>,
}

impl Outside {
    /// `dev` is the device that the IOMMU is, on its bus.
    pub(super) fn new(dev: &device::Device) -> Self {
        Outside {
            own: Requester::of(dev),
            numbering: SetOnce::new(),
            refused: Atomic::new(false),
            deserted: Atomic::new(false),
        }
    }

    /// Takes note of the first id of an endpoint, which is its own and not that of a bridge.
    pub(super) fn learn_numbering(&self, dev: &device::Device, id: u32) {
        let Some(Requester {
            segment,
            id: own_id,
        }) = Requester::of(dev)
        else {
            return;
        };
        if self.own.is_none_or(|own| own.segment == segment) {
            let offset = id.wrapping_sub(own_id.into());
            self.numbering.populate(Numbering { segment, offset });
        }
    }

    /// The endpoint id of a PCI device, as far as it is known.
    fn endpoint_id(&self, requester: Requester) -> Option<u32> {
        let numbering = self.numbering.copy()?;
        let id = numbering.offset.wrapping_add(requester.id.into());
        (numbering.segment == requester.segment).then_some(id)
    }

    /// The endpoint id of the IOMMU itself, as far as it is known.
    pub(super) fn own_id(&self) -> Option<u32> {
        self.endpoint_id(self.own?)
    }

    /// A device could not become an endpoint.
    pub(super) fn note_refused(&self) {
        self.refused.store(true, Relaxed);
    }

    /// An endpoint was left that has a driver, so that it may go on with its DMA.
    pub(super) fn note_deserted(&self) {
        self.deserted.store(true, Relaxed);
    }

    /// Whether there was a [`Self::note_deserted`].
    pub(super) fn has_deserted(&self) -> bool {
        self.deserted.load(Relaxed)
    }

    /// Whether every device behind the IOMMU that does DMA is an endpoint. Names one that is not.
    /// May sleep.
    ///
    /// Firmware told the core which devices these are, when their drivers came. The IOMMU is asked
    /// now. In a PCI segment without a single endpoint, it has none: even a host bridge is one.
    pub(super) fn is_empty(&self, device: &Device) -> bool {
        let mut empty = !self.refused.load(Relaxed);
        for_each_without_group(|dev| {
            let mut is_here = false;
            Requester::for_each_alias(dev, |alias| {
                let id = self.endpoint_id(alias);
                is_here |= id.is_some_and(|id| device.knows_endpoint(id));
            });
            if self.own == Requester::of(dev) || !is_here || !empty {
                return;
            }
            empty = false;
            dev_warn!(
                dev,
                "its driver came before that of the IOMMU: global bypass stays open for it\n"
            );
        });
        empty
    }
}
