// SPDX-License-Identifier: GPL-2.0

//! The request queue: slots, the ring that they go through, and what the answers said.
//!
//! This is what the engine's lock protects. Nothing here waits.

use kernel::{
    dev_err_deferred,
    device,
    prelude::*,
    print_deferred,
    sync::aref::ARef,
    virtio::{
        Completed,
        Notification,
        Virtqueue, //
    }, //
};

use super::{
    refused::Refused,
    slot::Slot,
    timeout::{
        Timeout,
        ANSWER_TIMEOUT_SECS, //
    },
    window::Window, //
};
use crate::uapi::Request;

/// Descriptors for one request: what the device reads and what it writes. The driver declines
/// indirect descriptors, which would cost an allocation for each request.
const DESCRIPTORS_PER_REQUEST: usize = 2;

/// Upper bound for the number of slots.
const MAX_SLOTS: usize = 512;

/// How far the newest request may be ahead of the oldest unanswered one, in units of 64.
const WINDOW_WORDS: usize = 2 * MAX_SLOTS / 64;

/// Why a request cannot be staged now.
pub(crate) enum StageError {
    /// There is no room until the device has answered a request: call the engine's `make_room()`
    /// without locks held, and try again.
    Full,
    /// The request cannot be sent at all.
    Failed(Error),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    Running,
    /// Somebody has given up waiting for an answer. Nothing is mapped before it has come.
    Late,
    /// The device answers nonsense, is unplugged, or did not let go of its endpoints in time.
    Broken,
    /// The driver is shut down, suspended or unbound.
    Closed,
}

/// Counters of what was sent, for debugfs and for the tests.
#[derive(Clone, Copy, Default)]
pub(crate) struct Stats {
    /// Requests given to the device.
    pub(crate) requests: u64,
    /// Notifications sent to the device.
    pub(crate) notifications: u64,
    /// Requests that the device refused.
    pub(crate) refused: u64,
}

/// The slots of one virtqueue. Allocates nothing after [`Slots::new`].
pub(super) struct Slots {
    /// Slots that carry nothing: as many as there is room for in the ring.
    idle: KVec<KBox<Slot>>,
    /// One slot more. It keeps the last answer that a caller collects, and changes places with the
    /// slot of the next, so that an answer that nobody comes for is in nobody's way.
    kept: KBox<Slot>,
    /// Which requests are answered.
    window: Window<WINDOW_WORDS>,
}

impl Slots {
    /// As many as fit the ring of `queue`. May sleep.
    pub(super) fn new(dev: &device::Device, queue: &Virtqueue<Slot>) -> Result<Self> {
        let count = (queue.ring_size() as usize / DESCRIPTORS_PER_REQUEST).min(MAX_SLOTS);
        if count == 0 {
            dev_err!(
                dev,
                "request queue has {} descriptors, a request takes {}\n",
                queue.ring_size(),
                DESCRIPTORS_PER_REQUEST
            );
            return Err(EINVAL);
        }
        let mut idle = KVec::with_capacity(count, GFP_KERNEL)?;
        for _ in 0..count {
            idle.push_within_capacity(Slot::new()?)?;
        }
        Ok(Slots {
            idle,
            kept: Slot::new()?,
            window: Window::new(WINDOW_WORDS * 64),
        })
    }
}

/// The request virtqueue of one device, and what goes with it.
pub(super) struct RequestQueue {
    dev: ARef<device::Device>,
    queue: Virtqueue<Slot>,
    slots: Slots,
    /// Whether requests were added to the ring that the device was not notified of.
    unkicked: bool,
    /// CPUs that are notifying the device right now.
    notifying: u32,
    /// Requests with a smaller number were given up, or are answered.
    given_up_before: u64,
    /// For how long the device has had no request, because there was no memory to map one for DMA.
    shortage: Option<Timeout>,
    /// Bounds what is done before the end, once that has begun.
    end: Option<Timeout>,
    pub(super) health: Health,
    pub(super) refused: Refused,
    requests: u64,
    notifications: u64,
}

impl RequestQueue {
    /// May sleep.
    pub(super) fn new(dev: ARef<device::Device>, queue: Virtqueue<Slot>) -> Result<Self> {
        Ok(RequestQueue {
            slots: Slots::new(&dev, &queue)?,
            refused: Refused::new(dev.clone(), MAX_SLOTS)?,
            dev,
            queue,
            unkicked: false,
            notifying: 0,
            given_up_before: 0,
            shortage: None,
            end: None,
            health: Health::Running,
            requests: 0,
            notifications: 0,
        })
    }

    /// Starts over with a new virtqueue, whose slots the caller has allocated. Returns the old
    /// ones, which are best dropped without the lock; the old virtqueue has dropped those that
    /// were in the ring.
    pub(super) fn replace(
        &mut self,
        queue: Virtqueue<Slot>,
        mut slots: Slots,
    ) -> (Virtqueue<Slot>, Slots) {
        // Numbers go on, and nobody waits for the old ones in vain.
        slots.window.skip_to(self.next());
        self.end = None;
        self.unkicked = false;
        self.health = Health::Running;
        (
            core::mem::replace(&mut self.queue, queue),
            core::mem::replace(&mut self.slots, slots),
        )
    }

    /// Everything that is staged by now has a smaller number.
    #[inline]
    pub(super) fn next(&self) -> u64 {
        self.slots.window.next()
    }

    /// Everything with a smaller number is answered.
    #[inline]
    pub(super) fn answered_before(&self) -> u64 {
        self.slots.window.base()
    }

    /// The oldest request that is not answered.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.slots.window.oldest()
    }

    /// Fails if there will be no answers any more.
    #[inline]
    pub(super) fn check_alive(&self) -> Result {
        match self.health {
            Health::Running | Health::Late => Ok(()),
            Health::Broken => Err(EIO),
            Health::Closed => Err(ENODEV),
        }
    }

    /// Fails if the device is late: the caller gives up all requests before `target`.
    pub(super) fn check_punctual(&mut self, target: u64) -> Result {
        self.check_alive()?;
        if self.is_late() {
            self.given_up_before = self.given_up_before.max(target);
            return Err(EIO);
        }
        Ok(())
    }

    /// Whether one of the requests that were given up is not answered yet.
    fn is_late(&mut self) -> bool {
        if self.health == Health::Late && self.answered_before() >= self.given_up_before {
            dev_err_deferred!(self.dev, "device answers again\n");
            self.health = Health::Running;
        }
        self.health == Health::Late
    }

    /// Fails if a request cannot be staged because of the state that the device is in. While it is
    /// late, there is no room for a MAP: so it depends on the caller whether that is waited for.
    #[cold]
    fn check_late(&mut self, request: Request) -> Result<(), StageError> {
        self.check_alive().map_err(StageError::Failed)?;
        self.reap();
        // What is unmapped is out of the device's sight as soon as it goes on.
        if self.is_late() && matches!(request, Request::Map { .. }) {
            return Err(StageError::Full);
        }
        Ok(())
    }

    pub(super) fn stats(&self) -> Stats {
        Stats {
            requests: self.requests,
            notifications: self.notifications,
            refused: self.refused.count,
        }
    }

    /// Stages a request whose answer nobody collects: [`Request::Map`] or [`Request::Unmap`].
    // For each kind of request by itself: what its caller knows of it needs no code here.
    #[inline(always)]
    pub(super) fn stage(&mut self, request: Request) -> Result<(), StageError> {
        if let Request::Map { domain, span, .. } = request {
            let accounts = &mut self.refused.accounts;
            if !accounts.is_empty() && accounts.is_barred(domain, span) {
                return Err(StageError::Failed(EIO));
            }
        }
        if self.health != Health::Running {
            self.check_late(request)?;
        }
        let slot = self.take_slot()?;
        match self.add(slot, |slot| slot.load(request)) {
            Ok(_) => Ok(()),
            Err((slot, error)) => {
                self.put_slot(slot);
                Err(error)
            }
        }
    }

    /// Takes an idle slot, for [`Self::add`].
    #[inline]
    pub(super) fn take_slot(&mut self) -> Result<KBox<Slot>, StageError> {
        self.check_alive().map_err(StageError::Failed)?;
        if self.slots.window.is_full() {
            return Err(StageError::Full);
        }
        self.slots.idle.pop().ok_or(StageError::Full)
    }

    /// Takes a slot back that is not needed any more.
    #[inline]
    pub(super) fn put_slot(&mut self, slot: KBox<Slot>) {
        // There is room for all slots.
        let _ = self.slots.idle.push_within_capacity(slot);
    }

    /// Loads a slot from [`Self::take_slot`] and adds it to the ring. Returns its number.
    #[inline(always)]
    pub(super) fn add(
        &mut self,
        mut slot: KBox<Slot>,
        load: impl FnOnce(&mut Slot),
    ) -> Result<u64, (KBox<Slot>, StageError)> {
        let seq = self.next();
        let added = match self.queue.access() {
            Some(mut ring) => {
                // Not before: what lies between is a call, after which a compiler knows nothing of
                // what it has written.
                load(&mut slot);
                slot.seq = seq;
                ring.add(slot)
            }
            None => Err((slot, ENODEV)),
        };
        if let Err((slot, error)) = added {
            return Err((slot, self.cannot_add(error)));
        }
        let _ = self.slots.window.issue();
        self.unkicked = true;
        self.shortage = None;
        self.requests += 1;
        Ok(seq)
    }

    #[cold]
    fn cannot_add(&mut self, error: Error) -> StageError {
        // A packed ring has another word for it than a split one.
        if error == ENOMEM || (error == EIO && !self.queue.is_broken()) {
            // No memory to map the slot for DMA. The requests in the ring have some; without them
            // there is only hope.
            if self.oldest().is_none() {
                self.shortage.get_or_insert_with(Timeout::of_looks);
            }
            return StageError::Full;
        }
        // The ring has room for every slot, so this is a queue that is broken or gone.
        if self.check_alive().is_ok() {
            dev_err_deferred!(self.dev, "cannot add a request: {}\n", error.to_errno());
            self.mark_broken();
        }
        StageError::Failed(error)
    }

    /// Whether there was no memory for a request for so long that a caller gives up; [`None`] if
    /// memory is not short.
    #[cold]
    pub(super) fn is_short_for_long(&mut self) -> Option<bool> {
        let shortage = self.shortage.as_mut()?;
        let was_over = shortage.was_over();
        let is_over = shortage.is_over();
        if is_over && !was_over {
            dev_err_deferred!(
                self.dev,
                "no memory for a request within {} s\n",
                ANSWER_TIMEOUT_SECS
            );
        }
        Some(is_over)
    }

    /// Prepares the notification of the device, if there is something new in the ring and no CPU is
    /// notifying it already. If one is, `insist` is for not relying on it.
    ///
    /// To be sent without the lock, with [`Self::notified`] to follow with the lock.
    #[inline]
    pub(super) fn kick(&mut self, insist: bool) -> Option<Notification> {
        let owed = self.notifying > 0;
        let wanted = if owed { insist } else { self.unkicked };
        if !wanted {
            return None;
        }
        let mut ring = self.queue.access()?;
        self.unkicked = false;
        // The device does not ask for a notification that somebody else owes.
        if !ring.kick_prepare() && !owed {
            return None;
        }
        self.notifying += 1;
        self.notifications += 1;
        Some(ring.into_notification())
    }

    /// Notes that a notification was sent.
    #[inline]
    pub(super) fn notified(&mut self) {
        self.notifying -= 1;
    }

    /// Looks at every request that the device has answered. Returns whether there was one.
    #[inline]
    pub(super) fn reap(&mut self) -> bool {
        if self.slots.window.is_idle() {
            return false;
        }
        let Some(mut ring) = self.queue.access() else {
            return false;
        };
        // A ring says so when the device wrote nonsense to it.
        let _deferred = print_deferred::Section::begin();
        let slots = &mut self.slots;
        let mut progress = false;
        while let Some(Completed {
            buf: mut slot,
            written,
            ..
        }) = ring.pop()
        {
            progress = true;
            slot.set_written(written);
            // The virtqueue hands each slot back once, so its number is outstanding.
            let _ = slots.window.complete(slot.seq);
            if slot.collected {
                core::mem::swap(&mut slot, &mut slots.kept);
            } else {
                let status = slot.status();
                if !status.is_ok() {
                    let all_leave = self.end.is_some();
                    self.refused.note(slot.request(), status, all_leave);
                }
            }
            // There is room for all slots.
            let _ = slots.idle.push_within_capacity(slot);
            if slots.window.is_idle() {
                break;
            }
        }
        progress
    }

    /// The slot of the request with this number, if its answer is the one that is kept.
    pub(super) fn answered(&mut self, seq: u64) -> Option<&mut Slot> {
        let kept = &mut self.slots.kept;
        (kept.collected && kept.seq == seq).then_some(&mut **kept)
    }

    /// Declares the device broken. No more requests are added, and nothing more comes out.
    pub(super) fn mark_broken(&mut self) {
        self.health = Health::Broken;
        self.queue.break_device();
    }

    /// Declares the device late: all requests that it has not answered are given up.
    pub(super) fn mark_late(&mut self) {
        self.health = Health::Late;
        self.given_up_before = self.next();
    }

    /// The device is about to be closed.
    pub(super) fn begin_end(&mut self) {
        self.end.get_or_insert_with(Timeout::of_sleeps);
    }

    /// Declares the device broken if it takes too long to be closed.
    pub(super) fn check_end(&mut self) {
        let late = self.end.as_mut().is_some_and(Timeout::is_over);
        if late && self.check_alive().is_ok() {
            dev_err_deferred!(
                self.dev,
                "endpoints not detached within {} s; device is not used any more\n",
                ANSWER_TIMEOUT_SECS
            );
            self.mark_broken();
        }
    }

    /// Notices that the queue was broken by somebody else: the virtio core at shutdown, or the ring
    /// when the device wrote nonsense to it.
    pub(super) fn check_broken(&mut self) {
        if self.check_alive().is_ok() && self.queue.is_broken() {
            dev_err_deferred!(self.dev, "request queue is broken\n");
            self.health = Health::Broken;
        }
    }
}
