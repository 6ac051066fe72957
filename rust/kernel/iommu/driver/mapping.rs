// SPDX-License-Identifier: GPL-2.0

//! What goes with mapping and unmapping.

use crate::{
    bindings,
    impl_flags,
    prelude::*, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};

impl_flags!(
    /// The permissions and attributes of a mapping.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::iommu::driver::{
    ///     Prot,
    ///     ProtFlag, //
    /// };
    ///
    /// let doorbell = ProtFlag::Write | ProtFlag::NoExec | ProtFlag::Mmio;
    ///
    /// assert!(doorbell.contains(ProtFlag::Mmio));
    /// assert!(!doorbell.contains(ProtFlag::Read));
    /// assert!(Prot::empty() != doorbell);
    /// ```
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Prot(u32);

    /// One permission or attribute of a mapping.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum ProtFlag {
        /// Endpoints may read.
        Read = bindings::IOMMU_READ,

        /// Endpoints may write.
        Write = bindings::IOMMU_WRITE,

        /// DMA is coherent with the CPU's caches.
        Cache = bindings::IOMMU_CACHE,

        /// Endpoints may not fetch instructions.
        NoExec = bindings::IOMMU_NOEXEC,

        /// The target is a device, an MSI doorbell for instance, and no memory.
        Mmio = bindings::IOMMU_MMIO,

        /// The permissions are for privileged accesses.
        Privileged = bindings::IOMMU_PRIV,
    }
);

impl Prot {
    /// Converts from C. Flags that are not known here are left out.
    pub(super) fn from_raw(prot: c_int) -> Self {
        // CAST: A bitmap, of which only low bits are used.
        Self(prot as u32 & Self::all_bits())
    }

    /// Converts to C.
    pub(super) fn as_raw(self) -> c_int {
        // CAST: A bitmap, of which only low bits are used.
        self.0 as c_int
    }
}

/// Collects what has been unmapped but not synchronized yet.
///
/// The core hands one to [`Domain::unmap`], and later, if something was added, to
/// [`Domain::sync`]. Corresponds to the C `struct iommu_iotlb_gather`.
///
/// Without `CONFIG_IOMMU_PT`, the core adds all of a range to a gather that the driver has added
/// nothing to. That does not show here: what the driver has added is told from it by the member
/// `pgsize`, which is not zero then, and which the core leaves alone.
///
/// # Invariants
///
/// `raw`, if there is one, points to an initialized `struct iommu_iotlb_gather` that is valid, and
/// not accessed in another way, for `'a`.
///
/// [`Domain::sync`]: super::Domain::sync
/// [`Domain::unmap`]: super::Domain::unmap
///
// This is a pointer, and not a transparent wrapper, because the C structure has a list head in it
// and so must not be moved, which is what `mem::swap()` could do to two `&mut`.
pub struct Gather<'a> {
    raw: Option<NonNull<bindings::iommu_iotlb_gather>>,
    _life: PhantomData<&'a mut bindings::iommu_iotlb_gather>,
}

impl<'a> Gather<'a> {
    /// # Safety
    ///
    /// If `raw` is not null, it has to point to an initialized `struct iommu_iotlb_gather` that is
    /// valid, and not accessed in another way, for `'a`.
    pub(super) unsafe fn from_raw(raw: *mut bindings::iommu_iotlb_gather) -> Self {
        // INVARIANT: By the safety requirements of this function.
        Self {
            raw: NonNull::new(raw),
            _life: PhantomData,
        }
    }

    /// Returns whether [`Domain::flush_all`] will be called for this instead of [`Domain::sync`],
    /// at some later time.
    ///
    /// [`Domain::sync`]: super::Domain::sync
    /// [`Domain::flush_all`]: super::Domain::flush_all
    #[inline]
    pub fn queued(&self) -> bool {
        match self.raw {
            // SAFETY: By the type invariants, `raw` is valid and initialized.
            Some(raw) => unsafe { (*raw.as_ptr()).queued },
            None => false,
        }
    }

    /// Returns the first and the last address (inclusive) of the smallest range that covers all
    /// that the driver has added. `None` if that is nothing.
    #[inline]
    pub fn range(&self) -> Option<(u64, u64)> {
        let raw = self.raw?.as_ptr();
        // SAFETY: By the type invariants, `raw` is valid and initialized. `pgsize` can have any
        // value.
        let (first, last, added) =
            unsafe { ((*raw).start, (*raw).end, (*raw).__bindgen_anon_1.pgsize) };

        // CAST: An `unsigned long` has at most 64 bits.
        (added != 0).then_some((first as u64, last as u64))
    }

    /// Adds the addresses from `first` to `last`, inclusive.
    ///
    /// Does nothing if `first` is larger than `last`. Addresses that do not fit into an `unsigned
    /// long` are taken for the largest one.
    #[inline]
    pub fn add_range(&mut self, first: u64, last: u64) {
        if first > last {
            return;
        }
        // CAST: An `unsigned long` has at most 64 bits.
        let limit = |address: u64| c_ulong::try_from(address).unwrap_or(c_ulong::MAX) as u64;
        let (first, last) = (limit(first), limit(last));

        let (first, last) = match self.range() {
            Some((start, end)) => (first.min(start), last.max(end)),
            None => (first, last),
        };
        // Never refused: the addresses fit, and are in order.
        self.restart(first, last);
    }

    /// Adds the addresses from `first` to `last`, inclusive, if they make one range with what was
    /// added before. Returns whether they did.
    ///
    /// Does nothing if `first` is larger than `last`, or does not fit into an `unsigned long`.
    #[inline]
    pub fn extend(&mut self, first: u64, last: u64) -> bool {
        let (first, last) = match self.range() {
            None => (first, last),
            Some((start, end))
                if first <= end.saturating_add(1) && start <= last.saturating_add(1) =>
            {
                (first.min(start), last.max(end))
            }
            Some(_) => return false,
        };
        self.restart(first, last)
    }

    /// Forgets what was added, and adds the addresses from `first` to `last`, inclusive. Returns
    /// whether it did.
    ///
    /// Does nothing if `first` is larger than `last`, or does not fit into an `unsigned long`.
    #[inline]
    pub fn restart(&mut self, first: u64, last: u64) -> bool {
        let Some(raw) = self.raw else { return false };
        let (Ok(first), Ok(last)) = (c_ulong::try_from(first), c_ulong::try_from(last)) else {
            return false;
        };
        if first > last {
            return false;
        }

        // SAFETY: By the type invariants, `raw` is valid and initialized, and nobody else accesses
        // it.
        unsafe {
            let raw = raw.as_ptr();

            (*raw).start = first;
            (*raw).end = last;
            (*raw).__bindgen_anon_1.pgsize = 1;
        }
        true
    }
}
