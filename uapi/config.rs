// SPDX-License-Identifier: GPL-2.0

//! The device configuration, and what of it can be worked with.
//!
//! Reading the fields is the driver's business, as is telling which of them are valid; here they
//! are checked.
//!
//! C header: [`include/uapi/linux/virtio_iommu.h`](srctree/include/uapi/linux/virtio_iommu.h)

use kernel::{
    fmt,
    prelude::*, //
};

use super::{
    Granule,
    Span, //
};

/// The largest size of the properties of an endpoint that is accepted, in bytes.
///
/// They are read into memory of the guest, for which a device that is not trusted must not be able
/// to ask at will. The length of one property is a 16-bit number: this is room for the longest.
/// QEMU has 512.
pub(crate) const MAX_PROBE_SIZE: u32 = 1 << 16;

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
    /// Checks the configuration, for a kernel with pages of `page_size` bytes.
    ///
    /// # Errors
    ///
    /// The device cannot be used. The text of the error says why, with the values.
    pub(crate) fn validate(&self, page_size: usize) -> Result<Config, ConfigError> {
        // A mapping must not end with its first byte (virtio 1.3, section 5.13.6.5): pages of one
        // byte are used in pairs.
        let single = self.page_size_mask & 1;
        let Some(granule) = Granule::from_mask((self.page_size_mask ^ single) | (single << 1))
        else {
            return Err(ConfigError::NoPageSizes);
        };
        // `usize` has at most 64 bits on every architecture.
        let page_size = page_size as u64;
        if granule.bytes() > page_size {
            return Err(ConfigError::Granule {
                granule: granule.bytes(),
                page_size,
            });
        }

        let input = match self.input_range {
            // The last page is left out: cloud-hypervisor refuses it.
            None => Span::ALL.without_last(granule),
            Some((start, end)) => {
                let Some(input) = Span::new(start, end) else {
                    return Err(ConfigError::InputRange { start, end });
                };
                match input.align_in(granule) {
                    Some(whole) => whole,
                    None => return Err(ConfigError::InputTooSmall { input, granule }),
                }
            }
        };

        let domains = match self.domain_range {
            None => DomainRange::ALL,
            Some((start, end)) => match DomainRange::new(start, end) {
                Some(domains) => domains,
                None => return Err(ConfigError::DomainRange { start, end }),
            },
        };

        let probe_size = self.probe_size.unwrap_or(0);
        if probe_size > MAX_PROBE_SIZE {
            return Err(ConfigError::ProbeSize { size: probe_size });
        }

        Ok(Config {
            page_sizes: self.page_size_mask,
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
    /// Bitmap of the page sizes, in bytes.
    pub(crate) page_sizes: u64,
    /// The smallest page size, but at least 2. Not larger than the kernel's.
    pub(crate) granule: Granule,
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
    /// Every number there is.
    pub(crate) const ALL: Self = Self {
        // INVARIANT: 0 <= `u32::MAX`.
        first: 0,
        last: u32::MAX,
    };

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

/// Why a device cannot be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ConfigError {
    /// It has no page size.
    NoPageSizes,
    /// Its smallest page is larger than the kernel's.
    Granule {
        /// Its smallest page, in bytes.
        granule: u64,
        /// The kernel's, in bytes.
        page_size: u64,
    },
    /// The range of IO virtual addresses ends before it begins.
    InputRange {
        /// Where it begins.
        start: u64,
        /// Where it ends.
        end: u64,
    },
    /// The range of IO virtual addresses holds no whole page.
    InputTooSmall {
        /// The range.
        input: Span,
        /// The smallest page.
        granule: Granule,
    },
    /// The range of domains ends before it begins.
    DomainRange {
        /// Where it begins.
        start: u32,
        /// Where it ends.
        end: u32,
    },
    /// The properties of an endpoint are larger than [`MAX_PROBE_SIZE`].
    ProbeSize {
        /// Their size, in bytes.
        size: u32,
    },
}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Error {
        match error {
            // The device is in order, but not for this kernel.
            ConfigError::Granule { .. } => ENODEV,
            _ => EINVAL,
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            ConfigError::NoPageSizes => f.write_str("device supports no page size"),
            ConfigError::Granule { granule, page_size } => f.write_fmt(fmt!(
                "granule {granule:#x} larger than system page size {page_size:#x}"
            )),
            ConfigError::InputRange { start, end } => {
                f.write_fmt(fmt!("input range {start:#x}-{end:#x} is reversed"))
            }
            ConfigError::InputTooSmall { input, granule } => {
                f.write_fmt(fmt!("input range {input} holds no page of {granule} bytes"))
            }
            ConfigError::DomainRange { start, end } => {
                f.write_fmt(fmt!("domain range {start}-{end} is reversed"))
            }
            ConfigError::ProbeSize { size } => {
                f.write_fmt(fmt!("probe size {size} larger than {MAX_PROBE_SIZE}"))
            }
        }
    }
}

#[cfg(CONFIG_VIRTIO_IOMMU_RUST_KUNIT_TEST)]
#[kunit_tests(viommu_config)]
mod tests {
    use super::*;

    const PAGE: usize = 0x1000;

    /// What QEMU's device offers on a PC.
    const QEMU: RawConfig = RawConfig {
        page_size_mask: !0xfff,
        input_range: Some((0, u64::MAX)),
        domain_range: Some((0, u32::MAX)),
        probe_size: Some(512),
        bypass: Some(1),
    };

    fn error(raw: RawConfig) -> Option<ConfigError> {
        raw.validate(PAGE).err()
    }

    #[test]
    fn of_qemu() {
        assert_eq!(
            QEMU.validate(PAGE),
            Ok(Config {
                page_sizes: !0xfff,
                granule: Granule::new(0x1000).unwrap(),
                input: Span::ALL,
                domains: DomainRange::ALL,
                probe_size: 512,
                bypass: Some(true),
            })
        );
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
        assert_eq!(
            raw.validate(PAGE),
            Ok(Config {
                page_sizes: 0x1000,
                granule: Granule::new(0x1000).unwrap(),
                // Without the last page.
                input: Span::new(0, u64::MAX - 0x1000).unwrap(),
                domains: DomainRange::ALL,
                probe_size: 0,
                bypass: None,
            })
        );
    }

    #[test]
    fn page_sizes() {
        let raw = |page_size_mask| RawConfig {
            page_size_mask,
            ..QEMU
        };

        assert_eq!(error(raw(0)), Some(ConfigError::NoPageSizes));
        assert_eq!(
            error(raw(0x10000)),
            Some(ConfigError::Granule {
                granule: 0x10000,
                page_size: 0x1000
            })
        );
        assert_eq!(
            error(raw(1 << 63)),
            Some(ConfigError::Granule {
                granule: 1 << 63,
                page_size: 0x1000
            })
        );
        assert!(raw(0x10000).validate(0x10000).is_ok());
        for page_size_mask in [1, 3, u64::MAX] {
            assert_eq!(
                raw(page_size_mask)
                    .validate(PAGE)
                    .map(|config| config.granule.bytes()),
                Ok(2)
            );
        }
    }

    #[test]
    fn input_range() {
        let raw = |start, end| RawConfig {
            input_range: Some((start, end)),
            ..QEMU
        };

        assert_eq!(
            error(raw(1, 0)),
            Some(ConfigError::InputRange { start: 1, end: 0 })
        );
        assert_eq!(
            error(raw(u64::MAX, 0)),
            Some(ConfigError::InputRange {
                start: u64::MAX,
                end: 0
            })
        );
        for (start, end) in [(0, 0), (1, 0x1ffe), (u64::MAX, u64::MAX), (0x10, 0x20)] {
            assert_eq!(
                error(raw(start, end)),
                Some(ConfigError::InputTooSmall {
                    input: Span::new(start, end).unwrap(),
                    granule: Granule::new(0x1000).unwrap()
                })
            );
        }
        assert_eq!(error(raw(0x1000, 0x1fff)), None);
        assert_eq!(error(raw(u64::MAX - 0xfff, u64::MAX)), None);
        // A page at an end is of no use if a part of it is missing.
        assert_eq!(
            raw(0x10, 0x2010).validate(PAGE).map(|config| config.input),
            Ok(Span::new(0x1000, 0x1fff).unwrap())
        );
    }

    #[test]
    fn domain_range() {
        let raw = |start, end| RawConfig {
            domain_range: Some((start, end)),
            ..QEMU
        };

        assert_eq!(
            error(raw(1, 0)),
            Some(ConfigError::DomainRange { start: 1, end: 0 })
        );
        assert_eq!(error(raw(7, 7)), None);
        assert_eq!(error(raw(u32::MAX, u32::MAX)), None);

        let range = |first, last| DomainRange::new(first, last).unwrap();
        assert_eq!(range(7, 7).count(), 1);
        assert_eq!(DomainRange::ALL.count(), 1 << 32);
        assert_eq!(
            [0, 1, 2, 3].map(|random| range(7, 9).pick(random)),
            [7, 8, 9, 7]
        );
        assert_eq!(DomainRange::ALL.pick(u32::MAX), u32::MAX);
        assert_eq!([7, 8, 9].map(|number| range(7, 9).after(number)), [8, 9, 7]);
        assert_eq!(range(0, 9).spare(), (10, range(0, 9)));
        assert_eq!(range(5, u32::MAX).spare(), (4, range(5, u32::MAX)));
        assert_eq!(DomainRange::ALL.spare(), (u32::MAX, range(0, u32::MAX - 1)));
    }

    #[test]
    fn probe_size() {
        let raw = |size| RawConfig {
            probe_size: Some(size),
            ..QEMU
        };

        for size in [0, 1, 511, MAX_PROBE_SIZE] {
            assert_eq!(
                raw(size).validate(PAGE).map(|config| config.probe_size),
                Ok(size)
            );
        }
        for size in [MAX_PROBE_SIZE + 1, 1 << 30, u32::MAX] {
            assert_eq!(error(raw(size)), Some(ConfigError::ProbeSize { size }));
        }
    }

    #[test]
    fn bypass() {
        let bypass = |bypass| {
            RawConfig { bypass, ..QEMU }
                .validate(PAGE)
                .map(|config| config.bypass)
        };

        assert_eq!(bypass(None), Ok(None));
        assert_eq!(bypass(Some(0)), Ok(Some(false)));
        assert_eq!(bypass(Some(1)), Ok(Some(true)));
        // Bits 1 to 7 mean nothing.
        assert_eq!(bypass(Some(0xfe)), Ok(Some(false)));
        assert_eq!(bypass(Some(0xff)), Ok(Some(true)));
    }

    #[test]
    fn errno() {
        let granule = ConfigError::Granule {
            granule: 0x10000,
            page_size: 0x1000,
        };
        assert_eq!(Error::from(granule), ENODEV);
        assert_eq!(Error::from(ConfigError::NoPageSizes), EINVAL);
    }
}
