// SPDX-License-Identifier: GPL-2.0

//! KUnit tests for the parser of properties: whole ones, broken ones, and any bytes.

use kernel::prelude::*;

use super::*;

#[kunit_tests(viommu_property)]
mod parser {
    use super::*;

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

    fn first(bytes: &[u8]) -> Option<Result<Property, PropertyError>> {
        Properties::new(bytes).next()
    }

    fn mem(kind: ResvKind, first: u64, last: u64) -> Option<Result<Property, PropertyError>> {
        let span = Span::new(first, last)?;
        Some(Ok(Property::ResvMem { kind, span }))
    }

    #[test]
    fn nothing() {
        assert_eq!(first(&[]), None);
        assert_eq!(first(&[0; 512]), None);
        // What follows the end has no meaning.
        assert_eq!(first(&[0, 0, 0xff, 0xff, 1, 0, 20, 0]), None);
        // A type of 0 is the end, whatever the reserved bits above it.
        assert_eq!(first(&[0, 0xf0, 0, 0]), None);
    }

    #[test]
    fn reserved_memory() {
        let mut buf = [0; 512];
        buf[..24].copy_from_slice(&resv(1, 0xfee00000, 0xfeefffff));
        buf[24..48].copy_from_slice(&resv(0, 0x1000, 0x1fff));
        buf[48..72].copy_from_slice(&resv(9, 0, 0));
        buf[72..96].copy_from_slice(&resv(0, 1, u64::MAX));

        let mut properties = Properties::new(&buf);
        assert_eq!(
            properties.next(),
            mem(ResvKind::Msi, 0xfee00000, 0xfeefffff)
        );
        assert_eq!(properties.next(), mem(ResvKind::Reserved, 0x1000, 0x1fff));
        assert_eq!(properties.next(), mem(ResvKind::Unknown(9), 0, 0));
        assert_eq!(properties.next(), mem(ResvKind::Reserved, 1, u64::MAX));
        assert_eq!(properties.next(), None);
        assert_eq!(properties.next(), None);
    }

    #[test]
    fn full_to_the_last_byte() {
        let mut properties = [resv(0, 1, 2), resv(1, 3, 4)];
        let bytes = properties.as_flattened_mut();
        let mut parsed = Properties::new(bytes);

        assert_eq!(parsed.next(), mem(ResvKind::Reserved, 1, 2));
        assert_eq!(parsed.next(), mem(ResvKind::Msi, 3, 4));
        assert_eq!(parsed.next(), None);
    }

    #[test]
    fn property_with_reserved_bits_is_ignored() {
        let mut properties = [resv(0, 1, 2), resv(0, 3, 4)];
        properties[0][1] = 0x80;
        let bytes = properties.as_flattened_mut();
        let mut parsed = Properties::new(bytes);

        assert_eq!(
            parsed.next(),
            Some(Ok(Property::Unknown {
                type_: 0x8001,
                len: 20
            }))
        );
        assert_eq!(parsed.next(), mem(ResvKind::Reserved, 3, 4));
        assert_eq!(parsed.next(), None);
    }

    #[test]
    fn longer_than_known_is_accepted() {
        let mut bytes = [0xff; 56];
        bytes[..24].copy_from_slice(&resv(0, 1, 2));
        bytes[2] = 28;
        bytes[32..].copy_from_slice(&resv(1, 3, 4));
        let mut properties = Properties::new(&bytes);

        assert_eq!(properties.next(), mem(ResvKind::Reserved, 1, 2));
        assert_eq!(properties.next(), mem(ResvKind::Msi, 3, 4));
        assert_eq!(properties.next(), None);
    }

    #[test]
    fn unknown_is_stepped_over() {
        let mut bytes = [0; 40];
        bytes[..4].copy_from_slice(&[0xfe, 0x0f, 4, 0]);
        bytes[8..32].copy_from_slice(&resv(0, 1, 2));
        let mut properties = Properties::new(&bytes);

        assert_eq!(
            properties.next(),
            Some(Ok(Property::Unknown {
                type_: 0xffe,
                len: 4
            }))
        );
        assert_eq!(properties.next(), mem(ResvKind::Reserved, 1, 2));
        assert_eq!(properties.next(), None);
    }

    #[test]
    fn truncated_header() {
        for left in 1..size_of::<Head>() {
            assert_eq!(
                first(&[1, 0, 20, 0][..left]),
                Some(Err(PropertyError::TruncatedHeader { offset: 0, left }))
            );
            // Zeroes are the unused end of a buffer of odd size.
            assert_eq!(first(&[0; 4][..left]), None);
        }

        let mut bytes = [0; 27];
        bytes[..24].copy_from_slice(&resv(0, 1, 2));
        bytes[26] = 1;
        let mut properties = Properties::new(&bytes);
        assert_eq!(properties.next(), mem(ResvKind::Reserved, 1, 2));
        assert_eq!(
            properties.next(),
            Some(Err(PropertyError::TruncatedHeader {
                offset: 24,
                left: 3
            }))
        );
        assert_eq!(properties.next(), None);
    }

    #[test]
    fn truncated_body() {
        let bytes = resv(0, 1, 2);
        for end in size_of::<Head>()..bytes.len() {
            assert_eq!(
                first(&bytes[..end]),
                Some(Err(PropertyError::TruncatedBody {
                    offset: 0,
                    type_: 1,
                    len: 20,
                    left: end - 4
                }))
            );
        }
    }

    #[test]
    fn length_of_65535() {
        for type_ in [1, 2] {
            let mut bytes = [0; 512];
            bytes[..4].copy_from_slice(&[type_, 0, 0xff, 0xff]);
            let mut properties = Properties::new(&bytes);
            assert_eq!(
                properties.next(),
                Some(Err(PropertyError::TruncatedBody {
                    offset: 0,
                    type_: type_.into(),
                    len: u16::MAX,
                    left: 508
                }))
            );
            assert_eq!(properties.next(), None);
        }
    }

    #[test]
    fn length_of_zero() {
        let mut properties = Properties::new(&[1, 0, 0, 0, 2, 0, 0, 0]);
        assert_eq!(
            properties.next(),
            Some(Err(PropertyError::ZeroLength {
                offset: 0,
                type_: 1
            }))
        );
        assert_eq!(properties.next(), None);

        // A type that is not known may have nothing to say but that it is there.
        let mut properties = Properties::new(&[2, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(
            properties.next(),
            Some(Ok(Property::Unknown { type_: 2, len: 0 }))
        );
        assert_eq!(
            properties.next(),
            Some(Err(PropertyError::ZeroLength {
                offset: 4,
                type_: 1
            }))
        );
        assert_eq!(properties.next(), None);
    }

    #[test]
    fn too_short_for_its_type() {
        for len in 1..20u8 {
            let mut bytes = [0; 48];
            bytes[..24].copy_from_slice(&resv(0, 1, 2));
            bytes[2] = len;
            let mut properties = Properties::new(&bytes);
            assert_eq!(
                properties.next(),
                Some(Err(PropertyError::ShortBody {
                    offset: 0,
                    type_: 1,
                    len: len.into(),
                    need: 20
                }))
            );
            assert_eq!(properties.next(), None);
        }
    }

    #[test]
    fn malformed_ranges() {
        let mut properties = [resv(0, 1, 2), resv(1, 0x2000, 0x1fff), resv(1, 3, 4)];
        let bytes = properties.as_flattened_mut();
        let mut parsed = Properties::new(bytes);
        assert_eq!(parsed.next(), mem(ResvKind::Reserved, 1, 2));
        assert_eq!(
            parsed.next(),
            Some(Err(PropertyError::Reversed {
                offset: 24,
                first: 0x2000,
                last: 0x1fff
            }))
        );
        assert_eq!(parsed.next(), None);

        assert_eq!(
            first(&resv(0, u64::MAX, 0)),
            Some(Err(PropertyError::Reversed {
                offset: 0,
                first: u64::MAX,
                last: 0
            }))
        );
        // Its size, 2^64, would wrap to 0.
        assert_eq!(
            first(&resv(0, 0, u64::MAX)),
            Some(Err(PropertyError::WholeSpace { offset: 0 }))
        );
    }

    #[test]
    fn errno() {
        let reversed = PropertyError::Reversed {
            offset: 0,
            first: 1,
            last: 0,
        };
        assert_eq!(Error::from(reversed), EINVAL);
        assert_eq!(
            Error::from(PropertyError::WholeSpace { offset: 0 }),
            EOVERFLOW
        );
    }

    #[test]
    fn reply() {
        let mut bytes = [0; 36];
        bytes[..24].copy_from_slice(&resv(0, 1, 2));

        let mut reply = ProbeReply::new(&bytes, 36, 32);
        assert_eq!(reply.status, Status::Ok);
        assert_eq!(reply.properties.next(), mem(ResvKind::Reserved, 1, 2));
        assert_eq!(reply.properties.next(), None);

        // A refusal has no properties, whatever the device left there.
        bytes[32] = 6;
        let mut reply = ProbeReply::new(&bytes, 36, 32);
        assert_eq!(reply.status, Status::NoEnt);
        assert_eq!(reply.properties.next(), None);
    }

    #[test]
    fn short_reply() {
        let mut bytes = [0; 36];
        bytes[..24].copy_from_slice(&resv(0, 1, 2));
        for written in 0..bytes.len() {
            for there in [written, bytes.len()] {
                let mut reply = ProbeReply::new(&bytes[..there], written, 32);
                assert_eq!(reply.status, Status::Missing);
                assert_eq!(reply.properties.next(), None);
            }
        }
        bytes[32] = 6;
        assert_eq!(ProbeReply::new(&bytes, 0, 32).status, Status::NoEnt);

        let status = |bytes, probe_size| ProbeReply::new(bytes, bytes.len(), probe_size).status;
        assert_eq!(status(&bytes[..], u32::MAX), Status::Missing);
        assert_eq!(status(&bytes[..], 0), Status::IoErr);
        assert_eq!(status(&[0; 4][..], 0), Status::Ok);
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
            let mut properties = Properties::new(bytes);
            let mut steps = 0;
            while let Some(property) = properties.next() {
                steps += 1;
                if property.is_err() {
                    assert_eq!(properties.next(), None);
                }
            }
            assert!(steps <= bytes.len());
        }
    }
}
