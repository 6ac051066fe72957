// SPDX-License-Identifier: GPL-2.0

//! A buffer can be taken out, or dropped, by another CPU.

// Error: E0277

use kernel::virtio::Buffer;

#[cfg(not(wrong))]
struct Bytes([u8; 8]);
#[cfg(wrong)]
struct Bytes([u8; 8], core::marker::PhantomData<*const ()>);

impl Buffer for Bytes {
    fn segments(&mut self) -> (&[u8], &mut [u8]) {
        (&[], &mut self.0)
    }
}
