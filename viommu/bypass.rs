// SPDX-License-Identifier: GPL-2.0

//! The global bypass field of the device configuration.
//!
//! It decides what happens to an endpoint that is attached to no domain: its DMA goes through
//! untranslated, or is blocked (virtio 1.3, 5.13.4). The field survives a device reset; a system
//! reset restores the hypervisor's value. bypass.rst in the driver's documentation says when it
//! changes and why.

use kernel::{
    bindings,
    device::Bound,
    prelude::*,
    virtio::{
        self,
        ConfigField, //
    }, //
};

const BYPASS: ConfigField<u8> = virtio::config_field!(bindings::virtio_iommu_config, bypass => u8);

/// The field, and what the guest found there.
pub(super) struct GlobalBypass {
    /// Absent if the device does not have the field (VIRTIO_IOMMU_F_BYPASS_CONFIG).
    boot: Option<bool>,
    /// Whether it is left as it is.
    kept: bool,
    /// Whether it is closed while the driver is at work.
    closed: bool,
    /// Whether the device is about to be reset, or was.
    left: bool,
}

impl GlobalBypass {
    /// Remembers the value the guest booted with.
    pub(super) fn new(boot: Option<bool>, kept: bool) -> Self {
        GlobalBypass {
            boot,
            kept: kept || boot.is_none(),
            closed: false,
            left: false,
        }
    }

    /// Whether the field was set when the guest booted.
    pub(super) fn was_open(&self) -> bool {
        self.boot == Some(true)
    }

    /// Whether the field is to be closed, but is not yet.
    pub(super) fn is_due(&self) -> bool {
        !self.kept && !self.closed && !self.left
    }

    /// Blocks the endpoints that are attached to no domain. May sleep.
    pub(super) fn close(&mut self, dev: &virtio::Device<Bound>) {
        self.closed = true;
        if let Err(error) = self.clear(dev) {
            let errno = error.to_errno();
            dev_err!(dev.as_ref(), "cannot close the global bypass: {}\n", errno);
        }
    }

    /// Blocks them also if the field was to be left as it is: they may do DMA. May sleep.
    pub(super) fn desert(&mut self, dev: &virtio::Device<Bound>) {
        if self.boot.is_some() && !self.closed && !self.left {
            self.close(dev);
        }
    }

    /// A field that reads 0 is not written to: cloud-hypervisor's does although its device bypasses
    /// until the field is written, and nothing would bring that back for the next kernel.
    fn clear(&self, dev: &virtio::Device<Bound>) -> Result {
        if self.was_open() || dev.config_read(BYPASS)? & 1 != 0 {
            dev.config_write(BYPASS, 0)?;
        }
        Ok(())
    }

    /// The device is about to be reset. If it `opens`, puts back the value that the guest booted
    /// with, whatever is there. May sleep.
    ///
    /// If it was reset before, no feature is negotiated, and the field is not to be written to.
    pub(super) fn leave(&mut self, dev: &virtio::Device<Bound>, opens: bool) {
        let was_left = core::mem::replace(&mut self.left, true);
        if was_left || !opens || !self.was_open() {
            return;
        }
        if let Err(error) = dev.config_write(BYPASS, 1) {
            dev_err!(
                dev.as_ref(),
                "cannot open the global bypass again: {}\n",
                error.to_errno()
            );
        }
    }

    /// The driver is at work again: what was closed before is closed. May sleep.
    pub(super) fn resume(&mut self, dev: &virtio::Device<Bound>) {
        self.left = false;
        if self.closed {
            self.close(dev);
        }
    }
}
