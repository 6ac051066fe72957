// SPDX-License-Identifier: GPL-2.0

//! The device below stays bound when the driver's module is unloaded: what is to be dropped with a
//! binding is given to the virtio device.

// Error: E0308

use kernel::{
    device::Bound,
    devres,
    prelude::*,
    virtio::Device, //
};

struct Resource(u32);

fn keep(dev: &Device<Bound>) -> Result {
    #[cfg(not(wrong))]
    let dev = dev.as_ref();
    #[cfg(wrong)]
    let dev = dev.parent();
    devres::register(dev, Resource(0), GFP_KERNEL)
}
