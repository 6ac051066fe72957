// SPDX-License-Identifier: GPL-2.0

//! The window of sequence numbers, against a set.

use std::collections::BTreeSet;

use super::window::{
    Window,
    WindowError, //
};
use crate::input::Input;

pub fn run(input: &mut Input<'_>) {
    let capacity = 1 + usize::from(input.u8() % 160);
    let mut window = Window::<2>::new(capacity);
    let capacity = capacity.min(128) as u64;
    let (mut next, mut outstanding) = (0, BTreeSet::new());

    while !input.is_empty() {
        match input.u8() % 8 {
            0..=3 => {
                let oldest = outstanding.first().copied().unwrap_or(next);
                let expected = (next - oldest < capacity).then_some(next);
                assert_eq!(window.issue(), expected);
                if expected.is_some() {
                    outstanding.insert(next);
                    next += 1;
                }
            }
            4..=6 => {
                let seq = (next + 8).saturating_sub(u64::from(input.u8()));
                let expected = if seq >= next {
                    Err(WindowError::NotIssued)
                } else if outstanding.remove(&seq) {
                    Ok(())
                } else {
                    Err(WindowError::Done)
                };
                assert_eq!(window.complete(seq), expected, "{seq}");
            }
            _ => {
                let to = (next + 4).saturating_sub(u64::from(input.u8() % 16));
                window.skip_to(to);
                outstanding.clear();
                next = next.max(to);
            }
        }
        let oldest = outstanding.first().copied();
        assert_eq!(window.next(), next);
        assert_eq!(window.base(), oldest.unwrap_or(next));
        assert_eq!(window.oldest(), oldest);
        assert_eq!(window.is_idle(), oldest.is_none());
        assert_eq!(window.is_full(), next - oldest.unwrap_or(next) >= capacity);
    }
}
