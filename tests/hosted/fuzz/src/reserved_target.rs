// SPDX-License-Identifier: GPL-2.0

//! Reserved regions: which granules they leave.

use kernel::{
    prelude::*,
    ptr::{
        Alignable,
        Alignment, //
    }, //
};

use super::reserved::{
    Region,
    Regions, //
};
use crate::{
    input::Input,
    uapi::{
        ResvKind,
        Span, //
    }, //
};

/// Checks that spans are in order, consist of whole granules, and that no two touch.
fn check(spans: &[Span], granule: Alignment) {
    for span in spans {
        assert_eq!(span.align_in(granule), Some(*span), "{span} is not whole");
    }
    for pair in spans.windows(2) {
        let apart = u128::from(pair[0].last()) + 1 < u128::from(pair[1].first());
        assert!(apart, "{} and {}", pair[0], pair[1]);
    }
}

pub fn run(input: &mut Input<'_>) {
    let granule = input.granule();
    let aperture = input.span();
    let mut regions = Regions::new();
    let mut all = Vec::new();
    while !input.is_empty() && all.len() < 12 {
        let span = input.span();
        let kind = match input.u8() % 3 {
            0 => ResvKind::Reserved,
            1 => ResvKind::Msi,
            other => ResvKind::Unknown(other),
        };
        regions
            .push(Region { span, kind }, GFP_KERNEL)
            .expect("there is memory");
        all.push(Region { span, kind });
    }
    assert_eq!(regions.as_slice().len(), all.len());
    assert!(regions
        .as_slice()
        .is_sorted_by_key(|region| region.span.first()));
    assert_eq!(
        regions.has_msi(),
        all.iter().any(|region| region.kind == ResvKind::Msi)
    );

    let merged: Vec<_> = regions.merged(granule).collect();
    let gaps: Vec<_> = regions.gaps(aperture, granule).collect();
    check(&merged, granule);
    check(&gaps, granule);

    // Where something begins or ends, the granule there, and those before and after it, tell.
    let ends = all
        .iter()
        .map(|region| region.span)
        .chain([aperture, Span::ALL]);
    for address in ends.flat_map(|span| [span.first(), span.last()]) {
        let bytes = granule.as_usize() as u64;
        for start in [
            address.align_down(granule),
            address.wrapping_sub(bytes).align_down(granule),
            address.wrapping_add(bytes).align_down(granule),
        ] {
            let one = Span::new(start, start | (bytes - 1)).expect("in order");
            let reserved = all.iter().any(|region| region.span.overlaps(one));
            let usable = aperture.first() <= one.first() && one.last() <= aperture.last();
            let in_merged = merged.iter().any(|span| span.overlaps(one));
            let in_gaps = gaps.iter().any(|span| span.overlaps(one));
            assert_eq!(in_merged, reserved, "{one} reserved");
            assert_eq!(in_gaps, usable && !reserved, "{one} free");
        }
    }
}
