// SPDX-License-Identifier: GPL-2.0

//! Paging domains: an IO address space and its mappings.
//!
//! A domain exists in the device only while an endpoint is attached to it: the device drops the
//! mappings with the last endpoint. The driver keeps them, and *replays* them when the domain gets
//! its first endpoint again. An identity-mapped domain is a paging domain that starts out with its
//! mappings.

mod mappings;
mod unmapped;

use core::pin::Pin;

use kernel::{
    alloc::Flags,
    io::PhysAddr,
    prelude::*,
    ram,
    sync::{
        new_spinlock_irq,
        Arc,
        SpinLockIrq, //
    }, //
};

pub(super) use self::mappings::Mapping;
use self::{
    mappings::{
        InsertError,
        Mappings,
        Reservation, //
    },
    unmapped::Unmapped, //
};
use super::{
    device::Viommu,
    domain_ids::DomainId,
    engine::StageError, //
};
use crate::uapi::{
    MapFlag,
    Request,
    Span, //
};

/// What the device knows of a domain's mappings.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Presence {
    /// Nothing: no endpoint is attached.
    Absent,
    /// The mappings that start below this address; the rest is about to follow.
    Replaying(u64),
    /// All.
    Present,
}

impl Presence {
    /// Whether the device must be told of a change to a mapping that starts at `iova`.
    #[inline]
    fn covers(self, iova: u64) -> bool {
        match self {
            Presence::Absent => false,
            Presence::Replaying(next) => iova < next,
            Presence::Present => true,
        }
    }
}

struct State {
    mappings: Mappings,
    /// What was unmapped for a later flush.
    pending: Unmapped,
    presence: Presence,
    /// Attached endpoint ids. Changed with the lock of the places held as well, as what follows.
    endpoints: usize,
    /// Whether the device refused a part of what was mapped when the first was attached.
    incomplete: bool,
}

/// What was removed from the mappings.
pub(super) struct Removed {
    pub(super) span: Span,
    /// Whether the device has to be told of a part of it.
    pub(super) to_tell: bool,
}

/// An IO address space of one device.
#[pin_data(PinnedDrop)]
pub(super) struct PagingDomain {
    viommu: Arc<Viommu>,
    number: DomainId,
    is_identity: bool,
    #[pin]
    state: SpinLockIrq<State>,
}

impl PagingDomain {
    /// Creates a domain with no mapping. It gets a number with its first endpoint. May sleep.
    pub(super) fn new(viommu: &Arc<Viommu>) -> Result<Arc<Self>> {
        Self::make(viommu, false)
    }

    fn make(viommu: &Arc<Viommu>, is_identity: bool) -> Result<Arc<Self>> {
        let (none, _) = viommu.config().domains.spare();
        Arc::pin_init(
            pin_init!(PagingDomain {
                viommu: viommu.clone(),
                number: DomainId::new(none),
                is_identity,
                state <- new_spinlock_irq!(State {
                    mappings: Mappings::new(),
                    pending: Unmapped::new(),
                    presence: Presence::Absent,
                    endpoints: 0,
                    incomplete: false,
                }),
            }),
            GFP_KERNEL,
        )
    }

    /// Creates a domain in which each of `spans` is mapped to itself. May sleep.
    ///
    /// If it is known that the device maps memory alone, only where there is memory.
    pub(super) fn new_identity(
        viommu: &Arc<Viommu>,
        spans: impl Iterator<Item = Span>,
    ) -> Result<Arc<Self>> {
        let domain = Self::make(viommu, true)?;
        for span in spans {
            if viommu.maps_ram_only() {
                domain.map_ram(span)?;
            } else {
                domain.map_to_itself(span)?;
            }
        }
        Ok(domain)
    }

    /// Maps what is memory in a range to itself.
    fn map_ram(&self, span: Span) -> Result {
        let granule = self.viommu.config().granule;
        ram::for_each_range(|first, last| {
            let ram = Span::new(first, last).and_then(|ram| ram.align_in(granule));
            match ram.and_then(|ram| ram.common(span)) {
                Some(part) => self.map_to_itself(part),
                None => Ok(()),
            }
        })
    }

    fn map_to_itself(&self, span: Span) -> Result {
        let mapping = Mapping {
            span,
            phys: span.first(),
            flags: MapFlag::Read | MapFlag::Write,
        };
        self.map(mapping, GFP_KERNEL)
    }

    /// The IOMMU that has this domain.
    #[inline]
    pub(super) fn viommu(&self) -> &Viommu {
        &self.viommu
    }

    /// The domain's number in the device.
    #[inline]
    pub(super) fn number(&self) -> &DomainId {
        &self.number
    }

    #[inline]
    fn id(&self) -> u32 {
        self.number.get()
    }

    /// Whether the device has no endpoint id of ours in the domain.
    pub(super) fn is_empty(&self) -> bool {
        self.state.lock().endpoints == 0
    }

    /// What the IO address is translated to.
    #[inline]
    pub(super) fn translate(&self, iova: u64) -> Option<PhysAddr> {
        self.state.lock().mappings.translate(iova)
    }

    /// Whether the device has all mappings, if it has the domain.
    pub(super) fn is_complete(&self) -> bool {
        !self.state.lock().incomplete
    }

    /// Accounts for an endpoint id that the device has attached to this domain. The first one
    /// brings the mappings. The lock of the places is held; may sleep.
    ///
    /// Fails if the device does not have all of them in the end. The id counts also then.
    pub(super) fn enter(&self) -> Result {
        {
            let mut state = self.state.lock();
            state.endpoints += 1;
            if state.endpoints > 1 {
                return if state.incomplete { Err(EIO) } else { Ok(()) };
            }
            state.presence = Presence::Replaying(0);
        }
        // An UNMAP that came after the last endpoint had left was refused. All is new now.
        self.viommu.engine().forget_domain(self.id());
        self.replay()
            .inspect_err(|_| self.state.lock().incomplete = true)
    }

    /// Prepares for the device detaching an endpoint id from this domain: [`Self::leave`] follows,
    /// or [`Self::stay`]. The lock of the places is held.
    pub(super) fn prepare_leave(&self) {
        if self.state.lock().endpoints == 1 {
            self.viommu.engine().domain_is_leaving(self.id());
        }
    }

    /// The device has not detached the endpoint id. The lock of the places is held.
    pub(super) fn stay(&self) {
        self.viommu.engine().domain_stays();
    }

    /// Accounts for an endpoint id that the device has detached from this domain. With the last
    /// one, the device has dropped the mappings. The lock of the places is held.
    pub(super) fn leave(&self) {
        let mut state = self.state.lock();
        state.endpoints = state.endpoints.saturating_sub(1);
        if state.endpoints == 0 {
            state.presence = Presence::Absent;
            state.incomplete = false;
            state.pending.clear();
            drop(state);
            self.viommu.engine().forget_domain(self.id());
        }
    }

    /// Sends the mappings to the device, a ring-full for each notification.
    ///
    /// Mappings that are added or removed meanwhile are told to the device only below the address
    /// that the replay has reached: the rest it will find, or not find, by itself.
    fn replay(&self) -> Result {
        let engine = self.viommu.engine();
        loop {
            let complete = self.stage_replay()?;
            engine.sync()?;
            if complete {
                break;
            }
        }
        if self.is_identity {
            return self.replace_refused();
        }
        engine.sync_map(self.id(), Span::ALL)
    }

    /// In an identity-mapped domain: maps only memory where the device has refused to map all.
    fn replace_refused(&self) -> Result {
        let mut next = Some(0);
        while let Some(mapping) = next.and_then(|from| self.state.lock().mappings.next_from(from)) {
            let span = mapping.span;
            next = span.last().checked_add(1);
            if self.sync_map(span).is_ok() {
                continue;
            }
            self.viommu.learn_ram_only();
            // The device has nothing of it.
            let _ = self.remove(span, false);
            self.map_ram(span)?;
            self.sync_map(span)?;
        }
        Ok(())
    }

    /// Stages as many mappings as there is room for. Returns whether that was all.
    fn stage_replay(&self) -> Result<bool> {
        let mut state = self.state.lock();
        while let Presence::Replaying(next) = state.presence {
            let Some(mapping) = state.mappings.next_from(next) else {
                state.presence = Presence::Present;
                break;
            };
            // One that begins below was added meanwhile, and told to the device.
            if !state.presence.covers(mapping.span.first()) {
                let request = Request::Map {
                    domain: self.id(),
                    span: mapping.span,
                    phys: mapping.phys,
                    flags: mapping.flags,
                };
                match self.viommu.engine().stage(request) {
                    Ok(()) => (),
                    Err(StageError::Full) => return Ok(false),
                    Err(StageError::Failed(error)) => return Err(error),
                }
            }
            state.presence = match mapping.span.last().checked_add(1) {
                Some(next) => Presence::Replaying(next),
                None => Presence::Present,
            };
        }
        Ok(true)
    }

    /// Maps a range, in which nothing may be mapped yet. The caller holds no lock.
    #[inline(always)]
    pub(super) fn map(&self, mapping: Mapping, gfp: Flags) -> Result {
        // What is left of it in the end is dropped without the lock.
        let mut node: Option<Reservation> = None;
        loop {
            let mut state = self.state.lock();
            if let Some(new) = node.take() {
                node = state.mappings.refill(new);
            }
            // In the tree first: an overlap must not reach the device.
            match state.mappings.insert(mapping) {
                Ok(()) => (),
                Err(InsertError::Overlap) => return Err(EEXIST),
                Err(InsertError::NoNode) => {
                    drop(state);
                    node = Some(Reservation::new(gfp)?);
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
            let error = match self.viommu.engine().stage(request) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            state.mappings.remove_run(mapping.span);
            drop(state);
            match error {
                StageError::Full => self.viommu.engine().make_room()?,
                StageError::Failed(error) => return Err(error),
            }
        }
    }

    /// Removes mappings from the start of `span` on, up to a hole.
    ///
    /// With `deferred`, the device is to be told with the next [`Self::flush`].
    #[inline]
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
            removed.span = removed.span.hull(batch.span);
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

    /// Stages an UNMAP. The caller holds no lock.
    ///
    /// What the device refuses is remembered and reported by the engine, here and below.
    pub(super) fn stage_unmap(&self, span: Span) {
        let engine = self.viommu.engine();
        if engine.unmap(self.id(), span).is_err() {
            engine.report_lost_unmap(self.id(), span);
        }
    }

    /// Returns when the device does not translate `span` any more. The caller holds no lock.
    ///
    /// Not a part of its callers, which often find that there is nothing to do.
    #[inline(never)]
    pub(super) fn unmap_and_sync(&self, span: Span) {
        let engine = self.viommu.engine();
        if engine.unmap_and_sync(self.id(), span).is_err() {
            engine.report_lost_unmap(self.id(), span);
        }
    }

    /// Returns when the device translates what was mapped before, and fails if it refused a part
    /// of `span`. The caller holds no lock.
    #[inline]
    pub(super) fn sync_map(&self, span: Span) -> Result {
        self.viommu.engine().sync_map(self.id(), span)
    }

    /// Takes note of a range for the next [`Self::flush`], when there was no room for it.
    #[cold]
    fn make_pending(&self, span: Span) {
        // Nobody uses the range again before the flush, so the lock was not needed for this.
        while !self.state.lock().pending.add(span) {
            if self.stage_pending().is_err() {
                self.viommu.engine().report_lost_unmap(self.id(), span);
                return;
            }
        }
    }

    /// Stages an UNMAP of each range that waits for it. Returns the smallest range that has all.
    fn stage_pending(&self) -> Result<Option<Span>> {
        let mut all: Option<Span> = None;
        loop {
            let mut state = self.state.lock();
            let Some(span) = state.pending.last() else {
                return Ok(all);
            };
            let domain = self.id();
            match self.viommu.engine().stage(Request::Unmap { domain, span }) {
                Ok(()) => {
                    state.pending.remove_last();
                    all = Some(all.map_or(span, |all| all.hull(span)));
                }
                Err(error) => {
                    drop(state);
                    match error {
                        StageError::Full => self.viommu.engine().make_room()?,
                        StageError::Failed(error) => return Err(error),
                    }
                }
            }
        }
    }

    /// Returns when the device does not translate any more what was unmapped before.
    pub(super) fn flush(&self) {
        let engine = self.viommu.engine();
        let lost = match self.stage_pending() {
            // Somebody else may have staged what was unmapped: sync in any case.
            Ok(staged) => engine.sync().err().and(staged),
            Err(_) => self.state.lock().pending.hull(),
        };
        if let Some(span) = lost {
            engine.report_lost_unmap(self.id(), span);
        }
    }
}

#[pinned_drop]
impl PinnedDrop for PagingDomain {
    fn drop(self: Pin<&mut Self>) {
        self.viommu.engine().forget_domain(self.id());
        self.number.release(self.viommu.domain_ids());
    }
}
