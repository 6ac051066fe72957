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

/// How many unused nodes are kept. Each takes 64 bytes, so these are a page.
const SPARE_NODES: usize = 64;

/// How many mappings are removed at most while interrupts are off.
const REMOVE_BATCH: usize = 128;

/// A mapping.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Mapping {
    /// The IO virtual addresses.
    pub(crate) span: Span,
    /// The physical address to which the first of them is mapped.
    pub(crate) phys: u64,
    /// What the endpoints may do there.
    pub(crate) flags: MapFlags,
}

/// The place of a mapping in the tree, by its last address. That is an order of all, as no two
/// overlap; and the first mapping that ends at an address or after it is the one that holds the
/// address, or the next one.
#[derive(Clone, Copy)]
struct Key(Span);

impl Key {
    /// The lowest key of a mapping that ends at `address` or after it.
    #[inline]
    fn at(address: u64) -> Self {
        // A span of one address, which is never refused.
        Self(Span::new(address, address).unwrap_or(Span::ALL))
    }
}

impl Ord for Key {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.last().cmp(&other.0.last())
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

/// What was translated last: VFIO asks for page after page of a mapping.
#[derive(Default)]
struct Translated {
    first: u64,
    /// In bytes, or 0 for nothing.
    size: u64,
    /// As in [`Target`].
    offset: u64,
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

    #[inline]
    fn is_empty(&self) -> bool {
        self.count == 0
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
    /// There is no memory for it at hand: see [`Mappings::refill`]. Whether there is room for the
    /// mapping was not looked at.
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
/// No two keys of `tree` overlap. `translated` is a part of one of them, with its offset, or empty.
pub(super) struct Mappings {
    tree: RBTree<Key, Target>,
    stash: Stash,
    translated: Translated,
}

impl Mappings {
    /// No mapping.
    pub(super) fn new() -> Self {
        // INVARIANT: There are no keys.
        Self {
            tree: RBTree::new(),
            stash: Stash::new(),
            translated: Translated::default(),
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
        // Before the search, which would have to be repeated.
        if self.stash.is_empty() {
            return Err(InsertError::NoNode);
        }
        let Entry::Vacant(entry) = self.tree.entry(Key(mapping.span)) else {
            return Err(InsertError::Overlap);
        };
        let below = entry.peek_prev().map(|(Key(below), _)| below.last());
        let above = entry.peek_next().map(|(Key(above), _)| above.first());
        if below.is_some_and(|last| last >= mapping.span.first())
            || above.is_some_and(|first| first <= mapping.span.last())
        {
            return Err(InsertError::Overlap);
        }
        let Some(node) = self.stash.take() else {
            return Err(InsertError::NoNode);
        };
        let target = Target {
            offset: mapping.phys.wrapping_sub(mapping.span.first()),
            flags: mapping.flags,
        };
        // INVARIANT: The one below has ended before, and the one above begins later: it overlaps
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
    #[inline(always)]
    pub(super) fn remove_run(&mut self, span: Span) -> Option<Span> {
        let mut last = None;
        let mut begin = span.first();
        // INVARIANT: It may be about to be removed.
        self.translated.size = 0;
        let mut cursor = self.tree.cursor_lower_bound_mut(&Key::at(begin));

        for _ in 0..REMOVE_BATCH {
            let Some(current) = cursor else {
                break;
            };
            let Key(found) = *current.current().0;
            if found.first() != begin {
                break;
            }
            last = Some(found.last());
            let next = found.last().checked_add(1);
            let next = next.filter(|next| *next <= span.last());
            let node = if next.is_some() {
                let (following, node) = current.remove_current();
                cursor = following;
                node
            } else {
                cursor = None;
                current.remove()
            };
            // Frees the node if there is no room.
            let _ = self.stash.put(Reservation(node.into_reservation()));
            match next {
                Some(next) => begin = next,
                None => break,
            }
        }
        Span::new(span.first(), last?)
    }

    /// The physical address that `iova` is mapped to.
    #[inline]
    pub(super) fn translate(&mut self, iova: u64) -> Option<u64> {
        if iova.wrapping_sub(self.translated.first) < self.translated.size {
            return Some(iova.wrapping_add(self.translated.offset));
        }
        let cursor = self.tree.cursor_lower_bound(&Key::at(iova))?;
        let (Key(span), target) = cursor.current();
        if iova < span.first() {
            return None;
        }
        // INVARIANT: All but the last address of a key.
        self.translated = Translated {
            first: span.first(),
            size: span.last().wrapping_sub(span.first()),
            offset: target.offset,
        };
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

// The path is for the fuzzer, which includes this file by its own path.
#[cfg(CONFIG_VIRTIO_IOMMU_RUST_KUNIT_TEST)]
#[path = "mappings/tests.rs"]
mod tests;
