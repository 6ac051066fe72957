// SPDX-License-Identifier: GPL-2.0

//! Endpoints: the devices whose DMA goes through the IOMMU, and what each is attached to.

use kernel::{
    device,
    device_link::DeviceLink,
    iommu::driver::{
        FwSpec,
        Prot,
        ProtFlag,
        ResvRegions,
        ResvType, //
    },
    new_mutex,
    prelude::*,
    sync::{
        aref::ARef,
        Arc,
        Mutex, //
    }, //
};

use super::{
    device::Viommu,
    domain::PagingDomain,
    regions::{
        Region,
        Regions, //
    }, //
};
use crate::uapi::{
    ProbeReply,
    Property,
    Request,
    ResvKind,
    Span, //
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

/// What an endpoint is attached to.
#[derive(Clone)]
pub(super) enum Attachment {
    /// No domain; the global bypass field decides about the endpoint's DMA.
    None,
    /// The bypass domain, which has this number: IO addresses are physical addresses.
    Bypass(u32),
    /// The domain that has no mappings.
    Blocked,
    /// A domain with mappings.
    Paging(Arc<PagingDomain>),
}

impl Attachment {
    /// The number of the domain, and whether it is the bypass domain.
    fn domain(&self, viommu: &Viommu) -> Option<(u32, bool)> {
        match self {
            Attachment::None => None,
            Attachment::Bypass(id) => Some((*id, true)),
            Attachment::Blocked => Some((viommu.domain_ids().blocked(), false)),
            Attachment::Paging(domain) => Some((domain.id(), false)),
        }
    }

    /// The domain, if it keeps account of its endpoints.
    fn paging(&self) -> Option<&PagingDomain> {
        match self {
            Attachment::Paging(domain) => Some(domain),
            _ => None,
        }
    }

    /// Accounts for an endpoint that was attached.
    fn enter(&self) -> Result {
        self.paging().map_or(Ok(()), PagingDomain::enter)
    }

    /// Prepares for an endpoint being detached: [`Self::leave`] or [`Self::stay`] follows.
    fn prepare_leave(&self) {
        self.paging().map_or((), PagingDomain::prepare_leave)
    }

    /// Accounts for an endpoint that could not be detached.
    fn stay(&self) {
        self.paging().map_or((), PagingDomain::stay)
    }

    /// Accounts for an endpoint that was detached.
    fn leave(&self) {
        self.paging().map_or((), PagingDomain::leave)
    }
}

/// One endpoint device; it may have several ids.
#[pin_data]
pub(super) struct Endpoint {
    viommu: Arc<Viommu>,
    dev: ARef<device::Device>,
    ids: KVec<u32>,
    /// What the device declared as reserved.
    regions: Regions,
    #[pin]
    attachment: Mutex<Attachment>,
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
        self.endpoint.viommu.endpoints().remove(&self.endpoint);
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
        let regions = probe_regions(&viommu, dev, &ids)?;
        let dev = ARef::from(dev);
        Arc::pin_init(
            pin_init!(Endpoint {
                viommu,
                dev,
                ids,
                regions,
                attachment <- new_mutex!(Attachment::None),
            }),
            GFP_KERNEL,
        )
    }

    /// The endpoint's device.
    pub(super) fn dev(&self) -> &device::Device {
        &self.dev
    }

    /// The endpoint's ids, each once; at least one.
    pub(super) fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// The IOMMU that this endpoint is behind.
    pub(super) fn viommu(&self) -> &Arc<Viommu> {
        &self.viommu
    }

    /// What the device declared as reserved.
    pub(super) fn regions(&self) -> &Regions {
        &self.regions
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

    /// Attaches the endpoint to `new`, taking it from what it was attached to.
    ///
    /// On failure the endpoint stays where it was, and both domains are as they were. May sleep.
    pub(super) fn attach(&self, new: Attachment) -> Result {
        let _attaching = self.viommu.lock_attach();
        let mut current = self.attachment.lock();

        // A device may drop a domain's mappings when its only endpoint is attached to it again.
        if current.domain(&self.viommu) == new.domain(&self.viommu) {
            return Ok(());
        }
        current.prepare_leave();
        self.send_attach(&current, &new)
            .inspect_err(|_| current.stay())?;

        current.leave();
        if let Err(error) = new.enter() {
            dev_err!(
                self.dev,
                "cannot give its domain the mappings: {}\n",
                error.to_errno()
            );
            *current = self.recover(&new, &current);
            new.leave();
            return Err(error);
        }
        *current = new;
        Ok(())
    }

    /// Takes the endpoint back from `new`, a domain that could not get its mappings, to `old`.
    /// Returns where it ended up.
    fn recover(&self, new: &Attachment, old: &Attachment) -> Attachment {
        let mut now = new;
        if self.send_attach(new, old).is_ok() {
            now = old;
            if old.enter().is_ok() {
                return old.clone();
            }
            old.leave();
        }
        // A domain without some of its mappings is worse than none.
        match self.send_attach(now, &Attachment::Blocked) {
            Ok(()) => {
                dev_err!(self.dev, "former domain is lost; DMA is blocked\n");
                Attachment::Blocked
            }
            Err(error) => {
                dev_err!(
                    self.dev,
                    "former domain is lost, and DMA cannot be blocked: {}\n",
                    error.to_errno()
                );
                Attachment::None
            }
        }
    }

    /// Detaches the endpoint, so that the device forgets it. May sleep.
    pub(super) fn detach(&self) {
        let _attaching = self.viommu.lock_attach();
        let mut current = self.attachment.lock();

        current.prepare_leave();
        if let Err(error) = self.send_detach(&current, &self.ids) {
            // With the device gone there is nothing to detach from.
            if error != ENODEV {
                dev_err!(self.dev, "cannot detach: {}\n", error.to_errno());
            }
        }
        current.leave();
        *current = Attachment::None;
    }

    /// Accounts for a device that is about to be reset: it forgets every attachment, the driver
    /// does not. The caller holds the attach lock.
    pub(super) fn suspend(&self) {
        self.attachment.lock().leave();
    }

    /// Attaches the endpoint again, after [`Self::suspend`] and a reset. The caller holds the
    /// attach lock; may sleep.
    pub(super) fn resume(&self) -> Result {
        let mut attachment = self.attachment.lock();
        let attached = self.send_attach(&Attachment::None, &attachment);
        let result = attached.and_then(|()| attachment.enter().inspect_err(|_| attachment.leave()));
        if result.is_err() {
            // So that attaching again heals it.
            *attachment = Attachment::None;
        }
        result
    }

    /// Attaches all ids to the domain of `new`; none on failure.
    fn send_attach(&self, old: &Attachment, new: &Attachment) -> Result {
        let Some((domain, bypass)) = new.domain(&self.viommu) else {
            return self.send_detach(old, &self.ids);
        };
        for (done, &endpoint) in self.ids.iter().enumerate() {
            let request = Request::Attach {
                domain,
                endpoint,
                bypass,
            };
            if let Err(error) = self.viommu.engine().call(request) {
                self.roll_back(old, new, &self.ids[..done]);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Moves the ids that were attached to `new` back. The others never left `old`, so the device
    /// still has its mappings.
    fn roll_back(&self, old: &Attachment, new: &Attachment, ids: &[u32]) {
        let result = match old.domain(&self.viommu) {
            None => self.send_detach(new, ids),
            Some((domain, bypass)) => ids.iter().try_for_each(|&endpoint| {
                self.viommu.engine().call(Request::Attach {
                    domain,
                    endpoint,
                    bypass,
                })
            }),
        };
        if let Err(error) = result {
            dev_err!(
                self.dev,
                "cannot go back to its former domain: {}\n",
                error.to_errno()
            );
        }
    }

    fn send_detach(&self, from: &Attachment, ids: &[u32]) -> Result {
        let Some((domain, _)) = from.domain(&self.viommu) else {
            return Ok(());
        };
        let mut result = Ok(());
        for &endpoint in ids {
            let detached = self
                .viommu
                .engine()
                .call(Request::Detach { domain, endpoint });
            result = result.and(detached);
        }
        result
    }
}

/// Asks the device for the reserved regions of all ids of an endpoint.
fn probe_regions(viommu: &Viommu, dev: &device::Device, ids: &[u32]) -> Result<Regions> {
    let mut regions = Regions::new();
    let probe_size = viommu.config().probe_size;
    if probe_size == 0 {
        return Ok(regions);
    }
    for &id in ids {
        add_regions(&mut regions, viommu, dev, id, probe_size).inspect_err(|error| {
            dev_err!(dev, "cannot probe endpoint {}: {}\n", id, error.to_errno())
        })?;
    }
    Ok(regions)
}

fn add_regions(
    regions: &mut Regions,
    viommu: &Viommu,
    dev: &device::Device,
    id: u32,
    probe_size: u32,
) -> Result {
    let (buf, written) = viommu.engine().probe(id, probe_size)?;
    let reply = ProbeReply::new(&buf[written], probe_size);
    reply.status.to_result()?;

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
