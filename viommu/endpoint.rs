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
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    }, //
};

use super::{
    attached::{
        Attachment,
        Failure, //
    },
    device::Viommu,
    reserved::{
        Gaps,
        Region,
        Regions, //
    }, //
};
use crate::uapi::{
    Config,
    ProbeReply,
    Property,
    ResvKind,
    Span,
    Status, //
};

/// The window for software-managed MSI translation, for endpoints to which the device gives no MSI
/// region of its own. The same as in other Linux IOMMU drivers.
const SW_MSI_WINDOW: Span = match Span::new(0x800_0000, 0x80f_ffff) {
    Some(span) => span,
    None => panic!("the window is not reversed"),
};

/// How many bytes of an endpoint's reserved regions may be for MSIs. The core keeps a record of
/// each granule of them, which is not to use up the guest's memory. x86 has 1 MiB, an ITS 64 KiB.
const MAX_MSI: u64 = 16 << 20;

/// One endpoint device; it may have several ids.
pub(super) struct Endpoint {
    viommu: Arc<Viommu>,
    dev: ARef<device::Device>,
    ids: KVec<u32>,
    /// What the device declared as reserved.
    regions: Regions,
    /// Who hears of its faults.
    faults: Arc<FaultSink>,
    /// Whether the core has attached it, or tried to. Changed with the mutex of the group held.
    was_attached: Atomic<bool>,
}

/// What the IOMMU core holds of an endpoint.
pub(crate) struct EndpointHandle {
    pub(super) endpoint: Arc<Endpoint>,
    /// Makes the endpoint shut down and suspend before the IOMMU, and resume after it. None for a
    /// bridge above the IOMMU itself, which the driver core already orders the other way.
    _link: Option<DeviceLink>,
}

impl EndpointHandle {
    /// Asks the device about an endpoint. May sleep.
    pub(super) fn new(
        viommu: Arc<Viommu>,
        dev: &device::Device,
        fwspec: FwSpec<'_>,
    ) -> Result<Self> {
        let link = DeviceLink::new(dev, viommu.dev());
        if link.is_none() {
            dev_dbg!(dev, "not linked to its IOMMU, which is below it\n");
        }
        let endpoint = Endpoint::new(viommu, dev, fwspec)?;
        endpoint.viommu.lock_places().add(&endpoint.ids)?;
        let handle = EndpointHandle {
            endpoint,
            _link: link,
        };
        handle
            .endpoint
            .viommu
            .endpoints()
            .insert(&handle.endpoint)?;
        Ok(handle)
    }
}

impl Drop for EndpointHandle {
    fn drop(&mut self) {
        let endpoint = &*self.endpoint;
        endpoint.viommu.endpoints().remove(endpoint);
        endpoint.viommu.lock_places().remove(&endpoint.ids);
    }
}

impl Endpoint {
    fn new(viommu: Arc<Viommu>, dev: &device::Device, fwspec: FwSpec<'_>) -> Result<Arc<Self>> {
        let mut ids = KVec::with_capacity(fwspec.ids().len(), GFP_KERNEL)?;
        for id in fwspec.ids() {
            if !ids.contains(id) {
                ids.push_within_capacity(*id)?;
            }
        }
        if ids.is_empty() {
            dev_err!(dev, "firmware gives no endpoint id\n");
            return Err(EINVAL);
        }
        viommu.learn_numbering(dev, ids[0]);
        let regions = probe_regions(&viommu, dev, &mut ids)?;
        let endpoint = Endpoint {
            viommu,
            dev: dev.into(),
            ids,
            regions,
            faults: FaultSink::new(dev)?,
            was_attached: Atomic::new(false),
        };
        Ok(Arc::new(endpoint, GFP_KERNEL)?)
    }

    /// The endpoint's device.
    pub(super) fn dev(&self) -> &device::Device {
        &self.dev
    }

    /// The endpoint's ids, each once; at least one.
    pub(super) fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Who hears of the endpoint's faults.
    pub(super) fn faults(&self) -> &Arc<FaultSink> {
        &self.faults
    }

    /// The IOMMU that this endpoint is behind.
    pub(super) fn viommu(&self) -> &Arc<Viommu> {
        &self.viommu
    }

    /// What an identity mapping for this endpoint is made of.
    pub(super) fn gaps(&self) -> Gaps<'_> {
        let Config { input, granule, .. } = *self.viommu.config();
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
    pub(super) fn attach(&self, to: &Attachment) -> Result {
        let viommu = &*self.viommu;
        let first = !self.was_attached.load(Relaxed);
        self.was_attached.store(true, Relaxed);

        let mut places = viommu.lock_places();
        let Err(failure) = places.attach(viommu, &self.dev, &self.ids, to) else {
            return Ok(());
        };
        if first {
            let blocked = places.attach(viommu, &self.dev, &self.ids, &Attachment::Blocked);
            dev_err!(
                self.dev,
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
        if !matches!(failure, Failure::Unanswered(ENODEV)) && viommu.may_complain() {
            dev_err!(
                self.dev,
                "cannot be attached to another domain: {}\n",
                failure
            );
        }
        Err(failure.into())
    }

    /// Detaches the endpoint, so that the device forgets it. May sleep.
    pub(super) fn detach(&self) {
        let viommu = &*self.viommu;
        viommu.lock_places().detach(viommu, &self.dev, &self.ids);
    }
}

/// Asks the device for the reserved regions of all ids of an endpoint.
///
/// An id that the device does not know is taken out of `ids`: a PCI device behind a conventional
/// bridge, say, has two, of which some devices see the bridge's alone. Fails with `ENODEV` if it
/// knows none.
fn probe_regions(viommu: &Viommu, dev: &device::Device, ids: &mut KVec<u32>) -> Result<Regions> {
    let mut regions = Regions::new();
    let probe_size = viommu.config().probe_size;
    if probe_size == 0 {
        return Ok(regions);
    }
    let mut result = Ok(());
    let all = ids.len();
    ids.retain(|id| {
        if result.is_err() {
            return true;
        }
        let known = add_regions(&mut regions, viommu, dev, *id, probe_size);
        match known {
            Err(ENOENT) if all > 1 => {
                dev_info!(dev, "IOMMU does not know endpoint id {}: left out\n", *id);
                false
            }
            Err(ENOENT) => false,
            Err(error) => {
                result = Err(error);
                true
            }
            Ok(()) => true,
        }
    });
    result?;
    if ids.is_empty() {
        dev_warn!(
            dev,
            "cannot be probed: IOMMU knows none of its endpoint ids, so it does not translate\n"
        );
        return Err(ENODEV);
    }
    Ok(regions)
}

/// Fails with `ENOENT`, and without a message, if the device does not know the id.
fn add_regions(
    regions: &mut Regions,
    viommu: &Viommu,
    dev: &device::Device,
    id: u32,
    probe_size: u32,
) -> Result {
    let (buf, written) = viommu.engine().probe(id, probe_size)?;
    let reply = ProbeReply::new(&buf[written.start..], written.len(), probe_size);
    match reply.status {
        Status::Ok => (),
        Status::NoEnt => return Err(ENOENT),
        status => {
            dev_err!(dev, "cannot probe endpoint id {}: {}\n", id, status);
            return Err(EIO);
        }
    }

    for property in reply.properties {
        match property {
            Ok(Property::ResvMem { kind, span }) => {
                if matches!(kind, ResvKind::Unknown(_)) && viommu.may_complain() {
                    dev_warn!(dev, "region {} is {}, taken as reserved\n", span, kind);
                }
                let mut region = Region { span, kind };
                if is_too_much_msi(regions, &region) {
                    if viommu.may_complain() {
                        dev_warn!(dev, "MSI region {} is too large, taken as reserved\n", span);
                    }
                    region.kind = ResvKind::Reserved;
                }
                // Several ids of an endpoint usually have the same regions.
                if !regions.as_slice().contains(&region) {
                    regions.push(region, GFP_KERNEL)?;
                }
            }
            Ok(Property::Unknown { type_, .. }) => {
                if viommu.may_complain() {
                    dev_warn!(dev, "unknown property {:#x} is ignored\n", type_);
                }
            }
            Err(error) => {
                if viommu.may_complain() {
                    dev_err!(dev, "malformed property: {}\n", error);
                }
                return Err(error.into());
            }
        }
    }
    Ok(())
}

/// Whether an endpoint with `regions` has more than [`MAX_MSI`] with this one.
fn is_too_much_msi(regions: &Regions, new: &Region) -> bool {
    let known = regions.as_slice();
    if new.kind != ResvKind::Msi || known.contains(new) {
        return false;
    }
    let msi = known.iter().filter(|region| region.kind == ResvKind::Msi);
    let all = msi.fold(new.span.size_saturating(), |sum, region| {
        sum.saturating_add(region.span.size_saturating())
    });
    all > MAX_MSI
}
