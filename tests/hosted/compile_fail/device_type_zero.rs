// SPDX-License-Identifier: GPL-2.0

//! No device has the type 0: a table ends with that.

// Error: E0080

use kernel::virtio::DeviceId;

#[cfg(not(wrong))]
const ID: DeviceId = DeviceId::new(23);
#[cfg(wrong)]
const ID: DeviceId = DeviceId::new(0);

fn device() -> u32 {
    ID.device()
}
