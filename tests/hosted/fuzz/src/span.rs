// SPDX-License-Identifier: GPL-2.0

//! The arithmetic of spans and granules, in 128 bits.

use crate::{
    input::Input,
    uapi::{
        Granule,
        Span, //
    }, //
};

const END: u128 = 1 << 64;

/// A span as a half-open range.
fn wide(span: Span) -> (u128, u128) {
    (u128::from(span.first()), u128::from(span.last()) + 1)
}

fn narrow((first, end): (u128, u128)) -> Option<Span> {
    if first >= end || end > END {
        return None;
    }
    Span::new(first as u64, (end - 1) as u64)
}

pub fn run(input: &mut Input<'_>) {
    let (first, last) = (input.address(), input.address());
    assert_eq!(Span::new(first, last).is_some(), first <= last);
    let size = last as usize;
    let sized = (u128::from(first), u128::from(first) + size as u128);
    assert_eq!(Span::from_size(first, size), narrow(sized));

    let (a, b) = (input.span(), input.span());
    let ((a_first, a_end), (b_first, b_end)) = (wide(a), wide(b));
    let overlaps = a_first.max(b_first) < a_end.min(b_end);
    let touches = a_first.max(b_first) <= a_end.min(b_end);
    let hull = narrow((a_first.min(b_first), a_end.max(b_end))).expect("not empty");
    assert_eq!(a.overlaps(b), overlaps);
    assert_eq!(a.touches(b), touches);
    assert_eq!(a.join(b), touches.then_some(hull));
    assert_eq!(a.hull(b), hull);
    assert_eq!(
        u128::from(a.size_saturating()),
        (a_end - a_first).min(END - 1)
    );
    let address = input.address();
    let inside = (a_first..a_end).contains(&u128::from(address));
    assert_eq!(a.contains(address), inside);

    let granule = input.granule();
    let bytes = u128::from(granule.bytes());
    let inner = (a_first.div_ceil(bytes) * bytes, a_end / bytes * bytes);
    let outer = (a_first / bytes * bytes, a_end.div_ceil(bytes) * bytes);
    assert_eq!(a.align_in(granule), narrow(inner));
    assert_eq!(Some(a.align_out(granule)), narrow(outer));
    let down = u128::from(address) / bytes * bytes;
    let up = u128::from(address).div_ceil(bytes) * bytes;
    assert_eq!(u128::from(granule.align_down(address)), down);
    assert_eq!(
        granule.align_up(address).map(u128::from),
        (up < END).then_some(up)
    );

    assert_eq!(
        Granule::new(address).is_some(),
        address.count_ones() == 1,
        "{address:#x}"
    );
    let smallest = (0..64)
        .map(|bit| 1u64 << bit)
        .find(|bit| address & bit != 0);
    assert_eq!(Granule::from_mask(address).map(Granule::bytes), smallest);
    let _ = format!("{a} {granule}");
}
