// SPDX-License-Identifier: GPL-2.0

//! The tree of mappings, against a list. This runs the kernel's red-black tree, too.

use kernel::prelude::*;

use super::mappings::{
    InsertError,
    Mapping,
    Mappings,
    Reservation, //
};
use crate::{
    input::Input,
    uapi::{
        MapFlag,
        Span, //
    }, //
};

/// Small spans in a small space, at either end of the whole one.
fn span(input: &mut Input<'_>) -> Span {
    let first = u64::from(input.u8());
    let len = u64::from(input.u8() % 16);
    if input.u8() & 1 == 0 {
        Span::new(first, first + len).expect("in order")
    } else {
        let last = u64::MAX - first;
        Span::new(last - len, last).expect("in order")
    }
}

pub fn run(input: &mut Input<'_>) {
    let mut mappings = Mappings::new();
    let mut list: Vec<Mapping> = Vec::new();
    let mut turns = 0;

    while !input.is_empty() && turns < 400 {
        turns += 1;
        match input.u8() % 4 {
            0 | 1 => {
                let mapping = Mapping {
                    span: span(input),
                    phys: u64::from(input.u16()) << 16,
                    flags: MapFlag::Read.into(),
                };
                let free = !list.iter().any(|other| other.span.overlaps(mapping.span));
                let result = loop {
                    match mappings.insert(mapping) {
                        Err(InsertError::NoNode) => {
                            let node = Reservation::new(GFP_KERNEL).expect("there is memory");
                            drop(mappings.refill(node));
                        }
                        result => break result,
                    }
                };
                assert_eq!(result.is_ok(), free, "insert {}", mapping.span);
                if free {
                    list.push(mapping);
                    list.sort_by_key(|mapping| mapping.span.first());
                }
            }
            2 => {
                let span = span(input);
                // Whole mappings, one after the other without a hole.
                let mut removed: Option<Span> = None;
                let mut begin = Some(span.first());
                while let Some(at) = begin.filter(|at| *at <= span.last()) {
                    let Some(place) = list.iter().position(|held| held.span.first() == at) else {
                        break;
                    };
                    let gone = list.remove(place).span;
                    removed = Some(removed.map_or(gone, |before| before.cover(gone)));
                    begin = gone.last().checked_add(1);
                }
                assert_eq!(mappings.remove_run(span), removed, "remove {span}");
            }
            _ => {
                let iova = span(input).first();
                let expected = list.iter().find(|held| held.span.last() >= iova).copied();
                assert_eq!(mappings.next_from(iova), expected, "from {iova:#x}");
            }
        }
    }

    // All of them, in order.
    let mut next = Some(0);
    for expected in list {
        let found = next.and_then(|next| mappings.next_from(next));
        assert_eq!(found, Some(expected));
        next = expected.span.last().checked_add(1);
    }
    assert_eq!(next.and_then(|next| mappings.next_from(next)), None);
}
