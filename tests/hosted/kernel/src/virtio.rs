// SPDX-License-Identifier: GPL-2.0

//! Virtqueues, and the device behind them.
//!
//! The driver's side is that of `rust/kernel/virtio/`. The device's side is [`Bus`]: it answers what
//! is in the ring the way that its [`Behaviour`] says, and keeps a record of what is the device's
//! and what is the driver's.

use core::marker::PhantomData;
use std::sync::Arc;

use crate::{
    model::{
        self,
        Defect, //
    },
    prelude::*, //
};

mod bus;

use bus::Shared;
pub use bus::{
    Behaviour,
    Bus,
    Device,
    Pace,
    Suppression, //
};

/// Memory that a device can be given.
pub trait Buffer: Send + 'static {
    /// What the device reads, and what it writes.
    fn segments(&mut self) -> (&[u8], &mut [u8]);

    /// The same, and what remembers where they lie.
    fn segments_and_cache(&mut self) -> (&[u8], &mut [u8], Option<&mut Segments>) {
        let (readable, writable) = self.segments();
        (readable, writable, None)
    }
}

/// Remembers where the parts of a buffer lie. There is nothing to be remembered here.
#[derive(Default)]
pub struct Segments;

impl Segments {
    /// Knows of nothing.
    pub const fn new() -> Self {
        Self
    }
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

/// Keeps a queue from going away, as an RCU read section does.
struct Held(Arc<Shared>);

impl Held {
    /// Unless it is gone.
    fn new(shared: &Arc<Shared>) -> Option<Self> {
        model::step();
        let mut ring = shared.ring();
        if ring.gone {
            return None;
        }
        ring.holders += 1;
        Some(Held(shared.clone()))
    }

    fn notify(&self) -> Result {
        model::assert_no_lock("notifying a device");
        model::interrupt_point();
        model::step();
        if self.0.ring().broken {
            return Err(EIO);
        }
        if !model::has(Defect::NotifyLost) {
            // The CPU is not in the guest meanwhile: nothing interrupts it.
            model::enter_device();
            self.0.notified();
            model::leave_atomic();
        }
        Ok(())
    }

    fn is_broken(&self) -> bool {
        model::step();
        let ring = self.0.ring();
        (ring.broken || ring.gone) && !model::has(Defect::BreakHidden)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.ring().holders -= 1;
    }
}

/// The driver's side of a queue.
pub struct Virtqueue<B: Buffer> {
    shared: Arc<Shared>,
    buffers: PhantomData<fn(KBox<B>) -> KBox<B>>,
}

impl<B: Buffer> Virtqueue<B> {
    /// Starts an access for one or more operations, unless the queue is gone.
    pub fn access(&mut self) -> Option<Access<'_, B>> {
        Some(Access {
            held: Held::new(&self.shared)?,
            handle: PhantomData,
        })
    }

    /// Gives a buffer to the device.
    pub fn add(&mut self, buf: KBox<B>) -> Result<(), (KBox<B>, Error)> {
        match self.access() {
            Some(mut access) => access.add(buf),
            None => Err((buf, ENODEV)),
        }
    }

    /// Takes a buffer that the device has used.
    pub fn pop(&mut self) -> Option<Completed<B>> {
        self.access()?.pop()
    }

    /// Whether the device must be notified of what was added.
    pub fn kick_prepare(&mut self) -> bool {
        self.access()
            .is_some_and(|mut access| access.kick_prepare())
    }

    /// How many descriptors there are; 0 if the queue is gone.
    pub fn ring_size(&self) -> u32 {
        Held::new(&self.shared).map_or(0, |held| held.0.behaviour.ring_size)
    }

    /// How many descriptors are free; 0 if the queue is gone.
    pub fn num_free(&self) -> u32 {
        Held::new(&self.shared).map_or(0, |held| held.0.free())
    }

    /// Whether nothing comes out of the queue any more.
    pub fn is_broken(&self) -> bool {
        self.notifier().is_broken()
    }

    /// Breaks the queue.
    pub fn break_device(&self) {
        self.notifier().break_device();
    }

    /// A handle to notify the device with.
    pub fn notifier(&self) -> Notifier {
        Notifier(self.shared.clone())
    }
}

/// A queue that is there and stays there.
pub struct Access<'a, B: Buffer> {
    held: Held,
    handle: PhantomData<&'a mut Virtqueue<B>>,
}

impl<B: Buffer> Access<'_, B> {
    /// Gives a buffer to the device.
    pub fn add(&mut self, buf: KBox<B>) -> Result<(), (KBox<B>, Error)> {
        model::step();
        self.held.0.add(buf)
    }

    /// Takes a buffer that the device has used.
    pub fn pop(&mut self) -> Option<Completed<B>> {
        model::step();
        let (mut buf, claimed) = self.held.0.pop::<B>()?;
        let room = buf.segments().1.len();
        Some(Completed {
            buf,
            written: room.min(claimed as usize),
            claimed,
        })
    }

    /// Whether the device must be notified of what was added.
    pub fn kick_prepare(&mut self) -> bool {
        model::step();
        self.held.0.kick_prepare()
    }

    /// Ends the access, for a notification that is still to be sent.
    pub fn into_notification(self) -> Notification {
        Notification(self.held)
    }

    /// How many descriptors are free.
    pub fn num_free(&self) -> u32 {
        self.held.0.free()
    }

    /// Whether nothing comes out of the queue any more.
    pub fn is_broken(&self) -> bool {
        self.held.is_broken()
    }
}

/// A notification that is to be sent.
#[must_use = "the device learns of buffers only through a notification"]
pub struct Notification(Held);

impl Notification {
    /// Notifies the device.
    pub fn send(self) -> Result {
        self.0.notify()
    }
}

/// Notifies a device.
#[derive(Clone)]
pub struct Notifier(Arc<Shared>);

impl Notifier {
    /// Notifies it.
    pub fn notify(&self) -> Result {
        Held::new(&self.0).ok_or(ENODEV)?.notify()
    }

    /// Whether nothing comes out of the queue any more.
    pub fn is_broken(&self) -> bool {
        Held::new(&self.0).is_none_or(|held| held.is_broken())
    }

    /// Breaks the queue.
    pub fn break_device(&self) {
        if let Some(held) = Held::new(&self.0) {
            held.0.ring().broken = true;
        }
    }
}
