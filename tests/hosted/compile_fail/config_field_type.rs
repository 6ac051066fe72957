// SPDX-License-Identifier: GPL-2.0

//! A field of the configuration space has the type that it has in C.

// Error: E0308

use kernel::{
    bindings,
    virtio::{
        self,
        ConfigField, //
    }, //
};

#[cfg(not(wrong))]
const FIELD: ConfigField<u64> =
    virtio::config_field!(bindings::virtio_iommu_config, page_size_mask => u64);
#[cfg(wrong)]
const FIELD: ConfigField<u32> =
    virtio::config_field!(bindings::virtio_iommu_config, page_size_mask => u32);

fn field() -> ConfigField<impl virtio::ConfigValue> {
    FIELD
}
