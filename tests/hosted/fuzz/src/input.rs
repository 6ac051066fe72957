// SPDX-License-Identifier: GPL-2.0

//! Values out of the bytes that the fuzzer makes up.

use kernel::ptr::Alignment;

use crate::uapi::Span;

/// The bytes that are left. After the end come zeros.
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        Input(data)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let len = N.min(self.0.len());
        let (taken, rest) = self.0.split_at(len);
        array[..len].copy_from_slice(taken);
        self.0 = rest;
        array
    }

    pub fn u8(&mut self) -> u8 {
        u8::from_le_bytes(self.array())
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    pub fn rest(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.0)
    }

    /// Something, or nothing.
    pub fn option<T>(&mut self, f: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.u8() & 1 != 0).then(|| f(self))
    }

    /// An address: often near the ends of the space, or few pages from another.
    pub fn address(&mut self) -> u64 {
        match self.u8() % 5 {
            0 => self.u64(),
            1 => u64::from(self.u16()),
            2 => u64::MAX - u64::from(self.u16()),
            3 => u64::from(self.u8()) << 12,
            _ => (1 << (self.u8() % 64)) - u64::from(self.u8() & 1),
        }
    }

    /// A span, if the addresses are in order; else the other way round.
    pub fn span(&mut self) -> Span {
        let (a, b) = (self.address(), self.address());
        Span::new(a.min(b), a.max(b)).expect("in order")
    }

    pub fn granule(&mut self) -> Alignment {
        Alignment::new_checked(1 << (self.u8() % 64)).expect("a power of two")
    }
}
