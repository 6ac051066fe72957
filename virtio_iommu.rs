// SPDX-License-Identifier: GPL-2.0

//! Driver for the virtio IOMMU (virtio 1.3, section 5.13).
//!
//! A guest uses it to protect some endpoints, such as those that it assigns to userspace, while the
//! others run in *identity* domains at full speed. The device is paravirtual: instead of page
//! tables there are requests (ATTACH, DETACH, MAP, UNMAP, PROBE) that go through a virtqueue.
//!
//! Limits of the device:
//! - a mapping can only be removed whole;
//! - a domain's mappings are gone once its last endpoint leaves it;
//! - interrupts are not remapped.
//!
//! This file registers the driver, and orders what happens when a device comes and goes. The rest
//! is in `viommu/`; what goes over the wire is in `uapi/`.

mod uapi;
mod viommu;

use core::pin::Pin;

use kernel::{
    bindings,
    device::{
        Bound,
        Core, //
    },
    iommu::driver::{
        watch_devices,
        Registration, //
    },
    prelude::*,
    sync::Arc,
    virtio::{
        self,
        QueueInfo, //
    }, //
};

use viommu::{
    config,
    debugfs::DebugFs,
    endpoint_table::EndpointTable,
    events::EventQueue,
    iommu::Viommu, //
};

const REQUEST_QUEUE: usize = 0;
const EVENT_QUEUE: usize = 1;

const QUEUES: [QueueInfo; 2] = [
    QueueInfo {
        name: c"request",
        callback: false,
    },
    QueueInfo {
        name: c"event",
        callback: true,
    },
];

virtio::device_table!(
    VIRTIO_IOMMU_TABLE,
    [virtio::DeviceId::new(bindings::VIRTIO_ID_IOMMU)]
);

kernel::module_virtio_driver! {
    type: VirtioIommu,
    name: "virtio_iommu",
    authors: ["The virtio-iommu in Rust maintainers"],
    description: "Virtio IOMMU driver",
    license: "GPL",
    params: {
        keep_boot_bypass: bool {
            default: false,
            description: "Leave the global bypass field as it was at boot",
        },
        restore_bypass: bool {
            default: true,
            description: "Put the global bypass field back at shutdown (off: for tests)",
        },
    },
}

/// The data of a bound device.
struct VirtioIommu {
    viommu: Arc<Viommu>,
    events: Arc<EventQueue>,
    _debugfs: Pin<KBox<DebugFs>>,
    registration: Registration<Viommu>,
}

impl VirtioIommu {
    fn new(dev: &virtio::Device<Core<'_>>) -> Result<Self> {
        let config = config::read(dev)?;
        let keep_bypass = module_parameters::keep_boot_bypass.value();

        let mut queues = dev.find_vqs(&QUEUES)?;
        let endpoints = Arc::pin_init(EndpointTable::new(), GFP_KERNEL)?;
        let events = EventQueue::new(dev, endpoints.clone(), queues.take(EVENT_QUEUE)?)?;
        queues.set_callback(EVENT_QUEUE, events.clone())?;
        let requests = queues.take(REQUEST_QUEUE)?;
        let viommu = Viommu::new(dev, config, requests, endpoints, keep_bypass)?;
        queues.ready();
        events.fill();
        viommu.start()?;
        let debugfs = KBox::pin_init(DebugFs::new(dev, viommu.clone())?, GFP_KERNEL)?;

        // Attaches every endpoint that is there, each to the domain that the core wants for it.
        // Nothing that can fail comes after this.
        let registration =
            Registration::new(dev.parent(), dev.as_ref(), dev.bus_name(), viommu.clone())?;
        viommu.announce();
        Self::close_bypass(dev, &viommu);
        Ok(VirtioIommu {
            viommu,
            events,
            _debugfs: debugfs,
            registration,
        })
    }

    /// Closes the global bypass, at once or when nothing needs it any more.
    fn close_bypass(dev: &virtio::Device<Core<'_>>, viommu: &Arc<Viommu>) {
        if viommu.close_bypass(dev) {
            return;
        }
        let viommu = viommu.clone();
        let bound: &virtio::Device<Bound> = dev;
        let watch = watch_devices(dev.as_ref(), bound, move |dev, change| {
            if viommu.note_change(change) {
                viommu.close_bypass(dev);
            }
        });
        if let Err(error) = watch {
            dev_warn!(
                dev.as_ref(),
                "cannot see when the global bypass can be closed: {}\n",
                error.to_errno()
            );
        }
    }

    /// Leaves the device for good.
    fn quiesce(&self, dev: &virtio::Device<Bound>) {
        let opens = module_parameters::restore_bypass.value() && !self.viommu.has_deserted();
        self.viommu.leave(dev, opens);
    }
}

#[vtable]
impl virtio::Driver for VirtioIommu {
    type Data<'bound> = Self;

    const ID_TABLE: virtio::IdTable = &VIRTIO_IOMMU_TABLE;
    const FEATURES: &'static [u32] = &[
        bindings::VIRTIO_IOMMU_F_INPUT_RANGE,
        bindings::VIRTIO_IOMMU_F_DOMAIN_RANGE,
        bindings::VIRTIO_IOMMU_F_MAP_UNMAP,
        bindings::VIRTIO_IOMMU_F_PROBE,
        bindings::VIRTIO_IOMMU_F_MMIO,
        bindings::VIRTIO_IOMMU_F_BYPASS_CONFIG,
    ];
    // Endpoints cannot be left without their IOMMU at a user's whim.
    const SUPPRESS_BIND_ATTRS: bool = true;

    fn validate(dev: &virtio::Device<Bound>, features: &mut virtio::Features<'_>) -> Result {
        if !features.has(bindings::VIRTIO_IOMMU_F_MAP_UNMAP) {
            dev_err!(dev.as_ref(), "device has no MAP and UNMAP requests\n");
            return Err(ENODEV);
        }
        // They would cost an allocation for each request.
        features.clear(bindings::VIRTIO_RING_F_INDIRECT_DESC)
    }

    fn probe<'bound>(
        dev: &'bound virtio::Device<Core<'_>>,
    ) -> impl PinInit<Self::Data<'bound>, Error> + 'bound {
        pin_init::pin_init_scope(move || Ok(Self::new(dev)))
    }

    fn unbind<'bound>(dev: &'bound virtio::Device<Core<'_>>, this: Pin<&Self::Data<'bound>>) {
        this.viommu.desert(dev);
        // All in one go, where the release of each would wait for an answer of its own.
        this.viommu.detach_all();
        this.registration.unregister(dev.as_ref());
        this.quiesce(dev);
    }

    // Endpoints are linked to this device, so their drivers have been shut down before.
    fn shutdown<'bound>(dev: &'bound virtio::Device<Core<'_>>, this: Pin<&Self::Data<'bound>>) {
        this.quiesce(dev);
    }

    // Endpoints suspend before this device, and resume after it.
    fn freeze<'bound>(
        dev: &'bound virtio::Device<Core<'_>>,
        this: Pin<&Self::Data<'bound>>,
    ) -> Result {
        // First, as it bounds every wait, that of a caller who attaches something among them.
        this.viommu.detach_all();
        // Its own rings have to be where they are when it resumes.
        this.viommu.leave(dev, this.viommu.is_behind_itself());
        Ok(())
    }

    fn restore<'bound>(
        dev: &'bound virtio::Device<Core<'_>>,
        this: Pin<&Self::Data<'bound>>,
    ) -> Result {
        // At first: endpoints resume whether this succeeds or not, and hibernation has put the
        // field back. None does DMA yet. But an IOMMU behind itself has to be attached before.
        let behind_itself = this.viommu.is_behind_itself();
        if !behind_itself {
            this.viommu.resume_bypass(dev);
        }

        let mut queues = dev.find_vqs(&QUEUES)?;
        let requests = queues.take(REQUEST_QUEUE)?;
        this.events.reopen(queues.take(EVENT_QUEUE)?)?;
        queues.set_callback(EVENT_QUEUE, this.events.clone())?;
        queues.ready();
        this.events.fill();

        let self_contained = this.viommu.resume(requests)?;
        if behind_itself && self_contained {
            this.viommu.resume_bypass(dev);
        }
        Ok(())
    }

    fn config_changed<'bound>(dev: &'bound virtio::Device<Bound>, this: Pin<&Self::Data<'bound>>) {
        if this.viommu.may_complain() {
            dev_warn!(
                dev.as_ref(),
                "device configuration changed; change ignored\n"
            );
        }
    }
}
