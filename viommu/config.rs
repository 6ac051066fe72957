// SPDX-License-Identifier: GPL-2.0

//! Reading the device configuration.

use kernel::{
    bindings,
    device::Bound,
    prelude::*,
    virtio, //
};

use crate::uapi::{
    Config,
    RawConfig, //
};

/// A field of the configuration space, checked at compile time.
macro_rules! field {
    ($($field:ident).+ => $type:ty) => {
        const { virtio::config_field!(bindings::virtio_iommu_config, $($field).+ => $type) }
    };
}

/// Reads the configuration, in one consistent view, and checks it. May sleep.
pub(crate) fn read(dev: &virtio::Device<Bound>) -> Result<Config> {
    let has = |feature| dev.has_feature(feature);

    let raw = dev.config_read_consistent(|config| RawConfig {
        page_size_mask: config.read(field!(page_size_mask => u64)),
        input_range: has(bindings::VIRTIO_IOMMU_F_INPUT_RANGE).then(|| {
            (
                config.read(field!(input_range.start => u64)),
                config.read(field!(input_range.end => u64)),
            )
        }),
        domain_range: has(bindings::VIRTIO_IOMMU_F_DOMAIN_RANGE).then(|| {
            (
                config.read(field!(domain_range.start => u32)),
                config.read(field!(domain_range.end => u32)),
            )
        }),
        probe_size: has(bindings::VIRTIO_IOMMU_F_PROBE)
            .then(|| config.read(field!(probe_size => u32))),
        bypass: has(bindings::VIRTIO_IOMMU_F_BYPASS_CONFIG)
            .then(|| config.read(field!(bypass => u8))),
    });
    let raw = raw.inspect_err(|error| {
        let errno = error.to_errno();
        dev_err!(dev.as_ref(), "cannot read the configuration: {}\n", errno);
    })?;
    raw.validate(|why| dev_err!(dev.as_ref(), "{}\n", why))
}
