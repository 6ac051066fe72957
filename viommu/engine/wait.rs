// SPDX-License-Identifier: GPL-2.0

//! Waits for answers, and for room.

use kernel::{
    dev_err_deferred,
    fmt,
    prelude::*,
    processor::cpu_relax,
    sync::atomic::{
        Acquire,
        Release, //
    },
    time::{
        delay::fsleep,
        Delta, //
    },
    virtio::Notification, //
};

use super::{
    ring::{
        Health,
        StageError, //
    },
    timeout::{
        Reminder,
        Timeout,
        ANSWER_TIMEOUT_SECS, //
    },
    Engine,
    State, //
};

/// How a caller waits.
#[derive(Clone, Copy)]
pub(super) enum Wait<'a> {
    /// It may be in atomic context: it spins, and gives up after [`ANSWER_TIMEOUT_SECS`].
    Spins,
    /// It may sleep, and waits for this as long as the device lives.
    Sleeps(&'a dyn fmt::Display),
}

/// How many looks at the answer counter a waiter takes between two looks at the ring.
const SPINS_PER_LOOK: usize = 256;

/// How many of those it takes for each pause instruction. A hypervisor may intercept it, which
/// keeps the host from the device's work.
const SPINS_PER_PAUSE: usize = 32;

/// How many looks at the ring a waiter takes before it notifies the device by itself, although
/// somebody else is about to. That may be the very context that this one has interrupted, and the
/// device does not ask for a second notification while the first is owed.
const LOOKS_BEFORE_OWN_NOTIFY: u32 = 8;

/// How many looks at the ring a waiter takes before it sleeps between them, if it may.
const LOOKS_BEFORE_SLEEP: u32 = 64;

/// How long it sleeps.
const SLEEP: Delta = Delta::from_millis(1);

impl Engine {
    /// Notifies the device of what is staged and waits until it has answered a request. Fails at
    /// once if that is not why the stage failed. The caller holds no lock.
    pub(super) fn make_room_for(&self, error: StageError, wait: Wait<'_>) -> Result {
        if let StageError::Failed(error) = error {
            return Err(error);
        }
        let mut state = self.state.lock();
        if self.reap(&mut state) {
            return Ok(());
        }
        state.check_broken();
        if let Wait::Sleeps(_) = wait {
            state.check_end();
        }
        state.check_alive()?;
        if let Some(seq) = state.oldest() {
            return self.wait(state, seq + 1, wait).map(drop);
        }
        // There is room, unless memory is short: then this is a pause before another try.
        let Some(for_long) = state.is_short_for_long() else {
            return Ok(());
        };
        drop(state);
        match wait {
            Wait::Spins if for_long => return Err(ENOMEM),
            Wait::Spins => cpu_relax(),
            Wait::Sleeps(_) => fsleep(SLEEP),
        }
        Ok(())
    }

    /// Waits until all requests before `target` are answered, and notifies the device of them
    /// unless somebody else does. Returns the lock, if it is held in the end.
    #[inline(always)]
    pub(super) fn wait<'a>(
        &'a self,
        mut state: State<'a>,
        target: u64,
        wait: Wait<'_>,
    ) -> Result<Option<State<'a>>> {
        if state.answered_before() >= target {
            return Ok(Some(state));
        }
        state.check_alive()?;
        if let Some(notification) = state.kick(false) {
            state = self.notify(state, notification);
            // An emulated device has usually answered by now.
            if state.answered_before() >= target {
                return Ok(Some(state));
            }
        }
        self.wait_longer(state, target, wait)
    }

    /// [`Self::wait`], when the first look has not done it.
    fn wait_longer<'a>(
        &'a self,
        mut state: State<'a>,
        target: u64,
        wait: Wait<'_>,
    ) -> Result<Option<State<'a>>> {
        let mut looks: u32 = 0;
        let mut own_notify_at = LOOKS_BEFORE_OWN_NOTIFY;
        let mut timeout = Timeout::of_looks();
        let mut reminder = Reminder::new();
        let mut answered_before = state.answered_before();

        while state.answered_before() < target {
            match wait {
                Wait::Spins => state.check_punctual(target)?,
                Wait::Sleeps(_) => state.check_alive()?,
            }
            let insist = looks >= own_notify_at;
            if insist {
                own_notify_at = own_notify_at.saturating_mul(2);
            }
            if let Some(notification) = state.kick(insist) {
                state = self.notify(state, notification);
                continue;
            }

            drop(state);
            looks = looks.saturating_add(1);
            match wait {
                Wait::Sleeps(what) if looks > LOOKS_BEFORE_SLEEP => {
                    fsleep(SLEEP);
                    if let Some(secs) = reminder.is_due() {
                        dev_err_deferred!(
                            self.dev,
                            "no answer for {} s; waiting for {}\n",
                            secs,
                            what
                        );
                    }
                }
                _ if self.watch(target) => return Ok(None),
                Wait::Spins if looks > LOOKS_BEFORE_OWN_NOTIFY && timeout.is_over() => {
                    self.give_up(answered_before);
                }
                _ => (),
            }
            state = self.state.lock();
            self.reap(&mut state);
            state.check_broken();
            if let Wait::Sleeps(_) = wait {
                state.check_end();
            }
            if state.answered_before() != answered_before {
                // It is slow, but it works.
                answered_before = state.answered_before();
                timeout = Timeout::of_looks();
                reminder = Reminder::new();
            }
        }
        Ok(Some(state))
    }

    /// Notifies the device without the lock, and looks at what it has answered by then.
    #[inline]
    fn notify<'a>(&'a self, state: State<'a>, notification: Notification) -> State<'a> {
        drop(state);
        // A failed notification shows as a broken queue at the next look.
        let _ = notification.send();
        let mut state = self.state.lock();
        state.notified();
        self.reap(&mut state);
        state
    }

    /// Watches for a while whether somebody else reaps the answers. Returns whether they did.
    fn watch(&self, target: u64) -> bool {
        for spin in 0..SPINS_PER_LOOK {
            if self.answered_before.load(Acquire) >= target {
                return true;
            }
            if spin % SPINS_PER_PAUSE == 0 {
                cpu_relax();
            }
        }
        false
    }

    /// Looks at every request that the device has answered. Returns whether there was one.
    #[inline]
    fn reap(&self, state: &mut State<'_>) -> bool {
        let progress = state.reap();
        if progress {
            self.answered_before.store(state.answered_before(), Release);
        }
        progress
    }

    /// Declares the device late, because it does not answer the oldest request, which has this
    /// number.
    fn give_up(&self, oldest: u64) {
        let mut state = self.state.lock();
        self.reap(&mut state);
        if state.health == Health::Running && state.answered_before() == oldest {
            dev_err_deferred!(
                self.dev,
                "no answer within {} s ({} of {} requests): nothing is mapped until it comes\n",
                ANSWER_TIMEOUT_SECS,
                state.answered_before(),
                state.next()
            );
            state.mark_late();
        }
    }
}
