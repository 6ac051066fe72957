// SPDX-License-Identifier: GPL-2.0

//! A callback is called on any CPU, and by several at the same time.

// Error: E0277

use core::cell::Cell;

use kernel::{
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
    virtio::Callback, //
};

#[cfg(not(wrong))]
struct Flag(Atomic<u32>);

#[cfg(not(wrong))]
impl Callback for Flag {
    fn call(&self) {
        self.0.store(1, Relaxed);
    }
}

#[cfg(wrong)]
struct Flag(Cell<u32>);

#[cfg(wrong)]
impl Callback for Flag {
    fn call(&self) {
        self.0.set(1);
    }
}
