// SPDX-License-Identifier: GPL-2.0

//! Reading the device configuration.

use kernel::{
    bindings,
    device::Bound,
    page::PAGE_SIZE,
    prelude::*,
    virtio::{
        self,
        ConfigField, //
    }, //
};

use crate::uapi::{
    Config,
    RawConfig, //
};

const PAGE_SIZE_MASK: ConfigField<u64> =
    virtio::config_field!(bindings::virtio_iommu_config, page_size_mask => u64);
const INPUT_START: ConfigField<u64> =
    virtio::config_field!(bindings::virtio_iommu_config, input_range.start => u64);
const INPUT_END: ConfigField<u64> =
    virtio::config_field!(bindings::virtio_iommu_config, input_range.end => u64);
const DOMAIN_START: ConfigField<u32> =
    virtio::config_field!(bindings::virtio_iommu_config, domain_range.start => u32);
const DOMAIN_END: ConfigField<u32> =
    virtio::config_field!(bindings::virtio_iommu_config, domain_range.end => u32);
const PROBE_SIZE: ConfigField<u32> =
    virtio::config_field!(bindings::virtio_iommu_config, probe_size => u32);
const BYPASS: ConfigField<u8> = virtio::config_field!(bindings::virtio_iommu_config, bypass => u8);

/// Reads the configuration, in one consistent view, and checks it. May sleep.
pub(crate) fn read(dev: &virtio::Device<Bound>) -> Result<Config> {
    let has_input = dev.has_feature(bindings::VIRTIO_IOMMU_F_INPUT_RANGE);
    let has_domain = dev.has_feature(bindings::VIRTIO_IOMMU_F_DOMAIN_RANGE);
    let has_probe = dev.has_feature(bindings::VIRTIO_IOMMU_F_PROBE);
    let has_bypass = dev.has_feature(bindings::VIRTIO_IOMMU_F_BYPASS_CONFIG);

    let raw = dev.config_read_consistent(|config| RawConfig {
        page_size_mask: config.read(PAGE_SIZE_MASK),
        input_range: has_input.then(|| (config.read(INPUT_START), config.read(INPUT_END))),
        domain_range: has_domain.then(|| (config.read(DOMAIN_START), config.read(DOMAIN_END))),
        probe_size: has_probe.then(|| config.read(PROBE_SIZE)),
        bypass: has_bypass.then(|| config.read(BYPASS)),
    });
    let raw = raw.inspect_err(|error| {
        let errno = error.to_errno();
        dev_err!(dev.as_ref(), "cannot read the configuration: {}\n", errno);
    })?;
    raw.validate(PAGE_SIZE).map_err(|error| {
        dev_err!(dev.as_ref(), "{}\n", error);
        error.into()
    })
}
