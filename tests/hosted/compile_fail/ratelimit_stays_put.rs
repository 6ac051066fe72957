// SPDX-License-Identifier: GPL-2.0

//! A rate limit does not move, since it has a lock.

// Error: E0596

use core::mem::swap;

use kernel::{
    prelude::*,
    ratelimit::Ratelimit, //
};

fn exchange(a: &mut Pin<KBox<Ratelimit>>, b: &mut Pin<KBox<Ratelimit>>) {
    #[cfg(not(wrong))]
    swap(a, b);
    #[cfg(wrong)]
    swap(&mut **a, &mut **b);
}
