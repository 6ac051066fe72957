// SPDX-License-Identifier: GPL-2.0

//! One virtio-iommu device, as the IOMMU core sees it.

use core::pin::Pin;

use kernel::{
    bindings,
    device::{
        self,
        Bound, //
    },
    iommu::driver::{
        self,
        has_driver,
        Capability,
        DomainConfig,
        FaultSink,
        FwSpec,
        Geometry,
        Identity,
        Prot,
        ProtFlag,
        Requester,
        ResvRegions, //
    },
    new_mutex,
    prelude::*,
    ratelimit::Ratelimit,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        ArcBorrow,
        Mutex,
        MutexGuard,
        SetOnce, //
    },
    virtio::{
        self,
        Virtqueue, //
    }, //
};

use super::{
    attached::{
        Attachment,
        Places,
        PlainDomain, //
    },
    domain::PagingDomain,
    domain_handle::DomainHandle,
    domain_ids::DomainIds,
    endpoint::EndpointHandle,
    engine::{
        Engine,
        Slot, //
    },
    table::EndpointTable, //
};
use crate::uapi::{
    Config,
    MapFlag,
    MapFlags,
    ProbeReply,
    Status, //
};

/// How the endpoints of a PCI segment are numbered.
#[derive(Clone, Copy)]
struct Numbering {
    segment: u32,
    /// What is added to a requester id.
    offset: u32,
}

/// A virtio-iommu device. Endpoints and domains share it.
#[pin_data]
pub(crate) struct Viommu {
    /// The virtio device: names the IOMMU in messages, and is the supplier of device links.
    dev: ARef<device::Device>,
    config: Config,
    /// The flags that a MAP may have.
    map_flags: MapFlags,
    #[pin]
    engine: Engine,
    #[pin]
    domain_ids: DomainIds,
    /// The bypass domain, and the domain that blocks; if the device has the global bypass field.
    bypass: Option<PlainDomain>,
    blocked: Option<PlainDomain>,
    endpoints: Arc<EndpointTable>,
    /// Its lock serialises attaching and detaching: groups that share a domain do not share a lock.
    #[pin]
    places: Mutex<Places>,
    /// How the endpoints of a PCI segment are numbered, once there is one.
    numbering: SetOnce<Numbering>,
    /// The PCI segment of the IOMMU itself, if it is a PCI device.
    segment: Option<u32>,
    /// Whether the device refuses to map what is no memory.
    ram_only: Atomic<bool>,
    /// Whether there was a device that could not become an endpoint.
    refused: Atomic<bool>,
    /// Whether an endpoint was left that had a driver.
    deserted: Atomic<bool>,
    /// For messages about what the device says of endpoints and of itself.
    #[pin]
    complaints: Ratelimit,
}

impl Viommu {
    /// Sets up what is needed to talk to the device. May sleep.
    pub(crate) fn new(
        vdev: &virtio::Device<Bound>,
        config: Config,
        requests: Virtqueue<Slot>,
        endpoints: Arc<EndpointTable>,
    ) -> Result<Arc<Self>> {
        let dev: ARef<device::Device> = AsRef::<device::Device<Bound>>::as_ref(vdev).into();
        let engine = Engine::new(dev.clone(), requests)?;
        let (none, _) = config.domains.spare();
        let plain = || config.bypass.map(|_| PlainDomain::new(none));
        let (bypass, blocked) = (plain(), plain());
        let others = 2 * u64::from(config.bypass.is_some());
        let domain_ids = DomainIds::new(dev.clone(), config.domains, others)?;
        let mut map_flags = MapFlag::Read | MapFlag::Write;
        if vdev.has_feature(bindings::VIRTIO_IOMMU_F_MMIO) {
            map_flags |= MapFlag::Mmio;
        }
        Arc::pin_init(
            pin_init!(Viommu {
                dev,
                config,
                map_flags,
                engine <- engine,
                domain_ids <- domain_ids,
                bypass,
                blocked,
                endpoints,
                places <- new_mutex!(Places::new()),
                numbering: SetOnce::new(),
                segment: Requester::of(vdev.parent()).map(|requester| requester.segment),
                ram_only: Atomic::new(false),
                refused: Atomic::new(false),
                deserted: Atomic::new(false),
                complaints <- Ratelimit::default_for(c"virtio_iommu: device"),
            }),
            GFP_KERNEL,
        )
    }

    /// Prepares for the first endpoint. The request queue is ready. May sleep.
    pub(crate) fn start(&self) -> Result {
        self.lock_places().reserve(self)
    }

    /// Says in the log what the device can do.
    pub(crate) fn announce(&self) {
        let Config { input, granule, .. } = &self.config;
        dev_info!(
            self.dev,
            "IO addresses {}, granule {}, identity by {}\n",
            input,
            granule,
            match self.bypass {
                Some(_) => "bypass domain",
                None => "identity mappings",
            }
        );
    }

    /// The virtio device.
    pub(super) fn dev(&self) -> &device::Device {
        &self.dev
    }

    /// The device configuration.
    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// The request queue.
    #[inline]
    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The domain numbers.
    pub(super) fn domain_ids(&self) -> &DomainIds {
        &self.domain_ids
    }

    /// The bypass domain, if the device has such a thing.
    pub(super) fn bypass_domain(&self) -> Option<&PlainDomain> {
        self.bypass.as_ref()
    }

    /// The domain that blocks. If there is none, an endpoint is blocked in no domain.
    pub(super) fn blocked_domain(&self) -> Option<&PlainDomain> {
        self.blocked.as_ref()
    }

    /// The endpoints, by id.
    pub(super) fn endpoints(&self) -> &EndpointTable {
        &self.endpoints
    }

    /// Whether to log one more message about a device that makes no sense. Any context.
    pub(crate) fn may_complain(&self) -> bool {
        self.complaints.check()
    }

    /// Where endpoint ids are attached. Excludes all other attaching and detaching. May sleep.
    pub(super) fn lock_places(&self) -> MutexGuard<'_, Places> {
        self.places.lock()
    }

    /// Takes note of the first id of an endpoint, which is its own and not that of a bridge.
    pub(super) fn learn_numbering(&self, dev: &device::Device, id: u32) {
        if let Some(requester) = Requester::of(dev) {
            let offset = id.wrapping_sub(requester.id.into());
            let segment = requester.segment;
            if self.segment.is_none_or(|own| own == segment) {
                self.numbering.populate(Numbering { segment, offset });
            }
        }
    }

    /// The endpoint id of a PCI device, as far as it is known.
    pub(super) fn endpoint_id(&self, requester: Requester) -> Option<u32> {
        let numbering = self.numbering.copy()?;
        let id = numbering.offset.wrapping_add(requester.id.into());
        (numbering.segment == requester.segment).then_some(id)
    }

    /// Whether the device has an endpoint of this id, as far as it can be asked. May sleep.
    pub(super) fn knows_endpoint(&self, id: u32) -> bool {
        let size = self.config.probe_size;
        if size == 0 {
            return true;
        }
        self.engine.probe(id, size).map_or(true, |(buf, written)| {
            let reply = ProbeReply::new(&buf[written.start..], written.len(), size);
            reply.status != Status::NoEnt
        })
    }

    /// Whether the device is known to refuse to map what is no memory.
    pub(super) fn maps_ram_only(&self) -> bool {
        self.ram_only.load(Relaxed)
    }

    /// The device refuses to map what is no memory, as crosvm does.
    pub(super) fn learn_ram_only(&self) {
        if !self.ram_only.xchg(true, Relaxed) {
            dev_info!(self.dev, "identity domains are made of memory alone\n");
        }
    }

    /// Whether there was a device that could not become an endpoint.
    pub(super) fn has_refused(&self) -> bool {
        self.refused.load(Relaxed)
    }

    /// Whether an endpoint was left that had a driver, so that it may go on with its DMA.
    pub(crate) fn has_deserted(&self) -> bool {
        self.deserted.load(Relaxed)
    }

    /// Whether the IOMMU itself is attached to a domain.
    pub(crate) fn is_behind_itself(&self) -> bool {
        self.lock_places().has_own()
    }

    /// Detaches every endpoint, before the device is reset. What each was attached to is remembered
    /// for [`Self::resume`]. May sleep.
    pub(crate) fn detach_all(&self) {
        self.lock_places().detach_all(self);
    }

    /// Ends all use of the device, after [`Self::detach_all`]. May sleep.
    ///
    /// An IOMMU that is behind itself is detached, too, if it can answer that: the global bypass
    /// `is_open` again.
    pub(crate) fn close(&self, is_open: bool) {
        let mut places = self.lock_places();
        if is_open {
            places.detach_own(self);
        }
        self.engine.close();
    }

    /// Takes up the device again, with a new queue that is ready. May sleep.
    ///
    /// Every endpoint returns to its domain, and every domain to its mappings. One that cannot is
    /// reported and blocked; the others go on.
    pub(crate) fn resume(&self, requests: Virtqueue<Slot>) -> Result {
        let mut places = self.lock_places();
        self.engine.reopen(requests)?;
        places.resume(self);
        Ok(())
    }

    /// Translates the core's protection into MAP flags. Fails on what the device cannot do.
    #[inline]
    pub(super) fn map_flags(&self, prot: Prot) -> Result<MapFlags> {
        let mut flags = MapFlags::default();
        if prot.contains(ProtFlag::Read) {
            flags |= MapFlag::Read;
        }
        if prot.contains(ProtFlag::Write) {
            flags |= MapFlag::Write;
        }
        if prot.contains(ProtFlag::Mmio) {
            flags |= MapFlag::Mmio;
        }
        if !self.map_flags.contains_all(flags) {
            return Err(EINVAL);
        }
        Ok(flags)
    }

    fn domain_config(&self) -> DomainConfig {
        DomainConfig {
            // A MAP takes any multiple of the granule, so larger sizes mean nothing to the device.
            // Naming only the granule makes the core pass a contiguous range in one call, hence in
            // one MAP, where it would otherwise send one for each power of two in it.
            page_sizes: self.config.granule.bytes(),
            geometry: Geometry {
                first: self.config.input.first(),
                last: self.config.input.last(),
            },
        }
    }
}

/// Initialises a place in memory with a value made before.
fn ready<T>(value: T) -> impl PinInit<T, Error> {
    Ok::<T, Error>(value)
}

impl driver::Driver for Viommu {
    type Module = crate::DriverModule;
    type Endpoint = EndpointHandle;
    type Domain = DomainHandle;

    // The endpoint id.
    const OF_CELLS: Option<u32> = Some(1);

    fn probe(
        this: ArcBorrow<'_, Self>,
        dev: &device::Device,
        fwspec: FwSpec<'_>,
    ) -> Result<impl PinInit<Self::Endpoint, Error>> {
        let handle = EndpointHandle::new(this.into(), dev, fwspec).inspect_err(|error| {
            // With `ENODEV` it is not behind this IOMMU.
            if *error != ENODEV {
                dev_err!(dev, "gets no IOMMU: its DMA is left to the global bypass\n");
                this.refused.store(true, Relaxed);
            }
        })?;
        Ok(ready(handle))
    }

    fn release(handle: Pin<&Self::Endpoint>, dev: &device::Device) {
        if has_driver(dev) {
            dev_warn!(dev, "loses its IOMMU: global bypass stays closed\n");
            handle.endpoint.viommu().deserted.store(true, Relaxed);
        }
        handle.endpoint.detach();
    }

    fn faults(handle: Pin<&Self::Endpoint>) -> Option<Arc<FaultSink>> {
        Some(handle.endpoint.faults().clone())
    }

    fn capable(_handle: Pin<&Self::Endpoint>, capability: Capability) -> bool {
        matches!(
            capability,
            Capability::CacheCoherency | Capability::DeferredFlush
        )
    }

    fn resv_regions(
        handle: Pin<&Self::Endpoint>,
        _dev: &device::Device,
        out: &mut ResvRegions<'_>,
    ) -> Result {
        handle.endpoint.report_regions(out)
    }

    fn alloc_paging(
        handle: Pin<&Self::Endpoint>,
    ) -> Result<(impl PinInit<Self::Domain, Error>, DomainConfig)> {
        let viommu = handle.endpoint.viommu();
        Ok((
            ready(DomainHandle(PagingDomain::new(viommu)?)),
            viommu.domain_config(),
        ))
    }

    fn alloc_identity(
        handle: Pin<&Self::Endpoint>,
    ) -> Result<Identity<(impl PinInit<Self::Domain, Error>, DomainConfig)>> {
        let viommu = handle.endpoint.viommu();
        if viommu.bypass.is_some() {
            return Ok(Identity::Bypass);
        }
        let domain = PagingDomain::new_identity(viommu, handle.endpoint.gaps())?;
        Ok(Identity::Mapped((
            ready(DomainHandle(domain)),
            viommu.domain_config(),
        )))
    }

    fn attach_identity(handle: Pin<&Self::Endpoint>) -> Result {
        handle.endpoint.attach(&Attachment::Bypass)
    }

    fn attach_blocked(handle: Pin<&Self::Endpoint>) -> Result {
        handle.endpoint.attach(&Attachment::Blocked)
    }
}
