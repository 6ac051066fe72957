// SPDX-License-Identifier: GPL-2.0

//! Endpoints: the devices whose DMA goes through the IOMMU, and what each is attached to.

use kernel::{
    device,
    device_link::DeviceLink,
    iommu::driver::{
        FaultSink,
        FwSpec,
        Prot,
        ProtFlag,
        ResvRegions,
        ResvType, //
    },
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    }, //
};

use super::{
    attached::{
        Failure,
        To, //
    },
    endpoint_table::Entry,
    iommu::Viommu,
    probe,
    reserved::{
        Gaps,
        Regions, //
    }, //
};
use crate::uapi::{
    Config,
    ResvKind,
    Span, //
};

/// The window for software-managed MSI translation, for endpoints to which the device gives no MSI
/// region of its own. The same as in other Linux IOMMU drivers.
const SW_MSI_WINDOW: Span = match Span::new(0x800_0000, 0x80f_ffff) {
    Some(span) => span,
    None => panic!("the window is not reversed"),
};

/// One endpoint device; it may have several ids. What the IOMMU core holds of it.
pub(crate) struct Endpoint {
    pub(super) viommu: Arc<Viommu>,
    /// The device, and who hears of its faults.
    pub(super) entry: Entry,
    /// Each once; at least one.
    ids: KVec<u32>,
    /// What the device declared as reserved.
    regions: Regions,
    /// Whether the core has attached it, or tried to. Changed with the mutex of the group held.
    was_attached: Atomic<bool>,
    /// Makes the endpoint shut down and suspend before the IOMMU, and resume after it. None for a
    /// bridge above the IOMMU itself, which the driver core already orders the other way.
    _link: Option<DeviceLink>,
}

impl Endpoint {
    /// Asks the device about an endpoint. May sleep.
    pub(super) fn new(
        viommu: Arc<Viommu>,
        dev: &device::Device,
        fwspec: FwSpec<'_>,
    ) -> Result<Self> {
        let link = DeviceLink::new(dev, &viommu.device.dev);
        if link.is_none() {
            dev_dbg!(dev, "not linked to its IOMMU, which is below it\n");
        }
        let mut ids = KVec::with_capacity(fwspec.ids().len(), GFP_KERNEL)?;
        for id in fwspec.ids() {
            if !ids.contains(id) {
                ids.push_within_capacity(*id)?;
            }
        }
        let Some(&first) = ids.first() else {
            dev_err!(dev, "firmware gives no endpoint id\n");
            return Err(EINVAL);
        };
        viommu.outside.learn_numbering(dev, first);
        let regions = probe::regions(&viommu.device, dev, &mut ids)?;
        let entry = Entry {
            dev: dev.into(),
            faults: FaultSink::new(dev)?,
        };
        viommu.attached().add(&ids)?;
        let endpoint = Endpoint {
            viommu,
            entry,
            ids,
            regions,
            was_attached: Atomic::new(false),
            _link: link,
        };
        let viommu = &endpoint.viommu;
        viommu.endpoints.insert(&endpoint.ids, &endpoint.entry)?;
        Ok(endpoint)
    }

    /// What an identity mapping for this endpoint is made of.
    pub(super) fn gaps(&self) -> Gaps<'_> {
        let Config { input, granule, .. } = self.viommu.device.config;
        self.regions.gaps(input, granule)
    }

    /// Reports the reserved regions, as sysfs and VFIO show them. May sleep.
    pub(super) fn report_regions(&self, out: &mut ResvRegions<'_>) -> Result {
        let msi_prot = ProtFlag::Write | ProtFlag::NoExec | ProtFlag::Mmio;

        for region in self.regions.as_slice() {
            let (prot, kind) = match region.kind {
                ResvKind::Msi => (msi_prot, ResvType::Msi),
                ResvKind::Reserved | ResvKind::Unknown(_) => (Prot::empty(), ResvType::Reserved),
            };
            out.push(region.span.first(), region.span.last(), prot, kind)?;
        }
        if !self.regions.has_msi() {
            let window = SW_MSI_WINDOW;
            out.push(
                window.first(),
                window.last(),
                msi_prot,
                ResvType::SoftwareMsi,
            )?;
        }
        out.add_firmware_regions();
        Ok(())
    }

    /// Attaches the endpoint to `to`, taking it from what it was attached to. May sleep.
    ///
    /// On failure the endpoint stays where it was, and both domains are as they were.
    ///
    /// The first time there is no failure: the core would take the IOMMU away from all other
    /// endpoints, too. The endpoint is blocked then, until it can be attached to something.
    pub(super) fn attach(&self, to: &To) -> Result {
        let dev = &*self.entry.dev;
        let first = !self.was_attached.load(Relaxed);
        self.was_attached.store(true, Relaxed);

        let mut attached = self.viommu.attached();
        let Err(failure) = attached.attach(dev, &self.ids, to) else {
            return Ok(());
        };
        if first {
            let blocked = attached.attach(dev, &self.ids, &To::Blocked);
            dev_err!(
                dev,
                "cannot be attached to its domain: {}; {}\n",
                failure,
                match blocked {
                    Ok(()) => "its DMA is blocked",
                    Err(_) => "no DMA of it is translated",
                }
            );
            return Ok(());
        }
        // Of a device that is shut down nothing is expected.
        let expected = matches!(failure, Failure::Unanswered(ENODEV));
        if !expected && self.viommu.may_complain() {
            dev_err!(dev, "cannot be attached to another domain: {}\n", failure);
        }
        Err(failure.into())
    }

    /// Detaches the endpoint, so that the device forgets it. May sleep.
    pub(super) fn detach(&self) {
        self.viommu.attached().detach(&self.entry.dev, &self.ids);
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.viommu.endpoints.remove(&self.ids, &self.entry);
        self.viommu.attached().remove(&self.ids);
    }
}
