// SPDX-License-Identifier: GPL-2.0

//! IOMMU drivers.
//!
//! The IOMMU core drives an IOMMU through three tables of C functions: `struct iommu_ops` for the
//! IOMMU and its endpoints, and `struct iommu_domain_ops` for each kind of domain. This module puts
//! two traits in their place, [`Driver`] and [`Domain`], and owns every C object that goes with
//! them, so that a driver handles neither a raw pointer nor a lifetime rule of the core:
//!
//! ```text
//!   Registration<T> ---> struct iommu_device ------> Arc<T>        one IOMMU
//!                                 ^                    ^
//!                                 |                    |
//!      T::Endpoint ---------------+                    |          one per device
//!                                                      |
//!      T::Domain --------------------------------------+          one per address space
//! ```
//!
//! An endpoint keeps the C structures of its IOMMU alive, and an endpoint as well as a domain the
//! driver's data. Both may outlive the registration: a domain when somebody else still holds it
//! (iommufd does, for as long as a file descriptor is open), an endpoint when it is being unplugged
//! just while the IOMMU goes away. A driver has to expect calls for either of them after its
//! hardware is gone, and answers with an error.
//!
//! Words: an *endpoint* is a device that issues DMA through the IOMMU, a *domain* an address space
//! that endpoints are attached to, a *reserved region* a range of IO addresses that is not for use
//! as ordinary DMA memory, the *granule* the smallest page size of a domain, and the *aperture* the
//! range of IO addresses that a domain may map.
//!
//! C header: [`include/linux/iommu.h`](srctree/include/linux/iommu.h)
//!
//! # Examples
//!
//! An IOMMU that knows how to block DMA and how to let it pass, and accepts any mapping without
//! telling a device about it.
//!
//! ```
//! use kernel::{
//!     alloc::Flags,
//!     device::{
//!         Bound,
//!         Device, //
//!     },
//!     io::PhysAddr,
//!     iommu::driver::{
//!         AttachTo,
//!         Capability,
//!         Domain,
//!         DomainConfig,
//!         Driver,
//!         FwSpec,
//!         Gather,
//!         Geometry,
//!         Identity,
//!         Prot,
//!         Registration,
//!         ResvRegions, //
//!     },
//!     prelude::*,
//!     sync::{
//!         Arc,
//!         ArcBorrow, //
//!     },
//!     ModuleMetadata, //
//! };
//!
//! # struct MyModule;
//! # impl ModuleMetadata for MyModule {
//! #     const NAME: &'static CStr = c"doctest";
//! #     // SAFETY: The doctests are built in, where `THIS_MODULE` is null.
//! #     const THIS_MODULE: ThisModule = unsafe { ThisModule::from_ptr(core::ptr::null_mut()) };
//! # }
//! struct Iommu;
//!
//! #[pin_data]
//! struct Endpoint {
//!     id: u32,
//! }
//!
//! #[pin_data]
//! struct AddressSpace {}
//!
//! impl Driver for Iommu {
//!     // `crate::DriverModule`, in a driver that uses one of the `module_*_driver!` macros.
//!     type Module = MyModule;
//!     type Endpoint = Endpoint;
//!     type Domain = AddressSpace;
//!
//!     fn probe(
//!         _this: ArcBorrow<'_, Self>,
//!         _dev: &Device,
//!         fwspec: FwSpec<'_>,
//!     ) -> Result<impl PinInit<Endpoint, Error>> {
//!         let id = *fwspec.ids().first().ok_or(EINVAL)?;
//!
//!         Ok(try_pin_init!(Endpoint { id }? Error))
//!     }
//!
//!     fn release(_ep: Pin<&Endpoint>, _dev: &Device) {}
//!
//!     fn capable(_ep: Pin<&Endpoint>, cap: Capability) -> bool {
//!         cap == Capability::CacheCoherency
//!     }
//!
//!     fn resv_regions(_ep: Pin<&Endpoint>, _dev: &Device, out: &mut ResvRegions<'_>) -> Result {
//!         out.add_firmware_regions();
//!         Ok(())
//!     }
//!
//!     fn alloc_paging(
//!         _ep: Pin<&Endpoint>,
//!     ) -> Result<(impl PinInit<AddressSpace, Error>, DomainConfig)> {
//!         let config = DomainConfig {
//!             page_sizes: 0x1000,
//!             geometry: Geometry {
//!                 first: 0,
//!                 last: u64::MAX,
//!             },
//!         };
//!
//!         Ok((try_pin_init!(AddressSpace {}? Error), config))
//!     }
//!
//!     fn alloc_identity(
//!         ep: Pin<&Endpoint>,
//!     ) -> Result<Identity<(impl PinInit<AddressSpace, Error>, DomainConfig)>> {
//!         if ep.id == 0 {
//!             Ok(Identity::Bypass)
//!         } else {
//!             Ok(Identity::Mapped(Self::alloc_paging(ep)?))
//!         }
//!     }
//!
//!     fn attach(_ep: Pin<&Endpoint>, _to: AttachTo<'_, AddressSpace>) -> Result {
//!         Ok(())
//!     }
//! }
//!
//! impl Domain for AddressSpace {
//!     fn map(
//!         self: Pin<&Self>,
//!         _iova: u64,
//!         _paddr: PhysAddr,
//!         _size: usize,
//!         _prot: Prot,
//!         _gfp: Flags,
//!     ) -> Result {
//!         Ok(())
//!     }
//!
//!     fn unmap(self: Pin<&Self>, iova: u64, size: usize, gather: &mut Gather<'_>) -> usize {
//!         gather.add_range(iova, iova + (size as u64 - 1));
//!         size
//!     }
//!
//!     fn iova_to_phys(self: Pin<&Self>, _iova: u64) -> Option<PhysAddr> {
//!         None
//!     }
//!
//!     fn flush_all(self: Pin<&Self>) {}
//!
//!     fn sync(self: Pin<&Self>, _gather: &Gather<'_>) {}
//!
//!     fn sync_map(self: Pin<&Self>, _iova: u64, _size: usize) -> Result {
//!         Ok(())
//!     }
//! }
//!
//! /// `hwdev` is what endpoints name as their IOMMU in the firmware's tables.
//! fn register(
//!     hwdev: &Device,
//!     dev: &Device<Bound>,
//!     iommu: Arc<Iommu>,
//! ) -> Result<Registration<Iommu>> {
//!     Registration::new(hwdev, dev, c"iommu0", iommu)
//! }
//! ```

use crate::{
    bindings,
    device,
    prelude::*,
    sync::{
        Arc,
        ArcBorrow, //
    },
    ModuleMetadata, //
};

mod domain;
mod fault;
mod fwspec;
mod instance;
mod mapping;
mod object;
mod registration;
mod registry;
mod requester;
mod resv;
#[cfg(CONFIG_RUST_IOMMU_DRIVER_KUNIT_TEST)]
mod tests;
mod vtable;
mod without_group;

pub use self::{
    domain::{
        Domain,
        DomainConfig,
        Geometry, //
    },
    fault::FaultSink,
    fwspec::FwSpec,
    mapping::{
        Gather,
        Prot,
        ProtFlag, //
    },
    registration::Registration,
    requester::Requester,
    resv::{
        ResvRegions,
        ResvType, //
    },
    without_group::{
        for_each_without_group,
        has_driver,
        is_without_group,
        watch_devices,
        Change,
        Unbound,
        WithoutGroup, //
    }, //
};

/// What the core may ask about an endpoint, see [`Driver::capable`].
///
/// Corresponds to the C `enum iommu_cap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// [`ProtFlag::Cache`] is supported.
    CacheCoherency,
    /// [`ProtFlag::NoExec`] is supported.
    NoExec,
    /// The firmware used the IOMMU for protection against DMA, and so should the kernel.
    PreBootProtection,
    /// A domain can be made to refuse DMA that bypasses the caches.
    EnforceCacheCoherency,
    /// [`Domain::unmap`] does no TLB maintenance, so that flush queues ("lazy" mode) pay off. A
    /// kernel with `CONFIG_IOMMU_PT` does not ask, and takes this for granted.
    DeferredFlush,
    /// Domains can track which pages DMA writes to.
    DirtyTracking,
    /// PCIe Address Translation Services are supported, and may be enabled for the endpoint.
    PciAtsSupported,
    /// Something that this kernel's C code knows, and this enumeration does not yet.
    Other,
}

impl Capability {
    fn from_raw(cap: bindings::iommu_cap) -> Self {
        match cap {
            bindings::iommu_cap_IOMMU_CAP_CACHE_COHERENCY => Self::CacheCoherency,
            bindings::iommu_cap_IOMMU_CAP_NOEXEC => Self::NoExec,
            bindings::iommu_cap_IOMMU_CAP_PRE_BOOT_PROTECTION => Self::PreBootProtection,
            bindings::iommu_cap_IOMMU_CAP_ENFORCE_CACHE_COHERENCY => Self::EnforceCacheCoherency,
            bindings::iommu_cap_IOMMU_CAP_DEFERRED_FLUSH => Self::DeferredFlush,
            bindings::iommu_cap_IOMMU_CAP_DIRTY_TRACKING => Self::DirtyTracking,
            bindings::iommu_cap_IOMMU_CAP_PCI_ATS_SUPPORTED => Self::PciAtsSupported,
            _ => Self::Other,
        }
    }
}

/// How an identity domain, where IO addresses are physical addresses, is made for an endpoint.
///
/// Returned by [`Driver::alloc_identity`].
pub enum Identity<P> {
    /// The IOMMU lets the DMA of the endpoint pass. The core gets a domain without mappings;
    /// attached to it is [`AttachTo::Identity`].
    Bypass,
    /// The domain is one that translates each address to itself; attached to it is
    /// [`AttachTo::Domain`]. The core never maps, unmaps or translates in such a domain.
    Mapped(P),
}

/// What an endpoint is to be attached to, see [`Driver::attach`].
pub enum AttachTo<'a, D> {
    /// A domain with mappings, of the same IOMMU instance. Mappings may exist already.
    Domain(Pin<&'a D>),
    /// No domain of the driver's: the DMA of the endpoint passes. The driver has made an identity
    /// domain of kind [`Identity::Bypass`] for the same IOMMU instance.
    Identity,
    /// No domain of the driver's: all DMA of the endpoint is blocked. Needs no memory.
    Blocked,
}

/// An IOMMU, and what it does for its endpoints.
///
/// The implementing type is the data of one IOMMU instance. A [`Registration`] makes it known to
/// the core. Corresponds to the C `struct iommu_ops`.
///
/// # Context
///
/// All callbacks run in process context and may sleep. [`probe`](Self::probe) runs under the core's
/// global probe lock, so it must not register or unregister an IOMMU or wait for somebody who does.
/// `alloc_*` and [`attach`](Self::attach) run with the mutex of the endpoint's group held, most of
/// the time; attaches of the same endpoint are never concurrent. Everything else may be concurrent.
pub trait Driver: Send + Sync + Sized + 'static {
    /// The module that this implementation is part of.
    ///
    /// It is kept from being unloaded while there is an endpoint or a domain.
    type Module: ModuleMetadata;

    /// What the driver keeps for each endpoint.
    ///
    /// Made by [`probe`](Self::probe), dropped after [`release`](Self::release).
    type Endpoint: Send + Sync + 'static;

    /// A domain with mappings.
    type Domain: Domain;

    /// The number of cells in a devicetree reference to the IOMMU (`#iommu-cells`).
    ///
    /// The first cell of a reference becomes an ID of the endpoint, see [`FwSpec::ids`]. `None` for
    /// a driver that does not support devicetree.
    const OF_CELLS: Option<u32> = None;

    /// A device that firmware has put behind this IOMMU is found.
    ///
    /// `dev` may have no driver yet. On success, the endpoint is next put into a group of endpoints
    /// that cannot be isolated from each other, and attached to the group's domain.
    ///
    /// # Errors
    ///
    /// The device is left without an IOMMU, see [`refused`](Self::refused). `ENODEV` says that the
    /// driver does not care for this device; any other error is logged. (None of them makes
    /// [`Registration::new`] fail, and the core never tries again for the same device.)
    fn probe(
        this: ArcBorrow<'_, Self>,
        dev: &device::Device,
        fwspec: FwSpec<'_>,
    ) -> Result<impl PinInit<Self::Endpoint, Error>>;

    /// A device that firmware has put behind this IOMMU is left without one: [`probe`](Self::probe)
    /// has failed, or there was no memory for what it returned. May sleep.
    fn refused(_this: ArcBorrow<'_, Self>, _dev: &device::Device, _error: Error) {}

    /// The endpoint goes away: it is unplugged, or the IOMMU is unregistered. May sleep.
    ///
    /// Its DMA has to be blocked, or passed on untranslated, when this returns: the core frees the
    /// domain that the endpoint is attached to. That must not affect another endpoint, even if it
    /// shares an ID with this one. `ep` is dropped afterwards.
    fn release(ep: Pin<&Self::Endpoint>, dev: &device::Device);

    /// Returns where the driver reports faults of the endpoint, if it does. Called once, after
    /// [`probe`](Self::probe).
    fn faults(_ep: Pin<&Self::Endpoint>) -> Option<Arc<FaultSink>> {
        None
    }

    /// Returns whether the IOMMU can do `cap` for the endpoint.
    fn capable(ep: Pin<&Self::Endpoint>, cap: Capability) -> bool;

    /// Adds the reserved regions of the endpoint to `out`.
    ///
    /// # Errors
    ///
    /// An error is logged, naming `dev`. The regions added up to then stay.
    fn resv_regions(
        ep: Pin<&Self::Endpoint>,
        dev: &device::Device,
        out: &mut ResvRegions<'_>,
    ) -> Result;

    /// Makes an empty domain that `ep` can be attached to.
    ///
    /// # Errors
    ///
    /// The core uses the driver's error, or `EINVAL` if the [`DomainConfig`] is not valid.
    fn alloc_paging(
        ep: Pin<&Self::Endpoint>,
    ) -> Result<(impl PinInit<Self::Domain, Error>, DomainConfig)>;

    /// Makes an identity domain that `ep` can be attached to.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` if there is no way to make one.
    fn alloc_identity(
        ep: Pin<&Self::Endpoint>,
    ) -> Result<Identity<(impl PinInit<Self::Domain, Error>, DomainConfig)>>;

    /// Attaches the endpoint to something else than what it is attached to now, if anything.
    ///
    /// An endpoint of another IOMMU than the domain's gets `EINVAL` without a call. The mutex of
    /// the endpoint's group is held: it is not attached elsewhere at the same time.
    ///
    /// # Errors
    ///
    /// On error, the endpoint has to be left attached to what it was attached to. `EINVAL` says
    /// that domain and endpoint are incompatible and is not worth a log message; others are
    /// `ENOMEM`, `ENOSPC` (a resource other than memory), `EBUSY` and `ENODEV`.
    fn attach(ep: Pin<&Self::Endpoint>, to: AttachTo<'_, Self::Domain>) -> Result;
}
