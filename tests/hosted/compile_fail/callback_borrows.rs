// SPDX-License-Identifier: GPL-2.0

//! A callback does not borrow what can end before interrupts do.

// Error: lifetime may not live long enough

use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    },
    virtio::{
        Callback,
        Virtqueues, //
    }, //
};

struct Flag<'a>(&'a Atomic<u32>);

impl Callback for Flag<'_> {
    fn call(&self) {
        self.0.store(1, Relaxed);
    }
}

#[cfg(not(wrong))]
type Reference<'a> = &'static Atomic<u32>;
#[cfg(wrong)]
type Reference<'a> = &'a Atomic<u32>;

fn set(queues: &mut Virtqueues<'_>, flag: Reference<'_>) -> Result {
    queues.set_callback(0, Arc::new(Flag(flag), GFP_KERNEL)?)
}
