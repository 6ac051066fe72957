// SPDX-License-Identifier: GPL-2.0

//! The tables of C functions, and their translation to the traits.
//!
//! Two rules of the core carry most of the arguments below:
//!
//! - *Endpoint rule.* The core calls a function of `iommu_ops` for a device only if the device is
//!   an endpoint of an IOMMU with these very `iommu_ops`: `probe_device` was successful for it, and
//!   `release_device` has not been called. (`probe_device` and `of_xlate` come before that, and are
//!   looked up by firmware node.) It does not call `release_device` while another call is under
//!   way, on the condition below.
//! - *Domain rule.* The core calls a function of `iommu_domain_ops` only for a domain that has this
//!   table as its `ops`, and not after `free`. It calls one of `pt_iommu_ops` only for a domain
//!   with `is_iommupt`, which the `struct pt_iommu` around has this table for. The dynamic tables
//!   below are only ever given to domains of the matching type, in the two `domain_alloc`
//!   functions. The static blocked domain has its own. The condition below applies here, too.
//!
//! *Condition* of both rules: nobody uses an endpoint or its default domain while the endpoint is
//! released. When an endpoint is unplugged, that holds: its driver has been unbound by then, and
//! with it whoever else had a claim on the group. When the IOMMU is unregistered, the core does not
//! see to it. `iommu_device_unregister()` releases all endpoints and frees their `dev->iommu` and
//! their default domains, whether they have drivers or not. A driver that is in `iommu_map()` or
//! `iommu_unmap()` at that time, through the DMA API, has neither a lock nor a reference that the
//! core would wait for: the functions of `iommu_domain_ops` run for a domain that is freed under
//! them. They cannot tell, because the domain is all that they are given. So the condition is a
//! rule for whoever takes an IOMMU away, as it is with the IOMMU drivers in C: see "An IOMMU that
//! is taken away" in `Documentation/soundness.rst`. Without exception holds that an endpoint and a
//! domain own what they refer to, so that the driver's data outlives them.
//!
//! There is one more thing that the core does not ensure, which is that all endpoints of a group
//! have the same driver. Therefore each attach begins with [`VTable::manages`].

mod domain;
#[cfg(CONFIG_RUST_IOMMU_DRIVER_KUNIT_TEST)]
mod tests;

use super::{
    instance::Instance,
    object::{
        domain_free,
        DomainObject,
        EndpointObject, //
    },
    Capability,
    Driver,
    FwSpec,
    Identity,
    ResvRegions, //
};
use crate::{
    bindings,
    device::Device,
    error::{
        from_result,
        to_result, //
    },
    prelude::*,
    types::ForeignOwnable,
    ModuleMetadata, //
};
use core::{
    marker::PhantomData,
    ptr, //
};

/// The tables of C functions for a driver.
pub(super) struct VTable<T: Driver>(PhantomData<T>);

/// The type of domains with mappings.
type Paging<T> = DomainObject<T, <T as Driver>::Domain>;

/// The type of identity domains without mappings.
type Bypass<T> = DomainObject<T, ()>;

impl<T: Driver> VTable<T> {
    const PAGING_OPS: &'static bindings::iommu_domain_ops = &bindings::iommu_domain_ops {
        attach_dev: Some(Self::paging_attach_dev),
        map_pages: Some(Self::map_pages),
        unmap_pages: Some(Self::unmap_pages),
        flush_iotlb_all: Some(Self::flush_iotlb_all),
        iotlb_sync_map: Some(Self::iotlb_sync_map),
        iotlb_sync: Some(Self::iotlb_sync),
        iova_to_phys: Some(Self::iova_to_phys),
        free: Some(domain_free),
        ..pin_init::zeroed()
    };

    /// What the core uses for [`Self::PAGING_OPS`] instead of `map_pages` and `unmap_pages`, unless
    /// it has no `CONFIG_IOMMU_PT`. The rest of the table is for those who have filled it in.
    const RANGE_OPS: &'static bindings::pt_iommu_ops = &bindings::pt_iommu_ops {
        map_range: Some(Self::map_range),
        unmap_range: Some(Self::unmap_range),
        ..pin_init::zeroed()
    };

    const BYPASS_OPS: &'static bindings::iommu_domain_ops = &bindings::iommu_domain_ops {
        attach_dev: Some(Self::bypass_attach_dev),
        free: Some(domain_free),
        ..pin_init::zeroed()
    };

    const BLOCKED_OPS: &'static bindings::iommu_domain_ops = &bindings::iommu_domain_ops {
        attach_dev: Some(Self::blocked_attach_dev),
        ..pin_init::zeroed()
    };

    /// The blocked domain, of which there is one for all IOMMUs of a driver.
    ///
    /// The core does not write to a domain that a driver has in `blocked_domain`: it neither
    /// initializes it (`iommu_domain_init()` is for those that come out of a `domain_alloc`
    /// function), nor gives it a cookie, and freeing it does nothing as it has no `free`. So it can
    /// be in read-only memory, although C has no `const` there.
    const BLOCKED: &'static bindings::iommu_domain = &bindings::iommu_domain {
        type_: bindings::IOMMU_DOMAIN_BLOCKED,
        ops: Self::BLOCKED_OPS,
        ..pin_init::zeroed()
    };

    /// The table for `iommu_device_register()`.
    pub(super) const OPS: &'static bindings::iommu_ops = &bindings::iommu_ops {
        capable: Some(Self::capable),
        domain_alloc_identity: Some(Self::domain_alloc_identity),
        domain_alloc_paging: Some(Self::domain_alloc_paging),
        probe_device: Some(Self::probe_device),
        release_device: Some(Self::release_device),
        device_group: Some(Self::device_group),
        get_resv_regions: Some(Self::get_resv_regions),
        of_xlate: if T::OF_CELLS.is_some() {
            Some(Self::of_xlate)
        } else {
            None
        },
        default_domain_ops: Self::PAGING_OPS,
        owner: T::Module::THIS_MODULE.as_ptr(),
        blocked_domain: ptr::from_ref(Self::BLOCKED).cast_mut(),
        ..pin_init::zeroed()
    };
}

/// `iommu_ops`.
impl<T: Driver> VTable<T> {
    /// # Safety
    ///
    /// `dev` has to be a valid device, and `iommu_probe_device_lock` has to be held. On success,
    /// the endpoint rule applies to `dev`.
    unsafe extern "C" fn probe_device(dev: *mut bindings::device) -> *mut bindings::iommu_device {
        // SAFETY: `dev` is valid for the duration of the call.
        let dev = unsafe { Device::from_raw(dev) };

        // SAFETY: The lock is held.
        match unsafe { Self::try_probe_device(dev) } {
            Ok(iommu) => iommu,
            Err(e) => {
                if e != ENODEV {
                    dev_err!(dev, "IOMMU driver cannot handle this device: {e:?}\n");
                }

                // With any other error than this the core, when it goes through all devices in
                // `iommu_device_register()`, would give up, and leave all of them unprotected.
                ENODEV.to_ptr()
            }
        }
    }

    /// # Safety
    ///
    /// `iommu_probe_device_lock` has to be held.
    unsafe fn try_probe_device(dev: &Device) -> Result<*mut bindings::iommu_device> {
        // SAFETY: The lock is held.
        let fwspec = unsafe { FwSpec::of(dev) }.ok_or(ENODEV)?;

        // The core has found an IOMMU for this firmware node, but not under the lock that it is
        // added and removed with, so this fails if it is being unregistered.
        //
        // SAFETY: The lock is held.
        let instance = unsafe { Instance::<T>::find(fwspec.iommu_fwnode()) }.ok_or(ENODEV)?;

        let iommu = || instance.data().as_arc_borrow();
        let ep = T::probe(iommu(), dev, fwspec)
            .and_then(|data| {
                KBox::pin_init(EndpointObject::new(data, instance.clone()), GFP_KERNEL)
            })
            .inspect_err(|error| T::refused(iommu(), dev, *error))?;
        ep.as_ref().find_faults();

        // SAFETY: `dev` is valid, and as it has a fwspec, it has the `struct dev_iommu` that this
        // writes to. The lock, which this needs, is held.
        unsafe { bindings::dev_iommu_priv_set(dev.as_raw(), ep.into_foreign()) };

        // The endpoint has its own `Arc`, so the pointer stays valid when `instance` is dropped.
        Ok(instance.as_raw())
    }

    /// # Safety
    ///
    /// The endpoint rule applies to `dev`. This is the call that ends it.
    unsafe extern "C" fn release_device(dev: *mut bindings::device) {
        // SAFETY: By the endpoint rule, `priv` is what `probe_device` has put there, and nobody
        // else uses it.
        let ep = unsafe { <Pin<KBox<EndpointObject<T>>>>::from_foreign((*(*dev).iommu).priv_) };

        // SAFETY: Null is no domain. The core frees the one that the endpoint is attached to.
        unsafe { ep.set_domain(ptr::null_mut()) };

        // SAFETY: `dev` is valid for the duration of the call.
        T::release(ep.as_ref().data(), unsafe { Device::from_raw(dev) });

        // The core does not use `priv` after this; it frees the `struct dev_iommu`. It does not use
        // the `struct iommu_device`, which `ep` may have the last reference on, either.
    }

    /// # Safety
    ///
    /// The endpoint rule applies to `dev`, apart from the group, which is being looked for.
    unsafe extern "C" fn device_group(dev: *mut bindings::device) -> *mut bindings::iommu_group {
        // SAFETY: `dev` is valid, and is a PCI device if that is what the first function says.
        unsafe {
            if bindings::dev_is_pci(dev) {
                bindings::pci_device_group(dev)
            } else {
                bindings::generic_device_group(dev)
            }
        }
    }

    /// # Safety
    ///
    /// The endpoint rule applies to `dev`.
    unsafe extern "C" fn capable(dev: *mut bindings::device, cap: bindings::iommu_cap) -> bool {
        // SAFETY: By the endpoint rule.
        let ep = unsafe { EndpointObject::<T>::from_dev(dev) };

        T::capable(ep.data(), Capability::from_raw(cap))
    }

    /// # Safety
    ///
    /// The endpoint rule applies to `dev`. `list` has to be a list of `struct iommu_resv_region`
    /// that nobody else uses.
    unsafe extern "C" fn get_resv_regions(
        dev: *mut bindings::device,
        list: *mut bindings::list_head,
    ) {
        // SAFETY: By the endpoint rule.
        let ep = unsafe { EndpointObject::<T>::from_dev(dev) };
        // SAFETY: `dev` is valid for the duration of the call.
        let dev = unsafe { Device::from_raw(dev) };
        // SAFETY: By the safety requirements; an endpoint has a fwspec, as `probe_device` refuses
        // one that has not, and it is only freed after `release_device`.
        let mut out = unsafe { ResvRegions::from_raw(list, dev) };

        if let Err(e) = T::resv_regions(ep.data(), dev, &mut out) {
            dev_err!(
                dev,
                "IOMMU driver cannot list all reserved regions: {e:?}\n"
            );
        }
    }

    /// # Safety
    ///
    /// `dev` has to be a valid device with a fwspec, `args` has to be valid, and
    /// `iommu_probe_device_lock` has to be held.
    unsafe extern "C" fn of_xlate(
        dev: *mut bindings::device,
        args: *const bindings::of_phandle_args,
    ) -> c_int {
        // SAFETY: `args` is valid for the duration of the call.
        let args = unsafe { &*args };

        from_result(|| {
            let count = u32::try_from(args.args_count)?;
            if count == 0 || T::OF_CELLS != Some(count) {
                return Err(EINVAL);
            }

            // SAFETY: `dev` is valid. There is at least one element to read. The lock that protects
            // the fwspec is held.
            to_result(unsafe { bindings::iommu_fwspec_add_ids(dev, args.args.as_ptr(), 1) })?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// The endpoint rule applies to `dev`.
    unsafe extern "C" fn domain_alloc_paging(
        dev: *mut bindings::device,
    ) -> *mut bindings::iommu_domain {
        // SAFETY: By the endpoint rule.
        let ep = unsafe { EndpointObject::<T>::from_dev(dev) };

        T::alloc_paging(ep.data())
            .and_then(|(data, config)| Self::paging_domain(&ep, data, config.validate(false)?))
            .unwrap_or_else(Error::to_ptr)
    }

    /// # Safety
    ///
    /// The endpoint rule applies to `dev`.
    unsafe extern "C" fn domain_alloc_identity(
        dev: *mut bindings::device,
    ) -> *mut bindings::iommu_domain {
        // SAFETY: By the endpoint rule.
        let ep = unsafe { EndpointObject::<T>::from_dev(dev) };

        T::alloc_identity(ep.data())
            .and_then(|identity| match identity {
                Identity::Bypass => Self::bypass_domain(&ep),
                Identity::Mapped((data, config)) => {
                    Self::paging_domain(&ep, data, config.validate(true)?)
                }
            })
            .unwrap_or_else(Error::to_ptr)
    }

    /// Makes a domain with mappings.
    fn paging_domain(
        ep: &EndpointObject<T>,
        data: impl PinInit<T::Domain, Error>,
        config: (c_ulong, bindings::iommu_domain_geometry),
    ) -> Result<*mut bindings::iommu_domain> {
        let iommu = ep.instance.data().clone();

        // SAFETY: `PAGING_OPS` and `RANGE_OPS` are for `Paging<T>`.
        unsafe {
            <Paging<T>>::alloc(
                iommu,
                data,
                Some(config),
                Self::PAGING_OPS,
                Some(Self::RANGE_OPS),
            )
        }
    }

    /// Makes an identity domain without mappings.
    fn bypass_domain(ep: &EndpointObject<T>) -> Result<*mut bindings::iommu_domain> {
        let iommu = ep.instance.data().clone();

        // SAFETY: `BYPASS_OPS` is for `Bypass<T>`.
        unsafe { <Bypass<T>>::alloc(iommu, Ok(()), None, Self::BYPASS_OPS, None) }
    }
}
