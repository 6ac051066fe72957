// SPDX-License-Identifier: GPL-2.0

//! The device's side of a virtqueue.

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

use super::{
    Buffer,
    Virtqueue, //
};
use crate::{
    model::{
        self,
        Defect,
        JoinHandle, //
    },
    prelude::*, //
};

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
    /// After how many requests it answers no more, until it is [woken up](Bus::wake).
    pub silent_after: Option<usize>,
    /// After how many requests its queue breaks.
    pub breaks_after: Option<usize>,
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

    fn take_buf<B: Buffer>(&mut self) -> Option<KBox<B>> {
        let buf = self.buf.take()?.into_any().downcast::<KBox<B>>();
        Some(*buf.expect("the type of the queue"))
    }

    fn into_buf<B: Buffer>(mut self) -> KBox<B> {
        self.take_buf().expect("it was not taken")
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
pub(super) struct Ring {
    pub(super) gone: bool,
    pub(super) broken: bool,
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
    /// Whether it was woken up.
    awake: bool,
    /// CPUs that make sure that it is there.
    pub(super) holders: u32,
}

impl Ring {
    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.available.iter().chain(&self.done).chain(&self.used)
    }
}

pub(super) struct Shared {
    pub(super) behaviour: Behaviour,
    ring: Mutex<Ring>,
    device: Arc<Mutex<dyn Device>>,
    /// Held while the device looks at the ring: it does one thing at a time.
    working: shuttle::sync::Mutex<()>,
    bell: shuttle::sync::Mutex<bool>,
    rung: shuttle::sync::Condvar,
}

impl Shared {
    pub(super) fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().expect("no task panics here")
    }

    pub(super) fn free(&self) -> u32 {
        let used: u32 = self.ring().entries().map(|entry| entry.descriptors).sum();
        self.behaviour.ring_size - used
    }

    pub(super) fn add<B: Buffer>(&self, buf: KBox<B>) -> Result<(), (KBox<B>, Error)> {
        if self.ring().broken {
            return Err((buf, EIO));
        }
        let entry = Entry::new(buf);
        let mut ring = self.ring();
        let taken = ring.entries().any(|other| other.address == entry.address);
        assert!(!taken, "a buffer was used again while it was the device's");
        drop(ring);
        if model::is_unmappable() {
            return Err((entry.into_buf(), ENOMEM));
        }
        if self.free() < entry.descriptors {
            return Err((entry.into_buf(), ENOSPC));
        }
        ring = self.ring();
        ring.available.push_back(entry);
        ring.added += 1;
        Ok(())
    }

    pub(super) fn pop<B: Buffer>(&self) -> Option<(KBox<B>, u32)> {
        let mut ring = self.ring();
        if ring.broken {
            return None;
        }
        if model::has(Defect::EarlyPop) && model::once_in(4) {
            if let Some(entry) = ring.available.back_mut() {
                return Some((entry.take_buf()?, 4));
            }
        }
        let mut entry = ring.used.pop_front()?;
        entry.check();
        Some((entry.take_buf()?, entry.claimed))
    }

    pub(super) fn kick_prepare(&self) -> bool {
        let mut ring = self.ring();
        let (before, added) = (ring.published, ring.added);
        ring.published = added;
        match self.behaviour.suppression {
            Suppression::Never => true,
            Suppression::WhileBusy => !ring.busy,
            Suppression::EventIndex => (before..added).contains(&ring.event),
        }
    }

    /// The device is notified.
    pub(super) fn notified(&self) {
        if self.behaviour.pace == Pace::InNotify {
            self.work();
        } else {
            self.ring_bell();
        }
    }

    fn ring_bell(&self) {
        *self.bell.lock().expect("no task panics") = true;
        self.rung.notify_one();
    }

    fn is_silent(&self, ring: &Ring) -> bool {
        let after = self.behaviour.silent_after;
        !ring.awake && after.is_some_and(|after| ring.looked_at as usize >= after)
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
        if self.is_silent(&ring) {
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
            let silent = self.is_silent(&ring);
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

    /// Wakes up a device that answers no more: it does what is in its ring.
    pub fn wake(&self) {
        model::step();
        let shared = self.current().as_ref().map(|(shared, _)| shared.clone());
        if let Some(shared) = shared {
            shared.ring().awake = true;
            shared.notified();
        }
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
        while shared.ring().holders > 0 {
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
