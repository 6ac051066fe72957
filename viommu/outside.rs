// SPDX-License-Identifier: GPL-2.0

//! Who depends on the global bypass, because it is attached to no domain and works all the same.
//!
//! Nothing that works without this driver may stop working because of it. So the global bypass
//! stays open if one of these is there, and a message names it.

use kernel::{
    bindings,
    device::Bound,
    iommu::driver::{
        for_each_without_group,
        Requester, //
    },
    prelude::*,
    virtio, //
};

use super::device::Viommu;

impl Viommu {
    /// Whether the global bypass can be closed: nobody depends on it. May sleep.
    pub(crate) fn is_self_contained(&self, vdev: &virtio::Device<Bound>) -> bool {
        self.has_all(vdev) && self.takes_itself_in(vdev)
    }

    /// Whether the rings of the IOMMU itself are where they were, when the global bypass is closed.
    ///
    /// With VIRTIO_F_ACCESS_PLATFORM they may be behind the very IOMMU. Firmware does not say how
    /// the device numbers itself; it will do as it does with the other devices of the segment.
    fn takes_itself_in(&self, vdev: &virtio::Device<Bound>) -> bool {
        if !vdev.has_feature(bindings::VIRTIO_F_ACCESS_PLATFORM) {
            return true;
        }
        let id = Requester::of(vdev.parent()).and_then(|requester| self.endpoint_id(requester));
        let Some(id) = id else {
            dev_warn!(
                self.dev(),
                "may be behind itself, with an unknown endpoint id: global bypass stays open\n"
            );
            return false;
        };
        let Err(failure) = self.lock_places().attach_own(self, id) else {
            return true;
        };
        dev_warn!(
            self.dev(),
            "may be behind itself, and cannot be attached: {}; global bypass stays open\n",
            failure
        );
        false
    }

    /// Whether every device behind the IOMMU that does DMA is an endpoint. Names one that is not.
    ///
    /// Firmware told the core which devices these are, when their drivers came. The IOMMU is asked
    /// now. In a PCI segment without a single endpoint, it has none: even a host bridge is one.
    fn has_all(&self, vdev: &virtio::Device<Bound>) -> bool {
        let own = Requester::of(vdev.parent());
        let mut all = !self.has_refused();
        for_each_without_group(|dev| {
            let mut is_here = false;
            Requester::for_each_alias(dev, |alias| {
                let id = self.endpoint_id(alias);
                is_here |= id.is_some_and(|id| self.knows_endpoint(id));
            });
            if own == Requester::of(dev) || !is_here || !all {
                return;
            }
            all = false;
            dev_warn!(
                dev,
                "its driver came before that of the IOMMU: global bypass stays open for it\n"
            );
        });
        all
    }
}
