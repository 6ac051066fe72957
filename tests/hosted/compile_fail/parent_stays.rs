// SPDX-License-Identifier: GPL-2.0

//! A device has its parent for as long as it is bound. Who needs that for longer takes a reference.

// Error: lifetime may not live long enough

use kernel::{
    device::{
        self,
        Bound, //
    },
    sync::aref::ARef,
    virtio::Device, //
};

#[cfg(not(wrong))]
fn keep(dev: &Device<Bound>) -> ARef<device::Device> {
    dev.parent().into()
}

#[cfg(wrong)]
fn keep(dev: &Device<Bound>) -> &'static device::Device {
    dev.parent()
}
