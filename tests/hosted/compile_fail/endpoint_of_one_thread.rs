// SPDX-License-Identifier: GPL-2.0

//! The core uses an endpoint on any CPU, and on several at the same time.

// Error: E0277

use kernel::{
    alloc::Flags,
    device::Device,
    io::PhysAddr,
    iommu::driver::{
        AttachTo,
        Capability,
        Domain,
        DomainConfig,
        Driver,
        FwSpec,
        Gather,
        Identity,
        Prot,
        ResvRegions, //
    },
    prelude::*,
    sync::ArcBorrow,
    ModuleMetadata, //
};

struct Module;

impl ModuleMetadata for Module {
    const NAME: &'static CStr = c"snippet";
    // SAFETY: Null stands for the kernel itself.
    const THIS_MODULE: ThisModule = unsafe { ThisModule::from_ptr(core::ptr::null_mut()) };
}

#[cfg(not(wrong))]
struct Endpoint(u32);
#[cfg(wrong)]
struct Endpoint(core::cell::Cell<u32>);

struct Iommu;

struct AddressSpace;

type Parts = (Result<AddressSpace>, DomainConfig);

impl Driver for Iommu {
    type Module = Module;
    type Endpoint = Endpoint;
    type Domain = AddressSpace;

    fn probe(_: ArcBorrow<'_, Self>, _: &Device, _: FwSpec<'_>) -> Result<Result<Endpoint>> {
        Err(ENODEV)
    }

    fn release(_: Pin<&Endpoint>, _: &Device) {}

    fn capable(_: Pin<&Endpoint>, _: Capability) -> bool {
        false
    }

    fn resv_regions(_: Pin<&Endpoint>, _: &Device, _: &mut ResvRegions<'_>) -> Result {
        Ok(())
    }

    fn alloc_paging(_: Pin<&Endpoint>) -> Result<Parts> {
        Err(ENODEV)
    }

    fn alloc_identity(_: Pin<&Endpoint>) -> Result<Identity<Parts>> {
        Ok(Identity::Bypass)
    }

    fn attach(_: Pin<&Endpoint>, _: AttachTo<'_, AddressSpace>) -> Result {
        Ok(())
    }
}

impl Domain for AddressSpace {
    fn map(self: Pin<&Self>, _: u64, _: PhysAddr, _: usize, _: Prot, _: Flags) -> Result {
        Err(ENODEV)
    }

    fn unmap(self: Pin<&Self>, _: u64, _: usize, _: &mut Gather<'_>) -> usize {
        0
    }

    fn iova_to_phys(self: Pin<&Self>, _: u64) -> Option<PhysAddr> {
        None
    }

    fn flush_all(self: Pin<&Self>) {}

    fn sync(self: Pin<&Self>, _: &Gather<'_>) {}

    fn sync_map(self: Pin<&Self>, _: u64, _: usize) -> Result {
        Ok(())
    }
}
