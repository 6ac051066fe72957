// SPDX-License-Identifier: GPL-2.0

//! A buffer that the device has is out of reach.

// Error: E0382

use kernel::{
    prelude::*,
    virtio::{
        Buffer,
        Virtqueue, //
    }, //
};

struct Bytes([u8; 8]);

impl Buffer for Bytes {
    fn segments(&mut self) -> (&[u8], &mut [u8]) {
        (&[], &mut self.0)
    }
}

fn add(queue: &mut Virtqueue<Bytes>, buf: KBox<Bytes>) -> u8 {
    #[cfg(not(wrong))]
    let byte = buf.0[0];
    let _ = queue.add(buf);
    #[cfg(wrong)]
    let byte = buf.0[0];
    byte
}
