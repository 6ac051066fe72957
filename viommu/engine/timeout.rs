// SPDX-License-Identifier: GPL-2.0

//! How long to wait for the device.

use kernel::{
    nmi,
    time::{
        Delta,
        Instant,
        Monotonic, //
    }, //
};

/// How long the device may take to answer, in seconds of guest time, if the caller cannot sleep. A
/// device answers in microseconds; the margin is for a busy or suspended host.
pub(super) const ANSWER_TIMEOUT_SECS: i64 = 10;

/// Bounds a wait by [`ANSWER_TIMEOUT_SECS`].
///
/// The virtual CPU may be the one that was away for so long, so that the other side had no chance
/// to act: after the time is up there is a grace of some more looks at the ring.
///
/// The caller may have disabled interrupts for all of the wait, which is longer than a detector of
/// lockups puts up with. As the wait ends by itself, they are told.
pub(super) struct Timeout {
    started: Option<Instant<Monotonic>>,
    grace: u32,
}

impl Timeout {
    /// For a caller that looks again and again.
    #[inline]
    pub(super) fn of_looks() -> Self {
        Timeout {
            started: None,
            grace: 10_000,
        }
    }

    /// For a caller that sleeps between two looks.
    pub(super) fn of_sleeps() -> Self {
        Timeout {
            started: None,
            grace: 100,
        }
    }

    /// To be asked on each turn of the waiting loop. The first time starts the clock.
    pub(super) fn is_over(&mut self) -> bool {
        nmi::touch_watchdog();
        let started = *self.started.get_or_insert_with(Instant::now);
        if started.elapsed() > Delta::from_secs(ANSWER_TIMEOUT_SECS) {
            self.grace = self.grace.saturating_sub(1);
        }
        self.was_over()
    }

    /// What [`Self::is_over`] said before.
    pub(super) fn was_over(&self) -> bool {
        self.grace == 0
    }
}

/// When to say that a caller still waits: after [`ANSWER_TIMEOUT_SECS`], and then each time that
/// it has waited twice as long.
pub(super) struct Reminder {
    started: Option<Instant<Monotonic>>,
    due_secs: i64,
}

impl Reminder {
    #[inline]
    pub(super) fn new() -> Self {
        Reminder {
            started: None,
            due_secs: ANSWER_TIMEOUT_SECS,
        }
    }

    /// After how many seconds it is due, if it is. The first call starts the clock.
    pub(super) fn is_due(&mut self) -> Option<i64> {
        let started = *self.started.get_or_insert_with(Instant::now);
        let secs = self.due_secs;
        if started.elapsed() < Delta::from_secs(secs) {
            return None;
        }
        self.due_secs = secs.saturating_mul(2);
        Some(secs)
    }
}
