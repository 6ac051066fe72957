// SPDX-License-Identifier: GPL-2.0

//! Handles of virtqueues.
//!
//! C header: [`include/linux/virtio.h`](srctree/include/linux/virtio.h)

use super::{
    queues::{
        Queue,
        Shared, //
    },
    Access,
    Segments,
    Virtqueues, //
};
use crate::{
    prelude::*,
    sync::Arc, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};

/// Memory that a device can be given through a [`Virtqueue`].
///
/// A buffer belongs to the queue from [`Virtqueue::add`] until [`Virtqueue::pop`] hands it out
/// again. It must be [`Send`], since another CPU may take it out, or drop it with the queue.
///
/// Implementing this needs no `unsafe`, and cannot go wrong: see [`Virtqueue::add`].
pub trait Buffer: Send + 'static {
    /// Returns the part of the buffer that the device reads and the part that it writes. One of
    /// them may be empty.
    ///
    /// It is also called when the buffer comes back, to limit the length that the device claims to
    /// have written: return the same parts then.
    ///
    /// Both have to lie in memory from the kernel's linear mapping: in the buffer object itself,
    /// or in memory from `KBox` or `KVec`. Memory from `vmalloc()` will not do.
    ///
    /// On machines whose DMA is not coherent, the part that the device writes should not share a
    /// cache line with memory that the CPU uses meanwhile, as `Documentation/core-api/dma-api.rst`
    /// has it. The buffer object itself is not used meanwhile.
    fn segments(&mut self) -> (&[u8], &mut [u8]);

    /// Returns the same parts, and what remembers where they lie, if there is such a thing in the
    /// buffer.
    ///
    /// This is called when the buffer is added. All are borrowed at once, so that nothing happens
    /// to the parts between this call and the device.
    #[inline]
    fn segments_and_cache(&mut self) -> (&[u8], &mut [u8], Option<&mut Segments>) {
        let (readable, writable) = self.segments();
        (readable, writable, None)
    }
}

/// A buffer that a device has used.
pub struct Completed<B> {
    /// The buffer. The device does not access it any more.
    pub buf: KBox<B>,
    /// How many bytes the device says that it has written, counted from the start of the part that
    /// it may write, but never more than that part is long. What follows is to be ignored.
    pub written: usize,
    /// How many bytes the device claims to have written. More than there was room for is a defect
    /// of the device.
    pub claimed: u32,
}

/// A virtqueue, with buffers of the type `B`.
///
/// From [`Virtqueues::take`](super::Virtqueues::take). Operations that the C side wants serialized
/// take `&mut self`: put the queue into a lock that fits the contexts it is used in. None of them
/// sleeps, so that any context will do.
///
/// The handle can outlive the queue: once the driver is unbound, its probe has failed, or the
/// device was frozen, the device is reset, the buffers in the queue are dropped, and all operations
/// fail with `ENODEV` or what corresponds. Dropping the handle has no effect on the queue.
///
/// # Invariants
///
/// This is the only handle of the queue `index` of `shared`, whose `drop_buffer` function is the
/// one for `B`.
///
/// # Examples
///
/// ```
/// use kernel::{
///     device::Core,
///     new_spinlock_irq,
///     prelude::*,
///     sync::{
///         Arc,
///         SpinLockIrq, //
///     },
///     virtio::{
///         self,
///         Buffer,
///         Callback,
///         QueueInfo,
///         Virtqueue, //
///     }, //
/// };
///
/// struct Random([u8; 64]);
///
/// impl Buffer for Random {
///     fn segments(&mut self) -> (&[u8], &mut [u8]) {
///         (&[], &mut self.0)
///     }
/// }
///
/// #[pin_data]
/// struct Source {
///     #[pin]
///     queue: SpinLockIrq<Virtqueue<Random>>,
/// }
///
/// impl Callback for Source {
///     fn call(&self) {
///         let mut queue = self.queue.lock();
///         while let Some(done) = queue.pop() {
///             pr_info!("{} random bytes\n", done.written);
///             // Nothing to do about an error: the buffer is dropped.
///             let _ = queue.add(done.buf);
///         }
///     }
/// }
///
/// # #[expect(unused)]
/// fn start(dev: &virtio::Device<Core<'_>>) -> Result<Arc<Source>> {
///     let mut queues = dev.find_vqs(&[QueueInfo { name: c"input", callback: true }])?;
///     let queue = queues.take(0)?;
///     let notifier = queue.notifier();
///     let source = Arc::pin_init(
///         pin_init!(Source { queue <- new_spinlock_irq!(queue) }),
///         GFP_KERNEL,
///     )?;
///     queues.set_callback(0, source.clone())?;
///     queues.ready();
///
///     let buf = KBox::new(Random([0; 64]), GFP_KERNEL)?;
///     let mut queue = source.queue.lock();
///     queue.add(buf).map_err(|(_, error)| error)?;
///     let notify = queue.kick_prepare();
///     drop(queue);
///     if notify {
///         notifier.notify()?;
///     }
///     Ok(source)
/// }
/// ```
pub struct Virtqueue<B: Buffer> {
    shared: Arc<Shared>,
    index: usize,
    _buffer: PhantomData<fn(KBox<B>) -> KBox<B>>,
}

/// Implements [`DropBuffer`](super::queues::DropBuffer) for the buffers `B`.
///
/// # Safety
///
/// See [`DropBuffer`](super::queues::DropBuffer).
unsafe fn drop_buffer<B: Buffer>(token: NonNull<c_void>) {
    // SAFETY: By the safety requirement `token` comes from `KBox::<B>::into_raw` and is nobody
    // else's.
    drop(unsafe { KBox::<B>::from_raw(token.as_ptr().cast()) });
}

impl Virtqueues<'_> {
    /// Takes the handle of the queue `index`, which counts the elements of the slice given to
    /// [`Device::find_vqs`](super::Device::find_vqs). Its buffers are of the type `B` from now on.
    ///
    /// Errors: `EINVAL` if there is no such queue, `EBUSY` if its handle was taken before.
    pub fn take<B: Buffer>(&mut self, index: usize) -> Result<Virtqueue<B>> {
        let queues = self.shared.queues.try_access().ok_or(ENODEV)?;
        let queue = queues.get(index).ok_or(EINVAL)?;

        // INVARIANT: The function is made for the type of the buffers of the handle below. That is
        // the only one, since `populate` returns `true` only once.
        if !queue.drop_buffer.populate(drop_buffer::<B>) {
            return Err(EBUSY);
        }
        // SAFETY: `drop_buffer` was populated for `B` just now, for this handle. No other handle of
        // the queue is made, before or after: this is the only place where one is, see above.
        Ok(unsafe { Virtqueue::new(self.shared.clone(), index) })
    }
}

impl<B: Buffer> Virtqueue<B> {
    /// Creates the handle of the queue `index` of `shared`.
    ///
    /// # Safety
    ///
    /// The queue's `drop_buffer` has to be populated with the function for `B`, and there must be
    /// no other handle of the queue, now or later.
    pub(super) unsafe fn new(shared: Arc<Shared>, index: usize) -> Self {
        // INVARIANT: By the safety requirements.
        Self {
            shared,
            index,
            _buffer: PhantomData,
        }
    }

    /// Calls `f` with the queue, unless it is gone.
    #[inline]
    fn with<R>(&self, f: impl FnOnce(&Queue) -> R) -> Option<R> {
        let queues = self.shared.queues.try_access()?;
        queues.get(self.index).map(f)
    }

    /// Starts a series of operations. `None` if the queue is gone.
    ///
    /// Each of the operations below begins with this. To begin once for several is cheaper, and
    /// the queue cannot go away in between.
    #[inline]
    pub fn access(&mut self) -> Option<Access<'_, B>> {
        // SAFETY: Both are those of `self`, which is borrowed mutably for as long as the access is.
        unsafe { Access::new(&self.shared, self.index) }
    }

    /// Gives a buffer to the device. It learns of it through [`kick_prepare`](Self::kick_prepare)
    /// and [`Notifier::notify`].
    ///
    /// The buffer takes one descriptor of the ring for each of its two parts that is not empty; no
    /// memory is allocated for it (unless `VIRTIO_RING_F_INDIRECT_DESC` is negotiated: a driver
    /// can refuse that feature in [`Driver::validate`](super::Driver::validate)).
    ///
    /// Errors, with the buffer given back:
    ///
    /// - `ENOSPC`: the ring has no free descriptors. There are some after a [`pop`](Self::pop).
    /// - `EINVAL`: both parts are empty, one is longer than `u32::MAX` or not in the linear
    ///   mapping, or the ring has fewer descriptors than the buffer needs.
    /// - `ENOMEM`: a part cannot be mapped for DMA.
    /// - `EIO`: the queue is broken; with `CONFIG_VIRTIO_HARDEN_NOTIFICATION` also before
    ///   [`Virtqueues::ready`](super::Virtqueues::ready).
    /// - `ENODEV`: the queue is gone.
    ///
    /// # Soundness
    ///
    /// Why any safe implementation of [`Buffer`] will do: `add` owns `buf`, and `B` is `'static`.
    /// Nothing but one call of [`Buffer::segments_and_cache`] touches the object from here until
    /// `pop`, or the end of the queue, makes a [`KBox`] of it again; both do so after the device
    /// has returned it or was reset. That is as if the box was leaked into an `&'a mut B`, where
    /// `'a` is the time that the buffer is in flight, and the method was called with that
    /// reference. Since it has to work for every lifetime, it then returns slices that are valid,
    /// and in the case of the second one exclusive, for all of `'a`. So it does not matter where
    /// they lie, as long as the address arithmetic of DMA holds, which is checked. As they are made
    /// of `u8`, whatever the device writes is a valid value.
    #[inline]
    pub fn add(&mut self, buf: KBox<B>) -> Result<(), (KBox<B>, Error)> {
        match self.access() {
            Some(mut access) => access.add(buf),
            None => Err((buf, ENODEV)),
        }
    }

    /// Takes a buffer that the device has used out of the queue.
    ///
    /// `None` if there is none at present, and if there will be none any more: the queue is broken
    /// or gone. Who waits for a buffer has to look at [`is_broken`](Self::is_broken), too.
    #[inline]
    pub fn pop(&mut self) -> Option<Completed<B>> {
        self.access()?.pop()
    }

    /// Publishes what was added, and tells whether the device has to be notified of it.
    ///
    /// Under the lock that the queue is in. Then, outside of it, call [`Notifier::notify`] if this
    /// returns `true`; or send what [`Access::into_notification`] returns.
    #[inline]
    pub fn kick_prepare(&mut self) -> bool {
        self.access()
            .is_some_and(|mut access| access.kick_prepare())
    }

    /// Asks the device not to interrupt when it has used buffers. It may do so all the same.
    pub fn disable_cb(&mut self) {
        if let Some(mut access) = self.access() {
            access.disable_cb();
        }
    }

    /// Asks the device to interrupt when it has used buffers.
    ///
    /// Returns `false` if it has used some meanwhile, for which there may be no interrupt: call
    /// [`pop`](Self::pop) then. Returns `true` if the queue is broken or gone, so that a loop ends.
    #[must_use]
    pub fn enable_cb(&mut self) -> bool {
        self.access().is_none_or(|mut access| access.enable_cb())
    }

    /// Returns the number of descriptors in the ring; 0 if the queue is gone.
    pub fn ring_size(&self) -> u32 {
        self.with(|queue| queue.size).unwrap_or(0)
    }

    /// Returns the number of descriptors that are free; 0 if the queue is gone.
    pub fn num_free(&self) -> u32 {
        self.with(|queue| {
            // SAFETY: `queue.vq` is valid by the type invariants of `Queue`. The number is only
            // changed by operations that take `&mut self`.
            unsafe { (*queue.vq.as_ptr()).num_free }
        })
        .unwrap_or(0)
    }

    /// Whether the queue is broken, or gone: no buffer will come out of it any more.
    #[inline]
    pub fn is_broken(&self) -> bool {
        is_broken(&self.shared, self.index)
    }

    /// Marks all queues of the device as broken, for who finds that the device makes no sense.
    pub fn break_device(&self) {
        self.shared
            .queues
            .try_access_with(|queues| queues.break_all());
    }

    /// Returns a handle to notify the device with, which needs no lock.
    pub fn notifier(&self) -> Notifier {
        Notifier {
            shared: self.shared.clone(),
            index: self.index,
        }
    }
}

/// Whether the queue `index` is broken, or gone.
fn is_broken(shared: &Shared, index: usize) -> bool {
    let Some(queues) = shared.queues.try_access() else {
        return true;
    };
    queues.get(index).is_none_or(Queue::is_broken)
}

/// A handle of a virtqueue for what needs no serialization.
///
/// From [`Virtqueue::notifier`]. Can be used in any context and shared between threads.
#[derive(Clone)]
pub struct Notifier {
    shared: Arc<Shared>,
    index: usize,
}

impl Notifier {
    /// Notifies the device of the buffers that were published before.
    ///
    /// Errors: `EIO` if the queue is broken or the notification fails, `ENODEV` if it is gone.
    #[inline]
    pub fn notify(&self) -> Result {
        let queues = self.shared.queues.try_access().ok_or(ENODEV)?;
        let queue = queues.get(self.index).ok_or(ENODEV)?;

        queue.notify()
    }

    /// Whether the queue is broken, or gone: no buffer will come out of it any more.
    #[inline]
    pub fn is_broken(&self) -> bool {
        is_broken(&self.shared, self.index)
    }

    /// Marks all queues of the device as broken, for who finds that the device makes no sense.
    pub fn break_device(&self) {
        self.shared
            .queues
            .try_access_with(|queues| queues.break_all());
    }
}
