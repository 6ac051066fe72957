// SPDX-License-Identifier: GPL-2.0

//! The request engine: how requests reach the device and how their answers come back.
//!
//! A request goes through these states:
//!
//! ```text
//!   idle --stage()--> in the ring --reap--> idle, or kept until its caller has read it
//! ```
//!
//! *Staging* takes a slot from a pool that was allocated once, writes the request into it, and adds
//! it to the ring. The device is not notified: a *sync* does that, once for all that was staged by
//! anybody. *Reaping* looks at the status of each answered request.
//!
//! Each staged request has a sequence number. [`Engine::sync`] waits until all that were staged
//! before it are answered. It holds no lock and leaves interrupts as they are while it waits, so
//! that other CPUs stage and reap meanwhile. While one CPU notifies the device, the others do not;
//! the device often finds what they stage before it looks away, and else the next notification is
//! for all of it.
//!
//! A wait ends with the answer, and with an error as soon as the virtqueue is broken, reset or
//! gone. A caller that may sleep waits for no less. One that may not gives up when the oldest
//! request got no answer for [`timeout::ANSWER_TIMEOUT_SECS`]: the device is *late*. Its requests
//! stay in the ring, in their order, but nothing is mapped until all that were given up are
//! answered.
//!
//! Messages are deferred: a console may be behind the very IOMMU, and to write to it maps memory.

mod accounts;
mod refused;
mod ring;
mod slot;
mod timeout;
mod wait;
mod window;

use core::iter::Peekable;

use kernel::{
    dev_err_deferred,
    device,
    fmt,
    new_mutex,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Release, //
        },
        new_spinlock_irq,
        Mutex,
        SpinLockIrq,
        SpinLockIrqGuard, //
    },
    virtio::Virtqueue, //
};

pub(crate) use self::{
    accounts::AccountMemory,
    ring::{
        StageError,
        Stats, //
    },
    slot::Slot, //
};

use self::{
    ring::{
        Health,
        RequestQueue,
        Slots, //
    },
    wait::Wait, //
};
use crate::uapi::{
    Request,
    Span,
    Status,
    TAIL,
    UNANSWERED, //
};

/// The request queue of one device.
#[pin_data]
pub(crate) struct Engine {
    dev: ARef<device::Device>,
    /// For one caller after the other that collects an answer: there is one place to keep it.
    #[pin]
    collecting: Mutex<()>,
    #[pin]
    state: SpinLockIrq<RequestQueue>,
    /// All requests with a smaller sequence number are answered. Written under the lock.
    answered_before: Atomic<u64>,
}

type State<'a> = SpinLockIrqGuard<'a, RequestQueue>;

impl Engine {
    /// Creates the engine over the request virtqueue. May sleep.
    pub(crate) fn new(
        dev: ARef<device::Device>,
        queue: Virtqueue<Slot>,
    ) -> Result<impl PinInit<Self>> {
        let state = RequestQueue::new(dev.clone(), queue)?;

        Ok(pin_init!(Engine {
            dev,
            collecting <- new_mutex!(()),
            state <- new_spinlock_irq!(state),
            answered_before: Atomic::new(0),
        }))
    }

    /// Stages a request that the engine itself looks after: [`Request::Map`] or [`Request::Unmap`].
    ///
    /// Any context. Locks may be held.
    #[inline(always)]
    pub(crate) fn stage(&self, request: Request) -> Result<(), StageError> {
        self.state.lock().stage(request)
    }

    /// After a stage that failed with `error`: waits until another one may do, or fails as it did.
    ///
    /// Atomic context is fine, but no lock that another user of the engine needs may be held.
    pub(crate) fn make_room(&self, error: StageError) -> Result {
        self.make_room_for(error, Wait::Spins)
    }

    /// Stages an UNMAP, waiting for room if there is none, and waits until it is answered. The
    /// caller holds no lock.
    ///
    /// A range that the device may go on translating is reported, here and below.
    #[inline]
    pub(crate) fn unmap_and_sync(&self, domain: u32, span: Span) -> Result {
        let state = self.stage_unmap(domain, span)?;
        let target = state.next();
        self.wait(state, target, Wait::Spins)
            .map(drop)
            .inspect_err(|_| self.report_unmap(domain, span))
    }

    #[inline(always)]
    fn stage_unmap(&self, domain: u32, span: Span) -> Result<State<'_>> {
        loop {
            let mut state = self.state.lock();
            let error = match state.stage(Request::Unmap { domain, span }) {
                Ok(()) => return Ok(state),
                Err(error) => error,
            };
            drop(state);
            self.make_room(error)
                .inspect_err(|_| self.lose_unmap(domain, span))?;
        }
    }

    /// Notifies the device of what is staged and waits until everything staged before the call is
    /// answered.
    ///
    /// Atomic context is fine, but no lock that another user of the engine needs may be held.
    #[inline]
    pub(crate) fn sync(&self) -> Result {
        let state = self.state.lock();
        let target = state.next();
        self.wait(state, target, Wait::Spins).map(drop)
    }

    /// Like [`Self::sync`], but waits as long as the device lives: for what `what` says. May sleep.
    pub(crate) fn sync_sleeping(&self, what: &dyn fmt::Display) -> Result {
        let state = self.state.lock();
        let target = state.next();
        self.wait(state, target, Wait::Sleeps(what)).map(drop)
    }

    /// [`Self::make_room`], but waits as long as the device lives: for what `what` says. May sleep.
    pub(crate) fn make_room_sleeping(&self, error: StageError, what: &dyn fmt::Display) -> Result {
        self.make_room_for(error, Wait::Sleeps(what))
    }

    /// Like [`Self::sync`], and fails if the device refused a mapping that touches `span`.
    #[inline(always)]
    pub(crate) fn sync_map(&self, domain: u32, span: Span) -> Result {
        let state = self.state.lock();
        let target = state.next();
        let mut state = match self.wait(state, target, Wait::Spins)? {
            Some(state) => state,
            None => self.state.lock(),
        };

        let accounts = &mut state.refused.accounts;
        if accounts.is_empty() {
            return Ok(());
        }
        accounts.collect(domain, span)
    }

    /// Fails if the device has refused a mapping that touches `span`, and for no other reason, as
    /// it does not wait: call [`Self::sync_sleeping`] before.
    pub(crate) fn collect_refused(&self, domain: u32, span: Span) -> Result {
        self.state.lock().refused.accounts.collect(domain, span)
    }

    /// Bars a range that was unmapped and that the device cannot be told of, and reports it. Any
    /// context.
    #[cold]
    pub(crate) fn lose_unmap(&self, domain: u32, span: Span) {
        self.state.lock().refused.accounts.bar(domain, span);
        self.report_unmap(domain, span);
    }

    /// Reports a range that was unmapped and that the device may go on translating.
    #[cold]
    pub(crate) fn report_unmap(&self, domain: u32, span: Span) {
        let state = self.state.lock();
        // One that is closed has been reset, or is about to be.
        if state.health != Health::Closed && state.refused.may_complain() {
            dev_err_deferred!(
                self.dev,
                "{} is not done: device may go on translating\n",
                Request::Unmap { domain, span }
            );
        }
    }

    /// The device has a domain from now on, without any mapping. May sleep.
    pub(crate) fn domain_is_there(&self, domain: u32, memory: AccountMemory) {
        // What came too late for the domain's last life is none of the account's business.
        self.settle(domain);
        self.state.lock().refused.accounts.open(domain, memory);
    }

    /// The device is about to be told to detach the last endpoint of a domain.
    /// [`Self::domain_has_left`] or [`Self::domain_stays`] follows.
    pub(crate) fn domain_is_leaving(&self, domain: u32) {
        self.state.lock().refused.accounts.is_leaving(domain);
    }

    /// The endpoint could not be detached.
    pub(crate) fn domain_stays(&self, domain: u32) {
        self.state.lock().refused.stays(domain);
    }

    /// The device does not have a domain any more. Returns the memory that
    /// [`Self::domain_is_there`] took, unless that was done before. May sleep.
    pub(crate) fn domain_has_left(&self, domain: u32) -> Option<AccountMemory> {
        // What is not answered yet may be refused.
        self.settle(domain);
        self.state.lock().refused.accounts.close(domain)
    }

    /// Waits for the answers to what was staged in a domain. May sleep.
    fn settle(&self, domain: u32) {
        // If this fails, there are no answers any more.
        let _ = self.sync_sleeping(&fmt!("requests of domain {domain}"));
    }

    /// Sends a request and waits for its answer as long as the device lives. May sleep.
    pub(crate) fn call(&self, request: Request) -> Result<Status> {
        self.collect(request, KVec::new(), |slot| slot.status())
    }

    /// Everything that waits has [`timeout::ANSWER_TIMEOUT_SECS`] from now on: the device is about
    /// to be closed. Until it is opened again, that it does not know a domain is no failure.
    pub(crate) fn begin_end(&self) {
        self.state.lock().begin_end();
    }

    /// Has `stage` stage requests until it has staged them all, a ring-full for each notification,
    /// and waits for their answers as long as the device lives. May sleep.
    pub(crate) fn stage_all(
        &self,
        what: &dyn fmt::Display,
        mut stage: impl FnMut() -> Result<(), StageError>,
    ) -> Result {
        loop {
            let staged = stage();
            self.sync_sleeping(what)?;
            match staged {
                Ok(()) => return Ok(()),
                // A pause, if there was no memory for a single one.
                Err(error) => self.make_room_for(error, Wait::Sleeps(what))?,
            }
        }
    }

    /// Sends DETACH requests, a ring-full for each notification, and waits for their answers;
    /// `refused` gets those that the device does not do. May sleep.
    ///
    /// After [`Self::begin_end`], which bounds it.
    pub(crate) fn detach_all(
        &self,
        requests: impl Iterator<Item = Request>,
        mut refused: impl FnMut(Request, Status),
    ) -> Result {
        let mut requests = requests.peekable();
        // Not under the lock: a message takes its time.
        let mut report = || {
            while let Some((request, status)) = self.take_undetached() {
                refused(request, status);
            }
        };
        let detached = self.stage_all(&fmt!("endpoints to be detached"), || {
            report();
            self.stage_some(&mut requests)
        });
        report();
        detached
    }

    /// Stages as many requests as there is room for.
    fn stage_some(
        &self,
        requests: &mut Peekable<impl Iterator<Item = Request>>,
    ) -> Result<(), StageError> {
        let mut state = self.state.lock();
        while let Some(&request) = requests.peek() {
            state.stage(request)?;
            requests.next();
        }
        Ok(())
    }

    fn take_undetached(&self) -> Option<(Request, Status)> {
        self.state.lock().refused.undetached.pop()
    }

    /// Asks for the properties of an endpoint. Returns the memory that the device was given to
    /// write to, and how many bytes it claims to have written. May sleep.
    pub(crate) fn probe(&self, endpoint: u32, probe_size: u32) -> Result<(KVec<u8>, usize)> {
        let buf = KVec::from_elem(UNANSWERED, probe_size as usize + TAIL, GFP_KERNEL)?;
        self.collect(Request::Probe { endpoint }, buf, Slot::take_long)
    }

    /// Sends a request, waits for its answer, which is written to `long` unless that is empty, and
    /// reads it. May sleep.
    fn collect<T>(
        &self,
        request: Request,
        mut long: KVec<u8>,
        read: impl FnOnce(&mut Slot) -> T,
    ) -> Result<T> {
        let wait = Wait::Sleeps(&request);
        let _alone = self.collecting.lock();
        let (state, seq) = loop {
            let mut state = self.state.lock();
            let error = match state.take_slot() {
                Ok(slot) => match state.add(slot, |slot| slot.load_collected(request, long)) {
                    Ok(seq) => break (state, seq),
                    Err((mut slot, error)) => {
                        (long, _) = slot.take_long();
                        state.put_slot(slot);
                        error
                    }
                },
                Err(error) => error,
            };
            drop(state);
            self.make_room_for(error, wait)?;
        };

        let waited = self.wait(state, seq + 1, wait).map(drop);
        // A request that was not answered stays with the virtqueue; the engine is out of use then.
        match self.state.lock().answered(seq) {
            Some(slot) => Ok(read(slot)),
            None => Err(waited.err().unwrap_or(EIO)),
        }
    }

    /// Ends all use of the device: waits end with an error, nothing more is sent.
    ///
    /// Any context. Used at shutdown, suspend and unbind, before the device is reset.
    pub(crate) fn close(&self) {
        self.state.lock().health = Health::Closed;
    }

    /// Starts over with a new queue, after [`Self::close`] and a reset of the device. May sleep.
    pub(crate) fn reopen(&self, queue: Virtqueue<Slot>) -> Result {
        // Allocated, and dropped, without the lock.
        let slots = Slots::new(&self.dev, &queue)?;
        let old = {
            let mut state = self.state.lock();
            let old = state.replace(queue, slots);
            self.answered_before.store(state.answered_before(), Release);
            old
        };
        drop(old);
        Ok(())
    }

    /// Returns the counters.
    pub(crate) fn stats(&self) -> Stats {
        self.state.lock().stats()
    }
}
