// SPDX-License-Identifier: GPL-2.0

//! One virtio-iommu device: how to talk to it, and what it has said of itself.

use kernel::{
    bindings,
    device::{
        self,
        Bound, //
    },
    iommu::driver::{
        DomainConfig,
        Geometry,
        Prot,
        ProtFlag, //
    },
    page::PAGE_SIZE,
    prelude::*,
    ratelimit::Ratelimit,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    },
    virtio::{
        self,
        Virtqueue, //
    }, //
};

use super::{
    domain_ids::DomainIds,
    engine::{
        Engine,
        Slot, //
    }, //
};
use crate::uapi::{
    Config,
    MapFlag,
    MapFlags,
    ProbeReply,
    Status, //
};

/// What all that deals with one device has in common. Domains keep it alive.
#[pin_data]
pub(crate) struct Device {
    /// The virtio device, which names the IOMMU in messages.
    pub(super) dev: ARef<device::Device>,
    pub(super) config: Config,
    /// The flags that a MAP may have.
    map_flags: MapFlags,
    /// The request queue.
    #[pin]
    pub(super) engine: Engine,
    #[pin]
    pub(super) domain_ids: DomainIds,
    /// Whether the device refuses to map what is no memory, as crosvm's does.
    ram_only: Atomic<bool>,
    /// For messages about what the device says of endpoints and of itself.
    #[pin]
    complaints: Ratelimit,
}

impl Device {
    /// Sets up what is needed to talk to the device. May sleep.
    pub(super) fn new(
        vdev: &virtio::Device<Bound>,
        config: Config,
        requests: Virtqueue<Slot>,
    ) -> Result<Arc<Self>> {
        let dev: ARef<device::Device> = AsRef::<device::Device<Bound>>::as_ref(vdev).into();
        let engine = Engine::new(dev.clone(), requests)?;
        // Those of the bypass domain and of the one that blocks.
        let reserved = if config.bypass.is_some() { 2 } else { 0 };
        let domain_ids = DomainIds::new(dev.clone(), config.domains, reserved)?;
        let mut map_flags = MapFlag::Read | MapFlag::Write;
        if vdev.has_feature(bindings::VIRTIO_IOMMU_F_MMIO) {
            map_flags |= MapFlag::Mmio;
        }
        Arc::pin_init(
            pin_init!(Device {
                dev,
                config,
                map_flags,
                engine <- engine,
                domain_ids <- domain_ids,
                ram_only: Atomic::new(false),
                complaints <- Ratelimit::default_for(c"virtio_iommu: device"),
            }),
            GFP_KERNEL,
        )
    }

    /// Whether to log one more message about a device that makes no sense. Any context.
    pub(super) fn may_complain(&self) -> bool {
        self.complaints.check()
    }

    /// Asks for the properties of an endpoint, and has `read` look at the reply; [`None`] if the
    /// device has no such request. May sleep.
    pub(super) fn probe<T>(
        &self,
        endpoint: u32,
        read: impl FnOnce(ProbeReply<'_>) -> T,
    ) -> Result<Option<T>> {
        let size = self.config.probe_size;
        if size == 0 {
            return Ok(None);
        }
        let (buf, written) = self.engine.probe(endpoint, size)?;
        let reply = ProbeReply::new(&buf, written);
        Ok(Some(read(reply)))
    }

    /// Whether the device has an endpoint of this id, as far as it can be asked. May sleep.
    pub(super) fn knows_endpoint(&self, id: u32) -> bool {
        let known = self.probe(id, |reply| reply.status != Status::NoEnt);
        !matches!(known, Ok(Some(false)))
    }

    /// Whether the device is known to refuse to map what is no memory.
    pub(super) fn maps_ram_only(&self) -> bool {
        self.ram_only.load(Relaxed)
    }

    /// Takes note that the device refuses to map what is no memory.
    pub(super) fn learn_ram_only(&self) {
        if !self.ram_only.xchg(true, Relaxed) {
            dev_info!(self.dev, "identity domains are made of memory alone\n");
        }
    }

    /// Translates the core's protection into MAP flags. Fails on what the device cannot do.
    #[inline]
    pub(super) fn map_flags(&self, prot: Prot) -> Result<MapFlags> {
        let mut flags = MapFlags::default();
        for (prot_flag, flag) in [
            (ProtFlag::Read, MapFlag::Read),
            (ProtFlag::Write, MapFlag::Write),
            (ProtFlag::Mmio, MapFlag::Mmio),
        ] {
            if prot.contains(prot_flag) {
                flags |= flag;
            }
        }
        if !self.map_flags.contains_all(flags) {
            return Err(EINVAL);
        }
        Ok(flags)
    }

    /// Fails, with a message, if the core cannot map page by page what it likes.
    pub(super) fn check_granule(&self) -> Result {
        let granule = self.config.granule.as_usize();
        if granule <= PAGE_SIZE {
            return Ok(());
        }
        if self.may_complain() {
            dev_err!(
                self.dev,
                "granule {:#x} larger than system page size {:#x}: only bypass domains\n",
                granule,
                PAGE_SIZE
            );
        }
        Err(EINVAL)
    }

    /// What the core has to know of a domain of this device.
    pub(super) fn domain_config(&self) -> DomainConfig {
        DomainConfig {
            // A MAP takes any multiple of the granule, whatever sizes the device prefers. Who
            // allocates memory to map it is told of those.
            page_sizes: self.config.page_sizes,
            geometry: Geometry {
                first: self.config.input.first(),
                last: self.config.input.last(),
            },
        }
    }
}
