// SPDX-License-Identifier: GPL-2.0

//! Ranges of addresses, of which the last one belongs to the range.
//!
//! So does virtio-iommu have them: such a range can reach the end of the 64-bit space. Its size may
//! then be 2^64, which is no [`u64`], and neither is the address after its last one.

use kernel::{
    fmt,
    prelude::*,
    ptr::{
        Alignable,
        Alignment, //
    }, //
};

/// A range of 64-bit addresses, with both ends included.
///
/// # Invariants
///
/// `first <= last`: a span holds at least one address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Span {
    first: u64,
    last: u64,
}

impl Span {
    /// Every address there is.
    pub(crate) const ALL: Self = Self {
        // INVARIANT: 0 <= `u64::MAX`.
        first: 0,
        last: u64::MAX,
    };

    /// The span from `first` to `last`, both included; [`None`] if they are reversed.
    #[inline]
    pub(crate) const fn new(first: u64, last: u64) -> Option<Self> {
        if first > last {
            return None;
        }
        // INVARIANT: `first <= last` was checked.
        Some(Self { first, last })
    }

    /// The span of `size` bytes from `first` on; [`None`] if it would be empty, or end after the
    /// last 64-bit address.
    #[inline]
    pub(crate) fn from_size(first: u64, size: usize) -> Option<Self> {
        // `usize` has at most 64 bits on every architecture.
        let last = first.checked_add((size as u64).checked_sub(1)?)?;
        // INVARIANT: `last` is `first` plus something, and the sum did not wrap.
        Some(Self { first, last })
    }

    /// The lowest address.
    #[inline]
    pub(crate) const fn first(self) -> u64 {
        self.first
    }

    /// The highest address: the last one that belongs to the span.
    #[inline]
    pub(crate) const fn last(self) -> u64 {
        self.last
    }

    /// The number of bytes, with [`u64::MAX`] in the place of 2^64.
    #[inline]
    pub(crate) const fn size_saturating(self) -> u64 {
        // By the invariant this does not wrap.
        self.last.wrapping_sub(self.first).saturating_add(1)
    }

    /// The addresses that both have; [`None`] if there is none.
    #[inline]
    pub(crate) fn common(self, other: Self) -> Option<Self> {
        Self::new(self.first.max(other.first), self.last.min(other.last))
    }

    /// Whether all addresses of `other` are here.
    #[inline]
    pub(crate) fn contains(self, other: Self) -> bool {
        self.first <= other.first && other.last <= self.last
    }

    /// Whether the two have an address in common.
    #[inline]
    pub(crate) fn overlaps(self, other: Self) -> bool {
        self.common(other).is_some()
    }

    /// The two as one span, if they overlap or one begins where the other ends.
    pub(crate) fn join(self, other: Self) -> Option<Self> {
        // Nothing begins after the last address there is, where the sum saturates.
        let reaches = |a: Self, b: Self| b.first <= a.last.saturating_add(1);
        (reaches(self, other) && reaches(other, self)).then(|| self.cover(other))
    }

    /// The smallest span that holds both.
    #[inline]
    pub(crate) fn cover(self, other: Self) -> Self {
        // INVARIANT: The start can only get lower, and the end higher.
        Self {
            first: self.first.min(other.first),
            last: self.last.max(other.last),
        }
    }

    /// The whole granules in the span; [`None`] if there is not one.
    pub(crate) fn align_in(self, granule: Alignment) -> Option<Self> {
        let first = self.first.align_up(granule)?;
        let last = if self.last == self.align_out(granule).last {
            self.last
        } else {
            // The last granule is cut. The one before it, if any, is whole.
            self.last.align_down(granule).checked_sub(1)?
        };
        Self::new(first, last)
    }

    /// All granules that the span touches.
    pub(crate) fn align_out(self, granule: Alignment) -> Self {
        // INVARIANT: The start can only get lower, and the end higher: bits below the granule are
        // cleared, or set.
        Self {
            first: self.first.align_down(granule),
            last: self.last | !granule.mask() as u64,
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_fmt(fmt!("{:#x}-{:#x}", self.first, self.last))
    }
}

#[cfg(CONFIG_VIRTIO_IOMMU_RUST_KUNIT_TEST)]
#[kunit_tests(viommu_span)]
mod tests {
    use super::*;

    fn span(first: u64, last: u64) -> Span {
        Span::new(first, last).unwrap_or(Span::ALL)
    }

    const BYTE: Alignment = Alignment::new::<1>();
    const PAGE: Alignment = Alignment::new::<0x1000>();

    /// Half of the space.
    fn half() -> Alignment {
        Alignment::new_checked(1 << 63).unwrap()
    }

    #[test]
    fn construction() {
        assert_eq!(Span::new(5, 4), None);
        assert_eq!(Span::new(u64::MAX, 0), None);
        assert_eq!(Span::new(7, 7).map(Span::size_saturating), Some(1));
        assert_eq!(Span::new(0, u64::MAX), Some(Span::ALL));
        assert_eq!(Span::from_size(0x1000, 0), None);
        assert_eq!(Span::from_size(0x1000, 0x1000), Span::new(0x1000, 0x1fff));
        assert_eq!(Span::from_size(u64::MAX, 1), Span::new(u64::MAX, u64::MAX));
        assert_eq!(Span::from_size(u64::MAX, 2), None);
        assert_eq!(
            Span::from_size(u64::MAX - 0xfff, 0x1000),
            Span::new(u64::MAX - 0xfff, u64::MAX)
        );
        assert_eq!(Span::from_size(u64::MAX - 0xfff, 0x1001), None);
        assert_eq!(
            Span::from_size(0, usize::MAX),
            Span::new(0, usize::MAX as u64 - 1)
        );
        assert_eq!(Span::from_size(2, usize::MAX).is_some(), usize::BITS < 64);
    }

    #[test]
    fn sizes() {
        assert_eq!(Span::ALL.size_saturating(), u64::MAX);
        assert_eq!(span(1, u64::MAX).size_saturating(), u64::MAX);
        assert_eq!(span(2, u64::MAX).size_saturating(), u64::MAX - 1);
        assert_eq!(span(0x1000, 0x2fff).size_saturating(), 0x2000);
    }

    #[test]
    fn relations() {
        let a = span(10, 19);

        for (other, overlaps, touches) in [
            (span(0, 8), false, false),
            (span(0, 9), false, true),
            (span(0, 10), true, true),
            (span(12, 13), true, true),
            (Span::ALL, true, true),
            (span(19, 30), true, true),
            (span(20, 30), false, true),
            (span(21, 30), false, false),
            (span(u64::MAX, u64::MAX), false, false),
        ] {
            assert_eq!(a.overlaps(other), overlaps);
            assert_eq!(other.overlaps(a), overlaps);
            assert_eq!(a.join(other).is_some(), touches);
            assert_eq!(other.join(a), a.join(other));
        }
    }

    #[test]
    fn ends_of_the_space() {
        let low = span(0, u64::MAX - 1);
        let high = span(u64::MAX, u64::MAX);

        assert!(!low.overlaps(high));
        assert_eq!(low.join(high), Some(Span::ALL));
        assert_eq!(high.join(low), Some(Span::ALL));
        // The end of the space does not touch its beginning.
        assert_eq!(high.join(span(0, 0)), None);
        assert_eq!(span(0, 0).join(high), None);
        assert_eq!(Span::ALL.join(Span::ALL), Some(Span::ALL));
        assert_eq!(span(0, 0).cover(high), Span::ALL);
    }

    #[test]
    fn combination() {
        assert_eq!(
            span(0x1000, 0x1fff).join(span(0x2000, 0x2fff)),
            Some(span(0x1000, 0x2fff))
        );
        assert_eq!(
            span(0x2000, 0x2fff).join(span(0x1000, 0x1fff)),
            Some(span(0x1000, 0x2fff))
        );
        assert_eq!(span(0x1000, 0x1fff).join(span(0x2001, 0x2fff)), None);
        assert_eq!(span(0, 9).cover(span(20, 29)), span(0, 29));
        assert_eq!(span(0, 9).common(span(5, 29)), Some(span(5, 9)));
        assert_eq!(span(0, 9).common(span(10, 29)), None);
        assert!(span(5, 9).contains(span(5, 9)));
        assert!(span(5, 9).contains(span(6, 6)));
        assert!(!span(5, 9).contains(span(4, 9)));
        assert!(!span(5, 9).contains(span(5, 10)));
        assert!(!span(5, 9).contains(Span::ALL));
    }

    #[test]
    fn align_in() {
        for (granule, of, expected) in [
            (PAGE, (0x1000, 0x1fff), Some((0x1000, 0x1fff))),
            (PAGE, (0x0fff, 0x2000), Some((0x1000, 0x1fff))),
            (PAGE, (0x0000, 0x1ffe), Some((0x0000, 0x0fff))),
            (PAGE, (0x0001, 0x0fff), None),
            (PAGE, (0x0000, 0x0ffe), None),
            (PAGE, (0x0fff, 0x1000), None),
            (PAGE, (0x1001, 0x2ffe), None),
            (PAGE, (0, u64::MAX), Some((0, u64::MAX))),
            (PAGE, (1, u64::MAX), Some((0x1000, u64::MAX))),
            (PAGE, (0, u64::MAX - 1), Some((0, u64::MAX - 0x1000))),
            (
                PAGE,
                (u64::MAX - 0xfff, u64::MAX),
                Some((u64::MAX - 0xfff, u64::MAX)),
            ),
            (PAGE, (u64::MAX - 0xffe, u64::MAX), None),
            (PAGE, (u64::MAX, u64::MAX), None),
            (half(), (0, u64::MAX), Some((0, u64::MAX))),
            (half(), (1, u64::MAX), Some((1 << 63, u64::MAX))),
            (half(), ((1 << 63) + 1, u64::MAX), None),
            (BYTE, (3, 5), Some((3, 5))),
            (BYTE, (0, u64::MAX), Some((0, u64::MAX))),
        ] {
            let expected = expected.map(|(first, last)| span(first, last));
            assert_eq!(span(of.0, of.1).align_in(granule), expected);
        }
    }

    #[test]
    fn align_out() {
        for (granule, of, expected) in [
            (PAGE, (0x1fff, 0x2000), (0x1000, 0x2fff)),
            (PAGE, (0x1000, 0x1fff), (0x1000, 0x1fff)),
            (PAGE, (u64::MAX, u64::MAX), (u64::MAX - 0xfff, u64::MAX)),
            (PAGE, (0, u64::MAX), (0, u64::MAX)),
            (half(), (5, 5), (0, (1 << 63) - 1)),
            (BYTE, (3, 5), (3, 5)),
        ] {
            let expected = span(expected.0, expected.1);
            assert_eq!(span(of.0, of.1).align_out(granule), expected);
        }
    }
}
