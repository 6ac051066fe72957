// SPDX-License-Identifier: GPL-2.0

//! The set of virtqueues of a device: how it is made, and how it is taken down.
//!
//! # Who owns what
//!
//! [`Queues`] holds the raw `struct virtqueue`s of one device, what the device was given through
//! them, and the callbacks. It lies in a [`Revocable`] in a [`Shared`], of which `vdev->priv` and
//! every handle ([`Virtqueue`], [`Notifier`]) hold a reference. Handles get at the queues in an
//! RCU read section only, so that they can be kept anywhere and for as long as one likes.
//!
//! The [`Adapter`](super::Adapter) revokes: once the driver is unbound, when its probe failed,
//! after its `freeze`. That waits for the handles that are at work, and then drops [`Queues`],
//! which resets the device and only then frees what the device was given, and the queues. No part
//! of that depends on a destructor being run by the driver.
//!
//! # Who keeps these apart
//!
//! Queues are made and deleted in callbacks of the bus, which do not overlap for one device:
//! `probe`, `remove` and `shutdown` run under its lock, and the [`Adapter`](super::Adapter) takes
//! it for `freeze` and `restore`.
//!
//! [`Buffer`]: super::Buffer
//! [`Virtqueue`]: super::Virtqueue
//! [`Notifier`]: super::Notifier

use super::Device;
use crate::{
    bindings,
    device::{
        Bound,
        Core,
        CoreInternal, //
    },
    error::to_result,
    prelude::*,
    revocable::Revocable,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Relaxed,
            Release, //
        },
        Arc,
        SetOnce, //
    },
    types::ForeignOwnable, //
};
use core::{
    cell::UnsafeCell,
    marker::PhantomData,
    ptr::{
        self,
        NonNull, //
    }, //
};

/// What a driver wants of one virtqueue, for [`Device::find_vqs`].
pub struct QueueInfo {
    /// The name of the queue, for interrupts and for messages of the virtio core.
    pub name: &'static CStr,
    /// Whether the device is to interrupt when it has used a buffer of this queue. Set the
    /// function to call with [`Virtqueues::set_callback`].
    pub callback: bool,
}

/// Called when a device has used buffers of a virtqueue.
pub trait Callback: Send + Sync {
    /// Looks at what the device has done. Hard interrupt context, and an RCU read section.
    ///
    /// With `CONFIG_PREEMPT_RT` it is the thread of an interrupt, with interrupts on. What is right
    /// in a hard interrupt is right there.
    ///
    /// Calls for one queue can overlap, and there can be calls that have nothing to do.
    fn call(&self);
}

/// Drops a buffer that the device was given.
///
/// # Safety
///
/// The token must come from [`KBox::into_raw`] for the type that the function is made for, and it
/// must not be used afterwards.
pub(super) type DropBuffer = unsafe fn(NonNull<c_void>);

/// One virtqueue.
///
/// # Invariants
///
/// - `vq` is valid for as long as the [`Queues`] that this is part of.
/// - Tokens are only put into `vq` by the one [`Virtqueue`] that was made for it, once
///   `drop_buffer` was populated, with the function for the [`Buffer`] type of that handle. Each is
///   from [`KBox::into_raw`] for that type.
/// - `in_flight` is the number of tokens that were put into `vq` and not got back. It is only
///   accessed by operations that need `&mut` of that handle, and by the destructor of [`Queues`].
pub(super) struct Queue {
    pub(super) vq: NonNull<bindings::virtqueue>,
    /// Number of descriptors in the ring.
    pub(super) size: u32,
    /// Whether a buffer takes one descriptor of the ring, however many parts it has.
    pub(super) indirect: bool,
    pub(super) in_flight: UnsafeCell<u32>,
    pub(super) drop_buffer: SetOnce<DropBuffer>,
    wants_callback: bool,
    callback: SetOnce<Arc<dyn Callback>>,
}

/// The virtqueues of a device.
///
/// # Invariants
///
/// - `vdev` is a valid device and bound to a driver. `find_vqs()` was successful for it, and
///   `del_vqs()` was not called since.
/// - `list` is the queues from `find_vqs()` in their order, or the first of them.
pub(super) struct Queues {
    vdev: NonNull<bindings::virtio_device>,
    list: KVec<Queue>,
}

// SAFETY: Neither a virtio device nor a virtqueue belongs to a thread. The other fields are `Send`,
// as are the buffers in the queues, since that is a bound of `Buffer`.
unsafe impl Send for Queues {}

// SAFETY: Shared, a `Queues` is good for what `Virtqueue` and `Notifier` do with it: operations
// that need serialization, those on `in_flight` among them, are called through the `&mut` reference
// to the only `Virtqueue` of a queue, the others need none. The other fields are `Sync`.
unsafe impl Sync for Queues {}

impl Queues {
    /// Returns the queue with this index.
    #[inline]
    pub(super) fn get(&self, index: usize) -> Option<&Queue> {
        self.list.get(index)
    }

    /// Marks all queues as broken. Any context.
    ///
    /// `virtio_break_device()` does the same under a spinlock that does not keep interrupts off,
    /// and must therefore not be called from a hard interrupt.
    pub(super) fn break_all(&self) {
        for queue in &self.list {
            // SAFETY: By the type invariants `vq` is valid. The function does no more than one
            // store, which may be concurrent to any other operation.
            unsafe { bindings::__virtqueue_break(queue.vq.as_ptr()) };
        }
    }
}

impl Drop for Queues {
    fn drop(&mut self) {
        let vdev = self.vdev.as_ptr();

        // First of all the device has to stop: it may read and write the buffers until then. After
        // a reset, by section 2.4.1 of the virtio specification 1.2, it must not interact with the
        // queues until the driver has set it up again.
        //
        // SAFETY: By the type invariants `vdev` is valid and bound to a driver. `Queues` is dropped
        // by `find()` and `delete()` only, from a callback of the bus, which may sleep, and which
        // is not concurrent to another reset, see the documentation of the module.
        unsafe {
            bindings::virtio_break_device(vdev);
            bindings::virtio_synchronize_cbs(vdev);
            bindings::virtio_reset_device(vdev);
        }

        for queue in &self.list {
            // Not simply until there is none: the C function then checks that all descriptors are
            // free, which a device that writes to the ring can make untrue, and it means BUG().
            //
            // SAFETY: `&mut self` is the proof that no handle uses the queue.
            let in_flight = unsafe { *queue.in_flight.get() };
            for _ in 0..in_flight {
                // SAFETY: By the type invariants `vq` is valid. The device is stopped, and
                // `&mut self` is the proof that no handle uses the queue.
                let token = unsafe { bindings::virtqueue_detach_unused_buf(queue.vq.as_ptr()) };
                let Some(token) = NonNull::new(token) else {
                    break;
                };
                if let Some(drop_buffer) = queue.drop_buffer.as_ref() {
                    // SAFETY: By the type invariants of `Queue`, `token` comes from
                    // `KBox::into_raw` for the type that `drop_buffer` is made for. A virtqueue
                    // returns a token that was added once at most once, and the device does not
                    // use the buffer any more.
                    unsafe { drop_buffer(token) };
                }
            }
        }

        // SAFETY: By the type invariants `vdev` is valid, with a table of operations that does not
        // change; see `Device::config_ops`.
        if let Some(del_vqs) = unsafe { (*(*vdev).config).del_vqs } {
            // SAFETY: By the type invariants there are queues to delete. They are not used any
            // more: not by handles, see above, and not by `queue_callback()`. For that it does not
            // matter whether `del_vqs()` frees interrupts before the queues (PCI, with a vector for
            // each queue) or after them (other vectors, INTx, MMIO): the queues are broken, and
            // `virtio_synchronize_cbs()` has waited for the interrupts that did not know, so that
            // `vring_interrupt()` does not call back any more. That the handlers of the transport
            // itself do not use a queue that is being deleted is up to the transport.
            unsafe { del_vqs(vdev) };
        }
    }
}

/// What the handles and `vdev->priv` refer to.
#[pin_data]
pub(super) struct Shared {
    #[pin]
    pub(super) queues: Revocable<Queues>,
    /// Whether callbacks may be called.
    ready: Atomic<bool>,
}

/// Returns `vdev->priv`, which the C side leaves to the driver, that is, to this module.
///
/// It is null, or a reference to a `Shared` from [`Arc::into_foreign`].
///
/// # Safety
///
/// `vdev` must be a valid `struct virtio_device`, bound to a driver through
/// [`Adapter`](super::Adapter), for all of `'a`.
unsafe fn private<'a>(vdev: *mut bindings::virtio_device) -> &'a Atomic<*mut c_void> {
    // SAFETY: By the safety requirement `vdev` is valid, so that the pointer in it is valid and
    // aligned. Nothing else than this function accesses it: the virtio core and the transports do
    // not, and while a Rust driver is bound there is no other driver.
    unsafe { Atomic::from_ptr(&raw mut (*vdev).priv_) }
}

/// The C callback of each queue that wants one.
///
/// # Safety
///
/// To be called by the virtio core only, for a queue that [`find`] asked for, between the beginning
/// of `find_vqs()` and the end of `del_vqs()`.
unsafe extern "C" fn queue_callback(vq: *mut bindings::virtqueue) {
    // SAFETY: By the safety requirement `vq` is valid, and its device is bound to a Rust driver.
    let private = unsafe { private((*vq).vdev) }.load(Acquire);
    if private.is_null() {
        // An interrupt before `find()` is done.
        return;
    }

    // SAFETY: `find()` stored a reference to a `Shared` there, of which the load acquires the
    // content. `delete()` only drops the reference after `del_vqs()`, and that waits for the
    // interrupt handlers.
    let shared = unsafe { <Arc<Shared> as ForeignOwnable>::borrow(private) };
    if !shared.ready.load(Acquire) {
        return;
    }

    let Some(queues) = shared.queues.try_access() else {
        return;
    };
    // SAFETY: As above. The index of a queue does not change.
    let index = unsafe { (*vq).index } as usize;
    if let Some(callback) = queues.get(index).and_then(|queue| queue.callback.as_ref()) {
        callback.call();
    }
}

impl Device<Core<'_>> {
    /// Creates the virtqueues of the device, from the first one on. May sleep.
    ///
    /// For the driver's `probe` and `restore`. The queues exist until the driver is unbound, its
    /// probe fails, or its `freeze` succeeds: the device is reset then, the buffers that it was
    /// given are dropped, and every handle fails with `ENODEV`.
    ///
    /// Errors: `EINVAL` if `queues` is empty, `EBUSY` if there are queues, or if the device was
    /// already told that the driver is ready, `ENODEV` if the device was reset, so that nothing is
    /// negotiated, `ENOMEM`, and what the transport returns: `ENOENT` if the device has no such
    /// queue.
    pub fn find_vqs(&self, queues: &[QueueInfo]) -> Result<Virtqueues<'_>> {
        find(self, queues)
    }
}

/// Implements [`Device::find_vqs`].
fn find<'a>(dev: &'a Device<Core<'_>>, infos: &[QueueInfo]) -> Result<Virtqueues<'a>> {
    let vdev = dev.as_raw();
    // SAFETY: Every `Device<Core>` comes from `Adapter` and is bound to its driver.
    let private = unsafe { private(vdev) };

    if infos.is_empty() {
        return Err(EINVAL);
    }
    let count = u32::try_from(infos.len())?;
    let status = dev.status();
    if !private.load(Relaxed).is_null() || status & bindings::VIRTIO_CONFIG_S_DRIVER_OK != 0 {
        return Err(EBUSY);
    }
    // The core says this before it negotiates features, and not again after a reset. What the
    // features say of addresses and of the ring's layout is not what a device that was reset does.
    if status & bindings::VIRTIO_CONFIG_S_DRIVER == 0 {
        return Err(ENODEV);
    }
    let find_vqs = dev.config_ops().find_vqs.ok_or(ENODEV)?;

    let mut vqs = KVec::<*mut bindings::virtqueue>::with_capacity(infos.len(), GFP_KERNEL)?;
    let mut c_infos = KVec::<bindings::virtqueue_info>::with_capacity(infos.len(), GFP_KERNEL)?;
    for info in infos {
        vqs.push(ptr::null_mut(), GFP_KERNEL)?;
        c_infos.push(
            bindings::virtqueue_info {
                name: info.name.as_char_ptr(),
                callback: info.callback.then_some(queue_callback),
                ctx: false,
            },
            GFP_KERNEL,
        )?;
    }

    // SAFETY: `find_vqs` is the operation of this device, which is bound, so that its transport is
    // there. The device has no queues: only this function makes some, and `private` would not be
    // null. Both arrays have `count` elements. The names are `'static`, so that they outlive the
    // queues. This is a callback of the bus, and there is no other one at the same time, see the
    // documentation of the module.
    to_result(unsafe {
        find_vqs(
            vdev,
            count,
            vqs.as_mut_ptr(),
            c_infos.as_mut_ptr(),
            ptr::null_mut(),
        )
    })?;

    // INVARIANT: `find_vqs()` was successful. From here on a return drops `queues`, and that
    // deletes the virtqueues. It resets the device, too, which is the only way back from there.
    let mut queues = Queues {
        // SAFETY: A reference to a device is not null.
        vdev: unsafe { NonNull::new_unchecked(vdev) },
        list: KVec::new(),
    };
    for (vq, info) in vqs.iter().zip(infos) {
        let vq = NonNull::new(*vq).ok_or(ENODEV)?;
        queues.list.push(
            // INVARIANT: `vq` is valid until `del_vqs()`, which `Queues` calls when it is dropped.
            // Nothing is in flight, and there is no `Virtqueue` yet.
            Queue {
                vq,
                // SAFETY: `vq` is valid.
                size: unsafe { bindings::virtqueue_get_vring_size(vq.as_ptr()) },
                indirect: dev.has_feature(bindings::VIRTIO_RING_F_INDIRECT_DESC),
                in_flight: UnsafeCell::new(0),
                drop_buffer: SetOnce::new(),
                wants_callback: info.callback,
                callback: SetOnce::new(),
            },
            GFP_KERNEL,
        )?;
    }

    let shared = Arc::pin_init(
        try_pin_init!(Shared {
            queues <- Revocable::new(Ok::<_, Error>(queues)),
            ready: Atomic::new(false),
        }),
        GFP_KERNEL,
    )?;
    // Releases the content to `queue_callback()`.
    private.store(shared.clone().into_foreign(), Release);
    Ok(Virtqueues {
        dev,
        shared,
        _not_send: PhantomData,
    })
}

/// Revokes and deletes the queues of a device, if it has any, and resets the device then. May
/// sleep.
///
/// Returns whether there were queues.
pub(super) fn delete(dev: &Device<CoreInternal<'_>>) -> bool {
    // SAFETY: Every `Device<CoreInternal>` comes from `Adapter` and is bound to its driver.
    let private = unsafe { private(dev.as_raw()) };
    let shared = private.load(Relaxed);
    if shared.is_null() {
        return false;
    }

    {
        // SAFETY: `find()` stored it, and it is only dropped below.
        let shared = unsafe { <Arc<Shared> as ForeignOwnable>::borrow(shared) };
        // Waits for the handles that are at work, and drops `Queues`. Nobody else revokes.
        shared.queues.revoke();
    }

    // No `queue_callback()` is left that could have loaded the pointer: interrupts are freed.
    private.store(ptr::null_mut(), Relaxed);
    // SAFETY: `find()` stored it, and it is stored no longer.
    drop(unsafe { Arc::<Shared>::from_foreign(shared) });
    true
}

/// The virtqueues of a device, on their way to being ready.
///
/// Made by [`Device::find_vqs`]. Take the handles out and set the callbacks, then call
/// [`ready`](Self::ready).
pub struct Virtqueues<'a> {
    dev: &'a Device<Bound>,
    pub(super) shared: Arc<Shared>,
    /// Neither `Send` nor `Sync`, just as `Device<Core>`, so that it stays in the callback of the
    /// bus that it was made in.
    _not_send: PhantomData<*mut ()>,
}

impl Virtqueues<'_> {
    /// Sets what is called when the device has used buffers of the queue `index`.
    ///
    /// Errors: `EINVAL` if there is no such queue or its [`QueueInfo`] did not ask for a callback,
    /// `EBUSY` if a callback was set before.
    pub fn set_callback(&mut self, index: usize, callback: Arc<dyn Callback>) -> Result {
        let queues = self.shared.queues.try_access().ok_or(ENODEV)?;
        let queue = queues
            .get(index)
            .filter(|queue| queue.wants_callback)
            .ok_or(EINVAL)?;

        if queue.callback.populate(callback) {
            Ok(())
        } else {
            Err(EBUSY)
        }
    }

    /// Tells the device that the driver is ready (DRIVER_OK). It uses the queues from now on, and
    /// callbacks are called from now on. May sleep.
    ///
    /// A driver that drops the `Virtqueues` instead never gets a callback. The queues work all the
    /// same after the virtio core has set DRIVER_OK, which it does when the driver's `probe` or
    /// `restore` returns.
    pub fn ready(self) {
        // Before the device can raise an interrupt. Releases what the driver has set up to
        // `queue_callback()`.
        self.shared.ready.store(true, Release);

        // A device that claims to be ready already would get a WARN() out of the C function.
        if self.dev.status() & bindings::VIRTIO_CONFIG_S_DRIVER_OK == 0 {
            // SAFETY: By the type invariants of `Device`, `dev` is valid. It is bound to a driver
            // that is in its probe or restore callback, with features negotiated.
            unsafe { bindings::virtio_device_ready(self.dev.as_raw()) };
        }
    }
}

impl Queue {
    /// Whether the queue is broken.
    #[inline]
    pub(super) fn is_broken(&self) -> bool {
        // SAFETY: `vq` is valid by the type invariants. The function is one load, which may be
        // concurrent to everything.
        unsafe { bindings::virtqueue_is_broken(self.vq.as_ptr()) }
    }

    /// Notifies the device. Errors: `EIO` if the queue is broken or the notification fails.
    #[inline]
    pub(super) fn notify(&self) -> Result {
        // SAFETY: `vq` is valid by the type invariants. The function need not be serialized with
        // others.
        if unsafe { bindings::virtqueue_notify(self.vq.as_ptr()) } {
            Ok(())
        } else {
            Err(EIO)
        }
    }
}
