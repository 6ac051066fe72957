// SPDX-License-Identifier: GPL-2.0

//! What is left of the making of virtqueues is not kept as a driver's data.

// Error: E0277

use kernel::virtio::{
    Notifier,
    Virtqueues, //
};

/// As `Driver::Data` is.
fn data<T: Send + Sync>() {}

fn keep() {
    data::<Notifier>();
    #[cfg(wrong)]
    data::<Virtqueues<'static>>();
}
