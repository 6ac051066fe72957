// SPDX-License-Identifier: GPL-2.0

//! Properties of an endpoint: what the device writes in answer to a PROBE.
//!
//! A property is a header, with a type and the length of what follows, and that many bytes. One
//! comes after the other; a type of 0, or the end of the buffer, ends them.
//!
//! C header: [`include/uapi/linux/virtio_iommu.h`](srctree/include/uapi/linux/virtio_iommu.h)

use kernel::{
    bindings,
    fmt,
    prelude::*, //
};
use zerocopy::little_endian::{
    U16,
    U64, //
};

use super::{
    wire::wire,
    Span,
    Status,
    TAIL, //
};

/// The answer to a PROBE: the status, and the properties that come before it.
pub(crate) struct ProbeReply<'a> {
    /// The status, as [`Status::from_tail`] says.
    pub(crate) status: Status,
    /// The properties; none unless the status is [`Status::Ok`].
    pub(crate) properties: Properties<'a>,
}

impl<'a> ProbeReply<'a> {
    /// Splits `writable`, all that the device was given to write to, into properties and tail. It
    /// claims to have written the first `written` bytes.
    pub(crate) fn new(writable: &'a [u8], written: usize) -> Self {
        let mut reply = Self {
            status: Status::Missing,
            properties: Properties {
                rest: &[],
                offset: 0,
            },
        };
        if let Some((properties, tail)) = writable.split_last_chunk::<TAIL>() {
            reply.status = Status::from_tail(tail, written.saturating_sub(properties.len()));
            if reply.status.is_ok() {
                reply.properties.rest = properties;
            }
        }
        reply
    }
}

/// Why addresses must not be mapped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ResvKind {
    /// The device has no translation of them.
    Reserved,
    /// Writes to them are message-signalled interrupts, which the device passes on untranslated.
    Msi,
    /// This driver does not know why. Like [`ResvKind::Reserved`].
    Unknown(u8),
}

/// A property of an endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Property {
    /// Addresses that must not be mapped. Virtio 1.3, section 5.13.6.8.
    ResvMem {
        /// Why.
        kind: ResvKind,
        /// The addresses. Not [`Span::ALL`], so that their number fits a [`u64`].
        span: Span,
    },
    /// A property that this driver does not know, to be ignored.
    Unknown {
        /// The type, including the upper four bits, which are reserved. A property in which one of
        /// them is set must be ignored, whatever it is.
        type_: u16,
    },
}

/// The properties in a buffer.
pub(crate) struct Properties<'a> {
    /// What is still to be looked at; empty after the end of the properties.
    rest: &'a [u8],
    /// The offset of `rest` in the buffer, in bytes.
    offset: usize,
}

impl Properties<'_> {
    /// Takes the next property; [`None`] if there are no more.
    ///
    /// If it is malformed, `report` is told why. There are no more then, as there is no telling
    /// where the next begins. Each step takes at least a header from the buffer, so that its size
    /// bounds their number.
    pub(crate) fn next(
        &mut self,
        report: impl FnOnce(fmt::Arguments<'_>),
    ) -> Result<Option<Property>> {
        let offset = self.offset;
        let malformed = |why: fmt::Arguments<'_>| {
            report(fmt!("property at offset {offset}: {why}"));
            EINVAL
        };
        // Nothing is left, unless a property is found that is whole.
        let bytes = core::mem::take(&mut self.rest);

        let Ok((head, _)) = Head::read_from_prefix(bytes) else {
            // Too short for a header. It can be the end: the unused part of the buffer is zero.
            if bytes.iter().all(|byte| *byte == 0) {
                return Ok(None);
            }
            let left = bytes.len();
            return Err(malformed(fmt!("header truncated, {left} bytes left")));
        };
        let type_ = head.type_.get();
        if type_ & TYPE_MASK == TYPE_NONE {
            return Ok(None);
        }
        let size = size_of::<Head>() + usize::from(head.length.get());
        let Some((whole, rest)) = bytes.split_at_checked(size) else {
            let left = bytes.len();
            return Err(malformed(fmt!(
                "type {type_:#x} truncated, {left} of {size} bytes left"
            )));
        };
        let property = match type_ {
            TYPE_RESV_MEM => resv_mem(whole, malformed)?,
            _ => Property::Unknown { type_ },
        };

        self.rest = rest;
        // Not beyond the end of a slice that exists: this does not saturate.
        self.offset = offset.saturating_add(size);
        Ok(Some(property))
    }
}

/// Parses a reserved-memory property.
fn resv_mem(whole: &[u8], malformed: impl FnOnce(fmt::Arguments<'_>) -> Error) -> Result<Property> {
    // Longer is fine: a later version of the device may have more to say.
    let Ok((mem, _)) = ResvMem::read_from_prefix(whole) else {
        let (size, need) = (whole.len(), size_of::<ResvMem>());
        return Err(malformed(fmt!(
            "reserved memory has {size} bytes, {need} needed"
        )));
    };
    let (first, last) = (mem.start.get(), mem.end.get());
    let Some(span) = Span::new(first, last) else {
        return Err(malformed(fmt!(
            "reserved memory {first:#x}-{last:#x} is reversed"
        )));
    };
    if span == Span::ALL {
        return Err(malformed(fmt!("reserved memory covers all addresses")));
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

wire! {
    struct Head: virtio_iommu_probe_property {
        type_: U16,
        length: U16,
    }
}

wire! {
    struct ResvMem: virtio_iommu_probe_resv_mem {
        head: Head,
        subtype: u8,
        reserved: [u8; 3],
        start: U64,
        end: U64,
    }
}

#[cfg(CONFIG_VIRTIO_IOMMU_RUST_KUNIT_TEST)]
mod tests;
