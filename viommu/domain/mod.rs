// SPDX-License-Identifier: GPL-2.0

//! Domains: IO address spaces and their mappings.
//!
//! The device has a domain only while an endpoint is attached to it, and drops the mappings with
//! the last one. The driver keeps them (see [`presence`]): who maps and unmaps need not know.

mod identity;
mod mappings;
mod presence;

use core::pin::Pin;

use kernel::{
    alloc::{
        flags::__GFP_NOWARN,
        Flags, //
    },
    fmt,
    io::PhysAddr,
    prelude::*,
    sync::{
        new_spinlock_irq,
        Arc,
        SpinLockIrq, //
    }, //
};

pub(super) use self::{
    identity::Reach,
    mappings::Mapping, //
};
use self::{
    mappings::{
        InsertError,
        Mappings,
        Reservation, //
    },
    presence::Presence, //
};
use super::{
    device::Device,
    domain_ids::DomainId,
    engine::{
        AccountMemory,
        StageError, //
    },
    spans::Spans, //
};
use crate::uapi::{
    Request,
    Span, //
};

/// For how many mappings memory is made at a time.
const REFILL: usize = 8;

/// How many ranges can wait for a flush.
const MAX_PENDING: usize = 64;

/// How a domain translates.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// By the mappings that the core makes.
    Paging,
    /// Each address to itself, by mappings that are there from the beginning.
    IdentityMapped,
    /// Not at all: the device lets DMA pass. There are no mappings.
    Bypass,
    /// There are no mappings, so that DMA is blocked.
    Blocked,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Paging => "translated",
            Kind::IdentityMapped => "identity-mapped",
            Kind::Bypass => "bypass",
            Kind::Blocked => "blocked",
        })
    }
}

struct State {
    mappings: Mappings,
    /// What was unmapped for a later flush, and the device has not been told of.
    ///
    /// The core lets these mappings live on in the device until then, and does not use their
    /// addresses again before. Ranges that touch become one, for one UNMAP. Each consists of whole
    /// mappings, so that the device does not have to split one (virtio 1.3, section 5.13.6.6).
    pending: Spans<MAX_PENDING>,
    /// The smallest range that has all of which an UNMAP was staged since the last flush.
    staged: Option<Span>,
    presence: Presence,
    /// Attached endpoint ids.
    endpoints: usize,
    /// Whether the device refused a part of what was mapped when the first was attached.
    incomplete: bool,
    /// Whether a part of the reach may not be among the mappings.
    unfilled: bool,
    /// For the engine's account of what the device refuses, while the device does not have the
    /// domain.
    account: Option<AccountMemory>,
}

/// What was removed from the mappings.
pub(super) struct Removed {
    pub(super) span: Span,
    /// Whether the device has to be told of a part of it.
    pub(super) to_tell: bool,
}

/// A domain of one device.
#[pin_data(PinnedDrop)]
pub(super) struct Domain {
    pub(super) device: Arc<Device>,
    /// The number that the device knows the domain by.
    pub(super) number: DomainId,
    pub(super) kind: Kind,
    /// What it may map, if it is identity-mapped.
    reach: KVec<Span>,
    #[pin]
    state: SpinLockIrq<State>,
}

impl Domain {
    /// Creates a domain with no mapping. It gets a number with its first endpoint. May sleep.
    pub(super) fn new(device: &Arc<Device>, kind: Kind) -> Result<Arc<Self>> {
        Self::with_reach(device, kind, KVec::new())
    }

    fn with_reach(device: &Arc<Device>, kind: Kind, reach: KVec<Span>) -> Result<Arc<Self>> {
        let account = Some(AccountMemory::new()?);
        Arc::pin_init(
            pin_init!(Domain {
                device: device.clone(),
                number: device.domain_ids.none(),
                kind,
                reach,
                state <- new_spinlock_irq!(State {
                    mappings: Mappings::new(),
                    pending: Spans::new(),
                    staged: None,
                    presence: Presence::Absent,
                    endpoints: 0,
                    incomplete: false,
                    unfilled: true,
                    account,
                }),
            }),
            GFP_KERNEL,
        )
    }

    #[inline]
    fn id(&self) -> u32 {
        self.number.get()
    }

    /// How many mappings there are, and of how many bytes. May sleep.
    ///
    /// The lock is not held for all of it: what is mapped meanwhile may be in it or not.
    pub(super) fn usage(&self) -> (u64, u64) {
        self.walk().fold((0, 0), |(count, bytes), mapping| {
            (
                count + 1,
                mapping.span.size_saturating().saturating_add(bytes),
            )
        })
    }

    /// The mappings in ascending order. The lock is held for one after the other.
    fn walk(&self) -> impl Iterator<Item = Mapping> + '_ {
        let mut next = Some(0);
        core::iter::from_fn(move || {
            let mapping = self.state.lock().mappings.next_from(next?)?;
            next = mapping.span.last().checked_add(1);
            Some(mapping)
        })
    }

    /// What the IO address is translated to.
    #[inline]
    pub(super) fn translate(&self, iova: u64) -> Option<PhysAddr> {
        self.state.lock().mappings.translate(iova)
    }

    /// Maps a range, in which nothing may be mapped yet. The caller holds no lock.
    #[inline(always)]
    pub(super) fn map(&self, mapping: Mapping, gfp: Flags) -> Result {
        self.map_when(mapping, gfp, |error| self.device.engine.make_room(error))
    }

    /// The same, where `make_room` says how to wait for room.
    #[inline(always)]
    fn map_when(
        &self,
        mapping: Mapping,
        gfp: Flags,
        make_room: impl Fn(StageError) -> Result,
    ) -> Result {
        loop {
            let mut state = self.state.lock();
            // In the tree first: an overlap must not reach the device.
            match state.mappings.insert(mapping) {
                Ok(()) => (),
                Err(InsertError::Overlap) => return Err(EEXIST),
                Err(InsertError::NoNode) => {
                    drop(state);
                    self.refill(gfp)?;
                    continue;
                }
            }
            if !state.presence.covers(mapping.span.first()) {
                return Ok(());
            }
            // Under the lock, so that either a replay sends this mapping or the stage does. The
            // number may have changed before.
            let request = Request::Map {
                domain: self.id(),
                span: mapping.span,
                phys: mapping.phys,
                flags: mapping.flags,
            };
            let error = match self.device.engine.stage(request) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            state.mappings.remove_run(mapping.span);
            drop(state);
            make_room(error)?;
        }
    }

    /// Makes memory for a mapping, and for some that may follow. The caller holds no lock.
    #[inline(never)]
    fn refill(&self, gfp: Flags) -> Result {
        let mut nodes = [const { None }; REFILL];
        nodes[0] = Some(Reservation::new(gfp)?);
        for place in &mut nodes[1..] {
            *place = Reservation::new(gfp | __GFP_NOWARN).ok();
        }
        let mut state = self.state.lock();
        for place in &mut nodes {
            *place = place.take().and_then(|node| state.mappings.refill(node));
        }
        // What there is no room for is freed without the lock.
        drop(state);
        Ok(())
    }

    /// Removes mappings from the start of `span` on, up to a hole.
    ///
    /// With `deferred`, the device is to be told with the next [`Self::flush`].
    #[inline(always)]
    pub(super) fn remove(&self, span: Span, deferred: bool) -> Option<Removed> {
        let removed = self.remove_batch(span, deferred)?;
        if removed.span.last() >= span.last() {
            return Some(removed);
        }
        Some(self.remove_more(span, deferred, removed))
    }

    /// Goes on with [`Self::remove`] behind what is removed.
    fn remove_more(&self, span: Span, deferred: bool, mut removed: Removed) -> Removed {
        while let Some(next) = removed.span.last().checked_add(1) {
            let Some(rest) = Span::new(next, span.last()) else {
                break;
            };
            let Some(batch) = self.remove_batch(rest, deferred) else {
                break;
            };
            removed.span = removed.span.cover(batch.span);
            removed.to_tell |= batch.to_tell;
        }
        removed
    }

    /// Removes some of the mappings that [`Self::remove`] is to remove: as many as there may be
    /// while interrupts are off.
    #[inline(always)]
    fn remove_batch(&self, span: Span, deferred: bool) -> Option<Removed> {
        let mut state = self.state.lock();
        let span = state.mappings.remove_run(span)?;
        let mut to_tell = state.presence.covers(span.first());
        if to_tell && deferred {
            to_tell = false;
            if !state.pending.add(span) {
                drop(state);
                self.make_pending(span);
            }
        }
        Some(Removed { span, to_tell })
    }

    /// Returns when the device does not translate `span` any more. The caller holds no lock.
    ///
    /// The engine reports what the device refuses or cannot be told, here and below.
    ///
    /// Not a part of its callers, which often find that there is nothing to do.
    #[inline(never)]
    pub(super) fn unmap_and_sync(&self, span: Span) {
        let _ = self.device.engine.unmap_and_sync(self.id(), span);
    }

    /// Returns when the device translates what was mapped before, and fails if it refused a part
    /// of `span`. The caller holds no lock.
    #[inline]
    pub(super) fn sync_map(&self, span: Span) -> Result {
        let id = self.id();
        if self.device.domain_ids.is_none(id) {
            // It has never had an endpoint.
            return Ok(());
        }
        self.device.engine.sync_map(id, span)
    }

    /// Takes note of a range for the next [`Self::flush`], when there was no room for it.
    #[cold]
    fn make_pending(&self, span: Span) {
        // Nobody uses the range again before the flush, so the lock was not needed for this.
        while !self.state.lock().pending.add(span) {
            self.stage_pending();
        }
    }

    /// Stages an UNMAP of each range that waits for it.
    ///
    /// None waits any more then: who unmapped them may use them for something else.
    fn stage_pending(&self) {
        let engine = &self.device.engine;
        loop {
            let mut state = self.state.lock();
            let span = match state.pending.last() {
                Some(span) => span,
                None => return,
            };
            let domain = self.id();
            match engine.stage(Request::Unmap { domain, span }) {
                Ok(()) => {
                    state.pending.remove_last();
                    state.staged = Some(state.staged.map_or(span, |all| all.cover(span)));
                }
                Err(error) => {
                    drop(state);
                    if engine.make_room(error).is_err() {
                        self.lose_pending();
                    }
                }
            }
        }
    }

    /// Gives up the ranges that wait to be unmapped.
    #[cold]
    fn lose_pending(&self) {
        let mut state = self.state.lock();
        while let Some(span) = state.pending.last() {
            self.device.engine.lose_unmap(self.id(), span);
            state.pending.remove_last();
        }
    }

    /// Returns when the device does not translate any more what was unmapped before.
    pub(super) fn flush(&self) {
        let engine = &self.device.engine;
        self.stage_pending();
        let staged = self.state.lock().staged.take();
        // Somebody else may have staged what was unmapped: sync in any case.
        if let (Err(_), Some(span)) = (engine.sync(), staged) {
            engine.report_unmap(self.id(), span);
        }
    }
}

#[pinned_drop]
impl PinnedDrop for Domain {
    fn drop(self: Pin<&mut Self>) {
        // The number is somebody else's from now on: what was staged late is answered before.
        let _ = self.device.engine.domain_has_left(self.id());
        self.number.release(&self.device.domain_ids);
    }
}
