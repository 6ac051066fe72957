// SPDX-License-Identifier: GPL-2.0

//! Ranges that were unmapped and that the device has not been told of.
//!
//! With lazy invalidation the core allows mappings to live on in the device until it asks for a
//! flush, and does not use their addresses again before. The UNMAPs wait here until then, since
//! ranges that touch become one.

use crate::uapi::Span;

/// How many ranges can wait.
const MAX_PENDING: usize = 64;

/// Ranges of a domain that are to be unmapped.
///
/// # Invariants
///
/// `count <= MAX_PENDING`. The first `count` elements of `spans` are in ascending order, and no two
/// touch; the others mean nothing.
pub(super) struct Unmapped {
    spans: [Span; MAX_PENDING],
    count: usize,
}

impl Unmapped {
    /// Nothing.
    pub(super) const fn new() -> Self {
        // INVARIANT: No element counts.
        Self {
            spans: [Span::ALL; MAX_PENDING],
            count: 0,
        }
    }

    /// Adds a range. Returns whether there was room.
    ///
    /// Each range has to consist of whole mappings, and none is added twice before it is taken.
    /// What ranges become when they are joined then consists of whole mappings, too, so that the
    /// device does not have to split one (virtio 1.3, section 5.13.6.6).
    #[inline]
    pub(super) fn add(&mut self, span: Span) -> bool {
        let spans = &mut self.spans[..self.count];
        let place = spans.partition_point(|waiting| waiting.first() < span.first());
        let (below, above) = spans.split_at_mut(place);

        let ends_before = |span: Span, next: Span| next.first().wrapping_sub(span.last()) == 1;

        // INVARIANT: What touches becomes one, so that no two touch. The order is kept.
        match (below.last_mut(), above.first_mut()) {
            (Some(below), above) if ends_before(*below, span) => {
                *below = below.hull(span);
                if let Some(above) = above.filter(|above| ends_before(span, **above)) {
                    *below = below.hull(*above);
                    self.remove(place);
                }
            }
            (_, Some(above)) if ends_before(span, *above) => *above = above.hull(span),
            _ => return self.insert(place, span),
        }
        true
    }

    /// Inserts a range before the one at `place`. Returns whether there was room.
    fn insert(&mut self, place: usize, span: Span) -> bool {
        if self.count == MAX_PENDING {
            return false;
        }
        self.spans.copy_within(place..self.count, place + 1);
        self.spans[place] = span;
        self.count += 1;
        true
    }

    /// Removes the range at `place`.
    fn remove(&mut self, place: usize) {
        self.spans.copy_within(place + 1..self.count, place);
        self.count -= 1;
    }

    /// The highest of the ranges.
    #[inline]
    pub(super) fn last(&self) -> Option<Span> {
        self.spans[..self.count].last().copied()
    }

    /// Removes the range that [`Self::last`] returns.
    #[inline]
    pub(super) fn remove_last(&mut self) {
        self.count = self.count.saturating_sub(1);
    }

    /// Removes all ranges.
    pub(super) fn clear(&mut self) {
        self.count = 0;
    }
}

#[cfg(CONFIG_VIRTIO_IOMMU_RUST_KUNIT_TEST)]
#[kernel::macros::kunit_tests(viommu_unmapped)]
mod tests {
    use super::*;

    fn span(first: u64, last: u64) -> Span {
        Span::new(first, last).unwrap()
    }

    /// Takes all ranges out.
    fn drain(pending: &mut Unmapped) -> [Option<Span>; 4] {
        let mut spans = [None; 4];
        for place in &mut spans {
            *place = pending.last();
            pending.remove_last();
        }
        assert_eq!(pending.last(), None);
        spans
    }

    #[test]
    fn nothing_at_first() {
        assert_eq!(drain(&mut Unmapped::new()), [None; 4]);
    }

    #[test]
    fn neighbours_become_one() {
        let mut pending = Unmapped::new();
        for (first, last) in [(10, 19), (20, 29), (0, 9)] {
            assert!(pending.add(span(first, last)));
        }
        assert_eq!(drain(&mut pending), [Some(span(0, 29)), None, None, None]);
    }

    #[test]
    fn a_gap_keeps_apart() {
        let mut pending = Unmapped::new();
        for (first, last) in [(11, 19), (0, 9), (21, 29)] {
            assert!(pending.add(span(first, last)));
        }
        let expected = [(21, 29), (11, 19), (0, 9)].map(|(first, last)| Some(span(first, last)));
        assert_eq!(drain(&mut pending)[..3], expected);
    }

    #[test]
    fn a_gap_is_closed() {
        let mut pending = Unmapped::new();
        for (first, last) in [(0, 9), (100, 109), (20, 29), (10, 19)] {
            assert!(pending.add(span(first, last)));
        }
        let expected = [Some(span(100, 109)), Some(span(0, 29)), None, None];
        assert_eq!(drain(&mut pending), expected);
    }

    #[test]
    fn join_at_the_end_of_the_address_space() {
        let mut pending = Unmapped::new();
        let middle = 1 << 63;
        assert!(pending.add(span(middle, u64::MAX)));
        assert!(pending.add(span(0, middle - 1)));
        assert_eq!(drain(&mut pending), [Some(Span::ALL), None, None, None]);
    }

    #[test]
    fn room_is_bounded() {
        let mut pending = Unmapped::new();
        for number in 0..MAX_PENDING as u64 {
            assert!(pending.add(span(number * 2, number * 2)));
        }
        assert!(!pending.add(span(1000, 1000)));
        // One that joins another needs no room.
        assert!(pending.add(span(MAX_PENDING as u64 * 2 - 1, 999)));
        pending.remove_last();
        assert!(pending.add(span(2000, 2000)));
        pending.clear();
        assert_eq!(pending.last(), None);
    }
}
