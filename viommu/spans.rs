// SPDX-License-Identifier: GPL-2.0

//! Sets of addresses, in a bounded number of ranges.
//!
//! Pure code: it needs nothing of the kernel.

use crate::uapi::Span;

/// A set of addresses, in at most `ROOM` ranges.
///
/// # Invariants
///
/// `2 <= ROOM` and `count <= ROOM`. The first `count` elements of `spans` are in ascending order,
/// and no two overlap or touch; the others mean nothing.
pub(super) struct Spans<const ROOM: usize> {
    spans: [Span; ROOM],
    count: usize,
}

impl<const ROOM: usize> Spans<ROOM> {
    /// Nothing.
    pub(super) const fn new() -> Self {
        const { assert!(ROOM >= 2) };
        // INVARIANT: `ROOM` was checked, and no element counts.
        Self {
            spans: [Span::ALL; ROOM],
            count: 0,
        }
    }

    /// Whether there is no address.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn ranges(&self) -> &[Span] {
        &self.spans[..self.count]
    }

    /// Whether one of the addresses is in `span`.
    pub(super) fn overlaps(&self, span: Span) -> bool {
        let ranges = self.ranges();
        let from = ranges.partition_point(|range| range.last() < span.first());
        ranges[from..]
            .first()
            .is_some_and(|range| range.first() <= span.last())
    }

    /// Adds a range, which becomes one with those that it overlaps or touches. Returns whether
    /// there was room; nothing has changed if not.
    #[inline]
    pub(super) fn add(&mut self, span: Span) -> bool {
        let ranges = self.ranges();
        // Nothing comes after the last address there is, where the sums saturate.
        let from = ranges.partition_point(|range| range.last().saturating_add(1) < span.first());
        let end = span.last().saturating_add(1);
        let joined = ranges[from..]
            .iter()
            .take_while(|range| range.first() <= end);
        let (count, all) = joined.fold((0, span), |(count, all), range| {
            (count + 1, all.cover(*range))
        });
        self.replace(from, count, &[all])
    }

    /// Adds a range. If there is no room, all becomes one range, with what lies between.
    pub(super) fn add_or_cover(&mut self, span: Span) {
        if !self.add(span) {
            self.cover();
            // There is room for a second.
            let _ = self.add(span);
        }
    }

    /// Removes the addresses that are in `span`. Returns whether there was one.
    ///
    /// If a range would have to be split and there is no room, all becomes one range before, with
    /// what lies between.
    pub(super) fn remove(&mut self, span: Span) -> bool {
        let ranges = self.ranges();
        let from = ranges.partition_point(|range| range.last() < span.first());
        let cut = ranges[from..]
            .iter()
            .take_while(|range| range.first() <= span.last());
        let count = cut.count();
        let Some((first, last)) = ranges[from..from + count]
            .first()
            .zip(ranges[..from + count].last())
        else {
            return false;
        };
        let below = span
            .first()
            .checked_sub(1)
            .and_then(|end| Span::new(first.first(), end));
        let above = span
            .last()
            .checked_add(1)
            .and_then(|begin| Span::new(begin, last.last()));
        let done = match (below, above) {
            (Some(below), Some(above)) => self.replace(from, count, &[below, above]),
            (Some(rest), None) | (None, Some(rest)) => self.replace(from, count, &[rest]),
            (None, None) => self.replace(from, count, &[]),
        };
        if !done {
            self.cover();
            // There is room for what is left on both sides.
            let _ = self.remove(span);
        }
        true
    }

    /// Makes all one range, with what lies between.
    #[cold]
    fn cover(&mut self) {
        if let [first, .., last] = *self.ranges() {
            // INVARIANT: One range is in order.
            self.spans[0] = first.cover(last);
            self.count = 1;
        }
    }

    /// Puts ranges in the place of the `count` ranges from `from` on. Returns whether there was
    /// room; nothing has changed if not.
    ///
    /// They are in order, and overlap and touch none of those that stay.
    #[inline]
    fn replace(&mut self, from: usize, count: usize, new: &[Span]) -> bool {
        let rest = self.count - count;
        if new.len() > ROOM - rest {
            return false;
        }
        self.spans
            .copy_within(from + count..self.count, from + new.len());
        self.spans[from..from + new.len()].copy_from_slice(new);
        // INVARIANT: There is room, and the caller has seen to the order.
        self.count = rest + new.len();
        true
    }

    /// The highest of the ranges.
    #[inline]
    pub(super) fn last(&self) -> Option<Span> {
        self.ranges().last().copied()
    }

    /// Removes the range that [`Self::last`] returns.
    #[inline]
    pub(super) fn remove_last(&mut self) {
        self.count = self.count.saturating_sub(1);
    }

    /// Removes everything.
    pub(super) fn clear(&mut self) {
        self.count = 0;
    }
}

#[cfg(CONFIG_VIRTIO_IOMMU_RUST_KUNIT_TEST)]
#[kernel::macros::kunit_tests(viommu_spans)]
mod tests {
    use super::*;

    const ROOM: usize = 64;

    fn span(first: u64, last: u64) -> Span {
        Span::new(first, last).unwrap()
    }

    /// A set of these ranges.
    fn set(ranges: &[(u64, u64)]) -> Spans<ROOM> {
        let mut set = Spans::new();
        for &(first, last) in ranges {
            assert!(set.add(span(first, last)));
        }
        set
    }

    /// Takes all ranges out.
    fn drain(set: &mut Spans<ROOM>) -> [Option<Span>; 4] {
        let mut spans = [None; 4];
        for place in &mut spans {
            *place = set.last();
            set.remove_last();
        }
        assert_eq!(set.last(), None);
        assert!(set.is_empty());
        spans
    }

    #[test]
    fn nothing_at_first() {
        assert_eq!(drain(&mut Spans::new()), [None; 4]);
    }

    #[test]
    fn neighbours_become_one() {
        let mut pending = set(&[(10, 19), (20, 29), (0, 9)]);
        assert_eq!(drain(&mut pending), [Some(span(0, 29)), None, None, None]);
    }

    #[test]
    fn a_gap_keeps_apart() {
        let mut pending = set(&[(11, 19), (0, 9), (21, 29)]);
        let expected = [(21, 29), (11, 19), (0, 9)].map(|(first, last)| Some(span(first, last)));
        assert_eq!(drain(&mut pending)[..3], expected);
    }

    #[test]
    fn a_gap_is_closed() {
        let mut pending = set(&[(0, 9), (100, 109), (20, 29), (10, 19)]);
        let expected = [Some(span(100, 109)), Some(span(0, 29)), None, None];
        assert_eq!(drain(&mut pending), expected);
    }

    #[test]
    fn what_overlaps_becomes_one() {
        let mut ranges = set(&[(10, 19), (30, 39), (50, 59), (15, 32)]);
        let expected = [Some(span(50, 59)), Some(span(10, 39)), None, None];
        assert_eq!(drain(&mut ranges), expected);
    }

    #[test]
    fn join_at_the_end_of_the_address_space() {
        let middle = 1 << 63;
        let mut pending = set(&[(middle, u64::MAX), (0, middle - 1)]);
        assert_eq!(drain(&mut pending), [Some(Span::ALL), None, None, None]);
        let mut last = set(&[(u64::MAX, u64::MAX), (0, u64::MAX - 2)]);
        assert!(last.overlaps(span(u64::MAX, u64::MAX)));
        assert!(!last.overlaps(span(u64::MAX - 1, u64::MAX - 1)));
        assert!(last.remove(Span::ALL));
        assert!(last.is_empty());
    }

    #[test]
    fn overlaps_at_either_end() {
        let ranges = set(&[(10, 19), (30, 39)]);
        for (first, last) in [
            (0, 10),
            (19, 25),
            (12, 13),
            (25, 30),
            (39, u64::MAX),
            (0, u64::MAX),
        ] {
            assert!(ranges.overlaps(span(first, last)));
        }
        for (first, last) in [(0, 9), (20, 29), (40, u64::MAX)] {
            assert!(!ranges.overlaps(span(first, last)));
        }
    }

    #[test]
    fn a_part_is_removed() {
        let mut ranges = set(&[(10, 19), (30, 39), (50, 59)]);
        assert!(!ranges.remove(span(20, 29)));
        assert!(ranges.remove(span(15, 52)));
        assert!(!ranges.remove(span(15, 52)));
        assert!(ranges.remove(span(12, 12)));
        let expected = [(53, 59), (13, 14), (10, 11)].map(|(first, last)| Some(span(first, last)));
        assert_eq!(drain(&mut ranges)[..3], expected);
    }

    #[test]
    fn room_is_bounded() {
        let mut pending = Spans::<ROOM>::new();
        for number in 0..ROOM as u64 {
            assert!(pending.add(span(number * 2, number * 2)));
        }
        assert!(!pending.add(span(1000, 1000)));
        // One that joins another needs no room.
        assert!(pending.add(span(ROOM as u64 * 2 - 1, 999)));
        pending.remove_last();
        assert!(pending.add(span(2000, 2000)));
        pending.clear();
        assert_eq!(pending.last(), None);
    }

    #[test]
    fn without_room_all_is_covered() {
        let mut ranges = Spans::<2>::new();
        ranges.add_or_cover(span(10, 19));
        ranges.add_or_cover(span(30, 39));
        ranges.add_or_cover(span(50, 59));
        assert!(ranges.overlaps(span(25, 25)));
        assert!(!ranges.overlaps(span(45, 45)));
        assert!(ranges.overlaps(span(55, 55)));

        // What was covered can be removed, and what was not is left.
        assert!(ranges.remove(span(25, 25)));
        assert!(!ranges.overlaps(span(25, 25)));
        assert!(ranges.overlaps(span(10, 24)));
        assert!(ranges.overlaps(span(26, 39)));
        assert!(ranges.overlaps(span(55, 55)));
    }
}
