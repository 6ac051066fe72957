// SPDX-License-Identifier: GPL-2.0

//! Virtqueues are made in callbacks that the bus serializes, not wherever there is a bound device.

// Error: E0599

use kernel::{
    device,
    prelude::*,
    virtio::{
        Device,
        QueueInfo, //
    }, //
};

#[cfg(not(wrong))]
type Context<'a> = device::Core<'a>;
#[cfg(wrong)]
type Context<'a> = device::Bound;

fn make(dev: &Device<Context<'_>>) -> Result {
    let info = QueueInfo {
        name: c"requests",
        callback: false,
    };
    dev.find_vqs(&[info])?.ready();
    Ok(())
}
