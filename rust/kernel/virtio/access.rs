// SPDX-License-Identifier: GPL-2.0

//! What is done with a virtqueue while it is sure to be there.
//!
//! C header: [`include/linux/virtio.h`](srctree/include/linux/virtio.h)

use super::{
    queues::{
        Queue,
        Shared, //
    },
    segment::Segments,
    Buffer,
    Completed,
    Virtqueue, //
};
use crate::{
    bindings,
    prelude::*,
    sync::rcu, //
};
use core::{
    marker::PhantomData,
    ptr::{
        self,
        NonNull, //
    }, //
};

/// A virtqueue that is there and stays there, for one or more operations in a row.
///
/// From [`Virtqueue::access`], which says what there is to know of it. Do not sleep while it
/// exists: it is an RCU read section.
///
/// # Invariants
///
/// - `queue` belongs to a `Queues` that was not revoked yet when the read section of `rcu` had
///   begun. It is therefore not dropped, nor is its memory freed, before the end of that section.
/// - The handle of that queue is a `Virtqueue<B>`. No other operations that need `&mut` of it
///   happen during `'a`.
pub struct Access<'a, B: Buffer> {
    queue: NonNull<Queue>,
    rcu: rcu::Guard,
    _handle: PhantomData<&'a mut Virtqueue<B>>,
}

impl<'a, B: Buffer> Access<'a, B> {
    /// Starts the access to the queue `index` of those that `shared` holds, unless they are gone.
    ///
    /// # Safety
    ///
    /// `shared` and `index` have to be those of a `Virtqueue<B>`, which the caller has borrowed
    /// mutably for `'a`.
    #[inline]
    pub(super) unsafe fn new(shared: &'a Shared, index: usize) -> Option<Self> {
        let rcu = rcu::read_lock();
        let queue = NonNull::from(
            shared
                .queues
                .try_access_with_guard(&rcu)
                .and_then(|queues| queues.get(index))?,
        );
        // INVARIANT: The access was granted after the read section began, so that `revoke()`,
        // before it drops the queues, waits for its end. `Shared` holds the queues; `delete()`
        // drops the last reference to it, that of `vdev->priv`, after it has revoked. By the
        // safety requirements, the handle of the queue is borrowed mutably for `'a`, and it is the
        // only one.
        Some(Self {
            queue,
            rcu,
            _handle: PhantomData,
        })
    }

    #[inline]
    fn queue(&self) -> &Queue {
        // SAFETY: By the type invariants it is valid while `self.rcu` exists.
        unsafe { self.queue.as_ref() }
    }

    #[inline]
    fn vq(&self) -> *mut bindings::virtqueue {
        self.queue().vq.as_ptr()
    }

    /// Like [`Virtqueue::add`].
    #[inline(always)]
    pub fn add(&mut self, buf: KBox<B>) -> Result<(), (KBox<B>, Error)> {
        let object = KBox::into_raw(buf);

        // SAFETY: `object` is from `KBox::into_raw`, and nobody else has it.
        let result = unsafe { self.add_raw(object) };
        // SAFETY: `object` is from `KBox::into_raw`, and was not added to the queue, so that nobody
        // else has it.
        result.map_err(|error| (unsafe { KBox::from_raw(object) }, error))
    }

    /// Adds the buffer at `object`, which belongs to the queue if this succeeds.
    ///
    /// # Safety
    ///
    /// `object` has to come from [`KBox::into_raw`], and nobody else may have it.
    #[inline(always)]
    unsafe fn add_raw(&mut self, object: *mut B) -> Result {
        // SAFETY: The caller owns what `object` points to. The reference and what comes of it end
        // when this function returns an error, or when the buffer leaves the queue; nothing else
        // refers to the object until then, and no other function of `B` is called. `B: 'static`, so
        // that the lifetime can be that long.
        let (readable, writable, cache) = unsafe { (*object).segments_and_cache() };
        // Their places and lengths are all that is used of them.
        let (readable, writable) = (ptr::from_ref(readable), ptr::from_ref::<[u8]>(writable));

        let queue = self.queue();
        // CAST: 0 or 1.
        let readers = u32::from(!readable.is_empty());
        let writers = u32::from(!writable.is_empty());
        let parts = readers + writers;
        if parts == 0 || parts > queue.size {
            return Err(EINVAL);
        }
        // The C function would notify the device before it fails, and that can be slow: callers
        // have a lock.
        let needed = if queue.indirect { 1 } else { parts };
        if self.num_free() < needed {
            return Err(ENOSPC);
        }

        let mut fresh = Segments::new();
        let segments = cache.unwrap_or(&mut fresh);
        // SAFETY: `object` lies in a `KBox`. The parts were slices.
        let mut lists = unsafe { segments.describe(object, readable, writable) }?;

        // `lists` holds as many scatterlists as are announced, readable ones first. Each has
        // one entry and its end mark. They are not used after the call. What they point to stays
        // valid until the buffer leaves the queue; see `Virtqueue::add`.
        //
        // INVARIANT: The token is from `KBox::into_raw` for the type of the handle.
        //
        // SAFETY: `vq` is valid by the type invariants, which say as well that this is not
        // concurrent to other operations. The lists are right, see above. The token is not null.
        let error = unsafe {
            bindings::virtqueue_add_sgs(
                self.vq(),
                lists.as_mut_ptr(),
                readers,
                writers,
                object.cast(),
                GFP_ATOMIC.as_raw(),
            )
        };
        if error != 0 {
            return Err(Error::from_errno(error));
        }
        // SAFETY: By the type invariants nobody else accesses the number now.
        let in_flight = unsafe { &mut *self.queue().in_flight.get() };
        // INVARIANT: One more.
        *in_flight += 1;
        Ok(())
    }

    /// Like [`Virtqueue::pop`].
    #[inline]
    pub fn pop(&mut self) -> Option<Completed<B>> {
        let mut claimed: c_uint = 0;

        // SAFETY: `vq` is valid by the type invariants, which say as well that this is not
        // concurrent to other operations.
        let token = unsafe { bindings::virtqueue_get_buf(self.vq(), &mut claimed) };
        let token = NonNull::new(token)?;
        // SAFETY: By the type invariants nobody else accesses the number now.
        let in_flight = unsafe { &mut *self.queue().in_flight.get() };
        // INVARIANT: One less.
        *in_flight = in_flight.saturating_sub(1);

        // SAFETY: By the type invariants of `Queue` the token was made from a `KBox<B>`. The
        // virtqueue forgets a token when it returns it, and refuses identifiers that it has no
        // token for, whatever the device makes up: so nobody else has this one. The device has
        // returned the buffer.
        let mut buf = unsafe { KBox::<B>::from_raw(token.as_ptr().cast()) };
        let room = buf.segments().1.len();
        Some(Completed {
            buf,
            // CAST: A `usize` has 32 bits at least.
            written: room.min(claimed as usize),
            claimed,
        })
    }

    /// Like [`Virtqueue::kick_prepare`].
    #[inline]
    pub fn kick_prepare(&mut self) -> bool {
        // SAFETY: As in `pop`.
        unsafe { bindings::virtqueue_kick_prepare(self.vq()) }
    }

    /// Ends the access, for a notification of the device: to be sent when the lock that the queue
    /// is in is released.
    #[inline]
    pub fn into_notification(self) -> Notification {
        // INVARIANT: As that of `self`, whose read section goes on.
        Notification {
            queue: self.queue,
            _rcu: self.rcu,
        }
    }

    /// Returns the number of descriptors that are free.
    #[inline]
    pub fn num_free(&self) -> u32 {
        // SAFETY: `vq` is valid by the type invariants, and operations that change the number are
        // not concurrent to this.
        unsafe { (*self.vq()).num_free }
    }

    /// Whether the queue is broken: no buffer will come out of it any more.
    #[inline]
    pub fn is_broken(&self) -> bool {
        self.queue().is_broken()
    }

    /// Asks the device not to interrupt when it has used buffers.
    pub(super) fn disable_cb(&mut self) {
        // SAFETY: As in `pop`.
        unsafe { bindings::virtqueue_disable_cb(self.vq()) }
    }

    /// Asks the device to interrupt when it has used buffers.
    pub(super) fn enable_cb(&mut self) -> bool {
        // SAFETY: As in `pop`.
        unsafe { bindings::virtqueue_enable_cb(self.vq()) }
    }
}

/// A notification that is to be sent.
///
/// From [`Access::into_notification`]. It costs less than a [`Notifier`](super::Notifier), but is
/// good for one notification. Do not sleep while it exists: it is an RCU read section.
///
/// # Invariants
///
/// `queue` is valid, and neither dropped nor freed before the end of the read section of `_rcu`.
#[must_use = "the device learns of buffers only through a notification"]
pub struct Notification {
    queue: NonNull<Queue>,
    _rcu: rcu::Guard,
}

impl Notification {
    /// Notifies the device of the buffers that were published before.
    ///
    /// Errors: `EIO` if the queue is broken or the notification fails.
    #[inline]
    pub fn send(self) -> Result {
        // SAFETY: By the type invariants `queue` is valid while `self` exists.
        unsafe { self.queue.as_ref() }.notify()
    }
}
