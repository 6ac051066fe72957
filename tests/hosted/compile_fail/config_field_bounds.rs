// SPDX-License-Identifier: GPL-2.0

//! A field of the configuration space lies within what every transport has room for.

// Error: E0080

use kernel::virtio::ConfigField;

#[repr(C)]
struct Large {
    before: [u8; AT],
    field: u32,
}

#[cfg(not(wrong))]
const AT: usize = 252;
#[cfg(wrong)]
const AT: usize = 256;

const FIELD: ConfigField<u32> = kernel::virtio::config_field!(Large, field => u32);

fn field() -> ConfigField<u32> {
    FIELD
}
