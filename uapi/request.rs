// SPDX-License-Identifier: GPL-2.0

//! Requests, as the device reads them.
//!
//! A request has a part that the device reads, which is encoded here, and a part that it writes: a
//! tail with the status (see [`Status`](super::Status)), for PROBE preceded by the properties (see
//! [`ProbeReply`](super::ProbeReply)). All fields are little-endian, reserved ones are zero.
//!
//! C header: [`include/uapi/linux/virtio_iommu.h`](srctree/include/uapi/linux/virtio_iommu.h)

use kernel::{
    bindings,
    fmt,
    impl_flags,
    prelude::*, //
};
use zerocopy::little_endian::{
    U32,
    U64, //
};

use super::{
    wire::wire,
    Span,
    TAIL, //
};

/// The largest device-readable part of a [`Request`], in bytes.
pub(crate) const READABLE: usize = size_of::<Probe>();

impl_flags!(
    /// How an endpoint may access a mapping. The default is not at all.
    #[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
    pub(crate) struct MapFlags(u32);

    /// One kind of access to a mapping.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    pub(crate) enum MapFlag {
        /// The endpoint may read.
        Read = bindings::VIRTIO_IOMMU_MAP_F_READ,
        /// The endpoint may write.
        Write = bindings::VIRTIO_IOMMU_MAP_F_WRITE,
        /// The memory is that of a device. Needs VIRTIO_IOMMU_F_MMIO.
        Mmio = bindings::VIRTIO_IOMMU_MAP_F_MMIO,
    }
);

static_assert!(MapFlags::all_bits() == bindings::VIRTIO_IOMMU_MAP_F_MASK);

/// What the driver asks the device to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Request {
    /// Attaches an endpoint to a domain, away from the domain it was attached to. The domain is
    /// created if it does not exist. Virtio 1.3, section 5.13.6.3.
    Attach {
        /// The domain.
        domain: u32,
        /// The endpoint.
        endpoint: u32,
        /// Whether the domain lets all accesses through untranslated. The request that creates the
        /// domain decides. Needs VIRTIO_IOMMU_F_BYPASS_CONFIG.
        bypass: bool,
    },
    /// Detaches an endpoint from a domain. Virtio 1.3, section 5.13.6.4.
    Detach {
        /// The domain.
        domain: u32,
        /// The endpoint.
        endpoint: u32,
    },
    /// Maps a range that has no mapping yet. Virtio 1.3, section 5.13.6.5.
    Map {
        /// The domain.
        domain: u32,
        /// The IO virtual addresses.
        span: Span,
        /// The physical address to which the first of them is mapped.
        phys: u64,
        /// What the endpoints of the domain may do there.
        flags: MapFlags,
    },
    /// Removes all mappings in a range, which must not cut one. Virtio 1.3, section 5.13.6.6.
    Unmap {
        /// The domain.
        domain: u32,
        /// The IO virtual addresses.
        span: Span,
    },
    /// Asks for the properties of an endpoint. Virtio 1.3, section 5.13.6.7.
    Probe {
        /// The endpoint.
        endpoint: u32,
    },
}

impl Request {
    /// Writes the device-readable part to the start of `out`, and returns its size in bytes. What
    /// comes after it in `out` stays as it is.
    #[inline]
    pub(crate) fn encode(&self, out: &mut [u8; READABLE]) -> usize {
        match *self {
            Request::Attach {
                domain,
                endpoint,
                bypass,
            } => put(
                &Attach {
                    head: bindings::VIRTIO_IOMMU_T_ATTACH.into(),
                    domain: domain.into(),
                    endpoint: endpoint.into(),
                    flags: (u32::from(bypass) * bindings::VIRTIO_IOMMU_ATTACH_F_BYPASS).into(),
                    reserved: [0; 4],
                },
                out,
            ),
            Request::Detach { domain, endpoint } => put(
                &Detach {
                    head: bindings::VIRTIO_IOMMU_T_DETACH.into(),
                    domain: domain.into(),
                    endpoint: endpoint.into(),
                    reserved: [0; 8],
                },
                out,
            ),
            Request::Map {
                domain,
                span,
                phys,
                flags,
            } => put(
                &Map {
                    head: bindings::VIRTIO_IOMMU_T_MAP.into(),
                    domain: domain.into(),
                    virt_start: span.first().into(),
                    virt_end: span.last().into(),
                    phys_start: phys.into(),
                    flags: u32::from(flags).into(),
                },
                out,
            ),
            Request::Unmap { domain, span } => put(
                &Unmap {
                    head: bindings::VIRTIO_IOMMU_T_UNMAP.into(),
                    domain: domain.into(),
                    virt_start: span.first().into(),
                    virt_end: span.last().into(),
                    reserved: [0; 4],
                },
                out,
            ),
            Request::Probe { endpoint } => put(
                &Probe {
                    head: bindings::VIRTIO_IOMMU_T_PROBE.into(),
                    endpoint: endpoint.into(),
                    reserved: [0; 64],
                },
                out,
            ),
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Request::Attach {
                domain,
                endpoint,
                bypass,
            } => {
                let kind = if bypass { "bypass domain" } else { "domain" };
                f.write_fmt(fmt!("ATTACH endpoint {endpoint} to {kind} {domain}"))
            }
            Request::Detach { domain, endpoint } => {
                f.write_fmt(fmt!("DETACH endpoint {endpoint} from domain {domain}"))
            }
            Request::Map {
                domain,
                span,
                phys,
                flags,
            } => {
                let letter = |flag, letter| if flags.contains(flag) { letter } else { "" };
                let read = letter(MapFlag::Read, "R");
                let write = letter(MapFlag::Write, "W");
                let mmio = letter(MapFlag::Mmio, "M");
                f.write_fmt(fmt!(
                    "MAP {span} to {phys:#x} [{read}{write}{mmio}] in domain {domain}"
                ))
            }
            Request::Unmap { domain, span } => f.write_fmt(fmt!("UNMAP {span} in domain {domain}")),
            Request::Probe { endpoint } => f.write_fmt(fmt!("PROBE endpoint {endpoint}")),
        }
    }
}

/// Copies `wire` to the start of `out`; returns the size of `wire`.
#[inline]
fn put<T: IntoBytes + zerocopy::Immutable>(wire: &T, out: &mut [u8; READABLE]) -> usize {
    const_assert!(size_of::<T>() <= READABLE);
    // It fits, as was just asserted.
    let _ = wire.write_to_prefix(out);
    size_of::<T>()
}

// The device-readable parts. A head is a type of one byte and three bytes that are zero: one
// little-endian number. `TAIL` is the device-writable part.

wire! {
    struct Attach: virtio_iommu_req_attach - TAIL {
        head: U32,
        domain: U32,
        endpoint: U32,
        flags: U32,
        reserved: [u8; 4],
    }
}

wire! {
    struct Detach: virtio_iommu_req_detach - TAIL {
        head: U32,
        domain: U32,
        endpoint: U32,
        reserved: [u8; 8],
    }
}

wire! {
    struct Map: virtio_iommu_req_map - TAIL {
        head: U32,
        domain: U32,
        virt_start: U64,
        virt_end: U64,
        phys_start: U64,
        flags: U32,
    }
}

wire! {
    struct Unmap: virtio_iommu_req_unmap - TAIL {
        head: U32,
        domain: U32,
        virt_start: U64,
        virt_end: U64,
        reserved: [u8; 4],
    }
}

wire! {
    struct Probe: virtio_iommu_req_probe {
        head: U32,
        endpoint: U32,
        reserved: [u8; 64],
    }
}

static_assert!(size_of::<bindings::virtio_iommu_req_head>() == size_of::<U32>());

#[cfg(CONFIG_VIRTIO_IOMMU_RUST_KUNIT_TEST)]
#[kunit_tests(viommu_request)]
mod tests {
    use kernel::str::CString;

    use super::*;

    /// What stands in the buffer after an encoded request.
    const REST: u8 = 0xa5;

    /// Whether a request is these bytes, and nothing is written after them.
    fn encodes(request: Request, expected: &[u8]) -> bool {
        let mut out = [REST; READABLE];
        let size = request.encode(&mut out);
        out[..size] == *expected && out[size..].iter().all(|byte| *byte == REST)
    }

    fn span(first: u64, last: u64) -> Span {
        Span::new(first, last).unwrap_or(Span::ALL)
    }

    #[test]
    fn attach() {
        for (bypass, flags) in [(false, 0), (true, 1)] {
            let request = Request::Attach {
                domain: 0x01020304,
                endpoint: 0xfffefdfc,
                bypass,
            };
            let expected = [
                1, 0, 0, 0, // head
                4, 3, 2, 1, // domain
                0xfc, 0xfd, 0xfe, 0xff, // endpoint
                flags, 0, 0, 0, // flags
                0, 0, 0, 0, // reserved
            ];
            assert!(encodes(request, &expected));
        }
    }

    #[test]
    fn detach() {
        let request = Request::Detach {
            domain: 7,
            endpoint: 0x100,
        };
        let expected = [
            2, 0, 0, 0, // head
            7, 0, 0, 0, // domain
            0, 1, 0, 0, // endpoint
            0, 0, 0, 0, 0, 0, 0, 0, // reserved
        ];
        assert!(encodes(request, &expected));
    }

    #[test]
    fn map() {
        for (flags, bits) in [
            (MapFlags::default(), 0),
            (MapFlag::Read | MapFlag::Write, 3),
            (MapFlag::Mmio.into(), 4),
        ] {
            let request = Request::Map {
                domain: 2,
                span: span(0x1122334455667000, 0x1122334455667fff),
                phys: 0x8877665544332000,
                flags,
            };
            let expected = [
                3, 0, 0, 0, // head
                2, 0, 0, 0, // domain
                0x00, 0x70, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, // first
                0xff, 0x7f, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, // last, included
                0x00, 0x20, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, // physical
                bits, 0, 0, 0, // flags
            ];
            assert!(encodes(request, &expected));
        }
    }

    #[test]
    fn unmap() {
        let request = Request::Unmap {
            domain: u32::MAX,
            span: span(0x1000, u64::MAX),
        };
        let expected = [
            4, 0, 0, 0, // head
            0xff, 0xff, 0xff, 0xff, // domain
            0, 0x10, 0, 0, 0, 0, 0, 0, // first
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, // last, included
            0, 0, 0, 0, // reserved
        ];
        assert!(encodes(request, &expected));
    }

    #[test]
    fn probe() {
        let mut expected = [0; 72];
        expected[..8].copy_from_slice(&[5, 0, 0, 0, 0x0b, 0x0a, 0, 0]);
        assert!(encodes(Request::Probe { endpoint: 0x0a0b }, &expected));
    }

    #[test]
    fn text() -> Result {
        let map = |flags| Request::Map {
            domain: 2,
            span: span(0x1000, 0x1fff),
            phys: 0x8000,
            flags,
        };
        let all = MapFlag::Read | MapFlag::Write | MapFlag::Mmio;
        for (request, expected) in [
            (map(all), c"MAP 0x1000-0x1fff to 0x8000 [RWM] in domain 2"),
            (
                map(MapFlag::Write.into()),
                c"MAP 0x1000-0x1fff to 0x8000 [W] in domain 2",
            ),
        ] {
            assert_eq!(&*CString::try_from_fmt(fmt!("{request}"))?, expected);
        }
        Ok(())
    }
}
