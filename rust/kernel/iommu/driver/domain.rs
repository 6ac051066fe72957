// SPDX-License-Identifier: GPL-2.0

//! Domains.

use super::{
    Gather,
    Prot, //
};
use crate::{
    alloc::Flags,
    bindings,
    dma::DmaAddress,
    io::PhysAddr,
    page::PAGE_SIZE,
    prelude::*, //
};

/// The range of IO addresses that a domain may map: its aperture.
///
/// DMA outside of it is never allowed (`force_aperture` in C).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// The first address.
    pub first: u64,
    /// The last address, inclusive.
    pub last: u64,
}

/// The properties of a domain that the core needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DomainConfig {
    /// The page sizes that the IOMMU is good at: bit `n` stands for pages of `1 << n` bytes. The
    /// smallest, which must not be 1, is the granule: [`Domain::map`] takes any number of them at
    /// any place. Sizes that do not fit into an `unsigned long` are ignored. For a domain from
    /// [`Driver::alloc_paging`](super::Driver::alloc_paging) the granule must not be larger than
    /// [`PAGE_SIZE`].
    ///
    /// A kernel without `CONFIG_IOMMU_PT` is told of the granule alone: it would call once for each
    /// run of pages of one size, where another calls once for a range.
    pub page_sizes: u64,
    /// The aperture. Its first address must not be larger than its last.
    pub geometry: Geometry,
}

impl DomainConfig {
    /// Checks what the core takes for granted, where it would otherwise hit a `BUG_ON()` or compute
    /// with `__ffs(0)`.
    ///
    /// Returns the bitmap of page sizes and the geometry as C has them.
    pub(super) fn validate(
        &self,
        any_granule: bool,
    ) -> Result<(c_ulong, bindings::iommu_domain_geometry)> {
        // CAST: Truncates on purpose, see the documentation of the field.
        let pgsize_bitmap = self.page_sizes as c_ulong;

        if pgsize_bitmap == 0 || self.geometry.first > self.geometry.last {
            return Err(EINVAL);
        }

        // The core takes a gather of one address for an empty one.
        if pgsize_bitmap & 1 != 0 {
            return Err(EINVAL);
        }

        if !any_granule && pgsize_bitmap.trailing_zeros() > PAGE_SIZE.trailing_zeros() {
            return Err(EINVAL);
        }

        Ok((
            if cfg!(CONFIG_IOMMU_PT) {
                pgsize_bitmap
            } else {
                granule(pgsize_bitmap)
            },
            bindings::iommu_domain_geometry {
                aperture_start: DmaAddress::try_from(self.geometry.first)?,
                // An aperture that goes beyond what the kernel can express is cut off there.
                aperture_end: DmaAddress::try_from(self.geometry.last).unwrap_or(DmaAddress::MAX),
                force_aperture: true,
            },
        ))
    }
}

/// A domain with mappings: an IO address space that endpoints can be attached to.
///
/// Corresponds to the C `struct iommu_domain_ops`. A domain is dropped in process context, when
/// the core has freed it; no endpoint uses it any more then. Mappings may be left in it.
///
/// # Ranges
///
/// For each range that a method gets as parameters, `size` is not zero, and the last address,
/// `iova + (size - 1)`, does not overflow. The *end* of a range, `iova + size`, may overflow:
/// compute with last addresses. That the range lies in the aperture is not checked.
///
/// The ranges that are mapped and unmapped consist of whole granules. With `CONFIG_IOMMU_PT`, each
/// call of `iommu_map()` is one call of [`map`](Self::map), and each of `iommu_unmap()` one of
/// [`unmap`](Self::unmap): a driver whose hardware takes such ranges need not put them together
/// again.
///
/// # Truth
///
/// The core, and users behind it, act on what these methods return: iommufd, for instance, releases
/// the pages whose addresses it gets from [`iova_to_phys`](Self::iova_to_phys), and memory is
/// reused when [`sync`](Self::sync) says that no endpoint reaches it any more. There is no way to
/// check that. A driver that is wrong about its mappings corrupts memory, like one that makes its
/// hardware do it.
///
/// # Context
///
/// All methods may be called in atomic context, that is with spinlocks held and interrupts off, and
/// concurrently for different ranges of one domain.
pub trait Domain: Send + Sync + Sized + 'static {
    /// Maps a range to physical memory that is contiguous from `paddr`, all of it or nothing.
    ///
    /// The range is not mapped yet. The last physical address does not overflow either. Endpoints
    /// need not see the mapping before [`sync_map`](Self::sync_map). `gfp` is for allocations; it
    /// permits to sleep only where this context does.
    ///
    /// # Errors
    ///
    /// Nothing has been mapped by this call.
    fn map(
        self: Pin<&Self>,
        iova: u64,
        paddr: PhysAddr,
        size: usize,
        prot: Prot,
        gfp: Flags,
    ) -> Result;

    /// Unmaps a range, up to the first address that is not mapped.
    ///
    /// Endpoints may still be able to use the mapping until [`sync`](Self::sync) or
    /// [`flush_all`](Self::flush_all). The core never reuses the range or its memory before.
    /// `gather` is used to note what is to be synchronized: if nothing is noted, the core need not
    /// call [`sync`](Self::sync).
    ///
    /// Returns the number of bytes that are unmapped, counted from `iova`. That is less than `size`
    /// if an address is not mapped, and more if a mapping, which is never split, goes beyond the
    /// range. 0 means failure.
    fn unmap(self: Pin<&Self>, iova: u64, size: usize, gather: &mut Gather<'_>) -> usize;

    /// Translates an IO address, at any offset in a page. `None` if it is not mapped.
    fn iova_to_phys(self: Pin<&Self>, iova: u64) -> Option<PhysAddr>;

    /// Returns when no endpoint can use a mapping any more that had been removed before the call.
    fn flush_all(self: Pin<&Self>);

    /// Like [`flush_all`](Self::flush_all), but only for what has been unmapped with `gather`.
    fn sync(self: Pin<&Self>, gather: &Gather<'_>);

    /// Returns when all endpoints can use the mappings in a range of `size` bytes from `iova`.
    ///
    /// # Errors
    ///
    /// An error, also one of an earlier, asynchronous attempt to map in this range. The core then
    /// unmaps the range.
    fn sync_map(self: Pin<&Self>, iova: u64, size: usize) -> Result;
}

/// Returns whether a range is not empty, and its last address does not overflow.
#[inline]
pub(super) fn is_range(iova: c_ulong, size: usize) -> bool {
    // `c_ulong` is `usize` in the kernel.
    size.checked_sub(1)
        .and_then(|rest| iova.checked_add(rest))
        .is_some()
}

/// Returns the smallest of some page sizes; 0 if there is none.
#[inline]
pub(super) fn granule(page_sizes: c_ulong) -> c_ulong {
    page_sizes & page_sizes.wrapping_neg()
}

/// Returns how many bytes from `iova` on, of the `done` that there are, are whole granules of a
/// domain with these page sizes, and have an end that does not overflow.
pub(super) fn whole_granules(iova: c_ulong, done: usize, page_sizes: c_ulong) -> usize {
    let done = done.min(c_ulong::MAX - iova);

    done.checked_rem(granule(page_sizes))
        .map_or(0, |rest| done - rest)
}
