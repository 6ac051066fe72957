// SPDX-License-Identifier: GPL-2.0

//! The status of a request: the tail that the device writes after it.
//!
//! C header: [`include/uapi/linux/virtio_iommu.h`](srctree/include/uapi/linux/virtio_iommu.h)

use core::mem::offset_of;

use kernel::{
    bindings,
    fmt,
    prelude::*, //
};

/// The tail that the device writes at the end of each request, in bytes.
pub(crate) const TAIL: usize = size_of::<bindings::virtio_iommu_req_tail>();

// Only the first byte of it has a meaning.
static_assert!(offset_of!(bindings::virtio_iommu_req_tail, status) == 0);

/// Written into the tail before the device gets it. No status has this value, so a device that
/// claims to have answered and wrote nothing is found out.
pub(crate) const UNANSWERED: u8 = 0xff;

/// How the device answered a request. Virtio 1.3, section 5.13.6.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Status {
    /// Done.
    Ok,
    /// The device could not communicate with the driver.
    IoErr,
    /// The device does not support such a request.
    Unsupp,
    /// The device has failed.
    DevErr,
    /// A parameter is not valid.
    Inval,
    /// A parameter is out of range, or an UNMAP would split a mapping.
    Range,
    /// There is no such endpoint or domain.
    NoEnt,
    /// An address is bad.
    Fault,
    /// The device lacks resources.
    NoMem,
    /// A value that has no meaning.
    Unknown(u8),
    /// The device returned the request without having written the whole tail.
    Missing,
}

impl Status {
    /// Reads the status from the tail, of which the device claims to have written `written` bytes.
    ///
    /// If that is not all of it, the request was not done. The status may say why nevertheless:
    /// cloud-hypervisor claims to have written nothing when it refuses a request, and has written
    /// the status.
    #[inline]
    pub(crate) fn from_tail(tail: &[u8; TAIL], written: usize) -> Self {
        let byte = tail[0];
        let whole = written >= TAIL;
        match u32::from(byte) {
            bindings::VIRTIO_IOMMU_S_OK if !whole => Status::Missing,
            bindings::VIRTIO_IOMMU_S_OK => Status::Ok,
            bindings::VIRTIO_IOMMU_S_IOERR => Status::IoErr,
            bindings::VIRTIO_IOMMU_S_UNSUPP => Status::Unsupp,
            bindings::VIRTIO_IOMMU_S_DEVERR => Status::DevErr,
            bindings::VIRTIO_IOMMU_S_INVAL => Status::Inval,
            bindings::VIRTIO_IOMMU_S_RANGE => Status::Range,
            bindings::VIRTIO_IOMMU_S_NOENT => Status::NoEnt,
            bindings::VIRTIO_IOMMU_S_FAULT => Status::Fault,
            bindings::VIRTIO_IOMMU_S_NOMEM => Status::NoMem,
            _ if byte == UNANSWERED && !whole => Status::Missing,
            _ => Status::Unknown(byte),
        }
    }

    /// Whether the request was done.
    #[inline]
    pub(crate) const fn is_ok(self) -> bool {
        matches!(self, Status::Ok)
    }

    /// The status as an error of the kernel, the same as the C driver gives.
    pub(crate) fn to_result(self) -> Result {
        match self {
            Status::Ok => Ok(()),
            Status::Unsupp => Err(ENOSYS),
            Status::Inval => Err(EINVAL),
            Status::Range => Err(ERANGE),
            Status::NoEnt => Err(ENOENT),
            Status::Fault => Err(EFAULT),
            Status::NoMem => Err(ENOMEM),
            Status::IoErr | Status::DevErr | Status::Unknown(_) | Status::Missing => Err(EIO),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Status::Ok => "OK",
            Status::IoErr => "IOERR (communication error)",
            Status::Unsupp => "UNSUPP (unsupported request)",
            Status::DevErr => "DEVERR (internal device error)",
            Status::Inval => "INVAL (invalid parameter)",
            Status::Range => "RANGE (parameter out of range)",
            Status::NoEnt => "NOENT (no such endpoint or domain)",
            Status::Fault => "FAULT (bad address)",
            Status::NoMem => "NOMEM (insufficient resources)",
            Status::Unknown(value) => {
                return f.write_fmt(fmt!("unknown status {value:#x}"));
            }
            Status::Missing => "no status written",
        })
    }
}

#[cfg(CONFIG_VIRTIO_IOMMU_RUST_KUNIT_TEST)]
#[kunit_tests(viommu_status)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        for (value, status, result) in [
            (0, Status::Ok, Ok(())),
            (1, Status::IoErr, Err(EIO)),
            (2, Status::Unsupp, Err(ENOSYS)),
            (3, Status::DevErr, Err(EIO)),
            (4, Status::Inval, Err(EINVAL)),
            (5, Status::Range, Err(ERANGE)),
            (6, Status::NoEnt, Err(ENOENT)),
            (7, Status::Fault, Err(EFAULT)),
            (8, Status::NoMem, Err(ENOMEM)),
            (9, Status::Unknown(9), Err(EIO)),
            (0xff, Status::Unknown(0xff), Err(EIO)),
        ] {
            assert_eq!(Status::from_tail(&[value, 0, 0, 0], TAIL), status);
            assert_eq!(status.to_result(), result);
            assert_eq!(status.is_ok(), result.is_ok());
        }
    }

    #[test]
    fn reserved_bytes_are_ignored() {
        assert_eq!(Status::from_tail(&[0, 1, 2, 3], TAIL), Status::Ok);
        let range = Status::from_tail(&[5, 0xff, 0xff, 0xff], TAIL);
        assert_eq!(range, Status::Range);
    }

    #[test]
    fn short_tail_is_no_success() {
        for written in 0..TAIL {
            let read = |status| Status::from_tail(&[status, 0, 0, 0], written);
            assert_eq!(read(0), Status::Missing);
            assert_eq!(read(UNANSWERED), Status::Missing);
            assert_eq!(read(6), Status::NoEnt);
        }
        assert_eq!(Status::Missing.to_result(), Err(EIO));
        assert!(!Status::Missing.is_ok());
    }
}
