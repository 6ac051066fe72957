// SPDX-License-Identifier: GPL-2.0

//! Sets of ranges, against a list of all addresses.

use super::spans::Spans;
use crate::{
    input::Input,
    uapi::Span, //
};

const ROOM: usize = 64;

/// How many addresses there are, and of how many a range is at most.
const ADDRESSES: u64 = 512;
const LONGEST: u64 = 4;

/// Whether an address is in the set, for each of them.
struct Naive([bool; (ADDRESSES + LONGEST) as usize]);

impl Naive {
    fn part(&mut self, span: Span) -> &mut [bool] {
        &mut self.0[span.first() as usize..=span.last() as usize]
    }

    fn has(&mut self, span: Span) -> bool {
        self.part(span).contains(&true)
    }

    fn last(&self) -> Option<u64> {
        self.0.iter().rposition(|has| *has).map(|at| at as u64)
    }

    /// All, with what lies between.
    fn cover(&self) -> Option<Span> {
        let first = self.0.iter().position(|has| *has)? as u64;
        Span::new(first, self.last()?)
    }

    fn is_too_much(&self) -> bool {
        let ends = self.0.windows(2).filter(|two| two[0] && !two[1]);
        ends.count() + usize::from(self.0.ends_with(&[true])) > ROOM
    }

    /// Adds or removes a range; returns whether that takes more ranges than there is room for. All
    /// is covered before, then.
    fn set(&mut self, span: Span, to: bool) -> bool {
        let (before, cover) = (self.0, self.cover());
        self.part(span).fill(to);
        let too_much = self.is_too_much();
        if let (true, Some(cover)) = (too_much, cover) {
            self.0 = before;
            self.part(cover).fill(true);
            self.part(span).fill(to);
        }
        too_much
    }
}

pub fn run(input: &mut Input<'_>) {
    let mut spans = Spans::<ROOM>::new();
    let mut naive = Naive([false; (ADDRESSES + LONGEST) as usize]);
    let mut turns = 0;

    while !input.is_empty() && turns < 600 {
        turns += 1;
        let what = input.u8() % 8;
        if what == 0 {
            take_last(&mut spans, &mut naive);
            continue;
        }
        let first = u64::from(input.u16()) % ADDRESSES;
        let last = first + u64::from(input.u8()) % LONGEST;
        let span = Span::new(first, last).expect("in order");
        assert_eq!(spans.overlaps(span), naive.has(span), "{span}");
        match what {
            6 => {
                assert_eq!(spans.remove(span), naive.has(span), "{span}");
                naive.set(span, false);
            }
            7 => {
                spans.add_or_cover(span);
                naive.set(span, true);
            }
            _ => {
                let before = naive.0;
                let fits = !naive.set(span, true);
                assert_eq!(spans.add(span), fits, "{span}");
                if !fits {
                    naive.0 = before;
                }
            }
        }
        assert_eq!(spans.is_empty(), naive.last().is_none());
    }

    while !spans.is_empty() {
        take_last(&mut spans, &mut naive);
    }
    assert_eq!(naive.last(), None, "is lost");
}

/// Takes the highest range out, which has to be whole.
fn take_last(spans: &mut Spans<ROOM>, naive: &mut Naive) {
    assert_eq!(spans.last().map(Span::last), naive.last());
    let Some(last) = spans.last() else {
        return;
    };
    spans.remove_last();
    assert!(!naive.part(last).contains(&false), "{last} was not added");
    naive.part(last).fill(false);
    let before = last.first().checked_sub(1);
    assert!(before.is_none_or(|before| !naive.0[before as usize]));
}
