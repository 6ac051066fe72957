// SPDX-License-Identifier: GPL-2.0

//! Faults, as the core and its users hear of them.
//!
//! C header: [`include/linux/iommu.h`](srctree/include/linux/iommu.h)

use crate::{
    bindings,
    device::Device,
    prelude::*,
    sync::{
        aref::ARef,
        new_spinlock_irq,
        Arc,
        SpinLockIrq, //
    }, //
};

/// The domain that an endpoint is attached to, or null.
///
/// # Invariants
///
/// If it is not null, the domain is valid until this is changed.
struct Attached(*mut bindings::iommu_domain);

// SAFETY: It is used under the lock of a `FaultSink`, by whichever thread.
unsafe impl Send for Attached {}

/// Where the faults of an endpoint are reported, whatever it is attached to.
///
/// A driver makes one for each endpoint, and names it in [`Driver::faults`](super::Driver::faults).
///
/// # Examples
///
/// ```
/// use kernel::{
///     iommu::driver::FaultSink,
///     prelude::*,
///     sync::Arc, //
/// };
///
/// /// A stream of an SMMU: what its event queue names.
/// struct Stream {
///     id: u32,
///     faults: Arc<FaultSink>,
/// }
///
/// /// Tells of an event of the queue. In interrupt context.
/// fn event(streams: &[Stream], id: u32, iova: u64, write: bool) {
///     if let Some(stream) = streams.iter().find(|stream| stream.id == id) {
///         stream.faults.report(iova, write);
///     }
/// }
/// ```
#[pin_data]
pub struct FaultSink {
    dev: ARef<Device>,
    #[pin]
    attached: SpinLockIrq<Attached>,
}

impl FaultSink {
    /// What stands for no domain: one without a handler.
    const NONE: &'static bindings::iommu_domain = &bindings::iommu_domain {
        ..pin_init::zeroed()
    };

    /// For the endpoint `dev`. May sleep.
    pub fn new(dev: &Device) -> Result<Arc<Self>> {
        let dev: ARef<Device> = dev.into();
        // INVARIANT: It is null.
        Arc::pin_init(
            pin_init!(Self {
                dev,
                attached <- new_spinlock_irq!(Attached(core::ptr::null_mut())),
            }),
            GFP_KERNEL,
        )
    }

    /// Reports that an access of the endpoint to `iova` did not get through; `write` if it was one.
    ///
    /// The handler of the domain hears of it, if its user has set one, and the trace event
    /// `iommu:io_page_fault`. Any context.
    pub fn report(&self, iova: u64, write: bool) {
        let attached = self.attached.lock();
        let domain = if attached.0.is_null() {
            core::ptr::from_ref(Self::NONE).cast_mut()
        } else {
            attached.0
        };
        let flags = if write {
            bindings::IOMMU_FAULT_WRITE
        } else {
            bindings::IOMMU_FAULT_READ
        };

        // SAFETY: By the type invariants the domain is valid while the lock is held; it is read
        // only. The handler is its user's.
        unsafe {
            bindings::report_iommu_fault(
                domain,
                self.dev.as_raw(),
                // CAST: An address that does not fit is cut off, as in C.
                iova as c_ulong,
                // CAST: 0 or 1.
                flags as c_int,
            )
        };
    }

    /// Notes what the endpoint is attached to, or null.
    ///
    /// # Safety
    ///
    /// The domain has to be valid until this is called again.
    pub(super) unsafe fn set_domain(&self, domain: *mut bindings::iommu_domain) {
        // INVARIANT: By the safety requirements.
        self.attached.lock().0 = domain;
    }
}
