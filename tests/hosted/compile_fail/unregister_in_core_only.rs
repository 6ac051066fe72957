// SPDX-License-Identifier: GPL-2.0

//! An IOMMU is not unregistered wherever there is a bound device, such as in a callback for one of
//! its endpoints.

// Error: E0308

use kernel::{
    device::{
        self,
        Device, //
    },
    iommu::driver::{
        Driver,
        Registration, //
    }, //
};

#[cfg(not(wrong))]
type Context<'a> = device::Core<'a>;
#[cfg(wrong)]
type Context<'a> = device::Bound;

fn end<T: Driver>(registration: &Registration<T>, parent: &Device<Context<'_>>) {
    registration.unregister(parent);
}
