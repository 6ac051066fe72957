// SPDX-License-Identifier: GPL-2.0

//! The buffers of a queue are dropped as what they were when its handle was taken: a handle is not
//! good for a subtype, which may have a destructor that does something else.

// Error: E0308

use kernel::virtio::{
    Buffer,
    Virtqueue, //
};

struct Bytes<F>([u8; 8], F);

impl<F: Send + 'static> Buffer for Bytes<F> {
    fn segments(&mut self) -> (&[u8], &mut [u8]) {
        (&[], &mut self.0)
    }
}

type Any = for<'a> fn(&'a u8);
type Static = fn(&'static u8);

fn buffer(buf: Bytes<Any>) -> Bytes<Static> {
    buf
}

#[cfg(not(wrong))]
fn handle(queue: Virtqueue<Bytes<Any>>) -> Virtqueue<Bytes<Any>> {
    queue
}

#[cfg(wrong)]
fn handle(queue: Virtqueue<Bytes<Any>>) -> Virtqueue<Bytes<Static>> {
    queue
}
