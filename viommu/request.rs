// SPDX-License-Identifier: GPL-2.0

//! The request engine: how requests reach the device and how their answers come back.
//!
//! A request goes through these states:
//!
//! ```text
//!   idle --stage()--> staged --publish--> in flight --reap--> idle, or collected by its caller
//! ```
//!
//! *Staging* takes a slot from a pool that was allocated once, and touches neither the ring nor the
//! device. Neighbouring UNMAPs of a domain are merged here. *Publishing* moves everything staged to
//! the ring, with a single notification. *Reaping* looks at the status of each answered request.
//!
//! Each staged request has a sequence number. [`Engine::sync`] waits until all that were staged
//! before it are answered. It holds no lock and leaves interrupts as they are while it waits, so
//! that other CPUs stage, publish and reap meanwhile; and while one CPU notifies the device, what
//! the others stage piles up and goes out together.
//!
//! A wait ends: with the answer, with an error as soon as the virtqueue is broken, reset or gone,
//! or with an error after [`ANSWER_TIMEOUT_SECS`], after which the device is not used any more.

use core::ops::Range;

use kernel::{
    device,
    prelude::*,
    processor::cpu_relax,
    ratelimit::Ratelimit,
    sync::{
        aref::ARef,
        atomic::{
            Acquire,
            Atomic,
            Release, //
        },
        new_spinlock_irq,
        SpinLockIrq, //
    },
    time::{
        Delta,
        Instant,
        Monotonic, //
    },
    virtio::{
        Notifier,
        Virtqueue, //
    }, //
};

use super::{
    failures::Failures,
    slot::{
        Command,
        Slot, //
    },
    staging::{
        Staging,
        MAX_SLOTS, //
    }, //
};
use crate::uapi::{
    Probe,
    Request,
    Span,
    Status,
    PROBE_READABLE, //
};

/// How long the device may take to answer, in seconds of guest time. Past it the device is declared
/// broken. A device answers in microseconds; the margin is for a busy or suspended host.
pub(super) const ANSWER_TIMEOUT_SECS: i64 = 10;

/// How many more looks at the ring a waiter takes once that time is up.
const GRACE_LOOKS: u32 = 10_000;

/// How many looks at the answer counter a waiter takes between two looks at the ring.
const SPINS_PER_LOOK: usize = 256;

/// How many of those it takes for each pause instruction. A hypervisor may intercept it, which
/// keeps the host from the device's work.
const SPINS_PER_PAUSE: usize = 32;

/// How many looks at the ring a waiter takes before it notifies the device by itself, although
/// somebody else is about to. That may be the very context that this one has interrupted, and the
/// device does not ask for a second notification while the first is owed.
const LOOKS_BEFORE_OWN_NOTIFY: u32 = 8;

/// Descriptors for one request: what the device reads and what it writes. The driver declines
/// indirect descriptors, which would cost an allocation for each request.
const DESCRIPTORS_PER_REQUEST: usize = 2;

/// Why a request cannot be staged now.
pub(super) enum StageError {
    /// All slots are in use: call [`Engine::make_room`] without locks held, and try again.
    Full,
    /// The request cannot be sent at all.
    Failed(Error),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Health {
    Running,
    /// The device stopped answering or answers nonsense.
    Broken,
    /// The driver is shut down, suspended or unbound.
    Closed,
}

/// Counters of what was sent, for debugfs and for the tests.
#[derive(Clone, Copy, Default)]
pub(super) struct Stats {
    /// Requests published to the device.
    pub(super) requests: u64,
    /// Notifications sent to the device.
    pub(super) notifications: u64,
    /// Requests that the device refused.
    pub(super) refused: u64,
}

struct State {
    queue: Virtqueue<Slot>,
    notifier: Notifier,
    health: Health,
    staging: Staging,
    /// Answered requests whose caller is still to come for them.
    answered: KVec<KBox<Slot>>,
    failures: Failures,
    /// Requests that are with the device.
    in_flight: usize,
    /// CPUs that are notifying the device right now.
    notifying: u32,
    stats: Stats,
}

/// The request queue of one device.
#[pin_data]
pub(super) struct Engine {
    dev: ARef<device::Device>,
    #[pin]
    state: SpinLockIrq<State>,
    /// All requests with a smaller sequence number are answered. Written under the lock.
    answered_before: Atomic<u64>,
    /// Whether `State::failures` has anything. Written under the lock.
    has_failures: Atomic<bool>,
    /// For messages about refused requests.
    #[pin]
    refusals: Ratelimit,
}

/// An answered request. Its slot goes back to the pool with it, if that is still the same pool.
struct Answer<'a> {
    engine: &'a Engine,
    slot: Option<KBox<Slot>>,
}

impl Answer<'_> {
    fn status(&self) -> Status {
        self.slot
            .as_ref()
            .map_or(Status::Missing, |slot| slot.status())
    }

    fn take_probe(&mut self) -> Option<(KVec<u8>, usize)> {
        self.slot.as_mut()?.take_probe()
    }
}

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            let mut state = self.engine.state.lock();
            let stale = state.staging.return_collected(slot);
            drop(state);
            drop(stale);
        }
    }
}

/// Bounds a wait by [`ANSWER_TIMEOUT_SECS`].
///
/// The virtual CPU may be the one that was away for so long, so that the other side had no chance
/// to act: after the time is up there is a grace of [`GRACE_LOOKS`].
struct Patience {
    started: Option<Instant<Monotonic>>,
    overdue: u32,
}

impl Patience {
    fn new() -> Self {
        Patience {
            started: None,
            overdue: 0,
        }
    }

    /// To be asked on each turn of the waiting loop.
    fn is_over(&mut self) -> bool {
        let started = *self.started.get_or_insert_with(Instant::now);
        if started.elapsed() > Delta::from_secs(ANSWER_TIMEOUT_SECS) {
            self.overdue += 1;
        }
        self.overdue > GRACE_LOOKS
    }
}

/// Returns how many requests fit the ring of a queue.
fn slots_for(dev: &device::Device, queue: &Virtqueue<Slot>) -> Result<usize> {
    let slots = queue.ring_size() as usize / DESCRIPTORS_PER_REQUEST;
    if slots == 0 {
        dev_err!(
            dev,
            "request queue has {} descriptors, a request takes {}\n",
            queue.ring_size(),
            DESCRIPTORS_PER_REQUEST
        );
        return Err(EINVAL);
    }
    Ok(slots.min(MAX_SLOTS))
}

impl Engine {
    /// Creates the engine over the request virtqueue. May sleep.
    pub(super) fn new(
        dev: ARef<device::Device>,
        queue: Virtqueue<Slot>,
    ) -> Result<impl PinInit<Self>> {
        let slots = slots_for(&dev, &queue)?;
        let state = State {
            notifier: queue.notifier(),
            queue,
            health: Health::Running,
            staging: Staging::new(slots)?,
            answered: KVec::with_capacity(slots, GFP_KERNEL)?,
            failures: Failures::new()?,
            in_flight: 0,
            notifying: 0,
            stats: Stats::default(),
        };

        Ok(pin_init!(Engine {
            dev,
            state <- new_spinlock_irq!(state),
            answered_before: Atomic::new(0),
            has_failures: Atomic::new(false),
            refusals <- Ratelimit::default_for(c"virtio_iommu: request"),
        }))
    }

    /// Stages a request that the engine itself looks after: [`Request::Map`] or [`Request::Unmap`].
    ///
    /// Any context. Locks may be held.
    #[inline]
    pub(super) fn stage(&self, request: Request) -> Result<(), StageError> {
        self.state.lock().stage(request)
    }

    /// Publishes what is staged and waits until a slot is free again.
    ///
    /// Atomic context is fine, but no lock that another user of the engine needs may be held.
    pub(super) fn make_room(&self) -> Result {
        let mut patience = Patience::new();
        loop {
            let oldest = {
                let mut state = self.state.lock();
                self.reap(&mut state);
                if state.staging.has_room() {
                    return Ok(());
                }
                self.check_queue(&mut state);
                state.check_running()?;
                state.staging.window.oldest()
            };
            match oldest {
                Some(seq) => self.wait(Some(seq + 1))?,
                // All slots hold answers that their callers are about to collect.
                None if patience.is_over() => self.give_up(u64::MAX),
                None => cpu_relax(),
            }
        }
    }

    /// Stages an UNMAP, waiting for room if there is none. The caller holds no lock.
    #[inline]
    pub(super) fn unmap(&self, domain: u32, span: Span) -> Result {
        loop {
            match self.stage(Request::Unmap { domain, span }) {
                Ok(()) => return Ok(()),
                Err(StageError::Failed(error)) => return Err(error),
                Err(StageError::Full) => self.make_room()?,
            }
        }
    }

    /// Publishes what is staged and waits until everything staged before the call is answered.
    ///
    /// Atomic context is fine, but no lock that another user of the engine needs may be held.
    #[inline]
    pub(super) fn sync(&self) -> Result {
        self.wait(None)
    }

    /// Like [`Self::sync`], and fails if the device refused a mapping that touches `span`.
    #[inline]
    pub(super) fn sync_map(&self, domain: u32, span: Span) -> Result {
        self.sync()?;
        if self.has_failures.load(Acquire) {
            let mut state = self.state.lock();
            let refused = state.failures.take_map(domain, span);
            self.publish_progress(&state);
            if let Some(error) = refused {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Forgets the refusals of a domain that has no endpoint left, hence no mapping in the device.
    pub(super) fn forget_domain(&self, domain: u32) {
        if self.has_failures.load(Acquire) {
            let mut state = self.state.lock();
            state.failures.forget_domain(domain);
            self.publish_progress(&state);
        }
    }

    /// Sends a request and waits for its answer. The caller holds no lock.
    pub(super) fn call(&self, request: Request) -> Result {
        self.collect(Command::Plain(request))?.status().to_result()
    }

    /// Asks for the properties of an endpoint. Returns the memory that the device wrote to, and the
    /// range of what it wrote there. May sleep.
    pub(super) fn probe(&self, endpoint: u32, probe_size: u32) -> Result<(KVec<u8>, Range<usize>)> {
        let len = Probe::writable(probe_size)
            .and_then(|writable| writable.checked_add(PROBE_READABLE))
            .ok_or(EINVAL)?;
        let buf = KVec::from_elem(0, len, GFP_KERNEL)?;
        let mut answer = self.collect(Command::Probe { endpoint, buf })?;
        let (buf, written) = answer.take_probe().ok_or(EIO)?;
        let end = (PROBE_READABLE + written).min(buf.len());
        Ok((buf, PROBE_READABLE..end))
    }

    /// Sends a command and waits for its answer.
    fn collect(&self, command: Command) -> Result<Answer<'_>> {
        let mut command = Some(command);
        let seq = loop {
            {
                let mut state = self.state.lock();
                state.check_running()?;
                if let Ok(seq) = state.staging.push(&mut command, true) {
                    break seq;
                }
            }
            self.make_room()?;
        };
        let waited = self.wait(Some(seq + 1));

        // A request that was not answered stays with the virtqueue; the engine is out of use then.
        match self.state.lock().take_answered(seq) {
            Some(slot) => Ok(Answer {
                engine: self,
                slot: Some(slot),
            }),
            None => Err(waited.err().unwrap_or(EIO)),
        }
    }

    /// Waits until all requests before `target` are answered; by default, all staged by now.
    fn wait(&self, mut target: Option<u64>) -> Result {
        let mut notified = false;
        let mut looks: u32 = 0;
        let mut own_notify_at = LOOKS_BEFORE_OWN_NOTIFY;
        let mut patience = Patience::new();

        loop {
            let (target, notifier) = {
                let mut state = self.state.lock();
                let target = *target.get_or_insert(state.staging.window.next());
                if notified {
                    state.notifying -= 1;
                    notified = false;
                    self.reap(&mut state);
                } else if looks > 0 || !state.staging.has_staged() {
                    self.reap(&mut state);
                    self.check_queue(&mut state);
                }
                if state.staging.window.base() >= target {
                    return Ok(());
                }
                state.check_running()?;
                let notify = if state.notifying == 0 {
                    self.publish(&mut state)
                } else if looks >= own_notify_at {
                    own_notify_at = own_notify_at.saturating_mul(2);
                    self.publish(&mut state);
                    true
                } else {
                    false
                };
                if notify {
                    state.notifying += 1;
                    state.stats.notifications += 1;
                }
                (target, notify.then(|| state.notifier.clone()))
            };

            if let Some(notifier) = notifier {
                notified = true;
                // A failed notification shows as a broken queue at the next look.
                let _ = notifier.notify();
                continue;
            }

            for spin in 0..SPINS_PER_LOOK {
                if self.answered_before.load(Acquire) >= target {
                    return Ok(());
                }
                if spin % SPINS_PER_PAUSE == 0 {
                    cpu_relax();
                }
            }
            looks = looks.saturating_add(1);
            if looks > LOOKS_BEFORE_OWN_NOTIFY && patience.is_over() {
                self.give_up(target);
            }
        }
    }

    /// Declares the device broken because it does not answer.
    fn give_up(&self, target: u64) {
        let mut state = self.state.lock();
        self.reap(&mut state);
        if state.health == Health::Running && state.staging.window.base() < target {
            dev_err!(
                self.dev,
                "no answer within {} s ({} of {} requests); device is not used any more\n",
                ANSWER_TIMEOUT_SECS,
                state.staging.window.base(),
                state.staging.window.next()
            );
            self.mark_broken(&mut state);
        }
    }

    fn mark_broken(&self, state: &mut State) {
        state.health = Health::Broken;
        state.queue.break_device();
    }

    /// Notices that the queue was broken by somebody else: the virtio core at shutdown, or the ring
    /// when the device wrote nonsense to it.
    fn check_queue(&self, state: &mut State) {
        if state.health == Health::Running && state.queue.is_broken() {
            dev_err!(self.dev, "request queue is broken\n");
            state.health = Health::Broken;
        }
    }

    /// Moves the staged requests to the ring. Returns whether the device must be notified.
    fn publish(&self, state: &mut State) -> bool {
        let State {
            staging,
            queue,
            in_flight,
            stats,
            ..
        } = state;
        if !staging.has_staged() {
            return false;
        }

        let mut failed = None;
        staging.publish(|mut slot| {
            slot.encode();
            queue.add(slot).map_err(|(slot, error)| {
                failed = Some(error);
                slot
            })?;
            *in_flight += 1;
            stats.requests += 1;
            Ok(())
        });

        match failed {
            // Without memory to map the slot for DMA, which may come back: whoever waits tries
            // again.
            None | Some(ENOMEM) => (),
            // The ring has room for every slot, so this is a queue that is broken or gone.
            Some(error) => {
                if state.health == Health::Running {
                    dev_err!(self.dev, "cannot add a request: {}\n", error.to_errno());
                    self.mark_broken(state);
                }
                return false;
            }
        }
        state.queue.kick_prepare()
    }

    /// Looks at every request that the device has answered.
    #[inline]
    fn reap(&self, state: &mut State) {
        let mut progress = false;
        while state.in_flight > 0 {
            let Some(completed) = state.queue.pop() else {
                break;
            };
            state.in_flight -= 1;
            let mut slot = completed.buf;
            slot.set_written(completed.written);
            // The virtqueue hands each slot back once, so its number is outstanding.
            let _ = state.staging.window.complete(slot.seq);
            progress = true;

            if slot.collected {
                let _ = state.answered.push_within_capacity(slot);
            } else {
                let status = slot.status();
                if !status.is_ok() {
                    self.refused(state, &slot, status);
                }
                state.staging.put_idle(slot);
            }
        }
        if progress {
            self.publish_progress(state);
        }
    }

    /// Remembers and reports a request that the device refused and that no caller collects.
    #[cold]
    fn refused(&self, state: &mut State, slot: &Slot, status: Status) {
        let Command::Plain(request) = slot.command else {
            return;
        };
        state.stats.refused += 1;
        let recorded = match request {
            Request::Map { domain, span, .. } => {
                let error = status.to_result().err().unwrap_or(EIO);
                state.failures.record_map(domain, span, error)
            }
            Request::Unmap { domain, span } => state.failures.record_unmap(domain, span),
            _ => Ok(()),
        };
        if self.refusals.check() {
            dev_err!(self.dev, "{} failed: {}\n", request, status);
        }
        if recorded.is_err() && state.health == Health::Running {
            dev_err!(
                self.dev,
                "too many refused requests; device is not used any more\n"
            );
            self.mark_broken(state);
        }
    }

    fn publish_progress(&self, state: &State) {
        self.has_failures.store(!state.failures.is_empty(), Release);
        self.answered_before
            .store(state.staging.window.base(), Release);
    }

    /// Ends all use of the device: waits end with an error, nothing more is sent.
    ///
    /// Any context. Used at shutdown, suspend and unbind, before the device is reset.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.health = Health::Closed;
        state.staging.discard();
    }

    /// Starts over with a new queue, after [`Self::close`] and a reset of the device. May sleep.
    pub(super) fn reopen(&self, queue: Virtqueue<Slot>) -> Result {
        let slots = slots_for(&self.dev, &queue)?;
        // The old queue dropped the slots that were in flight. Allocated without the lock.
        let mut staging = Staging::new(slots)?;
        let mut answered = KVec::with_capacity(slots, GFP_KERNEL)?;
        let notifier = queue.notifier();

        let old = {
            let mut state = self.state.lock();
            // Numbers go on, and nobody waits for the old ones in vain.
            staging.continue_from(state.staging.window.next());
            core::mem::swap(&mut state.staging, &mut staging);
            core::mem::swap(&mut state.answered, &mut answered);
            state.failures.clear();
            state.in_flight = 0;
            state.health = Health::Running;
            self.publish_progress(&state);
            (
                core::mem::replace(&mut state.queue, queue),
                core::mem::replace(&mut state.notifier, notifier),
            )
        };
        drop((old, staging, answered));
        Ok(())
    }

    /// Returns the counters.
    pub(super) fn stats(&self) -> Stats {
        self.state.lock().stats
    }
}

impl State {
    #[inline]
    fn stage(&mut self, request: Request) -> Result<(), StageError> {
        self.check_running().map_err(StageError::Failed)?;
        if let Request::Map { domain, span, .. } = request {
            if !self.failures.is_empty() && self.failures.may_be_stale(domain, span) {
                return Err(StageError::Failed(EIO));
            }
        }
        self.staging.stage(request).map_err(|_| StageError::Full)
    }

    #[inline]
    fn check_running(&self) -> Result {
        match self.health {
            Health::Running => Ok(()),
            Health::Broken => Err(EIO),
            Health::Closed => Err(ENODEV),
        }
    }

    fn take_answered(&mut self, seq: u64) -> Option<KBox<Slot>> {
        let index = self.answered.iter().position(|slot| slot.seq == seq)?;
        self.answered.remove(index).ok()
    }
}
