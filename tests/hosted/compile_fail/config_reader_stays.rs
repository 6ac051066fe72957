// SPDX-License-Identifier: GPL-2.0

//! What a reader reads is checked when the closure returns, so that it does not get out of there.

// Error: lifetime may not live long enough

use kernel::{
    bindings,
    device::Bound,
    prelude::*,
    virtio::{
        self,
        ConfigField,
        Device, //
    }, //
};

const BYPASS: ConfigField<u8> = virtio::config_field!(bindings::virtio_iommu_config, bypass => u8);

fn read(dev: &Device<Bound>) -> Result<u8> {
    #[cfg(not(wrong))]
    let value = dev.config_read_consistent(|config| config.read(BYPASS))?;
    #[cfg(wrong)]
    let value = dev.config_read_consistent(|config| config)?.read(BYPASS);
    Ok(value)
}
