// SPDX-License-Identifier: GPL-2.0

//! Handles of virtqueues.
//!
//! C header: [`include/linux/virtio.h`](srctree/include/linux/virtio.h)

use super::queues::{
    Queue,
    Shared, //
};
use crate::{
    bindings,
    error::to_result,
    prelude::*,
    sync::{
        atomic::Relaxed,
        Arc, //
    }, //
};
use core::{
    marker::PhantomData,
    mem::{
        size_of,
        MaybeUninit, //
    },
    ptr::{
        self,
        NonNull, //
    }, //
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
    /// It is called when the buffer is added, and again when it comes back, to limit the length
    /// that the device claims to have written: return the same parts then.
    ///
    /// Both have to lie in memory from the kernel's linear mapping: in the buffer object itself,
    /// or in memory from `KBox` or `KVec`. Memory from `vmalloc()` will not do.
    ///
    /// On machines whose DMA is not coherent, the part that the device writes should not share a
    /// cache line with memory that the CPU uses meanwhile, as `Documentation/core-api/dma-api.rst`
    /// has it. The buffer object itself is not used meanwhile.
    fn segments(&mut self) -> (&[u8], &mut [u8]);
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

/// Whether `bytes` lies in the kernel's linear mapping, where neighbouring addresses are
/// neighbours in physical memory, too. `bytes` must not be empty.
///
/// The caller got `bytes` from the object at `object`, which lies in a [`KBox`].
#[inline]
fn is_linear<B>(object: *const B, bytes: *const u8, len: usize) -> bool {
    let offset = bytes.addr().wrapping_sub(object.addr());

    // The usual case, without a call: part of the object. That is memory from `kmalloc()`, which
    // is always in the linear mapping.
    if offset < size_of::<B>() && len <= size_of::<B>() - offset {
        return true;
    }

    // A slice lies in one allocation, and each allocation is in the linear mapping with all of it
    // or not at all. Both ends are looked at in spite of that, so that this does not depend on it.
    let last = bytes.wrapping_add(len - 1);
    // SAFETY: The function takes any address.
    unsafe { bindings::virt_addr_valid(bytes.cast()) && bindings::virt_addr_valid(last.cast()) }
}

impl<B: Buffer> Virtqueue<B> {
    /// Creates the handle of a queue. The caller has to establish the invariants.
    pub(super) fn new(shared: Arc<Shared>, index: usize) -> Self {
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
    /// Nothing but the call of [`Buffer::segments`] touches the object from here until `pop`, or
    /// the end of the queue, makes a [`KBox`] of it again; both do so after the device has
    /// returned it or was reset. That is as if the box was leaked into an `&'a mut B`, where `'a`
    /// is the time that the buffer is in flight, and `segments` was called with that reference.
    /// Since `segments` has to work for every lifetime, it then returns slices that are valid, and
    /// in the case of the second one exclusive, for all of `'a`. So it does not matter where they
    /// lie, as long as the address arithmetic of DMA holds, which is checked. As they are made of
    /// `u8`, whatever the device writes is a valid value.
    #[inline]
    pub fn add(&mut self, buf: KBox<B>) -> Result<(), (KBox<B>, Error)> {
        let object = KBox::into_raw(buf);

        let result = self.add_raw(object);
        // SAFETY: `object` is from `KBox::into_raw`, and was not added to the queue, so that nobody
        // else has it.
        result.map_err(|error| (unsafe { KBox::from_raw(object) }, error))
    }

    /// Adds the buffer at `object`, which comes from [`KBox::into_raw`] and belongs to the queue if
    /// this succeeds.
    #[inline]
    fn add_raw(&mut self, object: *mut B) -> Result {
        // SAFETY: `add` owns what `object` points to. The reference and the slices end when this
        // function returns an error, or when the buffer leaves the queue; nothing else refers to
        // the object until then. `B: 'static`, so that the lifetime can be that long.
        let (readable, writable) = unsafe { (*object).segments() };

        let mut lists = [const { MaybeUninit::<bindings::scatterlist>::uninit() }; 2];
        let mut list_ptrs = [ptr::null_mut(); 2];
        let mut used = 0;
        for (bytes, len) in [
            (readable.as_ptr(), readable.len()),
            (writable.as_mut_ptr().cast_const(), writable.len()),
        ] {
            if len == 0 {
                continue;
            }
            let c_len = u32::try_from(len).map_err(|_| EINVAL)?;
            if !is_linear(object, bytes, len) {
                return Err(EINVAL);
            }
            let list = lists[used].as_mut_ptr();
            // SAFETY: `list` has room for a `struct scatterlist`. The bytes are `len` bytes of the
            // linear mapping, as the function needs it, since it stores the page of the first of
            // them, and the length.
            unsafe { bindings::sg_init_one(list, bytes.cast(), c_len) };
            list_ptrs[used] = list;
            used += 1;
        }

        // CAST: 0 or 1.
        let readers = u32::from(!readable.is_empty());
        let writers = u32::from(!writable.is_empty());
        self.with(|queue| {
            let parts = readers + writers;
            if parts == 0 || parts > queue.size {
                return Err(EINVAL);
            }
            // The C function would notify the device before it fails, and that can be slow: callers
            // have a lock.
            let needed = if queue.indirect { 1 } else { parts };
            // SAFETY: `queue.vq` is valid by the type invariants of `Queue`, which is not dropped
            // while `with` calls this. `&mut self` is what operations need that change the number.
            if unsafe { (*queue.vq.as_ptr()).num_free } < needed {
                return Err(ENOSPC);
            }
            // SAFETY:
            // - `queue.vq` is valid by the type invariants of `Queue`, which is not dropped while
            //   `with` calls this. `&mut self` serializes this with the other operations, since
            //   this is the only handle.
            // - `list_ptrs` holds as many scatterlists as are announced, readable ones first. Each
            //   has one entry and its end mark. They are not used after the call.
            // - What they point to stays valid until the buffer leaves the queue; see `add`.
            // - The token is not null. INVARIANT: It is from `KBox::into_raw` for the type of this
            //   handle.
            to_result(unsafe {
                bindings::virtqueue_add_sgs(
                    queue.vq.as_ptr(),
                    list_ptrs.as_mut_ptr(),
                    readers,
                    writers,
                    object.cast(),
                    GFP_ATOMIC.as_raw(),
                )
            })?;
            // INVARIANT: One more. Only this handle changes the number.
            queue
                .in_flight
                .store(queue.in_flight.load(Relaxed) + 1, Relaxed);
            Ok(())
        })
        .unwrap_or(Err(ENODEV))
    }

    /// Takes a buffer that the device has used out of the queue.
    ///
    /// `None` if there is none at present, and if there will be none any more: the queue is broken
    /// or gone. Who waits for a buffer has to look at [`is_broken`](Self::is_broken), too.
    #[inline]
    pub fn pop(&mut self) -> Option<Completed<B>> {
        let mut claimed: c_uint = 0;

        let token = self.with(|queue| {
            // SAFETY: `queue.vq` is valid by the type invariants of `Queue`, which is not dropped
            // while `with` calls this. `&mut self` serializes this with the other operations.
            let token = unsafe { bindings::virtqueue_get_buf(queue.vq.as_ptr(), &mut claimed) };
            let token = NonNull::new(token)?;
            // INVARIANT: One less. Only this handle changes the number.
            queue
                .in_flight
                .store(queue.in_flight.load(Relaxed).saturating_sub(1), Relaxed);
            Some(token)
        })??;

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

    /// Publishes what was added, and tells whether the device has to be notified of it.
    ///
    /// Under the lock that the queue is in. Then, outside of it, call [`Notifier::notify`] if this
    /// returns `true`.
    #[inline]
    pub fn kick_prepare(&mut self) -> bool {
        self.with(|queue| {
            // SAFETY: As in `pop`.
            unsafe { bindings::virtqueue_kick_prepare(queue.vq.as_ptr()) }
        })
        .unwrap_or(false)
    }

    /// Asks the device not to interrupt when it has used buffers. It may do so all the same.
    pub fn disable_cb(&mut self) {
        self.with(|queue| {
            // SAFETY: As in `pop`.
            unsafe { bindings::virtqueue_disable_cb(queue.vq.as_ptr()) }
        });
    }

    /// Asks the device to interrupt when it has used buffers.
    ///
    /// Returns `false` if it has used some meanwhile, for which there may be no interrupt: call
    /// [`pop`](Self::pop) then. Returns `true` if the queue is broken or gone, so that a loop ends.
    #[must_use]
    pub fn enable_cb(&mut self) -> bool {
        self.with(|queue| {
            // SAFETY: As in `pop`.
            unsafe { bindings::virtqueue_enable_cb(queue.vq.as_ptr()) }
        })
        .unwrap_or(true)
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
    queues.get(index).is_none_or(|queue| {
        // SAFETY: `queue.vq` is valid by the type invariants of `Queue`, and `queues` keeps it from
        // being dropped. The function is one load, which may be concurrent to everything.
        unsafe { bindings::virtqueue_is_broken(queue.vq.as_ptr()) }
    })
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

        // SAFETY: `queue.vq` is valid by the type invariants of `Queue`, and `queues` keeps it from
        // being dropped. The function need not be serialized with others.
        if unsafe { bindings::virtqueue_notify(queue.vq.as_ptr()) } {
            Ok(())
        } else {
            Err(EIO)
        }
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
