// SPDX-License-Identifier: GPL-2.0

//! The event queue: faults that the device reports.

use kernel::{
    dev_err_deferred,
    device::{
        self,
        Bound, //
    },
    impl_has_hr_timer,
    prelude::*,
    ratelimit::Ratelimit,
    sync::{
        aref::ARef,
        new_spinlock_irq,
        Arc,
        ArcBorrow,
        SpinLockIrq, //
    },
    time::{
        hrtimer::{
            ArcHrTimerHandle,
            HrTimer,
            HrTimerCallback,
            HrTimerCallbackContext,
            HrTimerPointer,
            HrTimerRestart,
            RelativeMode, //
        },
        Delta,
        Monotonic, //
    },
    virtio::{
        self,
        Notifier,
        Virtqueue, //
    }, //
};

use super::endpoint_table::EndpointTable;
use crate::uapi::{
    Fault,
    EVENT_SIZE, //
};

/// Upper bound for the number of event buffers.
const MAX_EVENTS: usize = 256;

/// Memory for one event.
pub(crate) struct Event([u8; EVENT_SIZE]);

impl virtio::Buffer for Event {
    fn segments(&mut self) -> (&[u8], &mut [u8]) {
        (&[], &mut self.0)
    }
}

/// How long it takes to another try, if there was no memory to map a buffer for DMA.
const RETRY: Delta = Delta::from_millis(100);

struct State {
    queue: Virtqueue<Event>,
    notifier: Notifier,
    /// Event buffers that are not with the device.
    spare: KVec<KBox<Event>>,
}

impl State {
    fn new(queue: Virtqueue<Event>) -> Result<Self> {
        let count = (queue.ring_size() as usize).min(MAX_EVENTS);
        let mut spare = KVec::with_capacity(count, GFP_KERNEL)?;
        for _ in 0..count {
            let event = KBox::new(Event([0; EVENT_SIZE]), GFP_KERNEL)?;
            spare.push_within_capacity(event)?;
        }
        Ok(State {
            notifier: queue.notifier(),
            queue,
            spare,
        })
    }
}

/// The event virtqueue and its buffers.
#[pin_data]
struct Buffers {
    #[pin]
    state: SpinLockIrq<State>,
    /// Runs while there are buffers that the device could not be given. The last one that it has
    /// may have come back: then no interrupt would lead to another try.
    #[pin]
    retry: HrTimer<Self>,
}

impl_has_hr_timer! {
    impl HasHrTimer<Self> for Buffers {
        mode: RelativeMode<Monotonic>, field: self.retry
    }
}

impl Buffers {
    /// Gives all buffers that are not in use to the device. Any context.
    ///
    /// Fails if there is no memory to map one for DMA.
    fn fill(&self) -> Result {
        let mut result = Ok(());
        let notify = {
            let mut state = self.state.lock();
            let State {
                queue,
                notifier,
                spare,
            } = &mut *state;
            while let Some(event) = spare.pop() {
                let Err((event, error)) = queue.add(event) else {
                    continue;
                };
                let _ = spare.push_within_capacity(event);
                // Nothing will come out of a queue that is broken or gone.
                if !queue.is_broken() {
                    result = Err(error);
                }
                break;
            }
            queue.kick_prepare().then(|| notifier.clone())
        };
        if let Some(notifier) = notify {
            // A failed notification means a broken device: there will be no events.
            let _ = notifier.notify();
        }
        result
    }
}

impl HrTimerCallback for Buffers {
    type Pointer<'a> = Arc<Self>;

    fn run(
        this: ArcBorrow<'_, Self>,
        mut context: HrTimerCallbackContext<'_, Self>,
    ) -> HrTimerRestart {
        if this.fill().is_ok() {
            return HrTimerRestart::NoRestart;
        }
        context.forward_now(RETRY);
        HrTimerRestart::Restart
    }
}

/// Receives events in interrupt context.
#[pin_data]
pub(crate) struct EventQueue {
    dev: ARef<device::Device>,
    endpoints: Arc<EndpointTable>,
    buffers: Arc<Buffers>,
    /// Of [`Buffers::retry`], which is stopped when this is dropped.
    #[pin]
    retry: SpinLockIrq<Option<ArcHrTimerHandle<Buffers>>>,
    /// For messages about the event queue itself.
    #[pin]
    malformed: Ratelimit,
    /// For messages about faults.
    #[pin]
    faults: Ratelimit,
}

impl EventQueue {
    /// Takes the event virtqueue and allocates its buffers. May sleep.
    pub(crate) fn new(
        vdev: &virtio::Device<Bound>,
        endpoints: Arc<EndpointTable>,
        queue: Virtqueue<Event>,
    ) -> Result<Arc<Self>> {
        let dev: ARef<device::Device> = AsRef::<device::Device<Bound>>::as_ref(vdev).into();
        let state = State::new(queue)?;
        let buffers = Arc::pin_init(
            pin_init!(Buffers {
                state <- new_spinlock_irq!(state),
                retry <- HrTimer::new(),
            }),
            GFP_KERNEL,
        )?;
        Arc::pin_init(
            pin_init!(EventQueue {
                dev,
                endpoints,
                buffers,
                retry <- new_spinlock_irq!(None),
                malformed <- Ratelimit::default_for(c"virtio_iommu: event"),
                faults <- Ratelimit::default_for(c"virtio_iommu: fault"),
            }),
            GFP_KERNEL,
        )
    }

    /// Starts over with a new queue, after a reset of the device. May sleep.
    pub(crate) fn reopen(&self, queue: Virtqueue<Event>) -> Result {
        let mut state = State::new(queue)?;
        core::mem::swap(&mut *self.buffers.state.lock(), &mut state);
        Ok(())
    }

    /// Gives all buffers that are not in use to the device, now or as soon as there is memory. Any
    /// context.
    pub(crate) fn fill(&self) {
        let Err(error) = self.buffers.fill() else {
            return;
        };
        if self.malformed.check() {
            let errno = error.to_errno();
            dev_err_deferred!(self.dev, "cannot add an event buffer yet: {}\n", errno);
        }
        let mut retry = self.retry.lock();
        // The old handle would stop the timer when it is dropped, which is to be before.
        *retry = None;
        *retry = Some(self.buffers.clone().start(RETRY));
    }

    fn report(&self, bytes: &[u8]) {
        let fault = Fault::parse(bytes, |why| {
            if self.malformed.check() {
                dev_err!(self.dev, "event ignored: {}\n", why);
            }
        });
        let Ok(fault) = fault else {
            return;
        };
        let id = fault.endpoint();
        let may_print = self.faults.check();
        self.endpoints.with(id, |endpoint| {
            if let Some(endpoint) = endpoint {
                let address = fault.address().unwrap_or(0);
                endpoint.faults.report(address, fault.is_write());
            }
            match endpoint {
                _ if !may_print => (),
                Some(endpoint) => dev_err_deferred!(endpoint.dev, "{}\n", fault),
                None => dev_err_deferred!(self.dev, "unknown endpoint {}: {}\n", id, fault),
            }
        });
    }
}

impl virtio::Callback for EventQueue {
    fn call(&self) {
        // Buffers go back only after the loop, so a device that keeps answering cannot keep this
        // running: it has a bounded number of them.
        loop {
            let mut state = self.buffers.state.lock();
            let Some(completed) = state.queue.pop() else {
                break;
            };
            let event = completed.buf;
            // Not under the queue's lock: a console is slow.
            drop(state);
            self.report(&event.0[..completed.written.min(EVENT_SIZE)]);
            let _ = self.buffers.state.lock().spare.push_within_capacity(event);
        }
        self.fill();
    }
}
