// SPDX-License-Identifier: GPL-2.0

//! The mappings of a domain, in a red-black tree.
//!
//! The driver keeps them to know what an UNMAP may name, as the device never splits a mapping; to
//! translate addresses; and to send them again when the device has dropped a domain.

use core::cmp::Ordering;

use kernel::{
    alloc::Flags,
    prelude::*,
    rbtree::{
        Entry,
        RBTree,
        RBTreeNodeReservation, //
    }, //
};

use crate::uapi::{
    MapFlags,
    Span, //
};

/// How many unused nodes are kept. Each takes 64 bytes.
const SPARE_NODES: usize = 8;

/// How many mappings are removed at most while interrupts are off.
const REMOVE_BATCH: usize = 128;

/// A mapping.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Mapping {
    /// The IO virtual addresses.
    pub(super) span: Span,
    /// The physical address to which the first of them is mapped.
    pub(super) phys: u64,
    /// What the endpoints may do there.
    pub(super) flags: MapFlags,
}

/// The place of a mapping in the tree.
///
/// Keys are compared as intervals: one is less than another if it ends before the other begins, and
/// *they are equal if they overlap*. This is not an equivalence of any two intervals, so it is no
/// proper order of them all, but it is one of those that are in the tree, as no two overlap; and
/// against these, a key of any interval is first greater, then equal, then less, in ascending
/// order. That is what a search in the tree relies on. It makes one descent find the mapping that
/// holds an address, or tell that a range is free and where in the tree it belongs.
#[derive(Clone, Copy)]
struct Key(Span);

impl Key {
    /// A key that is equal to that of the mapping which holds `address`.
    #[inline]
    fn at(address: u64) -> Self {
        // A span of one address, which is never refused.
        Self(Span::new(address, address).unwrap_or(Span::ALL))
    }
}

impl Ord for Key {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        if self.0.last() < other.0.first() {
            Ordering::Less
        } else if self.0.first() > other.0.last() {
            Ordering::Greater
        } else {
            Ordering::Equal
        }
    }
}

impl PartialOrd for Key {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Key {}

/// What a mapping leads to.
#[derive(Clone, Copy)]
struct Target {
    /// The physical address minus the IO virtual one, modulo 2^64.
    offset: u64,
    flags: MapFlags,
}

/// Memory for one mapping.
pub(super) struct Reservation(RBTreeNodeReservation<Key, Target>);

impl Reservation {
    /// Allocates the memory. May sleep, if `flags` say so: not to be called with the lock of the
    /// mappings held.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    #[inline]
    pub(super) fn new(flags: Flags) -> Result<Self> {
        Ok(Self(RBTreeNodeReservation::new(flags)?))
    }
}

/// Unused nodes. They save the allocator the work of freeing a node for each mapping that goes and
/// making one for each that comes.
///
/// # Invariants
///
/// The first `count` elements of `nodes` are [`Some`], the others [`None`].
struct Stash {
    nodes: [Option<Reservation>; SPARE_NODES],
    count: usize,
}

impl Stash {
    const fn new() -> Self {
        // INVARIANT: Nothing there, nothing counted.
        Self {
            nodes: [const { None }; SPARE_NODES],
            count: 0,
        }
    }

    /// Takes a node, if there is one.
    #[inline]
    fn take(&mut self) -> Option<Reservation> {
        let at = self.count.checked_sub(1)?;
        // INVARIANT: The last that is [`Some`] becomes [`None`], and is not counted any more.
        self.count = at;
        self.nodes.get_mut(at)?.take()
    }

    /// Keeps a node, or gives it back if there is no room.
    #[inline]
    fn put(&mut self, node: Reservation) -> Option<Reservation> {
        let Some(place) = self.nodes.get_mut(self.count) else {
            return Some(node);
        };
        // INVARIANT: The first that is [`None`] becomes [`Some`], and is counted.
        self.count = self.count.wrapping_add(1);
        place.replace(node)
    }
}

/// Why a mapping was not inserted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum InsertError {
    /// There is no memory for it at hand: see [`Mappings::refill`].
    NoNode,
    /// A part of the range is mapped already.
    Overlap,
}

impl From<InsertError> for Error {
    fn from(error: InsertError) -> Error {
        match error {
            InsertError::NoNode => ENOMEM,
            InsertError::Overlap => EEXIST,
        }
    }
}

/// The mappings of a domain, none of which overlap.
///
/// Nothing here locks or, except for [`Reservation::new`], allocates. To insert a mapping:
///
/// 1. With the lock held, try [`Mappings::insert`]. It uses a node that an earlier removal left.
/// 2. On [`InsertError::NoNode`], release the lock, make a [`Reservation`], take the lock again,
///    [`Mappings::refill`], and go back to 1.
///
/// # Invariants
///
/// No two keys of `tree` overlap.
pub(super) struct Mappings {
    tree: RBTree<Key, Target>,
    stash: Stash,
}

impl Mappings {
    /// No mapping.
    pub(super) fn new() -> Self {
        // INVARIANT: There are no keys.
        Self {
            tree: RBTree::new(),
            stash: Stash::new(),
        }
    }

    /// Adds memory for a mapping, or gives it back if there is enough. It is best dropped without
    /// the lock.
    pub(super) fn refill(&mut self, node: Reservation) -> Option<Reservation> {
        self.stash.put(node)
    }

    /// Inserts a mapping.
    ///
    /// # Errors
    ///
    /// [`InsertError`]. Nothing has changed then.
    #[inline]
    pub(super) fn insert(&mut self, mapping: Mapping) -> Result<(), InsertError> {
        let Entry::Vacant(entry) = self.tree.entry(Key(mapping.span)) else {
            return Err(InsertError::Overlap);
        };
        let Some(node) = self.stash.take() else {
            return Err(InsertError::NoNode);
        };
        let target = Target {
            offset: mapping.phys.wrapping_sub(mapping.span.first()),
            flags: mapping.flags,
        };
        // INVARIANT: The entry is vacant, so the key is not equal to any in the tree: it overlaps
        // none.
        entry.insert(target, node.0);
        Ok(())
    }

    /// Removes mappings from `span.first()` on: the one that begins there, the one that begins
    /// right after it, and so on. Ends with the first that reaches the end of `span`, before a
    /// hole, or after [`REMOVE_BATCH`]. A mapping is removed whole, even if it ends after `span`.
    ///
    /// Returns what was removed. [`None`] if no mapping begins at `span.first()`; one that reaches
    /// over it from below would have to be split, which the device does not do.
    #[inline]
    pub(super) fn remove_run(&mut self, span: Span) -> Option<Span> {
        let mut removed: Option<Span> = None;
        let mut begin = span.first();
        let mut cursor = self.tree.cursor_lower_bound_mut(&Key::at(begin));

        for _ in 0..REMOVE_BATCH {
            let Some(current) = cursor else {
                break;
            };
            let Key(found) = *current.current().0;
            if found.first() != begin {
                break;
            }
            let (next, node) = current.remove_current();
            // Frees the node if there is no room.
            let _ = self.stash.put(Reservation(node.into_reservation()));
            removed = Some(removed.map_or(found, |before| before.hull(found)));

            cursor = next;
            match found.last().checked_add(1) {
                Some(end) if end <= span.last() => begin = end,
                _ => break,
            }
        }
        removed
    }

    /// The physical address that `iova` is mapped to.
    #[inline]
    pub(super) fn translate(&self, iova: u64) -> Option<u64> {
        let target = self.tree.get(&Key::at(iova))?;
        Some(iova.wrapping_add(target.offset))
    }

    /// The mapping that holds `iova` or, if there is none, the next one after it.
    #[inline]
    pub(super) fn next_from(&self, iova: u64) -> Option<Mapping> {
        let cursor = self.tree.cursor_lower_bound(&Key::at(iova))?;
        let (Key(span), target) = cursor.current();
        Some(Mapping {
            span: *span,
            phys: span.first().wrapping_add(target.offset),
            flags: target.flags,
        })
    }
}

#[cfg(CONFIG_VIRTIO_IOMMU_RUST_KUNIT_TEST)]
#[kunit_tests(viommu_mappings)]
mod tests {
    use super::*;

    use crate::uapi::MapFlag;

    fn span(first: u64, last: u64) -> Span {
        Span::new(first, last).unwrap_or(Span::ALL)
    }

    fn mapping(first: u64, last: u64) -> Mapping {
        Mapping {
            span: span(first, last),
            phys: first ^ 0x1_0000_0000,
            flags: MapFlag::Read.into(),
        }
    }

    /// Inserts as the driver does.
    fn insert(mappings: &mut Mappings, mapping: Mapping) -> Result {
        loop {
            match mappings.insert(mapping) {
                Err(InsertError::NoNode) => {
                    let node = Reservation::new(GFP_KERNEL)?;
                    drop(mappings.refill(node));
                }
                result => return Ok(result?),
            }
        }
    }

    fn with(spans: &[(u64, u64)]) -> Result<Mappings> {
        let mut mappings = Mappings::new();
        for (first, last) in spans {
            insert(&mut mappings, mapping(*first, *last))?;
        }
        Ok(mappings)
    }

    /// Whether these, and no others, are mapped.
    fn holds(mappings: &Mappings, spans: &[(u64, u64)]) -> bool {
        let mut from = Some(0);
        for (first, last) in spans {
            let found = from.and_then(|from| mappings.next_from(from));
            if found != Some(mapping(*first, *last)) {
                return false;
            }
            from = last.checked_add(1);
        }
        mappings.tree.is_empty() == spans.is_empty()
            && from.and_then(|from| mappings.next_from(from)).is_none()
    }

    #[test]
    fn node_fits_64_bytes() {
        // After the three links of a node.
        assert!(3 * size_of::<usize>() + size_of::<Key>() + size_of::<Target>() <= 64);
    }

    #[test]
    fn insert_in_order() -> Result {
        let mappings = with(&[
            (0x3000, 0x3fff),
            (0x1000, 0x1fff),
            (0x2000, 0x2fff),
            (0, 0xfff),
        ])?;
        assert!(holds(
            &mappings,
            &[
                (0, 0xfff),
                (0x1000, 0x1fff),
                (0x2000, 0x2fff),
                (0x3000, 0x3fff)
            ]
        ));
        Ok(())
    }

    #[test]
    fn insert_refuses_overlap() -> Result {
        let all = [(0x1000, 0x1fff), (0x4000, 0x5fff), (0xf000, 0xffff)];
        let mut mappings = with(&all)?;

        for (first, last) in [
            (0x1000, 0x1fff),
            (0x1800, 0x1800),
            (0, 0x1000),
            (0x1fff, 0x3000),
            (0x3000, 0x7000),
            (0, u64::MAX),
            (0x5fff, 0xf000),
        ] {
            let overlap = insert(&mut mappings, mapping(first, last));
            assert_eq!(overlap, Err(EEXIST));
            assert!(holds(&mappings, &all));
        }
        assert_eq!(insert(&mut mappings, mapping(0x2000, 0x3fff)), Ok(()));
        assert_eq!(insert(&mut mappings, mapping(0, 0xfff)), Ok(()));
        assert_eq!(insert(&mut mappings, mapping(0x10000, u64::MAX)), Ok(()));
        Ok(())
    }

    #[test]
    fn insert_needs_a_node() -> Result {
        let mut mappings = Mappings::new();
        assert_eq!(mappings.insert(mapping(0, 1)), Err(InsertError::NoNode));
        assert!(mappings.tree.is_empty());
        assert!(mappings.refill(Reservation::new(GFP_KERNEL)?).is_none());
        assert_eq!(mappings.insert(mapping(0, 1)), Ok(()));
        // An overlap is found out first, and costs no node.
        assert_eq!(mappings.insert(mapping(0, 1)), Err(InsertError::Overlap));
        assert_eq!(mappings.insert(mapping(2, 3)), Err(InsertError::NoNode));
        // A removal leaves its node.
        assert_eq!(mappings.remove_run(span(0, 1)), Some(span(0, 1)));
        assert_eq!(mappings.insert(mapping(2, 3)), Ok(()));
        Ok(())
    }

    #[test]
    fn stash_is_bounded() -> Result {
        let mut mappings = Mappings::new();
        for _ in 0..SPARE_NODES {
            assert!(mappings.refill(Reservation::new(GFP_KERNEL)?).is_none());
        }
        assert!(mappings.refill(Reservation::new(GFP_KERNEL)?).is_some());
        for first in 0..SPARE_NODES as u64 {
            assert_eq!(mappings.insert(mapping(first, first)), Ok(()));
        }
        let insert = mappings.insert(mapping(1000, 1000));
        assert_eq!(insert, Err(InsertError::NoNode));
        // The nodes that do not fit are freed.
        let count = SPARE_NODES as u64 + 20;
        for first in SPARE_NODES as u64..count {
            drop(mappings.refill(Reservation::new(GFP_KERNEL)?));
            assert_eq!(mappings.insert(mapping(first, first)), Ok(()));
        }
        assert_eq!(mappings.remove_run(Span::ALL), Some(span(0, count - 1)));
        assert!(mappings.refill(Reservation::new(GFP_KERNEL)?).is_some());
        Ok(())
    }

    #[test]
    fn remove_one() -> Result {
        let mut mappings = with(&[(0, 0xfff), (0x1000, 0x1fff), (0x2000, 0x2fff)])?;
        let middle = span(0x1000, 0x1fff);

        assert_eq!(mappings.remove_run(middle), Some(middle));
        assert!(holds(&mappings, &[(0, 0xfff), (0x2000, 0x2fff)]));
        assert_eq!(mappings.remove_run(middle), None);
        // The last in the tree: the cursor goes back, and must not go on with what is there.
        let last = span(0x2000, u64::MAX);
        assert_eq!(mappings.remove_run(last), Some(span(0x2000, 0x2fff)));
        assert!(holds(&mappings, &[(0, 0xfff)]));
        assert_eq!(mappings.remove_run(Span::ALL), Some(span(0, 0xfff)));
        assert!(mappings.tree.is_empty());
        assert_eq!(mappings.remove_run(Span::ALL), None);
        Ok(())
    }

    #[test]
    fn remove_stops_at_a_hole_and_at_the_end_of_the_range() -> Result {
        let mut mappings = with(&[
            (0, 0xfff),
            (0x1000, 0x1fff),
            (0x2000, 0x2fff),
            (0x5000, 0x5fff),
            (0x6000, 0x6fff),
            (0x7000, 0x7fff),
        ])?;

        let run = mappings.remove_run(span(0x1000, 0x5fff));
        assert_eq!(run, Some(span(0x1000, 0x2fff)));
        assert!(holds(
            &mappings,
            &[
                (0, 0xfff),
                (0x5000, 0x5fff),
                (0x6000, 0x6fff),
                (0x7000, 0x7fff)
            ]
        ));
        // A range that begins with a hole.
        assert_eq!(mappings.remove_run(span(0x4000, 0x8fff)), None);
        let run = mappings.remove_run(span(0x5000, 0x6fff));
        assert_eq!(run, Some(span(0x5000, 0x6fff)));
        assert!(holds(&mappings, &[(0, 0xfff), (0x7000, 0x7fff)]));
        Ok(())
    }

    #[test]
    fn remove_goes_in_batches() -> Result {
        let mut mappings = Mappings::new();
        let count = REMOVE_BATCH as u64 + 5;
        for first in 0..count {
            insert(&mut mappings, mapping(first, first))?;
        }
        let batch = span(0, REMOVE_BATCH as u64 - 1);
        assert_eq!(mappings.remove_run(Span::ALL), Some(batch));
        let rest = span(batch.last() + 1, u64::MAX);
        let run = mappings.remove_run(rest);
        assert_eq!(run, Some(span(rest.first(), count - 1)));
        assert!(mappings.tree.is_empty());
        Ok(())
    }

    #[test]
    fn remove_never_splits() -> Result {
        let all = [(0x1000, 0x4fff), (0x5000, 0x5fff)];
        let mut mappings = with(&all)?;

        // A mapping that begins before the range stays.
        for (first, last) in [(0x2000, 0x2fff), (0x4fff, 0x5fff), (0x1001, u64::MAX)] {
            assert_eq!(mappings.remove_run(span(first, last)), None);
            assert!(holds(&mappings, &all));
        }
        // One that ends after it goes.
        let run = mappings.remove_run(span(0x1000, 0x1000));
        assert_eq!(run, Some(span(0x1000, 0x4fff)));
        assert!(holds(&mappings, &[(0x5000, 0x5fff)]));
        Ok(())
    }

    #[test]
    fn whole_space() -> Result {
        let mut mappings = with(&[(0, u64::MAX)])?;
        assert_eq!(mappings.insert(mapping(5, 5)), Err(InsertError::Overlap));
        assert_eq!(mappings.remove_run(span(1, u64::MAX)), None);
        assert_eq!(mappings.remove_run(span(0, 0)), Some(Span::ALL));
        assert!(mappings.tree.is_empty());

        let mut mappings = with(&[(0, u64::MAX - 1), (u64::MAX, u64::MAX)])?;
        assert!(holds(&mappings, &[(0, u64::MAX - 1), (u64::MAX, u64::MAX)]));
        assert_eq!(mappings.remove_run(Span::ALL), Some(Span::ALL));
        Ok(())
    }

    #[test]
    fn translate() -> Result {
        let mappings = with(&[(0x1000, 0x1fff), (0x3000, 0x4fff)])?;

        for (iova, found) in [
            (0, None),
            (0xfff, None),
            (0x1000, Some(0x1_0000_1000)),
            (0x1fff, Some(0x1_0000_1fff)),
            (0x2000, None),
            (0x4321, Some(0x1_0000_4321)),
            (0x5000, None),
            (u64::MAX, None),
        ] {
            assert_eq!(mappings.translate(iova), found);
        }

        // To a lower address, so that the difference is negative.
        let mut mappings = Mappings::new();
        let down = Mapping {
            phys: 0x2000,
            ..mapping(u64::MAX - 0xfff, u64::MAX)
        };
        assert_eq!(insert(&mut mappings, down), Ok(()));
        assert_eq!(mappings.translate(u64::MAX), Some(0x2fff));
        assert_eq!(mappings.next_from(0), Some(down));
        Ok(())
    }

    #[test]
    fn next() -> Result {
        let mappings = with(&[(0x1000, 0x1fff), (0x3000, u64::MAX)])?;

        for (iova, found) in [
            (0, Some(0x1000)),
            (0x1000, Some(0x1000)),
            (0x1fff, Some(0x1000)),
            (0x2000, Some(0x3000)),
            (0x3001, Some(0x3000)),
            (u64::MAX, Some(0x3000)),
        ] {
            let first = mappings.next_from(iova).map(|next| next.span.first());
            assert_eq!(first, found);
        }
        assert_eq!(with(&[(0, 9)])?.next_from(10), None);
        assert_eq!(Mappings::new().next_from(0), None);
        Ok(())
    }

    #[test]
    fn agrees_with_an_array() -> Result {
        // A linear congruential generator (Knuth's MMIX constants): the same in each run.
        let mut state = 11u64;
        let mut random = move |below: u64| {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 33) % below
        };
        let mut mappings = Mappings::new();
        // For each address, the mapping that holds it.
        let mut model = [None::<Span>; 64];

        for _ in 0..5000 {
            let first = random(64);
            let span = span(first, (first + random(12)).min(63));
            let range = span.first() as usize..=span.last() as usize;

            if random(2) == 0 {
                let free = model[range.clone()].iter().all(Option::is_none);
                let expected = if free { Ok(()) } else { Err(EEXIST) };
                let result = insert(&mut mappings, mapping(span.first(), span.last()));
                assert_eq!(result, expected);
                if free {
                    model[range].fill(Some(span));
                }
            } else {
                let mut expected: Option<Span> = None;
                let mut begin = span.first();
                while begin <= span.last() {
                    let Some(found) = model[begin as usize] else {
                        break;
                    };
                    if found.first() != begin {
                        break;
                    }
                    expected = Some(expected.map_or(found, |before| before.hull(found)));
                    model[begin as usize..=found.last() as usize].fill(None);
                    begin = found.last() + 1;
                }
                assert_eq!(mappings.remove_run(span), expected);
            }

            let iova = random(64);
            let expected = model[iova as usize].map(|held| {
                let held = mapping(held.first(), held.last());
                held.phys + (iova - held.span.first())
            });
            assert_eq!(mappings.translate(iova), expected);
        }
        Ok(())
    }
}
