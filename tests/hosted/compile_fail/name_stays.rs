// SPDX-License-Identifier: GPL-2.0

//! The name of a device is the device's: who keeps it has to copy it, or to keep a device that is
//! bound.

// Error: lifetime may not live long enough

use kernel::{
    device::Bound,
    prelude::*,
    virtio::Device, //
};

struct Data<'bound> {
    #[cfg(not(wrong))]
    name: &'bound CStr,
    #[cfg(wrong)]
    name: &'static CStr,
    dev: &'bound Device<Bound>,
}

fn data<'bound>(dev: &'bound Device<Bound>) -> Data<'bound> {
    Data {
        name: dev.bus_name(),
        dev,
    }
}
