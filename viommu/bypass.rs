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
pub(crate) struct GlobalBypass {
    /// Absent if the device does not have the field (VIRTIO_IOMMU_F_BYPASS_CONFIG).
    boot: Option<bool>,
}

impl GlobalBypass {
    /// Remembers the value the guest booted with.
    pub(crate) fn new(boot: Option<bool>) -> Self {
        GlobalBypass { boot }
    }

    /// Whether the field was set when the guest booted.
    pub(crate) fn was_open(&self) -> bool {
        self.boot == Some(true)
    }

    /// Blocks the endpoints that are attached to no domain. May sleep.
    ///
    /// A field that reads 0 is not written to: cloud-hypervisor's does although its device bypasses
    /// until the field is written, and nothing would bring that back for the next kernel.
    pub(crate) fn clear(&self, dev: &virtio::Device<Bound>) -> Result {
        let Some(boot) = self.boot else {
            return Ok(());
        };
        if boot || dev.config_read(BYPASS)? & 1 != 0 {
            dev.config_write(BYPASS, 0)?;
        }
        Ok(())
    }

    /// Puts back the value that the guest booted with, whatever is there. May sleep.
    pub(crate) fn restore(&self, dev: &virtio::Device<Bound>) {
        if !self.was_open() {
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
}
