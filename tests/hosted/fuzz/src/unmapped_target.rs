// SPDX-License-Identifier: GPL-2.0

//! Ranges that wait to be unmapped, against a set of addresses.

use std::collections::BTreeSet;

use super::unmapped::Unmapped;
use crate::{
    input::Input,
    uapi::Span, //
};

pub fn run(input: &mut Input<'_>) {
    let mut unmapped = Unmapped::new();
    let mut waiting = BTreeSet::new();
    let mut turns = 0;

    while !input.is_empty() && turns < 600 {
        turns += 1;
        if input.u8() % 8 == 0 {
            if let Some(last) = unmapped.last() {
                unmapped.remove_last();
                assert_eq!(waiting.last(), Some(&last.last()));
                for address in last.first()..=last.last() {
                    assert!(waiting.remove(&address), "{address} was not added");
                }
                let before = last.first().checked_sub(1);
                assert!(before.is_none_or(|before| !waiting.contains(&before)));
            }
            continue;
        }
        let first = u64::from(input.u16() % 512);
        let span = Span::new(first, first + u64::from(input.u8() % 4)).expect("in order");
        if (span.first()..=span.last()).any(|address| waiting.contains(&address)) {
            continue;
        }
        if unmapped.add(span) {
            waiting.extend(span.first()..=span.last());
        } else {
            // It is full of ranges that do not touch.
            let ranges = waiting
                .iter()
                .filter(|address| !waiting.contains(&(**address + 1)));
            assert!(ranges.count() >= 64);
        }
    }

    while let Some(last) = unmapped.last() {
        unmapped.remove_last();
        for address in last.first()..=last.last() {
            assert!(waiting.remove(&address), "{address} was not added");
        }
    }
    assert!(waiting.is_empty(), "{waiting:?} are lost");
}
