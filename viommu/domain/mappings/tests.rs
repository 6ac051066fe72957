// SPDX-License-Identifier: GPL-2.0

//! KUnit tests for the tree of mappings.

use kernel::prelude::*;

use super::*;

#[kunit_tests(viommu_mappings)]
mod tree {
    use super::*;

    use crate::uapi::MapFlag;

    fn span(first: u64, last: u64) -> Span {
        Span::new(first, last).unwrap_or(Span::ALL)
    }

    fn mapping(first: u64, last: u64) -> Mapping {
        Mapping {
            span: span(first, last),
            phys: first ^ 0x1_0000_0000,
            flags: MapFlag::Read.into(),
        }
    }

    /// Inserts as the driver does.
    fn insert(mappings: &mut Mappings, mapping: Mapping) -> Result {
        loop {
            match mappings.insert(mapping) {
                Err(InsertError::NoNode) => {
                    let node = Reservation::new(GFP_KERNEL)?;
                    drop(mappings.refill(node));
                }
                result => return Ok(result?),
            }
        }
    }

    fn with(spans: &[(u64, u64)]) -> Result<Mappings> {
        let mut mappings = Mappings::new();
        for (first, last) in spans {
            insert(&mut mappings, mapping(*first, *last))?;
        }
        Ok(mappings)
    }

    /// Whether these, and no others, are mapped.
    fn holds(mappings: &Mappings, spans: &[(u64, u64)]) -> bool {
        let mut from = Some(0);
        for (first, last) in spans {
            let found = from.and_then(|from| mappings.next_from(from));
            if found != Some(mapping(*first, *last)) {
                return false;
            }
            from = last.checked_add(1);
        }
        mappings.tree.is_empty() == spans.is_empty()
            && from.and_then(|from| mappings.next_from(from)).is_none()
    }

    #[test]
    fn node_fits_64_bytes() {
        // After the three links of a node.
        assert!(3 * size_of::<usize>() + size_of::<Key>() + size_of::<Target>() <= 64);
    }

    #[test]
    fn insert_in_order() -> Result {
        let mappings = with(&[
            (0x3000, 0x3fff),
            (0x1000, 0x1fff),
            (0x2000, 0x2fff),
            (0, 0xfff),
        ])?;
        assert!(holds(
            &mappings,
            &[
                (0, 0xfff),
                (0x1000, 0x1fff),
                (0x2000, 0x2fff),
                (0x3000, 0x3fff)
            ]
        ));
        Ok(())
    }

    #[test]
    fn insert_refuses_overlap() -> Result {
        let all = [(0x1000, 0x1fff), (0x4000, 0x5fff), (0xf000, 0xffff)];
        let mut mappings = with(&all)?;

        for (first, last) in [
            (0x1000, 0x1fff),
            (0x1800, 0x1800),
            (0, 0x1000),
            (0x1fff, 0x3000),
            (0x3000, 0x7000),
            (0, u64::MAX),
            (0x5fff, 0xf000),
        ] {
            let overlap = insert(&mut mappings, mapping(first, last));
            assert_eq!(overlap, Err(EEXIST));
            assert!(holds(&mappings, &all));
        }
        assert_eq!(insert(&mut mappings, mapping(0x2000, 0x3fff)), Ok(()));
        assert_eq!(insert(&mut mappings, mapping(0, 0xfff)), Ok(()));
        assert_eq!(insert(&mut mappings, mapping(0x10000, u64::MAX)), Ok(()));
        Ok(())
    }

    #[test]
    fn insert_needs_a_node() -> Result {
        let mut mappings = Mappings::new();
        assert_eq!(mappings.insert(mapping(0, 1)), Err(InsertError::NoNode));
        assert!(mappings.tree.is_empty());
        assert!(mappings.refill(Reservation::new(GFP_KERNEL)?).is_none());
        assert_eq!(mappings.insert(mapping(0, 1)), Ok(()));
        assert_eq!(mappings.insert(mapping(2, 3)), Err(InsertError::NoNode));
        // An overlap costs no node.
        assert!(mappings.refill(Reservation::new(GFP_KERNEL)?).is_none());
        assert_eq!(mappings.insert(mapping(0, 1)), Err(InsertError::Overlap));
        assert_eq!(mappings.insert(mapping(4, 5)), Ok(()));
        assert_eq!(mappings.insert(mapping(2, 3)), Err(InsertError::NoNode));
        // A removal leaves its node.
        assert_eq!(mappings.remove_run(span(0, 1)), Some(span(0, 1)));
        assert_eq!(mappings.insert(mapping(2, 3)), Ok(()));
        Ok(())
    }

    #[test]
    fn stash_is_bounded() -> Result {
        let mut mappings = Mappings::new();
        for _ in 0..SPARE_NODES {
            assert!(mappings.refill(Reservation::new(GFP_KERNEL)?).is_none());
        }
        assert!(mappings.refill(Reservation::new(GFP_KERNEL)?).is_some());
        for first in 0..SPARE_NODES as u64 {
            assert_eq!(mappings.insert(mapping(first, first)), Ok(()));
        }
        let insert = mappings.insert(mapping(1000, 1000));
        assert_eq!(insert, Err(InsertError::NoNode));
        // The nodes that do not fit are freed.
        let count = SPARE_NODES as u64 + 20;
        for first in SPARE_NODES as u64..count {
            drop(mappings.refill(Reservation::new(GFP_KERNEL)?));
            assert_eq!(mappings.insert(mapping(first, first)), Ok(()));
        }
        assert_eq!(mappings.remove_run(Span::ALL), Some(span(0, count - 1)));
        assert!(mappings.refill(Reservation::new(GFP_KERNEL)?).is_some());
        Ok(())
    }

    #[test]
    fn remove_one() -> Result {
        let mut mappings = with(&[(0, 0xfff), (0x1000, 0x1fff), (0x2000, 0x2fff)])?;
        let middle = span(0x1000, 0x1fff);

        assert_eq!(mappings.remove_run(middle), Some(middle));
        assert!(holds(&mappings, &[(0, 0xfff), (0x2000, 0x2fff)]));
        assert_eq!(mappings.remove_run(middle), None);
        // The last in the tree: the cursor goes back, and must not go on with what is there.
        let last = span(0x2000, u64::MAX);
        assert_eq!(mappings.remove_run(last), Some(span(0x2000, 0x2fff)));
        assert!(holds(&mappings, &[(0, 0xfff)]));
        assert_eq!(mappings.remove_run(Span::ALL), Some(span(0, 0xfff)));
        assert!(mappings.tree.is_empty());
        assert_eq!(mappings.remove_run(Span::ALL), None);
        Ok(())
    }

    #[test]
    fn remove_stops_at_a_hole_and_at_the_end_of_the_range() -> Result {
        let mut mappings = with(&[
            (0, 0xfff),
            (0x1000, 0x1fff),
            (0x2000, 0x2fff),
            (0x5000, 0x5fff),
            (0x6000, 0x6fff),
            (0x7000, 0x7fff),
        ])?;

        let run = mappings.remove_run(span(0x1000, 0x5fff));
        assert_eq!(run, Some(span(0x1000, 0x2fff)));
        assert!(holds(
            &mappings,
            &[
                (0, 0xfff),
                (0x5000, 0x5fff),
                (0x6000, 0x6fff),
                (0x7000, 0x7fff)
            ]
        ));
        // A range that begins with a hole.
        assert_eq!(mappings.remove_run(span(0x4000, 0x8fff)), None);
        let run = mappings.remove_run(span(0x5000, 0x6fff));
        assert_eq!(run, Some(span(0x5000, 0x6fff)));
        assert!(holds(&mappings, &[(0, 0xfff), (0x7000, 0x7fff)]));
        Ok(())
    }

    #[test]
    fn remove_goes_in_batches() -> Result {
        let mut mappings = Mappings::new();
        let count = REMOVE_BATCH as u64 + 5;
        for first in 0..count {
            insert(&mut mappings, mapping(first, first))?;
        }
        let batch = span(0, REMOVE_BATCH as u64 - 1);
        assert_eq!(mappings.remove_run(Span::ALL), Some(batch));
        let rest = span(batch.last() + 1, u64::MAX);
        let run = mappings.remove_run(rest);
        assert_eq!(run, Some(span(rest.first(), count - 1)));
        assert!(mappings.tree.is_empty());
        Ok(())
    }

    #[test]
    fn remove_never_splits() -> Result {
        let all = [(0x1000, 0x4fff), (0x5000, 0x5fff)];
        let mut mappings = with(&all)?;

        // A mapping that begins before the range stays.
        for (first, last) in [(0x2000, 0x2fff), (0x4fff, 0x5fff), (0x1001, u64::MAX)] {
            assert_eq!(mappings.remove_run(span(first, last)), None);
            assert!(holds(&mappings, &all));
        }
        // One that ends after it goes.
        let run = mappings.remove_run(span(0x1000, 0x1000));
        assert_eq!(run, Some(span(0x1000, 0x4fff)));
        assert!(holds(&mappings, &[(0x5000, 0x5fff)]));
        Ok(())
    }

    #[test]
    fn whole_space() -> Result {
        let mut mappings = with(&[(0, u64::MAX)])?;
        let refused = insert(&mut mappings, mapping(5, 5));
        assert_eq!(refused, Err(InsertError::Overlap.into()));
        assert_eq!(mappings.remove_run(span(1, u64::MAX)), None);
        assert_eq!(mappings.remove_run(span(0, 0)), Some(Span::ALL));
        assert!(mappings.tree.is_empty());

        let mut mappings = with(&[(0, u64::MAX - 1), (u64::MAX, u64::MAX)])?;
        assert!(holds(&mappings, &[(0, u64::MAX - 1), (u64::MAX, u64::MAX)]));
        assert_eq!(mappings.remove_run(Span::ALL), Some(Span::ALL));
        Ok(())
    }

    #[test]
    fn translate() -> Result {
        let mut mappings = with(&[(0x1000, 0x1fff), (0x3000, 0x4fff)])?;

        for (iova, found) in [
            (0, None),
            (0xfff, None),
            (0x1000, Some(0x1_0000_1000)),
            (0x1fff, Some(0x1_0000_1fff)),
            (0x2000, None),
            (0x4321, Some(0x1_0000_4321)),
            (0x5000, None),
            (u64::MAX, None),
        ] {
            assert_eq!(mappings.translate(iova), found);
        }

        // It was found, and is not there any more.
        assert!(mappings.translate(0x3000).is_some());
        mappings.remove_run(span(0x3000, 0x4fff));
        assert_eq!(mappings.translate(0x3000), None);

        // To a lower address, so that the difference is negative.
        let mut mappings = Mappings::new();
        let down = Mapping {
            phys: 0x2000,
            ..mapping(u64::MAX - 0xfff, u64::MAX)
        };
        assert_eq!(insert(&mut mappings, down), Ok(()));
        assert_eq!(mappings.translate(u64::MAX), Some(0x2fff));
        assert_eq!(mappings.next_from(0), Some(down));
        Ok(())
    }

    #[test]
    fn next() -> Result {
        let mappings = with(&[(0x1000, 0x1fff), (0x3000, u64::MAX)])?;

        for (iova, found) in [
            (0, Some(0x1000)),
            (0x1000, Some(0x1000)),
            (0x1fff, Some(0x1000)),
            (0x2000, Some(0x3000)),
            (0x3001, Some(0x3000)),
            (u64::MAX, Some(0x3000)),
        ] {
            let first = mappings.next_from(iova).map(|next| next.span.first());
            assert_eq!(first, found);
        }
        assert_eq!(with(&[(0, 9)])?.next_from(10), None);
        assert_eq!(Mappings::new().next_from(0), None);
        Ok(())
    }

    #[test]
    fn agrees_with_an_array() -> Result {
        // A linear congruential generator (Knuth's MMIX constants): the same in each run.
        let mut state = 11u64;
        let mut random = move |below: u64| {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 33) % below
        };
        let mut mappings = Mappings::new();
        // For each address, the mapping that holds it.
        let mut model = [None::<Span>; 64];

        for _ in 0..5000 {
            let first = random(64);
            let span = span(first, (first + random(12)).min(63));
            let range = span.first() as usize..=span.last() as usize;

            if random(2) == 0 {
                let free = model[range.clone()].iter().all(Option::is_none);
                let expected = if free { Ok(()) } else { Err(EEXIST) };
                let result = insert(&mut mappings, mapping(span.first(), span.last()));
                assert_eq!(result, expected);
                if free {
                    model[range].fill(Some(span));
                }
            } else {
                let mut expected: Option<Span> = None;
                let mut begin = span.first();
                while begin <= span.last() {
                    let Some(found) = model[begin as usize] else {
                        break;
                    };
                    if found.first() != begin {
                        break;
                    }
                    expected = Some(expected.map_or(found, |before| before.cover(found)));
                    model[begin as usize..=found.last() as usize].fill(None);
                    begin = found.last() + 1;
                }
                assert_eq!(mappings.remove_run(span), expected);
            }

            let iova = random(64);
            let expected = model[iova as usize].map(|held| {
                let held = mapping(held.first(), held.last());
                held.phys + (iova - held.span.first())
            });
            assert_eq!(mappings.translate(iova), expected);
        }
        Ok(())
    }
}
