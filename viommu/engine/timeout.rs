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

/// How long the device may take to answer, in seconds of guest time. Past it the device is declared
/// broken. A device answers in microseconds; the margin is for a busy or suspended host.
pub(super) const ANSWER_TIMEOUT_SECS: i64 = 10;

/// How many more looks at the ring a waiter takes once that time is up.
const GRACE_LOOKS: u32 = 10_000;

/// Bounds a wait by [`ANSWER_TIMEOUT_SECS`].
///
/// The virtual CPU may be the one that was away for so long, so that the other side had no chance
/// to act: after the time is up there is a grace of [`GRACE_LOOKS`].
///
/// The caller may have disabled interrupts for all of the wait, which is longer than a detector of
/// lockups puts up with. As the wait ends by itself, they are told.
pub(super) struct Timeout {
    started: Option<Instant<Monotonic>>,
    overdue: u32,
}

impl Timeout {
    #[inline]
    pub(super) fn new() -> Self {
        Timeout {
            started: None,
            overdue: 0,
        }
    }

    /// To be asked on each turn of the waiting loop. The first time starts the clock.
    pub(super) fn is_over(&mut self) -> bool {
        nmi::touch_watchdog();
        let started = *self.started.get_or_insert_with(Instant::now);
        if started.elapsed() > Delta::from_secs(ANSWER_TIMEOUT_SECS) {
            self.overdue += 1;
        }
        self.overdue > GRACE_LOOKS
    }
}
