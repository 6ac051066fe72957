// SPDX-License-Identifier: GPL-2.0

//! Paging domains: an IO address space and its mappings.
//!
//! A domain exists in the device only while an endpoint is attached to it: the device drops the
//! mappings with the last endpoint. The driver keeps them, and *replays* them when the domain gets
//! its first endpoint again. An identity-mapped domain is a paging domain that starts out with its
//! mappings.

use core::pin::Pin;

use kernel::{
    alloc::Flags,
    io::PhysAddr,
    iommu::driver::{
        self,
        Gather,
        Prot, //
    },
    prelude::*,
    sync::{
        new_spinlock_irq,
        Arc,
        SpinLockIrq, //
    }, //
};

use super::{
    device::Viommu,
    endpoint::{
        Attachment,
        EndpointHandle, //
    },
    mappings::{
        InsertError,
        Mapping,
        Mappings,
        Reservation, //
    },
    pending::Pending,
    request::StageError, //
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
    pending: Pending,
    presence: Presence,
    /// Attached endpoints. Changed with the device's attach lock held as well.
    endpoints: usize,
}

/// An IO address space of one device.
#[pin_data(PinnedDrop)]
pub(super) struct PagingDomain {
    viommu: Arc<Viommu>,
    id: u32,
    #[pin]
    state: SpinLockIrq<State>,
}

impl PagingDomain {
    /// Creates a domain with no mapping. May sleep.
    ///
    /// Fails with `ENOSPC`, and a message, when the device's domain ids are used up.
    pub(super) fn new(viommu: &Arc<Viommu>) -> Result<Arc<Self>> {
        let id = viommu.domain_ids().alloc()?;
        let domain = Arc::pin_init(
            pin_init!(PagingDomain {
                viommu: viommu.clone(),
                id,
                state <- new_spinlock_irq!(State {
                    mappings: Mappings::new(),
                    pending: Pending::new(),
                    presence: Presence::Absent,
                    endpoints: 0,
                }),
            }),
            GFP_KERNEL,
        );
        domain.inspect_err(|_| viommu.domain_ids().free(id))
    }

    /// Creates a domain in which each of `spans` is mapped to itself. May sleep.
    pub(super) fn new_identity(
        viommu: &Arc<Viommu>,
        spans: impl Iterator<Item = Span>,
    ) -> Result<Arc<Self>> {
        let domain = Self::new(viommu)?;
        for span in spans {
            domain.map(
                Mapping {
                    span,
                    phys: span.first(),
                    flags: MapFlag::Read | MapFlag::Write,
                },
                GFP_KERNEL,
            )?;
        }
        Ok(domain)
    }

    /// The domain's number in the device.
    #[inline]
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// Accounts for an endpoint that the device has attached to this domain. The first one brings
    /// the mappings. The device's attach lock is held; may sleep.
    pub(super) fn enter(&self) -> Result {
        {
            let mut state = self.state.lock();
            state.endpoints += 1;
            if state.endpoints > 1 {
                return Ok(());
            }
            state.presence = Presence::Replaying(0);
        }
        // An UNMAP that came after the last endpoint had left was refused. All is new now.
        self.viommu.engine().forget_domain(self.id);
        self.replay()
    }

    /// Accounts for an endpoint that the device has detached from this domain. With the last one,
    /// the device has dropped the mappings. The device's attach lock is held.
    pub(super) fn leave(&self) {
        let mut state = self.state.lock();
        state.endpoints = state.endpoints.saturating_sub(1);
        if state.endpoints == 0 {
            state.presence = Presence::Absent;
            state.pending.clear();
            drop(state);
            self.viommu.engine().forget_domain(self.id);
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
                return engine.sync_map(self.id, Span::ALL);
            }
        }
    }

    /// Stages as many mappings as there is room for. Returns whether that was all.
    fn stage_replay(&self) -> Result<bool> {
        let mut state = self.state.lock();
        while let Presence::Replaying(next) = state.presence {
            let Some(mapping) = state.mappings.next_from(next) else {
                state.presence = Presence::Present;
                break;
            };
            let request = Request::Map {
                domain: self.id,
                span: mapping.span,
                phys: mapping.phys,
                flags: mapping.flags,
            };
            match self.viommu.engine().stage(request) {
                Ok(()) => (),
                Err(StageError::Full) => return Ok(false),
                Err(StageError::Failed(error)) => return Err(error),
            }
            state.presence = match mapping.span.last().checked_add(1) {
                Some(next) => Presence::Replaying(next),
                None => Presence::Present,
            };
        }
        Ok(true)
    }

    fn map(&self, mapping: Mapping, gfp: Flags) -> Result {
        let request = Request::Map {
            domain: self.id,
            span: mapping.span,
            phys: mapping.phys,
            flags: mapping.flags,
        };
        loop {
            let mut state = self.state.lock();
            // In the tree first: an overlap must not reach the device.
            match state.mappings.insert(mapping) {
                Ok(()) => (),
                Err(InsertError::Overlap) => return Err(EEXIST),
                Err(InsertError::NoNode) => {
                    drop(state);
                    let node = Reservation::new(gfp)?;
                    // Dropped without the lock, if it is not needed any more.
                    let _unused = self.state.lock().mappings.refill(node);
                    continue;
                }
            }
            if !state.presence.covers(mapping.span.first()) {
                return Ok(());
            }
            // Under the lock, so that either a replay sends this mapping or the stage does.
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

    /// Removes mappings from the start of `span` on. Returns what was removed, and whether the
    /// device has to be told.
    #[inline]
    fn remove(&self, span: Span) -> Option<(Span, bool)> {
        let mut removed: Option<(Span, bool)> = None;
        let mut todo = span;
        loop {
            let (run, present) = {
                let mut state = self.state.lock();
                let Some(run) = state.mappings.remove_run(todo) else {
                    return removed;
                };
                (run, state.presence.covers(run.first()))
            };
            let (hull, told) = match removed {
                Some((before, told)) => (before.hull(run), told || present),
                None => (run, present),
            };
            removed = Some((hull, told));
            match run.last().checked_add(1) {
                Some(next) if next <= span.last() => todo = Span::new(next, span.last())?,
                _ => return removed,
            }
        }
    }

    /// Whether the device has no mapping of this domain.
    #[inline]
    fn is_absent(&self) -> bool {
        matches!(self.state.lock().presence, Presence::Absent)
    }

    /// Stages an UNMAP. The caller holds no lock.
    fn stage_unmap(&self, span: Span) {
        // If the device is out of use, the engine has said so, and there is nobody left to tell.
        let _ = self.viommu.engine().unmap(self.id, span);
    }

    /// Takes note of a range for the next [`Self::flush`].
    #[inline]
    fn defer_unmap(&self, span: Span) {
        while !self.state.lock().pending.add(span) {
            if self.stage_pending().is_err() {
                return;
            }
        }
    }

    /// Stages an UNMAP of each range that waits for it.
    fn stage_pending(&self) -> Result {
        loop {
            let mut state = self.state.lock();
            let Some(span) = state.pending.last() else {
                return Ok(());
            };
            let domain = self.id;
            match self.viommu.engine().stage(Request::Unmap { domain, span }) {
                Ok(()) => state.pending.remove_last(),
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
    fn flush(&self) -> Result {
        self.stage_pending()?;
        self.viommu.engine().sync()
    }
}

#[pinned_drop]
impl PinnedDrop for PagingDomain {
    fn drop(self: Pin<&mut Self>) {
        self.viommu.engine().forget_domain(self.id);
        self.viommu.domain_ids().free(self.id);
    }
}

/// The range that is to be unmapped with the next sync.
#[inline]
fn gathered(gather: &Gather<'_>) -> Option<Span> {
    let (first, last) = gather.range()?;
    Span::new(first, last)
}

/// What the IOMMU core holds of a domain. Endpoints attached to it hold it too.
pub(crate) struct DomainHandle(pub(super) Arc<PagingDomain>);

impl driver::Domain for DomainHandle {
    type Driver = Viommu;

    fn attach(self: Pin<&Self>, endpoint: Pin<&EndpointHandle>) -> Result {
        endpoint.endpoint.attach(Attachment::Paging(self.0.clone()))
    }

    #[inline]
    fn map_pages(
        self: Pin<&Self>,
        iova: u64,
        paddr: PhysAddr,
        pgsize: usize,
        pgcount: usize,
        prot: Prot,
        gfp: Flags,
    ) -> Result<usize> {
        let size = pgsize.checked_mul(pgcount).ok_or(EINVAL)?;
        let span = Span::from_size(iova, size).ok_or(EINVAL)?;
        let mapping = Mapping {
            span,
            phys: paddr,
            flags: self.0.viommu.map_flags(prot)?,
        };
        self.0.map(mapping, gfp)?;
        Ok(size)
    }

    #[inline]
    fn unmap_pages(
        self: Pin<&Self>,
        iova: u64,
        pgsize: usize,
        pgcount: usize,
        gather: &mut Gather<'_>,
    ) -> usize {
        let size = pgsize.saturating_mul(pgcount);
        let Some(span) = Span::from_size(iova, size) else {
            return 0;
        };
        let Some((removed, told)) = self.0.remove(span) else {
            return 0;
        };
        // Nobody uses the range again before a flush or a sync, so the lock is not needed for this.
        if told && gather.queued() {
            self.0.defer_unmap(removed);
        } else if told && !gather.extend(removed.first(), removed.last()) {
            // It does not touch what was gathered before: that goes to the device.
            if let Some(before) = gathered(gather) {
                self.0.stage_unmap(before);
            }
            if !gather.restart(removed.first(), removed.last()) {
                self.0.stage_unmap(removed);
            }
        }
        usize::try_from(removed.size_saturating()).unwrap_or(usize::MAX)
    }

    #[inline]
    fn iova_to_phys(self: Pin<&Self>, iova: u64) -> Option<PhysAddr> {
        self.0.state.lock().mappings.translate(iova)
    }

    // What goes wrong with an UNMAP is remembered and reported by the engine.
    fn flush_all(self: Pin<&Self>) {
        let _ = self.0.flush();
    }

    #[inline]
    fn sync(self: Pin<&Self>, gather: &Gather<'_>) {
        let _ = match gathered(gather) {
            // The core gathers what `unmap_pages` has left out. The device has dropped all mappings
            // of a domain with its last endpoint, or was never told of any.
            Some(_) if self.0.is_absent() => Ok(()),
            Some(span) => self.0.viommu.engine().unmap_and_sync(self.0.id, span),
            None => self.0.flush(),
        };
    }

    #[inline]
    fn sync_map(self: Pin<&Self>, iova: u64, size: usize) -> Result {
        let span = Span::from_size(iova, size).ok_or(EINVAL)?;
        self.0.viommu.engine().sync_map(self.0.id, span)
    }
}
