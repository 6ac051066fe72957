// SPDX-License-Identifier: GPL-2.0

//! The configuration space of a device is there while the device is bound, as its transport is.

// Error: E0599

use kernel::{
    bindings,
    device,
    prelude::*,
    virtio::{
        self,
        ConfigField,
        Device, //
    }, //
};

const BYPASS: ConfigField<u8> = virtio::config_field!(bindings::virtio_iommu_config, bypass => u8);

#[cfg(not(wrong))]
type Context = device::Bound;
#[cfg(wrong)]
type Context = device::Normal;

fn read(dev: &Device<Context>) -> Result<u8> {
    dev.config_read(BYPASS)
}
