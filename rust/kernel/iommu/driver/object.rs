// SPDX-License-Identifier: GPL-2.0

//! The C objects that endpoints and domains are for the core, and who owns them.

use super::{
    instance::Instance,
    Driver,
    FaultSink, //
};
use crate::{
    bindings,
    container_of,
    prelude::*,
    sync::{
        Arc,
        SetOnce, //
    },
    types::Opaque,
    ModuleMetadata, //
};
use core::{
    mem::offset_of,
    ptr::{
        self,
        NonNull, //
    }, //
};

/// An endpoint: what `dev_iommu_priv_get()` points to.
#[pin_data]
pub(super) struct EndpointObject<T: Driver> {
    /// The driver's data. First, so that it is dropped before `instance`.
    #[pin]
    pub(super) data: T::Endpoint,
    /// The instance that probed the endpoint.
    pub(super) instance: Arc<Instance<T>>,
    /// What is told of the domain that the endpoint is attached to.
    faults: SetOnce<Arc<FaultSink>>,
}

impl<T: Driver> EndpointObject<T> {
    /// Returns an initializer.
    pub(super) fn new<'a>(
        data: impl PinInit<T::Endpoint, Error> + 'a,
        instance: Arc<Instance<T>>,
    ) -> impl PinInit<Self, Error> + 'a {
        try_pin_init!(Self {
            data <- data,
            instance,
            faults: SetOnce::new(),
        }? Error)
    }

    /// Takes note of where faults of the endpoint are reported. To be called once.
    pub(super) fn find_faults(self: Pin<&Self>) {
        if let Some(faults) = T::faults(self.data()) {
            self.faults.populate(faults);
        }
    }

    /// Tells who reports faults what the endpoint is attached to, or null.
    ///
    /// # Safety
    ///
    /// The domain has to be valid until this is called again for the same endpoint.
    pub(super) unsafe fn set_domain(&self, domain: *mut bindings::iommu_domain) {
        if let Some(faults) = self.faults.as_ref() {
            // SAFETY: By the safety requirements. If endpoints have a sink in common, each of them
            // calls this when it leaves the domain, and it is the last call that counts.
            unsafe { faults.set_domain(domain) };
        }
    }

    /// Borrows the endpoint that `dev` is.
    ///
    /// # Safety
    ///
    /// `dev` has to be valid, and an endpoint that [`super::vtable::VTable<T>`]'s `probe_device`
    /// has probed with success, and whose release has not begun to free it, for `'a`.
    pub(super) unsafe fn from_dev<'a>(dev: *mut bindings::device) -> Pin<&'a Self> {
        // SAFETY: `dev` is valid and an endpoint, so it has a `struct dev_iommu`, whose `priv` is
        // what `probe_device` has put there: a pointer to a pinned `Self` that only a release
        // frees.
        unsafe { Pin::new_unchecked(&*(*(*dev).iommu).priv_.cast::<Self>()) }
    }

    /// Returns the driver's data.
    pub(super) fn data(self: Pin<&Self>) -> Pin<&T::Endpoint> {
        // SAFETY: `data` is structurally pinned.
        unsafe { self.map_unchecked(|this| &this.data) }
    }
}

/// A reference on a module, which keeps its code in memory.
///
/// # Invariants
///
/// Owns one reference on the module, if the pointer is not null (for code that is built in).
struct ModuleRef(*mut bindings::module);

impl ModuleRef {
    /// Takes a reference on `M`. `ENODEV` if it is being unloaded.
    fn get<M: ModuleMetadata>() -> Result<Self> {
        let module = M::THIS_MODULE.as_ptr();

        // SAFETY: `module` is null or a valid module: this very code is a part of it.
        if !unsafe { bindings::try_module_get(module) } {
            return Err(ENODEV);
        }

        // INVARIANT: We have just taken a reference.
        Ok(Self(module))
    }

    /// Gives the reference away.
    fn into_raw(self) -> *mut bindings::module {
        core::mem::ManuallyDrop::new(self).0
    }
}

impl Drop for ModuleRef {
    fn drop(&mut self) {
        // SAFETY: By the type invariants, we own a reference, which nobody uses after this.
        unsafe { bindings::module_put(self.0) };
    }
}

/// The part of a domain object that does not depend on the driver.
///
/// # Invariants
///
/// If the domain in `pt` has `is_iommupt`, then `pt.ops` is a table for this very object.
///
/// In a domain object that the core has, `destroy` is the function that frees this very object, and
/// `module` is the module which that function is part of. The object owns a reference on it.
struct Header {
    /// The domain. It is the first member of what the core takes it for if it has `is_iommupt`.
    pt: Opaque<bindings::pt_iommu>,
    destroy: unsafe fn(NonNull<Header>),
    module: *mut bindings::module,
}

impl Header {
    /// Returns the header that a domain is in.
    ///
    /// # Safety
    ///
    /// `domain` has to be that of a header.
    #[inline]
    unsafe fn of(domain: *mut bindings::iommu_domain) -> *mut Self {
        // SAFETY: By the safety requirements, `domain` is the member of a `struct pt_iommu`, and
        // that is the one of a header.
        unsafe {
            let pt = container_of!(domain, bindings::pt_iommu, domain);

            container_of!(Opaque::cast_from(pt).cast_mut(), Self, pt)
        }
    }
}

/// A domain: the C structure, and what the driver keeps for it.
///
/// `D` is [`Driver::Domain`] for a domain with mappings, and `()` for one without.
///
/// # Invariants
///
/// All objects are made by [`DomainObject::alloc`], in a [`KBox`], and pinned.
#[repr(C)]
#[pin_data]
pub(super) struct DomainObject<T: Driver, D> {
    header: Header,
    /// What the driver keeps for the domain. Dropped before `iommu`.
    #[pin]
    data: D,
    /// The IOMMU whose endpoints can be attached. Not the whole [`Instance`], so that a domain that
    /// somebody holds does not keep the IOMMU's device in sysfs.
    iommu: Arc<T>,
}

impl<T: Driver, D> DomainObject<T, D> {
    /// Makes a domain for the core, which frees it through `ops`.
    ///
    /// # Safety
    ///
    /// The functions in `ops` have to be right for a domain that is a `DomainObject<T, D>`, with
    /// [`domain_free`] as the one that frees it. So have those in `range_ops`, if there are any:
    /// the core uses them, if it has `CONFIG_IOMMU_PT`, to map and unmap.
    pub(super) unsafe fn alloc(
        iommu: Arc<T>,
        data: impl PinInit<D, Error>,
        config: Option<(c_ulong, bindings::iommu_domain_geometry)>,
        ops: &'static bindings::iommu_domain_ops,
        range_ops: Option<&'static bindings::pt_iommu_ops>,
    ) -> Result<*mut bindings::iommu_domain> {
        let (pgsize_bitmap, geometry) = config.unwrap_or_default();
        let module = ModuleRef::get::<T::Module>()?;

        let this = KBox::pin_init(
            try_pin_init!(Self {
                header: Header {
                    // The core fills in `type` and `owner`. It needs `ops` to be set by then, or
                    // takes the default ones.
                    //
                    // INVARIANT: The table is for this object, if there is one.
                    pt: Opaque::new(bindings::pt_iommu {
                        domain: bindings::iommu_domain {
                            is_iommupt: range_ops.is_some(),
                            ops,
                            pgsize_bitmap,
                            geometry,
                            ..pin_init::zeroed()
                        },
                        ops: range_ops.map_or(ptr::null(), ptr::from_ref),
                        ..pin_init::zeroed()
                    }),
                    // INVARIANT: This is the function for `Self`. It is in the module that has the
                    // vtable of `T`, which is `T::Module`: `Registration::new` has checked that.
                    destroy: Self::destroy,
                    module: module.0,
                },
                data <- data,
                iommu,
            }? Error),
            GFP_KERNEL,
        )?;

        // INVARIANT: The reference is the object's from now on.
        module.into_raw();

        // SAFETY: Nothing is moved; the object is treated as pinned until `destroy`.
        let this = KBox::into_raw(unsafe { Pin::into_inner_unchecked(this) });

        // SAFETY: `this` is valid. No reference is made to what belongs to the core from now on.
        Ok(unsafe { &raw mut (*Opaque::cast_into(&raw const (*this).header.pt)).domain })
    }

    /// Borrows the object of a domain.
    ///
    /// # Safety
    ///
    /// `domain` has to be from [`DomainObject::<T, D>::alloc`], and not be freed, for `'a`.
    pub(super) unsafe fn from_raw<'a>(domain: *mut bindings::iommu_domain) -> Pin<&'a Self> {
        // SAFETY: By the safety requirements, `domain` is that of the header of a `Self`, which is
        // pinned and lives for `'a`.
        unsafe {
            let header = Header::of(domain);

            Pin::new_unchecked(&*container_of!(header, Self, header))
        }
    }

    /// Returns the driver's data.
    pub(super) fn data(self: Pin<&Self>) -> Pin<&D> {
        // SAFETY: `data` is structurally pinned.
        unsafe { self.map_unchecked(|this| &this.data) }
    }

    /// Returns whether domain and endpoint belong to the same IOMMU.
    ///
    /// It is the driver's data that is compared. No data is registered for two IOMMUs at a time,
    /// see [`Registration::new`](super::Registration::new). If it was unregistered and is
    /// registered again, that is the same IOMMU, whatever the firmware node.
    pub(super) fn is_for(&self, ep: &EndpointObject<T>) -> bool {
        Arc::ptr_eq(&self.iommu, ep.instance.data())
    }

    /// Frees the object, but not its reference on the module.
    ///
    /// # Safety
    ///
    /// `header` has to be that of a `Self`, which nobody uses any more.
    unsafe fn destroy(header: NonNull<Header>) {
        const_assert!(offset_of!(Self, header) == 0);

        // SAFETY: `header` is the first field of a `Self`, which comes from `KBox::into_raw()` in
        // `alloc` and which nobody else uses. It is dropped where it is, hence its being pinned
        // does not matter.
        drop(unsafe { KBox::from_raw(header.cast::<Self>().as_ptr()) });
    }
}

/// Frees a domain object of whatever type.
///
/// This is not generic on purpose, and must not be inlined: it is what gives up the domain's
/// reference on the driver's module, so it must not be part of that module itself. Nothing of the
/// module is executed or accessed after the reference is gone.
///
/// # Safety
///
/// `domain` has to be from [`DomainObject::alloc`], and nobody may use it any more.
#[inline(never)]
pub(super) unsafe extern "C" fn domain_free(domain: *mut bindings::iommu_domain) {
    // SAFETY: By the safety requirements, `domain` is that of a valid header.
    let (header, destroy, module) = unsafe {
        let header = Header::of(domain);

        (
            NonNull::new_unchecked(header),
            (*header).destroy,
            (*header).module,
        )
    };

    // SAFETY: By the type invariants of `Header`, `destroy` is right for the object, and it is in
    // memory because the object owns a reference on its module. Nobody uses the object any more.
    unsafe { destroy(header) };

    // SAFETY: The object owned a reference on `module`.
    unsafe { bindings::module_put(module) };
}
