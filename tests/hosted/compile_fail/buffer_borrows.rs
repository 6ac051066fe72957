// SPDX-License-Identifier: GPL-2.0

//! A buffer does not borrow what can end before the device is done with it.

// Error: E0478

use kernel::virtio::Buffer;

#[cfg(not(wrong))]
struct Bytes<'a>([u8; 8], core::marker::PhantomData<&'a ()>);

#[cfg(not(wrong))]
impl Buffer for Bytes<'static> {
    fn segments(&mut self) -> (&[u8], &mut [u8]) {
        (&[], &mut self.0)
    }
}

#[cfg(wrong)]
struct Bytes<'a>(&'a mut [u8]);

#[cfg(wrong)]
impl<'a> Buffer for Bytes<'a> {
    fn segments(&mut self) -> (&[u8], &mut [u8]) {
        (&[], self.0)
    }
}
