// SPDX-License-Identifier: GPL-2.0

//! Tracks which of the requests in flight are done, by sequence number.
//!
//! A waiter takes the number after that of its last request as its mark, and waits until everything
//! before the mark is done. The device may answer in any order; it usually answers in that of the
//! requests, which costs an increment here.
//!
//! Pure code: it needs nothing of the kernel.

/// Why a sequence number cannot be completed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum WindowError {
    /// It was not issued.
    NotIssued,
    /// It was completed before.
    Done,
}

/// Sequence numbers from the oldest that is not done to the newest that was issued.
///
/// # Invariants
///
/// - `base <= next <= base + capacity`, and `capacity <= WORDS * 64`.
/// - Numbers below `base` are done, numbers from `next` on are not issued.
/// - `base` itself is not done.
/// - Bit `seq % (WORDS * 64)` of `done` is set for the numbers in between that are done, and no
///   other bit is. `early` is their number.
pub(super) struct Window<const WORDS: usize> {
    base: u64,
    next: u64,
    capacity: u64,
    early: u32,
    done: [u64; WORDS],
}

impl<const WORDS: usize> Window<WORDS> {
    /// How many numbers the bitmap has room for.
    const BITS: u64 = {
        assert!(WORDS > 0 && WORDS <= 1 << 20);
        WORDS as u64 * 64
    };

    /// A window in which at most `capacity` numbers are outstanding, but no more than 64 times
    /// `WORDS`. The first number is 0.
    pub(super) const fn new(capacity: usize) -> Self {
        let capacity = capacity as u64;
        // INVARIANT: Nothing was issued, so nothing is done out of order.
        Self {
            base: 0,
            next: 0,
            capacity: if capacity < Self::BITS {
                capacity
            } else {
                Self::BITS
            },
            early: 0,
            done: [0; WORDS],
        }
    }

    /// The word and the bit of a number.
    #[inline]
    const fn place(seq: u64) -> (usize, u64) {
        let bit = seq % Self::BITS;
        ((bit / 64) as usize, 1 << (bit % 64))
    }

    /// Issues the next number; [`None`] if as many as there may be are outstanding, counted from
    /// the oldest that is not done.
    #[inline]
    pub(super) fn issue(&mut self) -> Option<u64> {
        if self.is_full() {
            return None;
        }
        let seq = self.next;
        // At a number each nanosecond, this ends after 584 years.
        self.next = seq.checked_add(1)?;
        // INVARIANT: The window was not full, so `next` is at most `capacity` above `base`.
        Some(seq)
    }

    /// Notes that `seq` is done.
    ///
    /// # Errors
    ///
    /// It was not issued, or was done before. Nothing has changed then.
    #[inline]
    pub(super) fn complete(&mut self, seq: u64) -> Result<(), WindowError> {
        if seq < self.base {
            return Err(WindowError::Done);
        }
        if seq >= self.next {
            return Err(WindowError::NotIssued);
        }
        if seq == self.base {
            // INVARIANT: `base` is below `next`, so it can be raised by one; if the number that it
            // then has is done as well, `skip_done` goes on.
            self.base = seq.wrapping_add(1);
            if self.early != 0 {
                self.skip_done();
            }
            return Ok(());
        }

        let (word, bit) = Self::place(seq);
        let word = &mut self.done[word];
        if *word & bit != 0 {
            return Err(WindowError::Done);
        }
        // INVARIANT: `seq` lies between `base` and `next` and now counts as done.
        *word |= bit;
        self.early = self.early.wrapping_add(1);
        Ok(())
    }

    /// Raises `base` over the numbers that are done.
    #[cold]
    fn skip_done(&mut self) {
        while self.early != 0 {
            let (word, bit) = Self::place(self.base);
            if self.done[word] & bit == 0 {
                break;
            }
            // INVARIANT: A number whose bit is set is below `next`. The bit goes with it.
            self.done[word] &= !bit;
            self.early = self.early.wrapping_sub(1);
            self.base = self.base.wrapping_add(1);
        }
    }

    /// Declares everything that was issued done, and the numbers below `seq` as well: issues go on
    /// from `seq`, or from where they are if that is later.
    pub(super) fn skip_to(&mut self, seq: u64) {
        let seq = if seq > self.next { seq } else { self.next };
        // INVARIANT: All numbers below `seq` are done, none from there on was issued.
        self.base = seq;
        self.next = seq;
        self.early = 0;
        self.done = [0; WORDS];
    }

    /// The number that is issued next. As a mark, it stands for everything issued so far.
    #[inline]
    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    /// The oldest number that is not done. All numbers below it are.
    #[inline]
    pub(super) const fn base(&self) -> u64 {
        self.base
    }

    /// The oldest number that was issued and is not done.
    #[inline]
    pub(super) const fn oldest(&self) -> Option<u64> {
        if self.is_idle() {
            None
        } else {
            Some(self.base)
        }
    }

    /// Whether no number can be issued before the oldest is done.
    #[inline]
    pub(super) const fn is_full(&self) -> bool {
        self.next.wrapping_sub(self.base) >= self.capacity
    }

    /// Whether everything that was issued is done.
    #[inline]
    pub(super) const fn is_idle(&self) -> bool {
        self.next == self.base
    }
}

#[cfg(CONFIG_VIRTIO_IOMMU_RUST_KUNIT_TEST)]
#[kernel::macros::kunit_tests(viommu_window)]
mod tests {
    use super::*;

    #[test]
    fn in_order() {
        let mut window = Window::<1>::new(64);
        assert_eq!(window.oldest(), None);
        assert!(window.is_idle());
        assert_eq!((window.base(), window.next()), (0, 0));

        for seq in 0..1000 {
            assert_eq!(window.issue(), Some(seq));
            assert!(!window.is_idle());
            assert_eq!(window.oldest(), Some(seq));
            assert_eq!(window.complete(seq), Ok(()));
            assert_eq!((window.base(), window.next()), (seq + 1, seq + 1));
            assert!(window.is_idle());
        }
    }

    #[test]
    fn out_of_order() {
        let mut window = Window::<2>::new(128);
        for seq in 0..100 {
            assert_eq!(window.issue(), Some(seq));
        }
        for seq in (1..100).rev() {
            assert_eq!(window.complete(seq), Ok(()));
            assert_eq!(window.base(), 0);
            assert_eq!(window.complete(seq), Err(WindowError::Done));
        }
        assert_eq!(window.complete(0), Ok(()));
        assert_eq!(window.base(), 100);
        assert!(window.is_idle());
        assert_eq!(window.early, 0);
        assert!(window.done.iter().all(|word| *word == 0));
    }

    #[test]
    fn base_stops_at_the_oldest() {
        let mut window = Window::<1>::new(64);
        for _ in 0..6 {
            window.issue();
        }
        for (seq, base) in [(1, 0), (4, 0), (0, 2), (2, 3), (5, 3), (3, 6)] {
            assert_eq!(window.complete(seq), Ok(()));
            assert_eq!(window.base(), base);
        }
    }

    #[test]
    fn full() {
        for capacity in [1, 3, 63, 64] {
            let mut window = Window::<1>::new(capacity);
            for seq in 0..capacity as u64 {
                assert!(!window.is_full());
                assert_eq!(window.issue(), Some(seq));
            }
            assert!(window.is_full());
            assert_eq!(window.issue(), None);
            // The oldest holds up the others.
            for seq in 1..capacity as u64 {
                assert_eq!(window.complete(seq), Ok(()));
                assert_eq!(window.issue(), None);
            }
            assert_eq!(window.complete(0), Ok(()));
            assert!(!window.is_full() && window.is_idle());
            assert_eq!(window.issue(), Some(capacity as u64));
        }
    }

    #[test]
    fn capacity_is_limited_by_the_bitmap() {
        let mut window = Window::<1>::new(usize::MAX);
        let mut issued = 0;
        while window.issue().is_some() {
            issued += 1;
        }
        assert_eq!(issued, 64);

        assert_eq!(Window::<1>::new(0).issue(), None);
    }

    #[test]
    fn refuses_what_is_not_outstanding() {
        let mut window = Window::<1>::new(64);
        for seq in [0, 1, 64, u64::MAX] {
            assert_eq!(window.complete(seq), Err(WindowError::NotIssued));
        }
        for _ in 0..3 {
            window.issue();
        }
        assert_eq!(window.complete(1), Ok(()));
        assert_eq!(window.complete(1), Err(WindowError::Done));
        assert_eq!(window.complete(0), Ok(()));
        assert_eq!(window.base(), 2);
        for seq in [0, 1] {
            assert_eq!(window.complete(seq), Err(WindowError::Done));
        }
        // These share the bits of outstanding numbers.
        for seq in [3, 64 + 2, u64::MAX - 61] {
            assert_eq!(window.complete(seq), Err(WindowError::NotIssued));
        }
        assert_eq!((window.base(), window.next()), (2, 3));
    }

    #[test]
    fn skip() {
        let mut window = Window::<1>::new(4);
        for _ in 0..4 {
            window.issue();
        }
        assert_eq!(window.complete(2), Ok(()));
        window.skip_to(2);
        assert_eq!((window.base(), window.next()), (4, 4));
        assert!(window.is_idle());
        window.skip_to(1000);
        assert_eq!(window.base(), 1000);
        assert_eq!(window.issue(), Some(1000));
        // Nothing is left of the number that was done early.
        assert_eq!(window.complete(1000), Ok(()));
        assert_eq!(window.base(), 1001);
    }

    #[test]
    fn end_of_the_numbers() {
        let mut window = Window::<1>::new(64);
        window.skip_to(u64::MAX - 1);
        assert_eq!(window.issue(), Some(u64::MAX - 1));
        assert_eq!(window.issue(), None);
        assert_eq!(window.complete(u64::MAX - 1), Ok(()));
        assert_eq!(window.complete(u64::MAX), Err(WindowError::NotIssued));
        assert_eq!(window.base(), u64::MAX);
        assert_eq!(window.issue(), None);
    }

    #[test]
    fn agrees_with_a_list() {
        // A linear congruential generator (Knuth's MMIX constants): the same in each run.
        let mut state = 7u64;
        let mut window = Window::<2>::new(100);
        let mut outstanding = [false; 600];
        let mut issued = 0;
        let mut oldest = 0;

        for _ in 0..6000 {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            let random = (state >> 33) as usize;
            while oldest < issued && !outstanding[oldest] {
                oldest += 1;
            }
            assert_eq!(window.base(), oldest as u64);
            assert_eq!(window.next(), issued as u64);

            if (random >> 16) & 1 == 0 && issued < outstanding.len() {
                let expected = (issued - oldest < 100).then_some(issued as u64);
                assert_eq!(window.issue(), expected);
                if expected.is_some() {
                    outstanding[issued] = true;
                    issued += 1;
                }
            } else {
                let seq = oldest.saturating_sub(2) + random % 54;
                let expected = if seq >= issued {
                    Err(WindowError::NotIssued)
                } else if outstanding[seq] {
                    Ok(())
                } else {
                    Err(WindowError::Done)
                };
                assert_eq!(window.complete(seq as u64), expected);
                if expected.is_ok() {
                    outstanding[seq] = false;
                }
            }
        }
        assert!(issued > 300);
    }
}
