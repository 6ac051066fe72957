// SPDX-License-Identifier: GPL-2.0

//! Devices are not watched from wherever there is a bound device: its unbinding may have begun.

// Error: E0308

use kernel::{
    device::{
        self,
        Bound,
        Device, //
    },
    iommu::driver::watch_devices,
    pci,
    prelude::*, //
};

#[cfg(not(wrong))]
type Context<'a> = device::Core<'a>;
#[cfg(wrong)]
type Context<'a> = device::Bound;

fn watch(core: &Device<Context<'_>>, bound: &pci::Device<Bound>) -> Result {
    watch_devices(core, bound, |_, _| ())
}
