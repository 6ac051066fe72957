// SPDX-License-Identifier: GPL-2.0

//! The device configuration, and what of it can be worked with.
//!
//! Reading the fields is the driver's business, as is telling which of them are valid; here they
//! are checked.
//!
//! C header: [`include/uapi/linux/virtio_iommu.h`](srctree/include/uapi/linux/virtio_iommu.h)

use kernel::{
    fmt,
    prelude::*,
    ptr::Alignment, //
};

use super::Span;

/// The largest size of the properties of an endpoint that is accepted, in bytes.
///
/// They are read into memory of the guest, of which a device that is not trusted must not be able
/// to take what it likes. The length of one property is a 16-bit number: this is room for the
/// longest. QEMU has 512.
const MAX_PROBE_SIZE: u32 = 1 << 16;

/// The device configuration as it was read, in the CPU's byte order. [`None`] for what the device
/// does not offer. `struct virtio_iommu_config`
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawConfig {
    /// Bitmap of the page sizes, in bytes.
    pub(crate) page_size_mask: u64,
    /// The first and the last IO virtual address. VIRTIO_IOMMU_F_INPUT_RANGE.
    pub(crate) input_range: Option<(u64, u64)>,
    /// The first and the last domain. VIRTIO_IOMMU_F_DOMAIN_RANGE.
    pub(crate) domain_range: Option<(u32, u32)>,
    /// Size of the properties of an endpoint, in bytes. VIRTIO_IOMMU_F_PROBE.
    pub(crate) probe_size: Option<u32>,
    /// Bit 0: whether an endpoint without a domain bypasses the IOMMU.
    /// VIRTIO_IOMMU_F_BYPASS_CONFIG.
    pub(crate) bypass: Option<u8>,
}

impl RawConfig {
    /// Checks the configuration.
    ///
    /// If the device cannot be used, `report` is told why.
    pub(crate) fn validate(&self, report: impl Fn(fmt::Arguments<'_>)) -> Result<Config> {
        let invalid = |why: fmt::Arguments<'_>| {
            report(why);
            EINVAL
        };

        if self.page_size_mask == 0 {
            return Err(invalid(fmt!("device supports no page size")));
        }
        // A mapping must not end with its first byte (virtio 1.3, section 5.13.6.5): pages of one
        // byte are used in pairs.
        let smallest = 1u64 << self.page_size_mask.trailing_zeros().max(1);
        let granule = usize::try_from(smallest).ok();
        let granule = granule
            .and_then(Alignment::new_checked)
            .ok_or_else(|| invalid(fmt!("granule {smallest:#x} larger than the address space")))?;

        // Of a device that does not name a range, the last page is left out: cloud-hypervisor
        // refuses it.
        let (first, last) = self.input_range.unwrap_or((0, u64::MAX - smallest));
        let input = Span::new(first, last)
            .ok_or_else(|| invalid(fmt!("input range {first:#x}-{last:#x} is reversed")))?
            .align_in(granule)
            .ok_or_else(|| {
                invalid(fmt!(
                    "input range {first:#x}-{last:#x} holds no granule of {smallest:#x} bytes"
                ))
            })?;

        let (first, last) = self.domain_range.unwrap_or((0, u32::MAX));
        let domains = DomainRange::new(first, last)
            .ok_or_else(|| invalid(fmt!("domain range {first}-{last} is reversed")))?;

        let probe_size = self.probe_size.unwrap_or(0);
        if probe_size > MAX_PROBE_SIZE {
            return Err(invalid(fmt!(
                "probe size {probe_size} larger than {MAX_PROBE_SIZE}"
            )));
        }

        Ok(Config {
            page_sizes: self.page_size_mask & !(smallest - 1) | smallest,
            granule,
            input,
            domains,
            probe_size,
            // The other bits are to be ignored.
            bypass: self.bypass.map(|bypass| bypass & 1 != 0),
        })
    }
}

/// A device configuration that can be worked with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Config {
    /// The page sizes that the device prefers, as a bitmap. The smallest is the granule.
    pub(crate) page_sizes: u64,
    /// The smallest page size, but at least 2 bytes. It may be larger than the kernel's: then no
    /// domain can be mapped page by page.
    pub(crate) granule: Alignment,
    /// The IO virtual addresses that can be mapped: whole granules, and at least one.
    pub(crate) input: Span,
    /// The numbers that a domain can have.
    pub(crate) domains: DomainRange,
    /// Size of the properties of an endpoint, in bytes; 0 if they cannot be asked for. At most
    /// [`MAX_PROBE_SIZE`].
    pub(crate) probe_size: u32,
    /// Whether an endpoint without a domain bypasses the IOMMU; [`None`] if the device has no such
    /// field.
    pub(crate) bypass: Option<bool>,
}

/// A range of domain numbers, with both ends included.
///
/// # Invariants
///
/// `first <= last`: there is at least one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct DomainRange {
    first: u32,
    last: u32,
}

impl DomainRange {
    /// The numbers from `first` to `last`, both included; [`None`] if they are reversed.
    pub(crate) const fn new(first: u32, last: u32) -> Option<Self> {
        if first > last {
            return None;
        }
        // INVARIANT: `first <= last` was checked.
        Some(Self { first, last })
    }

    /// How many numbers there are.
    pub(crate) const fn count(self) -> u64 {
        self.last as u64 - self.first as u64 + 1
    }

    /// The number that follows on one of them; after the highest comes the lowest.
    pub(crate) const fn after(self, number: u32) -> u32 {
        if number >= self.last {
            self.first
        } else {
            number + 1
        }
    }

    /// A number that is not one of them, and, if that takes it, the range without it.
    pub(crate) const fn spare(self) -> (u32, Self) {
        if let Some(spare) = self.last.checked_add(1) {
            return (spare, self);
        }
        if let Some(spare) = self.first.checked_sub(1) {
            return (spare, self);
        }
        // INVARIANT: Only the range of all numbers comes this far.
        let last = self.last - 1;
        (self.last, Self { last, ..self })
    }

    /// One of the numbers; which one depends on `random`.
    pub(crate) const fn pick(self, random: u32) -> u32 {
        // CAST: It is less than the number of numbers, and so is the sum at most the last one.
        self.first + (random as u64 % self.count()) as u32
    }
}

impl fmt::Display for DomainRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_fmt(fmt!("{}-{}", self.first, self.last))
    }
}

#[cfg(CONFIG_VIRTIO_IOMMU_RUST_KUNIT_TEST)]
#[kunit_tests(viommu_config)]
mod tests {
    use super::*;
    use crate::uapi::tests::fails;

    /// What QEMU's device offers on a PC.
    const QEMU: RawConfig = RawConfig {
        page_size_mask: !0xfff,
        input_range: Some((0, u64::MAX)),
        domain_range: Some((0, u32::MAX)),
        probe_size: Some(512),
        bypass: Some(1),
    };

    fn good(raw: RawConfig) -> Option<Config> {
        raw.validate(|_| ()).ok()
    }

    fn bad(raw: RawConfig, error: Error, why: fmt::Arguments<'_>) -> bool {
        fails(error, why, |report| raw.validate(report))
    }

    fn domains(first: u32, last: u32) -> DomainRange {
        DomainRange::new(first, last).unwrap()
    }

    #[test]
    fn of_qemu() {
        let config = Config {
            page_sizes: QEMU.page_size_mask,
            granule: Alignment::new::<0x1000>(),
            input: Span::ALL,
            domains: domains(0, u32::MAX),
            probe_size: 512,
            bypass: Some(true),
        };
        assert_eq!(good(QEMU), Some(config));
    }

    #[test]
    fn of_the_least_device() {
        let raw = RawConfig {
            page_size_mask: 0x1000,
            input_range: None,
            domain_range: None,
            probe_size: None,
            bypass: None,
        };
        let config = Config {
            page_sizes: 0x1000,
            granule: Alignment::new::<0x1000>(),
            // Without the last page.
            input: Span::new(0, u64::MAX - 0x1000).unwrap(),
            domains: domains(0, u32::MAX),
            probe_size: 0,
            bypass: None,
        };
        assert_eq!(good(raw), Some(config));
    }

    #[test]
    fn page_sizes() {
        let raw = |page_size_mask| RawConfig {
            page_size_mask,
            ..QEMU
        };

        assert!(bad(raw(0), EINVAL, fmt!("device supports no page size")));
        for (mask, granule, sizes) in [
            (1, 2, 2),
            (3, 2, 2),
            (5, 2, 6),
            (u64::MAX, 2, !1),
            (!3, 4, !3),
            (0x1001000, 0x1000, 0x1001000),
            (1 << 63, 1 << 63, 1 << 63),
        ] {
            let found =
                good(raw(mask)).map(|config| (config.granule.as_usize(), config.page_sizes));
            assert_eq!(found, Some((granule, sizes)));
        }
    }

    #[test]
    fn input_range() {
        let raw = |start, end| RawConfig {
            input_range: Some((start, end)),
            ..QEMU
        };

        for (start, end) in [(1, 0), (u64::MAX, 0)] {
            assert!(bad(
                raw(start, end),
                EINVAL,
                fmt!("input range {start:#x}-{end:#x} is reversed")
            ));
        }
        for (start, end) in [(0, 0), (1, 0x1ffe), (u64::MAX, u64::MAX), (0x10, 0x20)] {
            assert!(bad(
                raw(start, end),
                EINVAL,
                fmt!("input range {start:#x}-{end:#x} holds no granule of 0x1000 bytes")
            ));
        }
        for (start, end, expected) in [
            (0x1000, 0x1fff, (0x1000, 0x1fff)),
            (u64::MAX - 0xfff, u64::MAX, (u64::MAX - 0xfff, u64::MAX)),
            // A page at an end is of no use if a part of it is missing.
            (0x10, 0x2010, (0x1000, 0x1fff)),
        ] {
            let found = good(raw(start, end)).map(|config| config.input);
            assert_eq!(found, Span::new(expected.0, expected.1));
        }
    }

    #[test]
    fn domain_range() {
        let raw = |start, end| RawConfig {
            domain_range: Some((start, end)),
            ..QEMU
        };

        assert!(bad(raw(1, 0), EINVAL, fmt!("domain range 1-0 is reversed")));
        for (first, last) in [(7, 7), (u32::MAX, u32::MAX), (0, 1)] {
            let found = good(raw(first, last)).map(|config| config.domains);
            assert_eq!(found, Some(domains(first, last)));
        }
    }

    #[test]
    fn domain_numbers() {
        let all = domains(0, u32::MAX);

        assert_eq!(domains(7, 7).count(), 1);
        assert_eq!(all.count(), 1 << 32);
        assert_eq!(
            [0, 1, 2, 3].map(|random| domains(7, 9).pick(random)),
            [7, 8, 9, 7]
        );
        assert_eq!(all.pick(u32::MAX), u32::MAX);
        assert_eq!(
            [7, 8, 9].map(|number| domains(7, 9).after(number)),
            [8, 9, 7]
        );
        assert_eq!(domains(0, 9).spare(), (10, domains(0, 9)));
        assert_eq!(domains(5, u32::MAX).spare(), (4, domains(5, u32::MAX)));
        assert_eq!(all.spare(), (u32::MAX, domains(0, u32::MAX - 1)));
    }

    #[test]
    fn probe_size() {
        let raw = |size| RawConfig {
            probe_size: Some(size),
            ..QEMU
        };

        for size in [0, 1, 511, MAX_PROBE_SIZE] {
            let found = good(raw(size)).map(|config| config.probe_size);
            assert_eq!(found, Some(size));
        }
        for size in [MAX_PROBE_SIZE + 1, 1 << 30, u32::MAX] {
            assert!(bad(
                raw(size),
                EINVAL,
                fmt!("probe size {size} larger than 65536")
            ));
        }
    }

    #[test]
    fn bypass() {
        for (field, expected) in [
            (None, None),
            (Some(0), Some(false)),
            (Some(1), Some(true)),
            // Bits 1 to 7 mean nothing.
            (Some(0xfe), Some(false)),
            (Some(0xff), Some(true)),
        ] {
            let raw = RawConfig {
                bypass: field,
                ..QEMU
            };
            let found = good(raw).map(|config| config.bypass);
            assert_eq!(found, Some(expected));
        }
    }
}
