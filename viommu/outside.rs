// SPDX-License-Identifier: GPL-2.0

//! Who depends on the global bypass, because it is attached to no domain and works all the same.
//!
//! Nothing that works without this driver may stop working because of it. So the global bypass
//! stays open if one of these is there, and a message names it.

use kernel::{
    device,
    iommu::driver::{
        for_each_without_group,
        is_without_group,
        Requester,
        WithoutGroup, //
    },
    new_mutex,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        Mutex,
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

/// Devices that could not become endpoints.
#[derive(Default)]
struct Refused {
    devices: KVec<ARef<device::Device>>,
    /// Whether there was one more, of which nothing is known for lack of memory.
    overflow: bool,
}

impl Refused {
    fn position(&self, dev: &device::Device) -> Option<usize> {
        let is_it = |one: &ARef<device::Device>| core::ptr::eq(&**one, dev);
        self.devices.iter().position(is_it)
    }
}

/// What is known of devices that are not endpoints.
#[pin_data]
pub(super) struct Outside {
    /// How the IOMMU itself appears on the PCI bus, if it is a PCI device.
    own: Option<Requester>,
    /// How endpoints are numbered, once there is one.
    numbering: SetOnce<Numbering>,
    #[pin]
    refused: Mutex<Refused>,
    /// Whether an endpoint was left that had a driver.
    deserted: Atomic<bool>,
}

impl Outside {
    /// `dev` is the device that the IOMMU is, on its bus.
    pub(super) fn new(dev: &device::Device) -> impl PinInit<Self> + '_ {
        pin_init!(Outside {
            own: Requester::of(dev),
            numbering: SetOnce::new(),
            refused <- new_mutex!(Refused::default()),
            deserted: Atomic::new(false),
        })
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

    /// A device could not become an endpoint. May sleep.
    pub(super) fn note_refused(&self, dev: &device::Device) {
        let mut refused = self.refused.lock();
        if refused.position(dev).is_none() {
            let noted = refused.devices.push(dev.into(), GFP_KERNEL);
            refused.overflow |= noted.is_err();
        }
    }

    /// Whether a device could not become an endpoint. May sleep.
    pub(super) fn was_refused(&self, dev: &device::Device) -> bool {
        self.refused.lock().position(dev).is_some()
    }

    /// A device was removed. Returns whether it could not become an endpoint. May sleep.
    pub(super) fn forget(&self, dev: &device::Device) -> bool {
        let mut refused = self.refused.lock();
        let position = refused.position(dev);
        if let Some(position) = position {
            let _ = refused.devices.remove(position);
        }
        position.is_some()
    }

    /// Whether there is a device that could not become an endpoint, and is none yet. May sleep.
    fn has_refused(&self) -> bool {
        let mut refused = self.refused.lock();
        refused.devices.retain(|dev| is_without_group(dev));
        refused.overflow || !refused.devices.is_empty()
    }

    /// An endpoint was left that has a driver, so that it may go on with its DMA.
    pub(super) fn note_deserted(&self) {
        self.deserted.store(true, Relaxed);
    }

    /// Whether there was a [`Self::note_deserted`].
    pub(super) fn has_deserted(&self) -> bool {
        self.deserted.load(Relaxed)
    }

    /// Has the core make endpoints of devices that it left out, because a driver was just refusing
    /// them when the IOMMU was registered. May sleep.
    ///
    /// If it `matters`, returns whether no device is left behind the IOMMU that is used, or may be
    /// about to be used, and is no endpoint; names one.
    pub(super) fn take_in(&self, device: &Device, matters: bool) -> bool {
        let mut none_left = true;
        for_each_without_group(|found| match found {
            // It may be behind another IOMMU, or none.
            WithoutGroup::Unbound(dev) => {
                let _ = dev.find_iommu();
            }
            WithoutGroup::Used(dev) => {
                none_left &= !matters || !self.depends(dev, device, none_left)
            }
        });
        none_left
    }

    /// Whether every device behind the IOMMU that does DMA is an endpoint. Names one that is not,
    /// unless it was named when it was refused. May sleep.
    pub(super) fn is_empty(&self, device: &Device) -> bool {
        let refused = self.has_refused();
        let mut empty = true;
        for_each_without_group(|found| {
            if let WithoutGroup::Used(dev) = found {
                empty &= !self.depends(dev, device, empty);
            }
        });
        empty && !refused
    }

    /// Whether a device that is used without an IOMMU is behind this one all the same. Names it if
    /// it is the `first`.
    ///
    /// Firmware told the core which devices these are, when their drivers came. The IOMMU is asked
    /// now. In a PCI segment without a single endpoint, it has none: even a host bridge is one.
    fn depends(&self, dev: &device::Device, device: &Device, first: bool) -> bool {
        if !first || self.own == Requester::of(dev) || self.was_refused(dev) {
            return false;
        }
        let mut is_here = false;
        Requester::for_each_alias(dev, |alias| {
            let id = self.endpoint_id(alias);
            is_here |= id.is_some_and(|id| device.knows_endpoint(id));
        });
        if is_here {
            dev_warn!(
                dev,
                "its driver came before that of the IOMMU: global bypass stays open for it\n"
            );
        }
        is_here
    }
}
