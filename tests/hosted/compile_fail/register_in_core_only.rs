// SPDX-License-Identifier: GPL-2.0

//! An IOMMU is not registered wherever there is a bound device: its unbinding may have begun.

// Error: E0308

use kernel::{
    device::{
        self,
        Device, //
    },
    iommu::driver::{
        Driver,
        Registration, //
    },
    prelude::*,
    sync::Arc, //
};

#[cfg(not(wrong))]
type Context<'a> = device::Core<'a>;
#[cfg(wrong)]
type Context<'a> = device::Bound;

fn begin<T: Driver>(
    hwdev: &Device,
    parent: &Device<Context<'_>>,
    data: Arc<T>,
) -> Result<Registration<T>> {
    Registration::new(hwdev, parent, c"iommu0", data)
}
