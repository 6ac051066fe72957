// SPDX-License-Identifier: GPL-2.0

//! Ranges of addresses with an inclusive end, and the page granule.
//!
//! virtio-iommu names the last address of a range, not the one after it, so that a range can reach
//! the end of the 64-bit space. [`Span`] does the same. Its size, up to 2^64, may then not fit a
//! [`u64`]; nothing here computes an end plus one unless it checks for that.

use kernel::{
    fmt,
    prelude::*, //
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
    pub(crate) const fn from_size(first: u64, size: usize) -> Option<Self> {
        // `usize` has at most 64 bits on every architecture.
        let Some(beyond) = (size as u64).checked_sub(1) else {
            return None;
        };
        let Some(last) = first.checked_add(beyond) else {
            return None;
        };
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
        self.last.wrapping_sub(self.first).saturating_add(1)
    }

    /// All but the last granule. There has to be more than that.
    pub(crate) const fn without_last(self, granule: Granule) -> Self {
        let last = self.last - granule.bytes();
        // INVARIANT: It is not reversed, as there is more than one granule.
        Self { last, ..self }
    }

    /// The addresses that both have; [`None`] if there is none.
    pub(crate) const fn common(self, other: Self) -> Option<Self> {
        let first = if self.first > other.first {
            self.first
        } else {
            other.first
        };
        let last = if self.last < other.last {
            self.last
        } else {
            other.last
        };
        Self::new(first, last)
    }

    /// Whether `address` belongs to the span.
    #[inline]
    pub(crate) const fn contains(self, address: u64) -> bool {
        self.first <= address && address <= self.last
    }

    /// Whether the two have an address in common.
    #[inline]
    pub(crate) const fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// Whether the two overlap or one begins where the other ends, so that together they are one
    /// span.
    #[inline]
    pub(crate) const fn touches(self, other: Self) -> bool {
        // Saturation is harmless: nothing lies after `u64::MAX`.
        self.first <= other.last.saturating_add(1) && other.first <= self.last.saturating_add(1)
    }

    /// The two as one span, if they touch.
    #[inline]
    pub(crate) const fn join(self, other: Self) -> Option<Self> {
        if !self.touches(other) {
            return None;
        }
        Some(self.hull(other))
    }

    /// The smallest span that holds both.
    #[inline]
    pub(crate) const fn hull(self, other: Self) -> Self {
        // INVARIANT: The lower of two starts is not above the higher of two ends, as each start is
        // not above its own end.
        Self {
            first: if self.first < other.first {
                self.first
            } else {
                other.first
            },
            last: if self.last > other.last {
                self.last
            } else {
                other.last
            },
        }
    }

    /// The whole granules in the span; [`None`] if there is not one.
    pub(crate) const fn align_in(self, granule: Granule) -> Option<Self> {
        let Some(first) = granule.align_up(self.first) else {
            return None;
        };
        // The last granule counts if the address after the span begins another. That address may
        // be 2^64: it does begin one, and wraps to zero, of which all this remains true.
        let Some(last) = granule.align_down(self.last.wrapping_add(1)).checked_sub(1) else {
            // The end rounds down to 0: nothing is left, unless the span ends at 2^64 - 1.
            return if self.last == u64::MAX {
                Self::new(first, u64::MAX)
            } else {
                None
            };
        };
        Self::new(first, last)
    }

    /// All granules that the span touches.
    #[inline]
    pub(crate) const fn align_out(self, granule: Granule) -> Self {
        // INVARIANT: The start can only get lower and the end higher; neither can wrap, as only
        // the bits below the granule are cleared or set.
        Self {
            first: granule.align_down(self.first),
            last: self.last | granule.mask(),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_fmt(fmt!("{:#x}-{:#x}", self.first, self.last))
    }
}

/// The smallest unit that an IOMMU maps, in bytes.
///
/// # Invariants
///
/// The value is a power of two.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Granule(u64);

impl Granule {
    /// A granule of `bytes`; [`None`] if that is not a power of two.
    #[inline]
    pub(crate) const fn new(bytes: u64) -> Option<Self> {
        if !bytes.is_power_of_two() {
            return None;
        }
        // INVARIANT: `bytes` was found to be a power of two.
        Some(Self(bytes))
    }

    /// The smallest page size in a bitmap of page sizes; [`None`] if the bitmap is empty.
    #[inline]
    pub(crate) const fn from_mask(page_sizes: u64) -> Option<Self> {
        // The lowest bit that is set: a power of two, or zero, which `new` refuses.
        Self::new(page_sizes & page_sizes.wrapping_neg())
    }

    /// The size in bytes.
    #[inline]
    pub(crate) const fn bytes(self) -> u64 {
        self.0
    }

    /// The address bits below the granule.
    #[inline]
    const fn mask(self) -> u64 {
        // By the type invariant the value is at least 1: this does not wrap.
        self.0.wrapping_sub(1)
    }

    /// The start of the granule that holds `address`.
    #[inline]
    pub(crate) const fn align_down(self, address: u64) -> u64 {
        address & !self.mask()
    }

    /// The lowest start of a granule that is not below `address`; [`None`] if that is 2^64.
    #[inline]
    pub(crate) const fn align_up(self, address: u64) -> Option<u64> {
        let Some(up) = address.checked_add(self.mask()) else {
            return None;
        };
        Some(self.align_down(up))
    }
}

impl fmt::Display for Granule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_fmt(fmt!("{:#x}", self.0))
    }
}

#[cfg(CONFIG_VIRTIO_IOMMU_RUST_KUNIT_TEST)]
#[kunit_tests(viommu_span)]
mod tests {
    use super::*;

    fn span(first: u64, last: u64) -> Span {
        Span::new(first, last).unwrap_or(Span::ALL)
    }

    fn granule(bytes: u64) -> Granule {
        Granule(bytes)
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

        assert!(a.contains(10) && a.contains(19));
        assert!(!a.contains(9) && !a.contains(20));

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
            assert_eq!(a.touches(other), touches);
            assert_eq!(other.touches(a), touches);
            assert_eq!(a.join(other).is_some(), touches);
        }
    }

    #[test]
    fn ends_of_the_space() {
        let low = span(0, u64::MAX - 1);
        let high = span(u64::MAX, u64::MAX);

        assert!(!low.overlaps(high));
        assert!(low.touches(high) && high.touches(low));
        assert_eq!(low.join(high), Some(Span::ALL));
        // The end of the space does not touch its beginning.
        assert!(!high.touches(span(0, 0)) && !span(0, 0).touches(high));
        assert!(Span::ALL.touches(Span::ALL));
        assert_eq!(span(0, 0).hull(high), Span::ALL);
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
        assert_eq!(span(0, 9).hull(span(20, 29)), span(0, 29));
    }

    #[test]
    fn granules() {
        assert_eq!(Granule::new(0), None);
        assert_eq!(Granule::new(3), None);
        assert_eq!(Granule::new(1).map(Granule::bytes), Some(1));
        assert_eq!(Granule::from_mask(0), None);
        assert_eq!(Granule::from_mask(!0xfff), Granule::new(0x1000));
        assert_eq!(Granule::from_mask(1 << 63), Granule::new(1 << 63));
        assert_eq!(Granule::from_mask(u64::MAX), Granule::new(1));

        let page = granule(0x1000);
        assert_eq!(page.align_down(0x1fff), 0x1000);
        assert_eq!(page.align_up(0), Some(0));
        assert_eq!(page.align_up(1), Some(0x1000));
        assert_eq!(page.align_up(0x1000), Some(0x1000));
        assert_eq!(page.align_up(u64::MAX - 0xfff), Some(u64::MAX - 0xfff));
        assert_eq!(page.align_up(u64::MAX - 0xffe), None);
        assert_eq!(page.align_up(u64::MAX), None);
        assert_eq!(granule(1).align_up(u64::MAX), Some(u64::MAX));
        assert_eq!(granule(1 << 63).align_up(1), Some(1 << 63));
        assert_eq!(granule(1 << 63).align_up((1 << 63) + 1), None);
    }

    #[test]
    fn align_in() {
        let page = granule(0x1000);

        assert_eq!(
            span(0x1000, 0x1fff).align_in(page),
            Some(span(0x1000, 0x1fff))
        );
        assert_eq!(
            span(0x0fff, 0x2000).align_in(page),
            Some(span(0x1000, 0x1fff))
        );
        assert_eq!(span(0x0001, 0x0fff).align_in(page), None);
        assert_eq!(span(0x0000, 0x0ffe).align_in(page), None);
        assert_eq!(span(0x0fff, 0x1000).align_in(page), None);
        assert_eq!(span(0x1001, 0x2ffe).align_in(page), None);
        assert_eq!(Span::ALL.align_in(page), Some(Span::ALL));
        assert_eq!(
            span(1, u64::MAX).align_in(page),
            Some(span(0x1000, u64::MAX))
        );
        assert_eq!(
            span(0, u64::MAX - 1).align_in(page),
            Some(span(0, u64::MAX - 0x1000))
        );
        assert_eq!(
            span(u64::MAX - 0xfff, u64::MAX).align_in(page),
            Some(span(u64::MAX - 0xfff, u64::MAX))
        );
        assert_eq!(span(u64::MAX - 0xffe, u64::MAX).align_in(page), None);
        assert_eq!(span(u64::MAX, u64::MAX).align_in(page), None);
        assert_eq!(Span::ALL.align_in(granule(1 << 63)), Some(Span::ALL));
        assert_eq!(span(3, 5).align_in(granule(1)), Some(span(3, 5)));
        assert_eq!(Span::ALL.align_in(granule(1)), Some(Span::ALL));
    }

    #[test]
    fn align_out() {
        let page = granule(0x1000);

        assert_eq!(span(0x1fff, 0x2000).align_out(page), span(0x1000, 0x2fff));
        assert_eq!(span(0x1000, 0x1fff).align_out(page), span(0x1000, 0x1fff));
        assert_eq!(
            span(u64::MAX, u64::MAX).align_out(page),
            span(u64::MAX - 0xfff, u64::MAX)
        );
        assert_eq!(
            span(5, 5).align_out(granule(1 << 63)),
            span(0, (1 << 63) - 1)
        );
        assert_eq!(Span::ALL.align_out(page), Span::ALL);
    }
}
