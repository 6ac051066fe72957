// SPDX-License-Identifier: GPL-2.0

//! The sizes of a field's type are those that transports know.

// Error: E0277

use kernel::virtio::ConfigValue;

fn read<T: ConfigValue>(bytes: [u8; 8]) -> T {
    T::from_le(bytes)
}

#[cfg(wrong)]
#[derive(Clone, Copy)]
struct Long([u8; 32]);

#[cfg(wrong)]
impl ConfigValue for Long {
    fn from_le(_bytes: [u8; 8]) -> Self {
        Long([0; 32])
    }

    fn to_le(self) -> [u8; 8] {
        [0; 8]
    }
}
