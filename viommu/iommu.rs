// SPDX-License-Identifier: GPL-2.0

//! One IOMMU: the device, where it has the endpoints, and who depends on its global bypass.

use kernel::{
    bindings,
    device::{
        self,
        Bound, //
    },
    iommu::driver::{
        has_driver,
        Change, //
    },
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex,
        MutexGuard, //
    },
    virtio::{
        self,
        Virtqueue, //
    }, //
};

use super::{
    attached::Attached,
    bypass::GlobalBypass,
    device::Device,
    endpoint_table::EndpointTable,
    engine::Slot,
    outside::Outside, //
};
use crate::uapi::Config;

/// An IOMMU. Endpoints keep it alive, domains only its [`Device`].
#[pin_data]
pub(crate) struct Viommu {
    pub(super) device: Arc<Device>,
    pub(super) endpoints: Arc<EndpointTable>,
    #[pin]
    attached: Mutex<Attached>,
    #[pin]
    bypass: Mutex<GlobalBypass>,
    #[pin]
    pub(super) outside: Outside,
}

impl Viommu {
    /// Takes the request queue, which is not ready yet. The global bypass field is left as it is if
    /// `keep_bypass`. May sleep.
    pub(crate) fn new(
        vdev: &virtio::Device<Bound>,
        config: Config,
        requests: Virtqueue<Slot>,
        endpoints: Arc<EndpointTable>,
        keep_bypass: bool,
    ) -> Result<Arc<Self>> {
        let bypass = GlobalBypass::new(config.bypass, keep_bypass);
        let device = Device::new(vdev, config, requests)?;
        let attached = Attached::new(device.clone(), endpoints.clone())?;
        Arc::pin_init(
            pin_init!(Viommu {
                device,
                endpoints,
                attached <- new_mutex!(attached),
                bypass <- new_mutex!(bypass),
                outside <- Outside::new(vdev.parent()),
            }),
            GFP_KERNEL,
        )
    }

    /// Prepares for the first endpoint. The request queue is ready. May sleep.
    pub(crate) fn start(&self) -> Result {
        self.attached().start()
    }

    /// Says in the log what the device can do.
    pub(crate) fn announce(&self) {
        let Config {
            input,
            granule,
            bypass,
            ..
        } = self.device.config;
        dev_info!(
            self.device.dev,
            "IO addresses {}, granule {:#x}, identity by {}\n",
            input,
            granule.as_usize(),
            match bypass {
                Some(_) => "bypass domain",
                None => "identity mappings",
            }
        );
    }

    /// Where the endpoint ids are. Excludes all other attaching and detaching. May sleep.
    pub(super) fn attached(&self) -> MutexGuard<'_, Attached> {
        self.attached.lock()
    }

    /// Whether to log one more message about a device that makes no sense. Any context.
    pub(crate) fn may_complain(&self) -> bool {
        self.device.may_complain()
    }

    /// Closes the global bypass if nobody depends on it. Endpoints without a domain, which were
    /// plugged in later, released or forgotten, are blocked then. May sleep.
    ///
    /// Returns whether there is nothing left to be done about it.
    pub(crate) fn close_bypass(&self, vdev: &virtio::Device<Bound>) -> bool {
        let matters = {
            let bypass = self.bypass.lock();
            bypass.is_due() && bypass.was_open()
        };
        // Not under the lock, which a device that is refused takes.
        let none_left = self.outside.take_in(&self.device, matters);
        let mut bypass = self.bypass.lock();
        if none_left && bypass.is_due() && (!bypass.was_open() || self.is_self_contained(vdev)) {
            bypass.close(vdev);
        }
        !bypass.is_due()
    }

    /// Takes note of a device that could not become an endpoint. May sleep.
    ///
    /// It depends on the global bypass, unless that is closed already.
    pub(super) fn note_refused(&self, dev: &device::Device) {
        if self.bypass.lock().is_due() {
            self.outside.note_refused(dev);
        }
    }

    /// Takes note of what has become of a device. Returns whether that may be a reason to close the
    /// global bypass. May sleep.
    pub(crate) fn note_change(&self, change: Change<'_>) -> bool {
        if !self.bypass.lock().is_due() {
            return false;
        }
        match change {
            Change::Bound(dev) => self.outside.was_refused(dev),
            Change::Unbound(dev) => {
                // Else its next driver would find it blocked, when the field is closed. It may be
                // behind another IOMMU, or none.
                let _ = dev.find_iommu();
                true
            }
            Change::Removed(dev) => self.outside.forget(dev),
        }
    }

    /// Whether nobody depends on the global bypass.
    fn is_self_contained(&self, vdev: &virtio::Device<Bound>) -> bool {
        self.outside.is_empty(&self.device) && self.takes_itself_in(vdev)
    }

    /// Whether the rings of the IOMMU itself are where they were, when the global bypass is closed.
    ///
    /// With VIRTIO_F_ACCESS_PLATFORM they may be behind the very IOMMU. Firmware does not say how
    /// the device numbers itself; it will do as it does with the other devices of the segment.
    fn takes_itself_in(&self, vdev: &virtio::Device<Bound>) -> bool {
        if !vdev.has_feature(bindings::VIRTIO_F_ACCESS_PLATFORM) {
            return true;
        }
        let Some(id) = self.outside.own_id() else {
            dev_warn!(
                self.device.dev,
                "may be behind itself, with an unknown endpoint id: global bypass stays open\n"
            );
            return false;
        };
        let Err(failure) = self.attached().attach_own(id) else {
            return true;
        };
        dev_warn!(
            self.device.dev,
            "may be behind itself, and cannot be attached: {}; global bypass stays open\n",
            failure
        );
        false
    }

    /// The IOMMU is about to go. Closes the global bypass, whoever depends on it, if there is an
    /// endpoint with a driver, which may go on with its DMA. May sleep.
    pub(crate) fn desert(&self, vdev: &virtio::Device<Bound>) {
        if self.endpoints.any(has_driver) {
            self.outside.note_deserted();
            self.bypass.lock().desert(vdev);
        }
    }

    /// Whether an endpoint was left that had a driver, so that it may go on with its DMA.
    pub(crate) fn has_deserted(&self) -> bool {
        self.outside.has_deserted()
    }

    /// Whether the IOMMU itself is attached to a domain.
    pub(crate) fn is_behind_itself(&self) -> bool {
        self.attached().has_own()
    }

    /// Detaches every endpoint. What each was attached to is remembered. May sleep.
    pub(crate) fn detach_all(&self) {
        // Before the lock, whose owner may be waiting for the device.
        self.device.engine.begin_end();
        self.attached().detach_all();
    }

    /// Ends all use of the device, which is about to be reset. The caller has made sure that no
    /// endpoint does DMA any more. May sleep.
    ///
    /// The device may keep its domains over the reset. So the endpoints are detached, while the
    /// global bypass is closed yet, lest one is open that still does DMA after all. Then, if it
    /// `opens`, the field gets the value back that the next user of the machine expects: a kernel
    /// that may know nothing of IOMMUs. An IOMMU that is behind itself is detached then, too.
    pub(crate) fn leave(&self, vdev: &virtio::Device<Bound>, opens: bool) {
        self.detach_all();
        self.bypass.lock().leave(vdev, opens);
        let mut attached = self.attached();
        if opens {
            attached.detach_own();
        }
        self.device.engine.close();
    }

    /// Closes the global bypass again, if it was closed before [`Self::leave`]. May sleep.
    pub(crate) fn resume_bypass(&self, vdev: &virtio::Device<Bound>) {
        self.bypass.lock().resume(vdev);
    }

    /// Takes up the device again, with a new queue that is ready. May sleep.
    ///
    /// Every endpoint returns to its domain, and every domain to its mappings. One that cannot is
    /// reported and blocked; the others go on. Returns whether the IOMMU itself does not depend on
    /// the global bypass.
    pub(crate) fn resume(&self, requests: Virtqueue<Slot>) -> Result<bool> {
        let mut attached = self.attached();
        self.device.engine.reopen(requests)?;
        Ok(attached.resume())
    }
}
