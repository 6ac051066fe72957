// SPDX-License-Identifier: GPL-2.0

//! Virtqueues, and the device behind them.
//!
//! The driver's side is that of `rust/kernel/virtio/virtqueue.rs`. The device's side is [`Bus`]: it
//! answers what is in the ring the way that its [`Behaviour`] says, and keeps a record of what is
//! the device's and what is the driver's.

use core::{
    any::Any,
    marker::PhantomData, //
};
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        Mutex,
        MutexGuard, //
    }, //
};

use crate::{
    model::{
        self,
        Defect,
        JoinHandle, //
    },
    prelude::*, //
};

/// Memory that a device can be given.
pub trait Buffer: Send + 'static {
    /// What the device reads, and what it writes.
    fn segments(&mut self) -> (&[u8], &mut [u8]);
}

/// A buffer that the device has used.
pub struct Completed<B> {
    /// The buffer.
    pub buf: KBox<B>,
    /// How much the device has written, limited to what there is room for.
    pub written: usize,
    /// How much it says that it has written.
    pub claimed: u32,
}

/// What a device does with a request.
pub trait Device: Send {
    /// Reads a request, writes the answer, and returns how much it claims to have written.
    fn answer(&mut self, readable: &[u8], writable: &mut [u8]) -> u32;

    /// Forgets everything.
    fn reset(&mut self);
}

/// When a device looks at its ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// While it is notified: the CPU that notifies it waits until it has looked.
    InNotify,
    /// When it is notified, on a thread of its own.
    OwnThread,
    /// All the time.
    Polling,
}

/// How a device says which notifications it can do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suppression {
    /// It wants all.
    Never,
    /// It wants none while it works (VRING_USED_F_NO_NOTIFY).
    WhileBusy,
    /// It names the entry for which it wants one (VIRTIO_RING_F_EVENT_IDX).
    EventIndex,
}

/// How a device behaves.
#[derive(Clone, Copy, Debug)]
pub struct Behaviour {
    /// How many descriptors its ring has.
    pub ring_size: u32,
    /// When it looks.
    pub pace: Pace,
    /// What it wants to be told.
    pub suppression: Suppression,
    /// Whether the requests that it has done at once come back in any order.
    pub shuffles: bool,
    /// After how many requests it answers no more.
    pub silent_after: Option<usize>,
    /// After how many requests its queue breaks.
    pub breaks_after: Option<usize>,
    /// One in so many buffers cannot be mapped for DMA; 0 for none.
    pub unmappable: usize,
}

impl Behaviour {
    /// A device that is in order, at random.
    pub fn healthy() -> Self {
        let pace = [Pace::InNotify, Pace::OwnThread, Pace::Polling];
        let suppression = [
            Suppression::Never,
            Suppression::WhileBusy,
            Suppression::EventIndex,
        ];
        Behaviour {
            ring_size: 4 << model::random(3),
            pace: pace[model::random(3)],
            suppression: suppression[model::random(3)],
            shuffles: model::once_in(2),
            silent_after: None,
            breaks_after: None,
            unmappable: 0,
        }
    }
}

trait AnyBuffer: Send {
    fn segments(&mut self) -> (&[u8], &mut [u8]);
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

impl<B: Buffer> AnyBuffer for KBox<B> {
    fn segments(&mut self) -> (&[u8], &mut [u8]) {
        (**self).segments()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// A buffer in the ring.
struct Entry {
    /// [`None`] if the queue has given it back too early.
    buf: Option<Box<dyn AnyBuffer>>,
    address: usize,
    descriptors: u32,
    /// What was in it when it came into the ring, or when the device was done with it.
    content: (Vec<u8>, Vec<u8>),
    claimed: u32,
}

impl Entry {
    fn new<B: Buffer>(mut buf: KBox<B>) -> Self {
        let address = (&raw const *buf).addr();
        let (readable, writable) = buf.segments();
        let content = (readable.to_vec(), writable.to_vec());
        let descriptors = u32::from(!readable.is_empty()) + u32::from(!writable.is_empty());
        Entry {
            buf: Some(Box::new(buf)),
            address,
            descriptors,
            content,
            claimed: 0,
        }
    }

    /// Fails if somebody has changed the buffer since.
    fn check(&mut self) {
        if let Some(buf) = &mut self.buf {
            let (readable, writable) = buf.segments();
            let unchanged = readable == self.content.0 && writable == self.content.1;
            assert!(unchanged, "a buffer was changed while it was the device's");
        }
    }

    fn answer(&mut self, device: &mut dyn Device) {
        self.check();
        match &mut self.buf {
            Some(buf) => {
                let (readable, writable) = buf.segments();
                self.claimed = device.answer(readable, writable);
                self.content.1 = writable.to_vec();
            }
            None => {
                let (readable, writable) = &mut self.content;
                device.answer(readable, writable);
            }
        }
    }
}

#[derive(Default)]
struct Ring {
    gone: bool,
    broken: bool,
    /// Added, and not looked at yet.
    available: VecDeque<Entry>,
    /// Answered, and not given back yet.
    done: Vec<Entry>,
    used: VecDeque<Entry>,
    /// How many were added in all, by when the driver last asked whether to notify, and how many
    /// the device has looked at.
    added: u64,
    published: u64,
    looked_at: u64,
    /// The entry for which the device wants to be notified.
    event: u64,
    /// Whether it wants no notification.
    busy: bool,
    /// CPUs that are notifying it.
    notifying: u32,
}

impl Ring {
    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.available.iter().chain(&self.done).chain(&self.used)
    }

    fn free(&self, size: u32) -> u32 {
        size - self.entries().map(|entry| entry.descriptors).sum::<u32>()
    }
}

struct Shared {
    behaviour: Behaviour,
    ring: Mutex<Ring>,
    device: Arc<Mutex<dyn Device>>,
    /// Held while the device looks at the ring: it does one thing at a time.
    working: shuttle::sync::Mutex<()>,
    bell: shuttle::sync::Mutex<bool>,
    rung: shuttle::sync::Condvar,
}

impl Shared {
    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().expect("no task panics here")
    }

    fn ring_bell(&self) {
        *self.bell.lock().expect("no task panics") = true;
        self.rung.notify_one();
    }

    /// Looks at one entry. Returns whether there was one.
    fn look(&self) -> bool {
        model::step();
        let mut ring = self.ring();
        if ring.gone || ring.broken {
            return false;
        }
        let behaviour = &self.behaviour;
        let looked_at = ring.looked_at as usize;
        if behaviour
            .silent_after
            .is_some_and(|after| looked_at >= after)
        {
            return false;
        }
        let Some(mut entry) = ring.available.pop_front() else {
            return false;
        };
        ring.looked_at += 1;
        ring.event = ring.looked_at;
        entry.answer(&mut *self.device.lock().expect("no task panics here"));
        ring.done.push(entry);
        if behaviour
            .breaks_after
            .is_some_and(|after| looked_at >= after)
        {
            ring.broken = true;
        }
        if !behaviour.shuffles {
            Self::give_back(&mut ring);
        }
        true
    }

    fn give_back(ring: &mut Ring) {
        while !ring.done.is_empty() {
            let which = model::random(ring.done.len());
            let entry = ring.done.swap_remove(which);
            ring.used.push_back(entry);
        }
    }

    /// Looks at everything there is.
    fn work(&self) {
        let _working = self.working.lock().expect("no task panics");
        loop {
            self.ring().busy = true;
            while self.look() {
                if model::once_in(3) {
                    Self::give_back(&mut self.ring());
                }
            }
            let mut ring = self.ring();
            Self::give_back(&mut ring);
            ring.busy = false;
            // What comes from here on is notified, so it must look once more.
            let silent = self.behaviour.silent_after;
            let silent = silent.is_some_and(|after| ring.looked_at as usize >= after);
            if ring.available.is_empty() || ring.gone || ring.broken || silent {
                return;
            }
        }
    }

    /// What the device's own thread does.
    fn serve(&self) {
        loop {
            if self.ring().gone {
                return;
            }
            if self.behaviour.pace == Pace::OwnThread {
                let mut bell = self.bell.lock().expect("no task panics");
                while !*bell {
                    bell = self.rung.wait(bell).expect("no task panics");
                }
                *bell = false;
            } else {
                shuttle::thread::yield_now();
            }
            self.work();
        }
    }
}

/// A device, from its own side.
pub struct Bus {
    behaviour: Behaviour,
    device: Arc<Mutex<dyn Device>>,
    current: Mutex<Option<(Arc<Shared>, Option<JoinHandle<()>>)>>,
}

impl Bus {
    /// A device.
    pub fn new(behaviour: Behaviour, device: Arc<Mutex<dyn Device>>) -> Self {
        Bus {
            behaviour,
            device,
            current: Mutex::new(None),
        }
    }

    /// Sets up the queue.
    pub fn queue<B: Buffer>(&self) -> Virtqueue<B> {
        self.queue_that(self.behaviour)
    }

    /// Sets up the queue for a device that behaves differently from now on.
    pub fn queue_that<B: Buffer>(&self, behaviour: Behaviour) -> Virtqueue<B> {
        let shared = Arc::new(Shared {
            behaviour,
            ring: Mutex::default(),
            device: self.device.clone(),
            working: shuttle::sync::Mutex::new(()),
            bell: shuttle::sync::Mutex::new(false),
            rung: shuttle::sync::Condvar::new(),
        });
        let thread = (behaviour.pace != Pace::InNotify).then(|| {
            let shared = shared.clone();
            model::spawn(move || shared.serve())
        });
        *self.current() = Some((shared.clone(), thread));
        Virtqueue {
            shared,
            buffers: PhantomData,
        }
    }

    fn current(&self) -> MutexGuard<'_, Option<(Arc<Shared>, Option<JoinHandle<()>>)>> {
        self.current.lock().expect("no task panics here")
    }

    /// Breaks the queue, as the virtio core does when a device goes away.
    pub fn break_queue(&self) {
        model::step();
        if let Some((shared, _)) = &*self.current() {
            shared.ring().broken = true;
        }
    }

    /// Resets the device; the queue is gone then, and the buffers in it are dropped.
    pub fn reset(&self) {
        let Some((shared, thread)) = self.current().take() else {
            return;
        };
        {
            let mut ring = shared.ring();
            ring.gone = true;
            ring.broken = true;
        }
        while shared.ring().notifying > 0 {
            shuttle::thread::yield_now();
        }
        shared.ring_bell();
        if let Some(thread) = thread {
            thread.join();
        }
        let old = core::mem::take(&mut *shared.ring());
        shared.ring().gone = true;
        for mut entry in old.available {
            entry.check();
        }
        self.device.lock().expect("no task panics here").reset();
    }
}

/// The driver's side of a queue.
pub struct Virtqueue<B: Buffer> {
    shared: Arc<Shared>,
    buffers: PhantomData<fn(KBox<B>) -> KBox<B>>,
}

impl<B: Buffer> Virtqueue<B> {
    fn ring(&self) -> MutexGuard<'_, Ring> {
        model::step();
        self.shared.ring()
    }

    /// Gives a buffer to the device.
    pub fn add(&mut self, buf: KBox<B>) -> Result<(), (KBox<B>, Error)> {
        let mut ring = self.ring();
        if ring.gone {
            return Err((buf, ENODEV));
        }
        if ring.broken {
            return Err((buf, EIO));
        }
        let address = (&raw const *buf).addr();
        let taken = ring.entries().any(|entry| entry.address == address);
        assert!(!taken, "a buffer was used again while it was the device's");
        if model::once_in(self.shared.behaviour.unmappable) {
            return Err((buf, ENOMEM));
        }
        if ring.free(self.shared.behaviour.ring_size) < 2 {
            return Err((buf, ENOSPC));
        }
        ring.available.push_back(Entry::new(buf));
        ring.added += 1;
        Ok(())
    }

    /// Takes a buffer that the device has used.
    pub fn pop(&mut self) -> Option<Completed<B>> {
        let mut ring = self.ring();
        if ring.gone || ring.broken {
            return None;
        }
        if model::has(Defect::EarlyPop) && model::once_in(4) {
            if let Some(entry) = ring.available.back_mut() {
                let buf = entry.buf.take()?;
                return Self::completed(buf, 4);
            }
        }
        let mut entry = ring.used.pop_front()?;
        entry.check();
        Self::completed(entry.buf?, entry.claimed)
    }

    fn completed(buf: Box<dyn AnyBuffer>, claimed: u32) -> Option<Completed<B>> {
        let mut buf = *buf.into_any().downcast::<KBox<B>>().ok()?;
        let room = buf.segments().1.len();
        Some(Completed {
            buf,
            written: room.min(claimed as usize),
            claimed,
        })
    }

    /// Whether the device must be notified of what was added.
    pub fn kick_prepare(&mut self) -> bool {
        let mut ring = self.ring();
        if ring.gone {
            return false;
        }
        let (before, added) = (ring.published, ring.added);
        ring.published = added;
        match self.shared.behaviour.suppression {
            Suppression::Never => true,
            Suppression::WhileBusy => !ring.busy,
            Suppression::EventIndex => (before..added).contains(&ring.event),
        }
    }

    /// How many descriptors there are.
    pub fn ring_size(&self) -> u32 {
        if self.ring().gone {
            return 0;
        }
        self.shared.behaviour.ring_size
    }

    /// How many descriptors are free.
    pub fn num_free(&self) -> u32 {
        let ring = self.ring();
        if ring.gone {
            return 0;
        }
        ring.free(self.shared.behaviour.ring_size)
    }

    /// Whether nothing comes out of the queue any more.
    pub fn is_broken(&self) -> bool {
        let ring = self.ring();
        (ring.broken || ring.gone) && !model::has(Defect::BreakHidden)
    }

    /// Breaks the queue.
    pub fn break_device(&self) {
        self.ring().broken = true;
    }

    /// A handle to notify the device with.
    pub fn notifier(&self) -> Notifier {
        Notifier(self.shared.clone())
    }
}

/// Notifies a device.
#[derive(Clone)]
pub struct Notifier(Arc<Shared>);

impl Notifier {
    /// Notifies it.
    pub fn notify(&self) -> Result {
        model::assert_no_lock("notifying a device");
        model::interrupt_point();
        model::step();
        {
            let mut ring = self.0.ring();
            if ring.gone {
                return Err(ENODEV);
            }
            if ring.broken {
                return Err(EIO);
            }
            ring.notifying += 1;
        }
        // The CPU is not in the guest: nothing interrupts it.
        model::enter_device();
        if model::has(Defect::NotifyLost) {
        } else if self.0.behaviour.pace == Pace::InNotify {
            self.0.work();
        } else {
            self.0.ring_bell();
        }
        self.0.ring().notifying -= 1;
        model::leave_atomic();
        Ok(())
    }

    /// Whether nothing comes out of the queue any more.
    pub fn is_broken(&self) -> bool {
        model::step();
        let ring = self.0.ring();
        (ring.broken || ring.gone) && !model::has(Defect::BreakHidden)
    }

    /// Breaks the queue.
    pub fn break_device(&self) {
        model::step();
        self.0.ring().broken = true;
    }
}
