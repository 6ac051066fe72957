// SPDX-License-Identifier: GPL-2.0

//! A rate limit is made where it stays, since it has a lock.

// Error: E0277

use kernel::{
    prelude::*,
    ratelimit::Ratelimit, //
};

#[cfg(not(wrong))]
fn limit() -> Result<Pin<KBox<Ratelimit>>> {
    KBox::pin_init(Ratelimit::default_for(c"limit"), GFP_KERNEL)
}

#[cfg(wrong)]
fn limit() -> Result<KBox<Ratelimit>> {
    KBox::<Ratelimit>::init(Ratelimit::default_for(c"limit"), GFP_KERNEL)
}
