// SPDX-License-Identifier: GPL-2.0

//! What is allowed in callbacks of the bus only is not allowed where a driver's data is used.

// Error: E0277

use kernel::{
    device::{
        Bound,
        Core, //
    },
    virtio::Device, //
};

/// As `Driver::Data` is.
fn data<T: Send + Sync>() {}

fn keep() {
    data::<&'static Device<Bound>>();
    #[cfg(wrong)]
    data::<&'static Device<Core<'static>>>();
}
