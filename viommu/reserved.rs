// SPDX-License-Identifier: GPL-2.0

//! Reserved regions of an endpoint, and what an identity mapping leaves out because of them.
//!
//! A device declares reserved regions in any order; they may overlap, touch, and begin or end
//! within a granule. What is mapped around them consists of whole granules, none of which holds a
//! reserved address.

use kernel::{
    alloc::Flags,
    prelude::*,
    ptr::Alignment, //
};

use crate::uapi::{
    ResvKind,
    Span, //
};

/// A reserved region, as the device declares it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Region {
    /// The addresses.
    pub(super) span: Span,
    /// What they are reserved for.
    pub(super) kind: ResvKind,
}

/// The reserved regions of an endpoint.
///
/// # Invariants
///
/// `list` is in ascending order of the first addresses.
pub(super) struct Regions {
    list: KVec<Region>,
}

impl Regions {
    /// No region.
    pub(super) const fn new() -> Self {
        // INVARIANT: An empty list is in any order.
        Self { list: KVec::new() }
    }

    /// Adds a region. May sleep, if `flags` say so.
    ///
    /// # Errors
    ///
    /// `ENOMEM`. Nothing has changed then.
    pub(super) fn push(&mut self, region: Region, flags: Flags) -> Result {
        let first = region.span.first();
        let at = self
            .list
            .partition_point(|other| other.span.first() <= first);

        self.list.reserve(1, flags)?;
        // INVARIANT: The new region comes after those that do not begin after it, and before the
        // others.
        self.list.insert_within_capacity(at, region)?;
        Ok(())
    }

    /// The regions, in ascending order of their first addresses.
    pub(super) fn as_slice(&self) -> &[Region] {
        &self.list
    }

    /// Whether the device has a region for message-signalled interrupts.
    pub(super) fn has_msi(&self) -> bool {
        self.list.iter().any(|region| region.kind == ResvKind::Msi)
    }

    /// The granules with a reserved address, as few spans, in ascending order.
    pub(super) fn merged(&self, granule: Alignment) -> Merged<'_> {
        Merged {
            list: &self.list,
            granule,
        }
    }

    /// The whole granules in `aperture` without a reserved address, as few spans, in ascending
    /// order.
    pub(super) fn gaps(&self, aperture: Span, granule: Alignment) -> Gaps<'_> {
        Gaps {
            left: aperture.align_in(granule),
            merged: self.merged(granule),
        }
    }
}

/// Iterates over the granules with a reserved address. No two spans touch.
///
/// # Invariants
///
/// `list` is in ascending order of the first addresses.
#[derive(Clone)]
pub(super) struct Merged<'a> {
    list: &'a [Region],
    granule: Alignment,
}

impl Iterator for Merged<'_> {
    type Item = Span;

    fn next(&mut self) -> Option<Span> {
        let (region, mut rest) = self.list.split_first()?;
        let mut span = region.span.align_out(self.granule);

        // Aligning keeps the order. Once a region does not touch, none of the later ones does.
        while let Some((region, others)) = rest.split_first() {
            let Some(joined) = span.join(region.span.align_out(self.granule)) else {
                break;
            };
            span = joined;
            rest = others;
        }
        // INVARIANT: The end of a sorted list is sorted.
        self.list = rest;
        Some(span)
    }
}

/// Iterates over the granules without a reserved address. No two spans touch, and all consist of
/// whole granules.
#[derive(Clone)]
pub(super) struct Gaps<'a> {
    /// The part of the aperture that was not looked at yet.
    left: Option<Span>,
    merged: Merged<'a>,
}

impl Iterator for Gaps<'_> {
    type Item = Span;

    fn next(&mut self) -> Option<Span> {
        loop {
            let left = self.left.take()?;
            let Some(reserved) = self.merged.next() else {
                return Some(left);
            };

            // What comes after the reserved span is still to be looked at.
            let after = reserved.last().checked_add(1);
            self.left = after.and_then(|after| Span::new(after.max(left.first()), left.last()));
            // What comes before it is free.
            let before = reserved.first().checked_sub(1);
            let gap = before.and_then(|before| Span::new(left.first(), before.min(left.last())));
            if gap.is_some() {
                return gap;
            }
        }
    }
}

#[cfg(CONFIG_VIRTIO_IOMMU_RUST_KUNIT_TEST)]
#[kunit_tests(viommu_reserved)]
mod tests {
    use super::*;

    /// Pairs of a first and a last address.
    type Pairs<'a> = &'a [(u64, u64)];

    fn regions(pairs: Pairs<'_>) -> Result<Regions> {
        let mut regions = Regions::new();
        for (first, last) in pairs {
            let region = Region {
                span: Span::new(*first, *last).ok_or(EINVAL)?,
                kind: ResvKind::Reserved,
            };
            regions.push(region, GFP_KERNEL)?;
        }
        Ok(regions)
    }

    fn page() -> Alignment {
        Alignment::new::<0x1000>()
    }

    fn same(spans: impl Iterator<Item = Span>, pairs: Pairs<'_>) -> bool {
        spans
            .map(|span| (span.first(), span.last()))
            .eq(pairs.iter().copied())
    }

    fn merges(pairs: Pairs<'_>, expected: Pairs<'_>) -> Result<bool> {
        Ok(same(regions(pairs)?.merged(page()), expected))
    }

    fn leaves(aperture: (u64, u64), pairs: Pairs<'_>, expected: Pairs<'_>) -> Result<bool> {
        let aperture = Span::new(aperture.0, aperture.1).ok_or(EINVAL)?;
        Ok(same(regions(pairs)?.gaps(aperture, page()), expected))
    }

    const ALL: (u64, u64) = (0, u64::MAX);

    #[test]
    fn sorted() -> Result {
        let regions = regions(&[(30, 39), (10, 19), (20, 25), (10, 12), (0, 100)])?;
        assert!(same(
            regions.as_slice().iter().map(|region| region.span),
            // Of regions with the same beginning, the first comes first.
            &[(0, 100), (10, 19), (10, 12), (20, 25), (30, 39)]
        ));
        Ok(())
    }

    #[test]
    fn msi() -> Result {
        let mut regions = regions(&[(0, 1)])?;
        assert!(!regions.has_msi());
        let region = Region {
            span: Span::new(0xfee00000, 0xfeefffff).ok_or(EINVAL)?,
            kind: ResvKind::Msi,
        };
        regions.push(region, GFP_KERNEL)?;
        assert!(regions.has_msi());
        Ok(())
    }

    #[test]
    fn merging() -> Result {
        assert!(merges(&[], &[])?);
        // Unsorted and apart.
        assert!(merges(
            &[(0x8000, 0x8fff), (0x1000, 0x1fff)],
            &[(0x1000, 0x1fff), (0x8000, 0x8fff)]
        )?);
        // Overlapping, one in the other, and touching.
        assert!(merges(
            &[(0x2000, 0x4fff), (0x1000, 0x2fff)],
            &[(0x1000, 0x4fff)]
        )?);
        assert!(merges(
            &[(0x1000, 0x8fff), (0x2000, 0x2fff), (0x4000, 0x4fff)],
            &[(0x1000, 0x8fff)]
        )?);
        assert!(merges(
            &[(0x2000, 0x2fff), (0x1000, 0x1fff), (0x3000, 0x3fff)],
            &[(0x1000, 0x3fff)]
        )?);
        assert!(merges(
            &[(0x1000, 0x1fff), (0x1000, 0x1fff)],
            &[(0x1000, 0x1fff)]
        )?);
        Ok(())
    }

    #[test]
    fn alignment() -> Result {
        assert!(merges(&[(0x1234, 0x1234)], &[(0x1000, 0x1fff)])?);
        assert!(merges(&[(0x1fff, 0x2000)], &[(0x1000, 0x2fff)])?);
        // Apart, but in the same granule or in neighbouring ones.
        assert!(merges(
            &[(0x1010, 0x1020), (0x1800, 0x1810)],
            &[(0x1000, 0x1fff)]
        )?);
        assert!(merges(
            &[(0x2800, 0x2810), (0x1010, 0x1020)],
            &[(0x1000, 0x2fff)]
        )?);
        assert!(merges(&[(0, 0)], &[(0, 0xfff)])?);
        assert!(merges(
            &[(u64::MAX, u64::MAX), (0, 0)],
            &[(0, 0xfff), (u64::MAX - 0xfff, u64::MAX)]
        )?);
        Ok(())
    }

    #[test]
    fn gaps_of_a_pc() -> Result {
        assert!(leaves(
            ALL,
            &[(0xfee00000, 0xfeefffff)],
            &[(0, 0xfedfffff), (0xfef00000, u64::MAX)]
        )?);
        Ok(())
    }

    #[test]
    fn gaps_without_regions() -> Result {
        assert!(leaves(ALL, &[], &[ALL])?);
        assert!(leaves((0x800, 0x37ff), &[], &[(0x1000, 0x2fff)])?);
        // Not one whole granule.
        assert!(leaves((0x1001, 0x2ffe), &[], &[])?);
        assert!(leaves((u64::MAX, u64::MAX), &[], &[])?);
        Ok(())
    }

    #[test]
    fn gaps_between_regions() -> Result {
        assert!(leaves(
            (0, 0xffff),
            &[(0x8000, 0x8000), (0x2000, 0x3fff), (0x3800, 0x4fff)],
            &[(0, 0x1fff), (0x5000, 0x7fff), (0x9000, 0xffff)]
        )?);
        // The granules around touch: no gap between.
        assert!(leaves(
            (0, 0xffff),
            &[(0x2800, 0x2fff), (0x3000, 0x3001)],
            &[(0, 0x1fff), (0x4000, 0xffff)]
        )?);
        // Many bytes, but no whole granule.
        assert!(leaves((0, 0x3fff), &[(0, 0x1000), (0x2fff, 0x3fff)], &[])?);
        Ok(())
    }

    #[test]
    fn gaps_at_the_ends() -> Result {
        assert!(leaves(ALL, &[(0, 0)], &[(0x1000, u64::MAX)])?);
        assert!(leaves(
            ALL,
            &[(u64::MAX, u64::MAX)],
            &[(0, u64::MAX - 0x1000)]
        )?);
        assert!(leaves(
            ALL,
            &[(u64::MAX - 0xfff, u64::MAX), (0, 0xfff)],
            &[(0x1000, u64::MAX - 0x1000)]
        )?);
        // Nothing is left.
        assert!(leaves(ALL, &[(1, u64::MAX)], &[])?);
        assert!(leaves(ALL, &[(0, u64::MAX - 1)], &[])?);
        assert!(leaves(ALL, &[(0, 1 << 40), (1 << 39, u64::MAX)], &[])?);
        Ok(())
    }

    #[test]
    fn gaps_of_an_aperture_cut_by_regions() -> Result {
        let aperture = (0x10000, 0x1ffff);

        // Outside, and touching from outside.
        assert!(leaves(
            aperture,
            &[(0, 0xfff), (0x30000, u64::MAX)],
            &[aperture]
        )?);
        assert!(leaves(
            aperture,
            &[(0, 0xffff), (0x20000, 0x20fff)],
            &[aperture]
        )?);
        // Over the ends, and over all of it.
        assert!(leaves(
            aperture,
            &[(0, 0x10fff), (0x1f000, 0x30000)],
            &[(0x11000, 0x1efff)]
        )?);
        assert!(leaves(aperture, &[(0, u64::MAX - 1)], &[])?);
        assert!(leaves(aperture, &[(0x10000, 0x1ffff)], &[])?);
        assert!(leaves(
            aperture,
            &[(0x10000, 0x10000), (0x1ffff, 0x1ffff)],
            &[(0x11000, 0x1efff)]
        )?);
        Ok(())
    }

    #[test]
    fn granules_of_all_sizes() -> Result {
        let regions = regions(&[(5, 6)])?;

        let byte = Alignment::new::<1>();
        assert!(same(
            regions.gaps(Span::ALL, byte),
            &[(0, 4), (7, u64::MAX)]
        ));
        let half = Alignment::new_checked(1 << 63).ok_or(EINVAL)?;
        assert!(same(regions.gaps(Span::ALL, half), &[(1 << 63, u64::MAX)]));
        Ok(())
    }

    #[test]
    fn gaps_and_regions_cover_the_aperture() -> Result {
        // A linear congruential generator (Knuth's MMIX constants): the same in each run.
        let mut state = 3u64;
        let mut random = move |below: u64| {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 33) % below
        };
        let granule = Alignment::new::<4>();

        for round in 0..200 {
            // The same picture at both ends of the address space.
            let base = if round % 2 == 0 { 0 } else { u64::MAX - 255 };
            let mut regions = Regions::new();
            for _ in 0..random(6) {
                let first = random(256);
                let last = (first + random(40)).min(255);
                let region = Region {
                    span: Span::new(base + first, base + last).ok_or(EINVAL)?,
                    kind: ResvKind::Reserved,
                };
                regions.push(region, GFP_KERNEL)?;
            }
            let first = random(256);
            let aperture = Span::new(base + first, base + first + random(256 - first));
            let aperture = aperture.ok_or(EINVAL)?;

            for offset in 0..=255 {
                let address = base + offset;
                let one = Span::new(address, address).ok_or(EINVAL)?;
                let own = one.align_out(granule);
                let free = aperture.join(own) == Some(aperture)
                    && !regions
                        .as_slice()
                        .iter()
                        .any(|region| region.span.overlaps(own));
                let gaps = regions
                    .gaps(aperture, granule)
                    .filter(|gap| gap.overlaps(one))
                    .count();
                assert_eq!(gaps, usize::from(free));
            }
            let mut gaps = regions.gaps(aperture, granule);
            while let Some(gap) = gaps.next() {
                assert_eq!(gap.align_in(granule), Some(gap));
                assert!(gaps
                    .clone()
                    .all(|later| { later.first() > gap.last() && later.join(gap).is_none() }));
            }
        }
        Ok(())
    }
}
