// SPDX-License-Identifier: GPL-2.0

//! The arithmetic of spans, in 128 bits.

use crate::{
    input::Input,
    uapi::Span, //
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
    let common = narrow((a_first.max(b_first), a_end.min(b_end)));
    let touches = a_first.max(b_first) <= a_end.min(b_end);
    let hull = narrow((a_first.min(b_first), a_end.max(b_end))).expect("not empty");
    assert_eq!(a.common(b), common);
    assert_eq!(a.overlaps(b), common.is_some());
    assert_eq!(a.contains(b), common == Some(b));
    assert_eq!(a.join(b), touches.then_some(hull));
    assert_eq!(a.cover(b), hull);
    assert_eq!(
        u128::from(a.size_saturating()),
        (a_end - a_first).min(END - 1)
    );

    let granule = input.granule();
    let bytes = granule.as_usize() as u128;
    let inner = (a_first.div_ceil(bytes) * bytes, a_end / bytes * bytes);
    let outer = (a_first / bytes * bytes, a_end.div_ceil(bytes) * bytes);
    assert_eq!(a.align_in(granule), narrow(inner));
    assert_eq!(Some(a.align_out(granule)), narrow(outer));
    assert_eq!(a.to_string(), format!("{:#x}-{:#x}", a.first(), a.last()));
}
