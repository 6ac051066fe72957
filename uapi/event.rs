// SPDX-License-Identifier: GPL-2.0

//! Events: faults that the device reports on its own.
//!
//! C header: [`include/uapi/linux/virtio_iommu.h`](srctree/include/uapi/linux/virtio_iommu.h)

use core::mem::offset_of;

use kernel::{
    bindings,
    fmt,
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

/// The size of an event, in bytes.
pub(crate) const EVENT_SIZE: usize = size_of::<Wire>();

/// Why an access failed. Virtio 1.3, section 5.13.6.9.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reason {
    /// A reason that the device does not tell (0), or that this driver does not know.
    Unknown(u8),
    /// The endpoint is attached to no domain.
    Domain,
    /// The address has no mapping in the domain, or one that does not allow such an access.
    Mapping,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Reason::Unknown(0) => f.write_str("unspecified"),
            Reason::Unknown(reason) => f.write_fmt(fmt!("unknown ({reason:#x})")),
            Reason::Domain => f.write_str("domain"),
            Reason::Mapping => f.write_str("mapping"),
        }
    }
}

/// What an access was about to do. Several may be set, or none if the device does not tell.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Access {
    /// Read.
    pub(crate) read: bool,
    /// Write.
    pub(crate) write: bool,
    /// Fetch instructions.
    pub(crate) exec: bool,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::default() {
            return f.write_str("-");
        }
        for (set, name) in [(self.read, "R"), (self.write, "W"), (self.exec, "X")] {
            if set {
                f.write_str(name)?;
            }
        }
        Ok(())
    }
}

/// A fault: an access of an endpoint that the device did not let through.
///
/// Its text does not name the endpoint, whose number says little to a person.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Fault {
    /// Why.
    pub(crate) reason: Reason,
    /// What was about to be done.
    pub(crate) access: Access,
    /// The endpoint. Any number: there may be no such endpoint.
    pub(crate) endpoint: u32,
    /// The IO virtual address, if the device tells.
    pub(crate) address: Option<u64>,
}

impl Fault {
    /// Parses what the device wrote into an event buffer, `written`.
    ///
    /// # Errors
    ///
    /// The size is not [`EVENT_SIZE`], or this is an event of another type.
    pub(crate) fn parse(written: &[u8]) -> Result<Self, EventError> {
        let Ok(wire) = Wire::read_from_bytes(written) else {
            return Err(EventError::Size {
                written: written.len(),
            });
        };
        // The specification keeps these bytes for the type of other events.
        if wire.reserved != [0; 3] {
            let [a, b, c] = wire.reserved;
            return Err(EventError::Type {
                head: u32::from_le_bytes([wire.reason, a, b, c]),
            });
        }

        let flags = wire.flags.get();
        let has = |flag| flags & flag != 0;
        Ok(Self {
            reason: match u32::from(wire.reason) {
                bindings::VIRTIO_IOMMU_FAULT_R_DOMAIN => Reason::Domain,
                bindings::VIRTIO_IOMMU_FAULT_R_MAPPING => Reason::Mapping,
                _ => Reason::Unknown(wire.reason),
            },
            access: Access {
                read: has(bindings::VIRTIO_IOMMU_FAULT_F_READ),
                write: has(bindings::VIRTIO_IOMMU_FAULT_F_WRITE),
                exec: has(bindings::VIRTIO_IOMMU_FAULT_F_EXEC),
            },
            endpoint: wire.endpoint.get(),
            address: has(bindings::VIRTIO_IOMMU_FAULT_F_ADDRESS).then(|| wire.address.get()),
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_fmt(fmt!("{} fault", self.reason))?;
        if let Some(address) = self.address {
            f.write_fmt(fmt!(" at {address:#x}"))?;
        }
        if self.access != Access::default() {
            f.write_fmt(fmt!(" [{}]", self.access))?;
        }
        Ok(())
    }
}

/// What is wrong with an event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum EventError {
    /// It does not have the size of an event.
    Size {
        /// The number of bytes that the device wrote.
        written: usize,
    },
    /// It is of a type that this driver does not know.
    Type {
        /// Its first four bytes, as a little-endian number.
        head: u32,
    },
}

impl From<EventError> for Error {
    fn from(_: EventError) -> Error {
        EINVAL
    }
}

impl fmt::Display for EventError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            EventError::Size { written } => {
                f.write_fmt(fmt!("event has {written} bytes instead of {EVENT_SIZE}"))
            }
            EventError::Type { head } => f.write_fmt(fmt!("unknown type of event {head:#x}")),
        }
    }
}

/// `struct virtio_iommu_fault`
#[repr(C)]
#[derive(FromBytes, Immutable, KnownLayout)]
struct Wire {
    reason: u8,
    reserved: [u8; 3],
    flags: U32,
    endpoint: U32,
    reserved2: [u8; 4],
    address: U64,
}

/// Asserts that the fields of [`Wire`] are where they are in the C structure.
macro_rules! assert_wire {
    ($($field:ident),*) => {
        $(
            static_assert!(
                offset_of!(Wire, $field) == offset_of!(bindings::virtio_iommu_fault, $field)
            );
        )*
    };
}

assert_wire!(reason, reserved, flags, endpoint, reserved2, address);
static_assert!(size_of::<Wire>() == size_of::<bindings::virtio_iommu_fault>());

#[cfg(CONFIG_VIRTIO_IOMMU_RUST_KUNIT_TEST)]
#[kunit_tests(viommu_event)]
mod tests {
    use super::*;

    /// A write to 0x123456789abcd000 by endpoint 0x0100 that found no mapping.
    const WRITE: [u8; 24] = [
        2, 0, 0, 0, // reason
        2, 1, 0, 0, // flags: write, address
        0, 1, 0, 0, // endpoint
        0, 0, 0, 0, // reserved
        0x00, 0xd0, 0xbc, 0x9a, 0x78, 0x56, 0x34, 0x12,
    ];

    #[test]
    fn fault() {
        assert_eq!(EVENT_SIZE, 24);
        assert_eq!(
            Fault::parse(&WRITE),
            Ok(Fault {
                reason: Reason::Mapping,
                access: Access {
                    write: true,
                    ..Access::default()
                },
                endpoint: 0x100,
                address: Some(0x123456789abcd000),
            })
        );
    }

    #[test]
    fn without_address() {
        let mut bytes = WRITE;
        bytes[0] = 1;
        bytes[4..8].copy_from_slice(&[5, 0, 0, 0]);
        bytes[8..12].copy_from_slice(&[0xff; 4]);

        assert_eq!(
            Fault::parse(&bytes),
            Ok(Fault {
                reason: Reason::Domain,
                access: Access {
                    read: true,
                    write: false,
                    exec: true
                },
                endpoint: u32::MAX,
                address: None,
            })
        );
    }

    #[test]
    fn unknown_reason() {
        for reason in [0, 3, 0xff] {
            let mut bytes = WRITE;
            bytes[0] = reason;
            assert_eq!(
                Fault::parse(&bytes).map(|fault| fault.reason),
                Ok(Reason::Unknown(reason))
            );
        }
    }

    #[test]
    fn unknown_flags_are_ignored() {
        let mut bytes = WRITE;
        bytes[4..8].copy_from_slice(&[0xfa, 0xff, 0xff, 0xff]);
        assert_eq!(Fault::parse(&bytes), Fault::parse(&WRITE));
    }

    #[test]
    fn unknown_type() {
        for (at, head) in [(1, 0x0102), (2, 0x010002), (3, 0x01000002)] {
            let mut bytes = WRITE;
            bytes[at] = 1;
            assert_eq!(Fault::parse(&bytes), Err(EventError::Type { head }));
        }
    }

    #[test]
    fn wrong_size() {
        let mut bytes = [0; 64];
        bytes[..24].copy_from_slice(&WRITE);
        for written in (0..=bytes.len()).filter(|written| *written != 24) {
            assert_eq!(
                Fault::parse(&bytes[..written]),
                Err(EventError::Size { written })
            );
        }
    }
}
