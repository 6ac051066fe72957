// SPDX-License-Identifier: GPL-2.0

//! Events: faults that the device reports on its own.
//!
//! C header: [`include/uapi/linux/virtio_iommu.h`](srctree/include/uapi/linux/virtio_iommu.h)

use kernel::{
    bindings,
    fmt,
    prelude::*, //
};
use zerocopy::little_endian::{
    U32,
    U64, //
};

use super::wire::wire;

/// The size of an event, in bytes.
pub(crate) const EVENT_SIZE: usize = size_of::<Fault>();

wire! {
    /// A fault: an access of an endpoint that the device did not let through. Virtio 1.3, section
    /// 5.13.6.9.
    ///
    /// Its text does not name the endpoint, whose number says little to a person.
    pub(crate) struct Fault: virtio_iommu_fault {
        reason: u8,
        reserved: [u8; 3],
        flags: U32,
        endpoint: U32,
        reserved2: [u8; 4],
        address: U64,
    }
}

impl Fault {
    /// Parses what the device wrote into an event buffer, `written`. If that is no fault, `report`
    /// is told why.
    pub(crate) fn parse(written: &[u8], report: impl FnOnce(fmt::Arguments<'_>)) -> Result<Self> {
        let Ok(fault) = Self::read_from_bytes(written) else {
            let size = written.len();
            report(fmt!("event has {size} bytes instead of {EVENT_SIZE}"));
            return Err(EINVAL);
        };
        // The specification keeps these bytes for the type of other events.
        if fault.reserved != [0; 3] {
            let [a, b, c] = fault.reserved;
            let type_ = u32::from_le_bytes([fault.reason, a, b, c]);
            report(fmt!("unknown type of event {type_:#x}"));
            return Err(EINVAL);
        }
        Ok(fault)
    }

    /// Whether a flag is set. Others than those that are asked for are ignored.
    fn has(&self, flag: u32) -> bool {
        self.flags.get() & flag != 0
    }

    /// The endpoint. Any number: there may be no such endpoint.
    pub(crate) fn endpoint(&self) -> u32 {
        self.endpoint.get()
    }

    /// The IO virtual address, if the device tells.
    pub(crate) fn address(&self) -> Option<u64> {
        let told = self.has(bindings::VIRTIO_IOMMU_FAULT_F_ADDRESS);
        told.then(|| self.address.get())
    }

    /// Whether the access was a write, as far as the device tells.
    pub(crate) fn is_write(&self) -> bool {
        self.has(bindings::VIRTIO_IOMMU_FAULT_F_WRITE)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match u32::from(self.reason) {
            // The endpoint is attached to no domain.
            bindings::VIRTIO_IOMMU_FAULT_R_DOMAIN => f.write_str("domain fault")?,
            // The domain has no mapping of the address, or one that does not allow the access.
            bindings::VIRTIO_IOMMU_FAULT_R_MAPPING => f.write_str("mapping fault")?,
            bindings::VIRTIO_IOMMU_FAULT_R_UNKNOWN => f.write_str("unspecified fault")?,
            reason => f.write_fmt(fmt!("unknown ({reason:#x}) fault"))?,
        }
        if let Some(address) = self.address() {
            f.write_fmt(fmt!(" at {address:#x}"))?;
        }
        let letter = |flag, letter| if self.has(flag) { letter } else { "" };
        match [
            letter(bindings::VIRTIO_IOMMU_FAULT_F_READ, "R"),
            letter(bindings::VIRTIO_IOMMU_FAULT_F_WRITE, "W"),
            letter(bindings::VIRTIO_IOMMU_FAULT_F_EXEC, "X"),
        ] {
            ["", "", ""] => Ok(()),
            [read, write, exec] => f.write_fmt(fmt!(" [{read}{write}{exec}]")),
        }
    }
}

#[cfg(CONFIG_VIRTIO_IOMMU_RUST_KUNIT_TEST)]
#[kunit_tests(viommu_event)]
mod tests {
    use kernel::str::CString;

    use super::*;
    use crate::uapi::tests::fails;

    /// A write to 0x123456789abcd000 by endpoint 0x0100 that found no mapping.
    const WRITE: [u8; 24] = [
        2, 0, 0, 0, // reason
        2, 1, 0, 0, // flags: write, address
        0, 1, 0, 0, // endpoint
        0, 0, 0, 0, // reserved
        0x00, 0xd0, 0xbc, 0x9a, 0x78, 0x56, 0x34, 0x12,
    ];

    fn text(bytes: &[u8]) -> Result<CString> {
        CString::try_from_fmt(fmt!("{}", Fault::parse(bytes, |_| ())?))
    }

    #[test]
    fn fault() -> Result {
        assert_eq!(EVENT_SIZE, 24);
        let fault = Fault::parse(&WRITE, |_| ())?;
        assert_eq!(fault.endpoint(), 0x100);
        assert_eq!(fault.address(), Some(0x123456789abcd000));
        assert!(fault.is_write());
        assert_eq!(&*text(&WRITE)?, c"mapping fault at 0x123456789abcd000 [W]");
        Ok(())
    }

    #[test]
    fn without_address() -> Result {
        let mut bytes = WRITE;
        bytes[0] = 1;
        bytes[4..8].copy_from_slice(&[5, 0, 0, 0]);
        bytes[8..12].copy_from_slice(&[0xff; 4]);

        let fault = Fault::parse(&bytes, |_| ())?;
        assert_eq!(fault.endpoint(), u32::MAX);
        assert_eq!(fault.address(), None);
        assert!(!fault.is_write());
        assert_eq!(&*text(&bytes)?, c"domain fault [RX]");
        Ok(())
    }

    #[test]
    fn reasons_and_flags() -> Result {
        for (reason, flags, expected) in [
            (0, [0, 0, 0, 0], c"unspecified fault"),
            (3, [0, 0, 0, 0], c"unknown (0x3) fault"),
            (0xff, [1, 0, 0, 0], c"unknown (0xff) fault [R]"),
            (1, [7, 0, 0, 0], c"domain fault [RWX]"),
            // Flags that are not known are ignored.
            (1, [0xf8, 0xfe, 0xff, 0xff], c"domain fault"),
            (
                2,
                [0xfa, 0xff, 0xff, 0xff],
                c"mapping fault at 0x123456789abcd000 [W]",
            ),
        ] {
            let mut bytes = WRITE;
            bytes[0] = reason;
            bytes[4..8].copy_from_slice(&flags);
            assert_eq!(&*text(&bytes)?, expected);
        }
        Ok(())
    }

    #[test]
    fn unknown_type() {
        for (at, type_) in [(1, 0x0102), (2, 0x010002), (3, 0x01000002)] {
            let mut bytes = WRITE;
            bytes[at] = 1;
            assert!(fails(
                EINVAL,
                fmt!("unknown type of event {type_:#x}"),
                |report| Fault::parse(&bytes, report)
            ));
        }
    }

    #[test]
    fn wrong_size() {
        let mut bytes = [0; 64];
        bytes[..24].copy_from_slice(&WRITE);
        for size in (0..=bytes.len()).filter(|size| *size != 24) {
            assert!(fails(
                EINVAL,
                fmt!("event has {size} bytes instead of 24"),
                |report| Fault::parse(&bytes[..size], report)
            ));
        }
    }
}
