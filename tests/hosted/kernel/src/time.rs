// SPDX-License-Identifier: GPL-2.0

//! Time.

use core::marker::PhantomData;

use crate::model;

/// A span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Delta(i64);

impl Delta {
    /// So many seconds.
    pub const fn from_secs(secs: i64) -> Self {
        Delta(secs * 1_000_000_000)
    }

    /// So many milliseconds.
    pub const fn from_millis(millis: i64) -> Self {
        Delta(millis * 1_000_000)
    }

    /// So many microseconds.
    pub const fn from_micros(micros: i64) -> Self {
        Delta(micros * 1_000)
    }
}

/// A clock.
pub struct Monotonic;

/// A point in time.
pub struct Instant<C> {
    nanoseconds: i64,
    clock: PhantomData<C>,
}

impl<C> Clone for Instant<C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C> Copy for Instant<C> {}

impl<C> Instant<C> {
    /// The time.
    pub fn now() -> Self {
        Instant {
            nanoseconds: model::now(),
            clock: PhantomData,
        }
    }

    /// How long ago it was.
    pub fn elapsed(&self) -> Delta {
        Delta(model::now() - self.nanoseconds)
    }
}

/// Delays.
pub mod delay {
    use super::Delta;
    use crate::model;

    /// Sleeps.
    pub fn fsleep(delta: Delta) {
        model::assert_no_lock("sleeping");
        model::may_sleep();
        model::pass(delta.0);
        shuttle::thread::yield_now();
    }
}
