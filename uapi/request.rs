// SPDX-License-Identifier: GPL-2.0

//! Requests, as the device reads them.
//!
//! A request has a part that the device reads, which is encoded here, and a part that it writes: a
//! tail with the status (see [`Status`](super::Status)), for PROBE preceded by the properties (see
//! [`ProbeReply`](super::ProbeReply)). All fields are little-endian, reserved ones are zero.
//!
//! C header: [`include/uapi/linux/virtio_iommu.h`](srctree/include/uapi/linux/virtio_iommu.h)

use core::mem::offset_of;

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
use zerocopy_derive::{
    Immutable,
    KnownLayout, //
};

use super::Span;

/// The largest device-readable part of a [`Request`], in bytes.
pub(crate) const HOT_READABLE: usize = size_of::<Map>();

/// The device-readable part of a [`Probe`], in bytes.
pub(crate) const PROBE_READABLE: usize = size_of::<ProbeHead>();

/// The tail that the device writes after each request, in bytes.
pub(crate) const TAIL: usize = size_of::<bindings::virtio_iommu_req_tail>();

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

impl fmt::Display for MapFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::empty() {
            return f.write_str("-");
        }
        for (flag, name) in [
            (MapFlag::Read, "R"),
            (MapFlag::Write, "W"),
            (MapFlag::Mmio, "M"),
        ] {
            if self.contains(flag) {
                f.write_str(name)?;
            }
        }
        Ok(())
    }
}

/// A request whose answer is a status alone.
///
/// PROBE is a type of its own, [`Probe`]: it does not fit the memory that these requests need.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Request {
    /// Attaches an endpoint to a domain, away from the domain it was attached to. The domain is
    /// created if it does not exist. Virtio 1.3, section 5.13.6.3.
    Attach {
        /// The domain.
        domain: u32,
        /// The endpoint.
        endpoint: u32,
        /// Whether the domain lets all accesses through untranslated. A domain is such from its
        /// creation on or not at all. Needs VIRTIO_IOMMU_F_BYPASS_CONFIG.
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
}

impl Request {
    /// Writes the device-readable part to the start of `out`, and returns its size in bytes. What
    /// comes after it in `out` stays as it is.
    #[inline]
    pub(crate) fn encode(&self, out: &mut [u8; HOT_READABLE]) -> usize {
        match *self {
            Request::Attach {
                domain,
                endpoint,
                bypass,
            } => put(
                &Attach {
                    head: Head::new(bindings::VIRTIO_IOMMU_T_ATTACH),
                    domain: domain.into(),
                    endpoint: endpoint.into(),
                    flags: if bypass {
                        bindings::VIRTIO_IOMMU_ATTACH_F_BYPASS.into()
                    } else {
                        U32::ZERO
                    },
                    reserved: [0; 4],
                },
                out,
            ),
            Request::Detach { domain, endpoint } => put(
                &Detach {
                    head: Head::new(bindings::VIRTIO_IOMMU_T_DETACH),
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
                    head: Head::new(bindings::VIRTIO_IOMMU_T_MAP),
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
                    head: Head::new(bindings::VIRTIO_IOMMU_T_UNMAP),
                    domain: domain.into(),
                    virt_start: span.first().into(),
                    virt_end: span.last().into(),
                    reserved: [0; 4],
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
            } => f.write_fmt(fmt!("MAP {span} to {phys:#x} [{flags}] in domain {domain}")),
            Request::Unmap { domain, span } => f.write_fmt(fmt!("UNMAP {span} in domain {domain}")),
        }
    }
}

/// The request for the properties of an endpoint. Virtio 1.3, section 5.13.6.7.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Probe {
    /// The endpoint.
    pub(crate) endpoint: u32,
}

impl Probe {
    /// Writes the device-readable part, all of `out`, and returns its size in bytes.
    pub(crate) fn encode(&self, out: &mut [u8; PROBE_READABLE]) -> usize {
        put(
            &ProbeHead {
                head: Head::new(bindings::VIRTIO_IOMMU_T_PROBE),
                endpoint: self.endpoint.into(),
                reserved: [0; 64],
            },
            out,
        )
    }

    /// The size of the device-writable part, in bytes; [`None`] if it is more than there can be.
    ///
    /// `probe_size` is that of the [`Config`](super::Config).
    pub(crate) const fn writable(probe_size: u32) -> Option<usize> {
        // `usize` has at least 32 bits on every architecture.
        (probe_size as usize).checked_add(TAIL)
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_fmt(fmt!("PROBE endpoint {}", self.endpoint))
    }
}

/// Copies `wire` to the start of `out`; returns the size of `wire`.
#[inline]
fn put<T: IntoBytes + zerocopy::Immutable, const N: usize>(wire: &T, out: &mut [u8; N]) -> usize {
    const_assert!(size_of::<T>() <= N);
    // It fits, as was just asserted.
    let _ = wire.write_to_prefix(out);
    size_of::<T>()
}

// Device-readable parts. Whole numbers have an alignment of 1 here, so there is no padding.

/// `struct virtio_iommu_req_head`
#[repr(C)]
#[derive(FromBytes, Immutable, IntoBytes, KnownLayout)]
struct Head {
    type_: u8,
    reserved: [u8; 3],
}

impl Head {
    #[inline]
    const fn new(type_: u32) -> Self {
        Self {
            // One of `VIRTIO_IOMMU_T_*`, which bindgen has as `u32`; asserted below.
            type_: type_ as u8,
            reserved: [0; 3],
        }
    }
}

static_assert!(bindings::VIRTIO_IOMMU_T_PROBE <= 0xff);

/// `struct virtio_iommu_req_attach`
#[repr(C)]
#[derive(FromBytes, Immutable, IntoBytes, KnownLayout)]
struct Attach {
    head: Head,
    domain: U32,
    endpoint: U32,
    flags: U32,
    reserved: [u8; 4],
}

/// `struct virtio_iommu_req_detach`
#[repr(C)]
#[derive(FromBytes, Immutable, IntoBytes, KnownLayout)]
struct Detach {
    head: Head,
    domain: U32,
    endpoint: U32,
    reserved: [u8; 8],
}

/// `struct virtio_iommu_req_map`
#[repr(C)]
#[derive(FromBytes, Immutable, IntoBytes, KnownLayout)]
struct Map {
    head: Head,
    domain: U32,
    virt_start: U64,
    virt_end: U64,
    phys_start: U64,
    flags: U32,
}

/// `struct virtio_iommu_req_unmap`
#[repr(C)]
#[derive(FromBytes, Immutable, IntoBytes, KnownLayout)]
struct Unmap {
    head: Head,
    domain: U32,
    virt_start: U64,
    virt_end: U64,
    reserved: [u8; 4],
}

/// `struct virtio_iommu_req_probe`
#[repr(C)]
#[derive(FromBytes, Immutable, IntoBytes, KnownLayout)]
struct ProbeHead {
    head: Head,
    endpoint: U32,
    reserved: [u8; 64],
}

/// Asserts that a type has the fields of a C structure in the same places, and that it ends where
/// `end` begins in the C structure: at the device-writable part.
macro_rules! assert_layout {
    ($ours:ident { $($field:ident),* }, $theirs:ident, $end:ident) => {
        $(
            static_assert!(
                offset_of!($ours, $field) == offset_of!(bindings::$theirs, $field)
            );
        )*
        static_assert!(size_of::<$ours>() == offset_of!(bindings::$theirs, $end));
        static_assert!(align_of::<$ours>() == 1);
    };
}

assert_layout!(
    Attach {
        head,
        domain,
        endpoint,
        flags,
        reserved
    },
    virtio_iommu_req_attach,
    tail
);
assert_layout!(
    Detach {
        head,
        domain,
        endpoint,
        reserved
    },
    virtio_iommu_req_detach,
    tail
);
assert_layout!(
    Map {
        head,
        domain,
        virt_start,
        virt_end,
        phys_start,
        flags
    },
    virtio_iommu_req_map,
    tail
);
assert_layout!(
    Unmap {
        head,
        domain,
        virt_start,
        virt_end,
        reserved
    },
    virtio_iommu_req_unmap,
    tail
);
assert_layout!(
    ProbeHead {
        head,
        endpoint,
        reserved
    },
    virtio_iommu_req_probe,
    properties
);

static_assert!(size_of::<Head>() == size_of::<bindings::virtio_iommu_req_head>());
static_assert!(offset_of!(Head, type_) == offset_of!(bindings::virtio_iommu_req_head, type_));
static_assert!(offset_of!(Head, reserved) == offset_of!(bindings::virtio_iommu_req_head, reserved));

// The tail follows at once, and ends the C structure.
static_assert!(size_of::<Attach>() + TAIL == size_of::<bindings::virtio_iommu_req_attach>());
static_assert!(size_of::<Detach>() + TAIL == size_of::<bindings::virtio_iommu_req_detach>());
static_assert!(size_of::<Map>() + TAIL == size_of::<bindings::virtio_iommu_req_map>());
static_assert!(size_of::<Unmap>() + TAIL == size_of::<bindings::virtio_iommu_req_unmap>());

#[cfg(CONFIG_VIRTIO_IOMMU_RUST_KUNIT_TEST)]
#[kunit_tests(viommu_request)]
mod tests {
    use super::*;

    /// What stands in the buffer after an encoded request.
    const REST: u8 = 0xa5;

    fn encoded(request: Request) -> ([u8; HOT_READABLE], usize) {
        let mut out = [REST; HOT_READABLE];
        let size = request.encode(&mut out);
        (out, size)
    }

    fn span(first: u64, last: u64) -> Span {
        Span::new(first, last).unwrap_or(Span::ALL)
    }

    #[test]
    fn sizes() {
        assert_eq!(HOT_READABLE, 36);
        assert_eq!(PROBE_READABLE, 72);
        assert_eq!(TAIL, 4);
        assert_eq!(Probe::writable(0), Some(4));
        assert_eq!(Probe::writable(512), Some(516));
        assert_eq!(Probe::writable(u32::MAX).is_some(), usize::BITS > 32);
    }

    #[test]
    fn attach() {
        let (bytes, size) = encoded(Request::Attach {
            domain: 0x01020304,
            endpoint: 0xfffefdfc,
            bypass: false,
        });

        assert_eq!(size, 20);
        assert_eq!(
            bytes[..20],
            [
                1, 0, 0, 0, // head
                4, 3, 2, 1, // domain
                0xfc, 0xfd, 0xfe, 0xff, // endpoint
                0, 0, 0, 0, // flags
                0, 0, 0, 0 // reserved
            ]
        );
        assert!(bytes[20..].iter().all(|byte| *byte == REST));
    }

    #[test]
    fn attach_bypass() {
        let (bytes, size) = encoded(Request::Attach {
            domain: 0,
            endpoint: 8,
            bypass: true,
        });

        assert_eq!(size, 20);
        assert_eq!(
            bytes[..20],
            [1, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]
        );
    }

    #[test]
    fn detach() {
        let (bytes, size) = encoded(Request::Detach {
            domain: 7,
            endpoint: 0x100,
        });

        assert_eq!(size, 20);
        assert_eq!(
            bytes[..20],
            [2, 0, 0, 0, 7, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        );
        assert!(bytes[20..].iter().all(|byte| *byte == REST));
    }

    #[test]
    fn map() {
        let (bytes, size) = encoded(Request::Map {
            domain: 2,
            span: span(0x1122334455667000, 0x1122334455667fff),
            phys: 0x8877665544332000,
            flags: MapFlag::Read | MapFlag::Write,
        });

        assert_eq!(size, 36);
        assert_eq!(
            bytes,
            [
                3, 0, 0, 0, // head
                2, 0, 0, 0, // domain
                0x00, 0x70, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, // first
                0xff, 0x7f, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, // last, included
                0x00, 0x20, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, // physical
                3, 0, 0, 0 // flags
            ]
        );

        let (bytes, _) = encoded(Request::Map {
            domain: u32::MAX,
            span: Span::ALL,
            phys: 0,
            flags: MapFlag::Mmio.into(),
        });
        assert_eq!(bytes[4..8], [0xff; 4]);
        assert_eq!(bytes[8..16], [0; 8]);
        assert_eq!(bytes[16..24], [0xff; 8]);
        assert_eq!(bytes[32..36], [4, 0, 0, 0]);
    }

    #[test]
    fn unmap() {
        let (bytes, size) = encoded(Request::Unmap {
            domain: 2,
            span: span(0x1000, u64::MAX),
        });

        assert_eq!(size, 28);
        assert_eq!(
            bytes[..28],
            [
                4, 0, 0, 0, // head
                2, 0, 0, 0, // domain
                0, 0x10, 0, 0, 0, 0, 0, 0, // first
                0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, // last, included
                0, 0, 0, 0 // reserved
            ]
        );
        assert!(bytes[28..].iter().all(|byte| *byte == REST));
    }

    #[test]
    fn probe() {
        let mut bytes = [REST; PROBE_READABLE];

        assert_eq!(Probe { endpoint: 0x0a0b }.encode(&mut bytes), 72);
        assert_eq!(bytes[..8], [5, 0, 0, 0, 0x0b, 0x0a, 0, 0]);
        assert!(bytes[8..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn flags() {
        let both = MapFlag::Read | MapFlag::Write;

        assert_eq!(u32::from(MapFlags::default()), 0);
        assert_eq!(u32::from(both), 3);
        assert!(both.contains(MapFlag::Write) && !both.contains(MapFlag::Mmio));
        assert!(both.contains_all(MapFlag::Read.into()));
        assert!(!both.contains_all(MapFlag::Read | MapFlag::Mmio));
    }
}
