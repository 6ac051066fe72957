// SPDX-License-Identifier: GPL-2.0

//! KUnit tests for the parser of properties: whole ones, broken ones, and any bytes.

use kernel::prelude::*;

use super::*;

#[kunit_tests(viommu_property)]
mod parser {
    use super::*;
    use crate::uapi::tests::fails;

    /// A reserved-memory property as QEMU writes it.
    fn resv(subtype: u8, start: u64, end: u64) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[0] = 1;
        bytes[2] = 20;
        bytes[4] = subtype;
        bytes[8..16].copy_from_slice(&start.to_le_bytes());
        bytes[16..24].copy_from_slice(&end.to_le_bytes());
        bytes
    }

    fn mem(kind: ResvKind, first: u64, last: u64) -> Property {
        let span = Span::new(first, last).unwrap();
        Property::ResvMem { kind, span }
    }

    /// The next property; [`None`] at the end, and after one that is malformed.
    fn next(properties: &mut Properties<'_>) -> Option<Property> {
        properties.next(|_| ()).ok().flatten()
    }

    /// Whether these properties are there, and then either the end or one that is malformed.
    fn holds(bytes: &[u8], expected: &[Property], malformed: Option<fmt::Arguments<'_>>) -> bool {
        let mut found = Properties {
            rest: bytes,
            offset: 0,
        };
        expected.iter().all(|one| next(&mut found) == Some(*one))
            && malformed.is_none_or(|why| fails(EINVAL, why, |report| found.next(report)))
            && found.next(|_| ()) == Ok(None)
            && found.next(|_| ()) == Ok(None)
    }

    #[test]
    fn nothing() {
        for bytes in [
            &[][..],
            &[0; 512],
            // What follows the end has no meaning.
            &[0, 0, 0xff, 0xff, 1, 0, 20, 0],
            // A type of 0 is the end, whatever the reserved bits above it.
            &[0, 0xf0, 0, 0],
            // Zeroes are the unused end of a buffer of odd size.
            &[0; 3],
        ] {
            assert!(holds(bytes, &[], None));
        }
    }

    #[test]
    fn reserved_memory() {
        let mut buf = [0; 512];
        buf[..24].copy_from_slice(&resv(1, 0xfee00000, 0xfeefffff));
        buf[24..48].copy_from_slice(&resv(0, 0x1000, 0x1fff));
        buf[48..72].copy_from_slice(&resv(9, 0, 0));
        buf[72..96].copy_from_slice(&resv(0, 1, u64::MAX));
        let expected = [
            mem(ResvKind::Msi, 0xfee00000, 0xfeefffff),
            mem(ResvKind::Reserved, 0x1000, 0x1fff),
            mem(ResvKind::Unknown(9), 0, 0),
            mem(ResvKind::Reserved, 1, u64::MAX),
        ];

        assert!(holds(&buf, &expected, None));
        // Full to the last byte.
        assert!(holds(&buf[..96], &expected, None));
    }

    #[test]
    fn property_with_reserved_bits_is_ignored() {
        let mut bytes = [resv(0, 1, 2), resv(0, 3, 4)];
        bytes[0][1] = 0x80;
        assert!(holds(
            bytes.as_flattened(),
            &[
                Property::Unknown { type_: 0x8001 },
                mem(ResvKind::Reserved, 3, 4)
            ],
            None
        ));
    }

    #[test]
    fn longer_than_known_is_accepted() {
        let mut bytes = [0xff; 56];
        bytes[..24].copy_from_slice(&resv(0, 1, 2));
        bytes[2] = 28;
        bytes[32..].copy_from_slice(&resv(1, 3, 4));
        assert!(holds(
            &bytes,
            &[mem(ResvKind::Reserved, 1, 2), mem(ResvKind::Msi, 3, 4)],
            None
        ));
    }

    #[test]
    fn unknown_is_stepped_over() {
        let mut bytes = [0; 40];
        bytes[..4].copy_from_slice(&[0xfe, 0x0f, 4, 0]);
        bytes[8..32].copy_from_slice(&resv(0, 1, 2));
        assert!(holds(
            &bytes,
            &[
                Property::Unknown { type_: 0xffe },
                mem(ResvKind::Reserved, 1, 2)
            ],
            None
        ));
    }

    #[test]
    fn truncated_header() {
        for left in 1..4 {
            let mut bytes = [0; 27];
            bytes[..24].copy_from_slice(&resv(0, 1, 2));
            bytes[23 + left] = 1;
            assert!(holds(
                &bytes[24..24 + left],
                &[],
                Some(fmt!(
                    "property at offset 0: header truncated, {left} bytes left"
                ))
            ));
            assert!(holds(
                &bytes[..24 + left],
                &[mem(ResvKind::Reserved, 1, 2)],
                Some(fmt!(
                    "property at offset 24: header truncated, {left} bytes left"
                ))
            ));
        }
    }

    #[test]
    fn truncated_body() {
        for left in 4..24 {
            assert!(holds(
                &resv(0, 1, 2)[..left],
                &[],
                Some(fmt!(
                    "property at offset 0: type 0x1 truncated, {left} of 24 bytes left"
                ))
            ));
        }
        for type_ in [1, 2] {
            let mut bytes = [0; 512];
            bytes[..4].copy_from_slice(&[type_, 0, 0xff, 0xff]);
            assert!(holds(
                &bytes,
                &[],
                Some(fmt!(
                    "property at offset 0: type {type_:#x} truncated, 512 of 65539 bytes left"
                ))
            ));
        }
    }

    #[test]
    fn too_short_for_its_type() {
        for len in 0..20u8 {
            let mut bytes = [0; 52];
            // A type that is not known may have nothing to say but that it is there.
            bytes[0] = 2;
            bytes[4..28].copy_from_slice(&resv(0, 1, 2));
            bytes[6] = len;
            let size = len + 4;
            assert!(holds(
                &bytes,
                &[Property::Unknown { type_: 2 }],
                Some(fmt!(
                    "property at offset 4: reserved memory has {size} bytes, 24 needed"
                ))
            ));
        }
    }

    #[test]
    fn malformed_ranges() {
        for (first, last) in [(0x2000, 0x1fff), (u64::MAX, 0)] {
            let bytes = [resv(0, 1, 2), resv(1, first, last), resv(1, 3, 4)];
            assert!(holds(
                bytes.as_flattened(),
                &[mem(ResvKind::Reserved, 1, 2)],
                Some(fmt!(
                    "property at offset 24: reserved memory {first:#x}-{last:#x} is reversed"
                ))
            ));
        }
        // Its size, 2^64, would wrap to 0.
        assert!(holds(
            &resv(0, 0, u64::MAX),
            &[],
            Some(fmt!(
                "property at offset 0: reserved memory covers all addresses"
            ))
        ));
    }

    #[test]
    fn reply() {
        let mut bytes = [0; 36];
        bytes[..24].copy_from_slice(&resv(0, 1, 2));

        let mut reply = ProbeReply::new(&bytes, 36);
        assert_eq!(reply.status, Status::Ok);
        assert_eq!(
            next(&mut reply.properties),
            Some(mem(ResvKind::Reserved, 1, 2))
        );
        assert_eq!(next(&mut reply.properties), None);

        // A refusal has no properties, whatever the device left there.
        bytes[32] = 6;
        let mut reply = ProbeReply::new(&bytes, 36);
        assert_eq!(reply.status, Status::NoEnt);
        assert_eq!(next(&mut reply.properties), None);
        assert_eq!(ProbeReply::new(&bytes, 0).status, Status::NoEnt);
    }

    #[test]
    fn short_reply() {
        let mut bytes = [0; 36];
        bytes[..24].copy_from_slice(&resv(0, 1, 2));
        for written in 0..bytes.len() {
            let mut reply = ProbeReply::new(&bytes, written);
            assert_eq!(reply.status, Status::Missing);
            assert_eq!(next(&mut reply.properties), None);
        }
        // Nothing but a tail, and less than that.
        assert_eq!(ProbeReply::new(&bytes[32..], 4).status, Status::Ok);
        assert_eq!(ProbeReply::new(&bytes[33..], 3).status, Status::Missing);
        assert_eq!(ProbeReply::new(&[], 0).status, Status::Missing);
    }

    #[test]
    fn any_bytes_come_to_an_end() {
        // A linear congruential generator (Knuth's MMIX constants): the same bytes in each run.
        let mut state = 1u64;
        let mut bytes = [0; 64];
        for round in 0..2000 {
            for byte in bytes.iter_mut() {
                state = state
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                // Few values, so that types and lengths which mean something are frequent.
                *byte = match (state >> 33) % 4 {
                    0 => 0,
                    1 => 1,
                    2 => 20,
                    _ => (state >> 56) as u8,
                };
            }
            let bytes = &bytes[..round % 65];
            let mut found = Properties {
                rest: bytes,
                offset: 0,
            };
            let steps = core::iter::from_fn(|| next(&mut found)).count();
            assert!(steps <= bytes.len() / 4);
            assert_eq!(found.next(|_| ()), Ok(None));
        }
    }
}
