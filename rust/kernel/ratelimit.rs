// SPDX-License-Identifier: GPL-2.0

//! Rate limiting, for messages that somebody outside the kernel can provoke.
//!
//! C header: [`include/linux/ratelimit.h`](srctree/include/linux/ratelimit.h)

use crate::{
    bindings,
    prelude::*,
    time::{
        msecs_to_jiffies,
        Msecs, //
    },
    types::Opaque, //
};

/// A budget of events per interval.
///
/// Wraps the kernel's C [`struct ratelimit_state`]. Once events were held back, the first
/// [`check`](Self::check) after the interval prints how many.
///
/// # Invariants
///
/// `state` is initialized by `ratelimit_state_init()`, and `name` is the text that
/// `___ratelimit()` prints.
///
/// # Examples
///
/// ```
/// use kernel::ratelimit::Ratelimit;
///
/// // Three messages in an hour.
/// let limit = KBox::pin_init(Ratelimit::new(c"example", 3_600_000, 3), GFP_KERNEL)?;
///
/// assert_eq!((0..10).filter(|_| limit.check()).count(), 3);
/// # Ok::<(), Error>(())
/// ```
///
/// [`struct ratelimit_state`]: srctree/include/linux/ratelimit_types.h
#[pin_data]
pub struct Ratelimit {
    #[pin]
    state: Opaque<bindings::ratelimit_state>,
    name: &'static CStr,
}

// SAFETY: Nothing in a `struct ratelimit_state` belongs to the thread that initialized it.
unsafe impl Send for Ratelimit {}

// SAFETY: The only use of a shared `Ratelimit` is `___ratelimit()`, which synchronizes itself.
unsafe impl Sync for Ratelimit {}

impl Ratelimit {
    /// Milliseconds that `DEFAULT_RATELIMIT_INTERVAL` stands for.
    pub const DEFAULT_INTERVAL: Msecs = 5_000;

    /// The number of events that `DEFAULT_RATELIMIT_BURST` stands for.
    pub const DEFAULT_BURST: u32 = bindings::DEFAULT_RATELIMIT_BURST;

    /// Creates a budget of `burst` events in each `interval` milliseconds.
    ///
    /// `name` tells whose events were suppressed: it is the start of the message that says so.
    /// With an `interval` of 0 no event is held back, with a `burst` of 0 every one is.
    pub fn new(name: &'static CStr, interval: Msecs, burst: u32) -> impl PinInit<Self> {
        // An `int` is what the C side takes. `msecs_to_jiffies()` rounds up, so that an interval
        // other than 0 does not become 0.
        let interval = c_int::try_from(msecs_to_jiffies(interval)).unwrap_or(c_int::MAX);
        let burst = c_int::try_from(burst).unwrap_or(c_int::MAX);

        // INVARIANT: `ratelimit_state_init()` initializes `state`.
        pin_init!(Self {
            state <- Opaque::ffi_init(|state| {
                // SAFETY: `state` points to memory for a `struct ratelimit_state`, which stays
                // where it is, since the field is pinned.
                unsafe { bindings::ratelimit_state_init(state, interval, burst) }
            }),
            name,
        })
    }

    /// Creates a budget of [`DEFAULT_BURST`](Self::DEFAULT_BURST) events in each
    /// [`DEFAULT_INTERVAL`](Self::DEFAULT_INTERVAL), which is what `printk_ratelimited()` has.
    pub fn default_for(name: &'static CStr) -> impl PinInit<Self> {
        Self::new(name, Self::DEFAULT_INTERVAL, Self::DEFAULT_BURST)
    }

    /// Takes one event from the budget. `false` means to hold the event back.
    ///
    /// Any context, hard interrupts and sections under a spinlock included.
    pub fn check(&self) -> bool {
        // SAFETY: By the type invariants `state` is initialized and `name` is a C string. The
        // function synchronizes concurrent calls, by trying to take a raw spinlock.
        unsafe { bindings::___ratelimit(self.state.get(), self.name.as_char_ptr()) != 0 }
    }
}
