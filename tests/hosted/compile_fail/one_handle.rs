// SPDX-License-Identifier: GPL-2.0

//! There is one handle of a queue: operations on it are serialized. A notifier needs no such thing.

// Error: E0599

use kernel::virtio::{
    Buffer,
    Virtqueue, //
};

#[cfg(not(wrong))]
fn two<B: Buffer>(queue: &Virtqueue<B>) {
    let _ = queue.notifier().clone();
}

#[cfg(wrong)]
fn two<B: Buffer>(queue: Virtqueue<B>) {
    let _ = queue.clone();
}
