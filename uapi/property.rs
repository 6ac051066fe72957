// SPDX-License-Identifier: GPL-2.0

//! Properties of an endpoint: what the device writes in answer to a PROBE.
//!
//! A property is a header, with a type and the length of what follows, and that many bytes. One
//! comes after the other; a type of 0, or the end of the buffer, ends them.
//!
//! C header: [`include/uapi/linux/virtio_iommu.h`](srctree/include/uapi/linux/virtio_iommu.h)

use core::mem::offset_of;

use kernel::{
    bindings,
    fmt,
    prelude::*, //
};
use zerocopy::little_endian::{
    U16,
    U64, //
};
use zerocopy_derive::{
    Immutable,
    KnownLayout, //
};

use super::{
    Span,
    Status, //
};

/// The answer to a PROBE: the status, and the properties that come before it.
pub(crate) struct ProbeReply<'a> {
    /// The status, as [`Status::from_tail`] says. It is [`Status::Ok`] only if the device wrote
    /// everything up to the end of the tail.
    pub(crate) status: Status,
    /// The properties; none unless the status is [`Status::Ok`].
    pub(crate) properties: Properties<'a>,
}

impl<'a> ProbeReply<'a> {
    /// Splits what the device was given to write to into properties and tail. It claims to have
    /// written the first `written` bytes.
    ///
    /// `probe_size` is that of the [`Config`](super::Config): the number of bytes before the tail.
    pub(crate) fn new(writable: &'a [u8], written: usize, probe_size: u32) -> Self {
        // `usize` has at least 32 bits on every architecture.
        let size = probe_size as usize;
        let split = writable.split_at_checked(size);
        let (properties, status) =
            match split.map(|(properties, tail)| (properties, tail.first_chunk())) {
                Some((properties, Some(tail))) => {
                    let written = written.saturating_sub(size);
                    (properties, Status::from_tail(tail, written))
                }
                _ => (&[][..], Status::Missing),
            };

        Self {
            status,
            properties: Properties::new(if status.is_ok() { properties } else { &[] }),
        }
    }
}

/// What an endpoint may not use addresses for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ResvKind {
    /// Nothing: they cannot be mapped.
    Reserved,
    /// Mappings: the device passes writes to them on, untranslated, as message-signalled
    /// interrupts.
    Msi,
    /// A kind that this driver does not know. Like [`ResvKind::Reserved`].
    Unknown(u8),
}

impl fmt::Display for ResvKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            ResvKind::Reserved => f.write_str("reserved"),
            ResvKind::Msi => f.write_str("MSI"),
            ResvKind::Unknown(subtype) => f.write_fmt(fmt!("unknown ({subtype:#x})")),
        }
    }
}

/// A property of an endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Property {
    /// A range of addresses that must not be mapped. Virtio 1.3, section 5.13.6.8.
    ResvMem {
        /// What it is reserved for.
        kind: ResvKind,
        /// The addresses. Not [`Span::ALL`], so that their number fits a [`u64`].
        span: Span,
    },
    /// A property that this driver does not know, to be ignored.
    Unknown {
        /// The type, including the upper four bits, which are reserved. A property in which one of
        /// them is set must be ignored, whatever it is.
        type_: u16,
        /// The number of bytes after the header.
        len: u16,
    },
}

/// What is wrong with a property. Offsets are those of its header, in bytes from the first
/// property.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum PropertyError {
    /// The buffer ends in the header.
    TruncatedHeader {
        /// Where.
        offset: usize,
        /// The number of bytes that are left.
        left: usize,
    },
    /// A property without content, of a type that must have some.
    ZeroLength {
        /// Where.
        offset: usize,
        /// The type.
        type_: u16,
    },
    /// The property does not end within the buffer.
    TruncatedBody {
        /// Where.
        offset: usize,
        /// The type.
        type_: u16,
        /// The number of bytes after the header, as the header says.
        len: u16,
        /// The number of bytes after the header that there are.
        left: usize,
    },
    /// The property is too short for its type.
    ShortBody {
        /// Where.
        offset: usize,
        /// The type.
        type_: u16,
        /// The number of bytes after the header.
        len: u16,
        /// How many the type needs.
        need: usize,
    },
    /// A range ends before it begins.
    Reversed {
        /// Where.
        offset: usize,
        /// The first address.
        first: u64,
        /// The last address.
        last: u64,
    },
    /// All 2^64 addresses are reserved. Their number fits no variable, and nothing is left to use.
    WholeSpace {
        /// Where.
        offset: usize,
    },
}

impl From<PropertyError> for Error {
    fn from(error: PropertyError) -> Error {
        match error {
            PropertyError::WholeSpace { .. } => EOVERFLOW,
            _ => EINVAL,
        }
    }
}

impl fmt::Display for PropertyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            PropertyError::TruncatedHeader { offset, left } => f.write_fmt(fmt!(
                "property at offset {offset}: header truncated, {left} bytes left"
            )),
            PropertyError::ZeroLength { offset, type_ } => {
                f.write_fmt(fmt!("property {type_:#x} at offset {offset}: length is 0"))
            }
            PropertyError::TruncatedBody {
                offset,
                type_,
                len,
                left,
            } => f.write_fmt(fmt!(
                "property {type_:#x} at offset {offset}: truncated, {left} of {len} bytes left"
            )),
            PropertyError::ShortBody {
                offset,
                type_,
                len,
                need,
            } => f.write_fmt(fmt!(
                "property {type_:#x} at offset {offset}: {len} bytes, {need} needed"
            )),
            PropertyError::Reversed {
                offset,
                first,
                last,
            } => f.write_fmt(fmt!(
                "reserved memory at offset {offset}: {first:#x}-{last:#x} is reversed"
            )),
            PropertyError::WholeSpace { offset } => f.write_fmt(fmt!(
                "reserved memory at offset {offset}: covers all addresses"
            )),
        }
    }
}

/// Iterates over the properties in a buffer. Ends after the first malformed one, as there is no
/// telling where the next begins.
///
/// Each step takes at least a header from the buffer, so their number is bounded by its size.
#[derive(Clone)]
pub(crate) struct Properties<'a> {
    /// What is still to be looked at; empty after the end of the properties.
    rest: &'a [u8],
    /// The offset of `rest` in the buffer, in bytes.
    offset: usize,
}

impl<'a> Properties<'a> {
    /// The properties in `bytes`, which must hold nothing else.
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            offset: 0,
        }
    }

    /// Takes the next property; [`None`] if there are no more.
    fn take(&mut self) -> Option<Result<Property, PropertyError>> {
        let offset = self.offset;
        // What follows the last property has no meaning, and neither has what follows a malformed
        // one: `rest` is set again only after a property that is whole.
        let bytes = core::mem::take(&mut self.rest);

        let Ok((head, rest)) = Head::read_from_prefix(bytes) else {
            // Too short for a header. It can be the end: the unused part of the buffer is zero.
            if bytes.iter().all(|byte| *byte == 0) {
                return None;
            }
            return Some(Err(PropertyError::TruncatedHeader {
                offset,
                left: bytes.len(),
            }));
        };
        let type_ = head.type_.get();
        let len = head.length.get();
        if type_ & TYPE_MASK == TYPE_NONE {
            return None;
        }
        let Some((body, rest)) = rest.split_at_checked(usize::from(len)) else {
            return Some(Err(PropertyError::TruncatedBody {
                offset,
                type_,
                len,
                left: rest.len(),
            }));
        };

        let property = match type_ {
            TYPE_RESV_MEM => resv_mem(body, offset, len),
            _ => Ok(Property::Unknown { type_, len }),
        };
        if property.is_ok() {
            self.rest = rest;
            // Not beyond the end of a slice that exists: this does not saturate.
            self.offset = offset
                .saturating_add(size_of::<Head>())
                .saturating_add(body.len());
        }
        Some(property)
    }
}

impl Iterator for Properties<'_> {
    type Item = Result<Property, PropertyError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.take()
    }
}

impl core::iter::FusedIterator for Properties<'_> {}

/// Parses the body of a reserved-memory property.
fn resv_mem(body: &[u8], offset: usize, len: u16) -> Result<Property, PropertyError> {
    if len == 0 {
        return Err(PropertyError::ZeroLength {
            offset,
            type_: TYPE_RESV_MEM,
        });
    }
    // Longer is fine: a later version of the device may have more to say.
    let Ok((mem, _)) = ResvMem::read_from_prefix(body) else {
        return Err(PropertyError::ShortBody {
            offset,
            type_: TYPE_RESV_MEM,
            len,
            need: size_of::<ResvMem>(),
        });
    };
    let (first, last) = (mem.start.get(), mem.end.get());
    let Some(span) = Span::new(first, last) else {
        return Err(PropertyError::Reversed {
            offset,
            first,
            last,
        });
    };
    if span == Span::ALL {
        return Err(PropertyError::WholeSpace { offset });
    }
    let kind = match u32::from(mem.subtype) {
        bindings::VIRTIO_IOMMU_RESV_MEM_T_RESERVED => ResvKind::Reserved,
        bindings::VIRTIO_IOMMU_RESV_MEM_T_MSI => ResvKind::Msi,
        _ => ResvKind::Unknown(mem.subtype),
    };

    Ok(Property::ResvMem { kind, span })
}

// bindgen has these as `u32`; they belong to a field of 16 bits.
const TYPE_MASK: u16 = bindings::VIRTIO_IOMMU_PROBE_T_MASK as u16;
const TYPE_NONE: u16 = bindings::VIRTIO_IOMMU_PROBE_T_NONE as u16;
const TYPE_RESV_MEM: u16 = bindings::VIRTIO_IOMMU_PROBE_T_RESV_MEM as u16;

/// `struct virtio_iommu_probe_property`
#[repr(C)]
#[derive(FromBytes, Immutable, KnownLayout)]
struct Head {
    type_: U16,
    length: U16,
}

/// `struct virtio_iommu_probe_resv_mem` after its head
#[repr(C)]
#[derive(FromBytes, Immutable, KnownLayout)]
struct ResvMem {
    subtype: u8,
    reserved: [u8; 3],
    start: U64,
    end: U64,
}

static_assert!(size_of::<Head>() == size_of::<bindings::virtio_iommu_probe_property>());
static_assert!(offset_of!(Head, type_) == offset_of!(bindings::virtio_iommu_probe_property, type_));
static_assert!(
    offset_of!(Head, length) == offset_of!(bindings::virtio_iommu_probe_property, length)
);

/// Asserts that the fields of [`ResvMem`] are where they are in the C structure.
macro_rules! assert_resv_mem {
    ($($field:ident),*) => {
        $(
            static_assert!(
                size_of::<Head>() + offset_of!(ResvMem, $field)
                    == offset_of!(bindings::virtio_iommu_probe_resv_mem, $field)
            );
        )*
    };
}

assert_resv_mem!(subtype, reserved, start, end);
static_assert!(
    size_of::<Head>() + size_of::<ResvMem>() == size_of::<bindings::virtio_iommu_probe_resv_mem>()
);

#[cfg(CONFIG_VIRTIO_IOMMU_RUST_KUNIT_TEST)]
mod tests;
