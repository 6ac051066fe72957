// SPDX-License-Identifier: GPL-2.0

//! The device, by the specification, and without the driver's code.

use std::collections::BTreeSet;

use kernel::{
    model,
    virtio::Device, //
};

/// The size of what is mapped.
pub const PAGE: u64 = 0x1000;

/// A MAP to a physical address with this bit is refused, with `NOMEM`.
pub const REFUSED: u64 = 1 << 62;

/// An UNMAP in a domain from this one on is refused, with `DEVERR`.
pub const KEEPS: u32 = 100;

/// The status of a request for a domain that is absent.
const NOENT: u8 = 6;

/// A request for one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    /// MAP
    Map(u32, u64),
    /// UNMAP
    Unmap(u32, u64),
}

impl Op {
    /// Its domain.
    pub fn domain(self) -> u32 {
        match self {
            Op::Map(domain, _) | Op::Unmap(domain, _) => domain,
        }
    }
}

/// What the device knows.
#[derive(Default)]
pub struct Iommu {
    /// All requests so far. No page is mapped or unmapped twice, unless `remaps`.
    pub seen: BTreeSet<Op>,
    pub remaps: bool,
    /// Domains and pages.
    pub mapped: BTreeSet<(u32, u64)>,
    /// How many requests came, and how many were refused.
    pub requests: u64,
    pub refused: u64,
    /// Domains that have no endpoint, hence no mapping.
    pub absent: BTreeSet<u32>,
    /// Domains that have an endpoint that cannot be detached.
    pub stubborn: BTreeSet<u32>,
    /// Answers at random.
    pub nonsense: bool,
    /// Requests may be missing, since there was a reset.
    pub lenient: bool,
    /// Until here the refused requests count.
    pub refused_maps: BTreeSet<(u32, u64)>,
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// What an endpoint's ATTACH is answered with.
pub fn attach_status(endpoint: u32) -> u8 {
    (endpoint % 9) as u8
}

/// What a PROBE of an endpoint is answered with, at this place.
pub fn property(endpoint: u32, at: usize) -> u8 {
    (endpoint as usize * 31 + at) as u8
}

impl Iommu {
    fn see(&mut self, op: Op) {
        let new = self.seen.insert(op);
        assert!(new || self.remaps, "published twice: {op:x?}");
    }

    fn attach(&mut self, request: &[u8]) -> u8 {
        assert_eq!(request.len(), 20, "size of an ATTACH");
        let status = attach_status(word(request, 8));
        if status == 0 {
            self.absent.remove(&word(request, 4));
        }
        status
    }

    fn detach(&mut self, request: &[u8]) -> u8 {
        assert_eq!(request.len(), 20, "size of a DETACH");
        let domain = word(request, 4);
        if self.stubborn.contains(&domain) {
            return 3;
        }
        self.absent.insert(domain);
        self.mapped.retain(|(other, _)| *other != domain);
        0
    }

    fn map(&mut self, request: &[u8]) -> u8 {
        assert_eq!(request.len(), 36, "size of a MAP");
        let domain = word(request, 4);
        let pages = long(request, 8) / PAGE..=long(request, 16) / PAGE;
        if self.absent.contains(&domain) {
            pages.for_each(|page| self.see(Op::Map(domain, page)));
            return NOENT;
        }
        let refused = long(request, 24) & REFUSED != 0;
        for page in pages {
            self.see(Op::Map(domain, page));
            if refused {
                self.refused_maps.insert((domain, page));
                continue;
            }
            let unmapped = self.seen.contains(&Op::Unmap(domain, page));
            assert!(
                !unmapped || self.remaps,
                "unmapped before it was mapped: {page:#x}"
            );
            self.mapped.insert((domain, page));
        }
        if refused {
            8
        } else {
            0
        }
    }

    fn unmap(&mut self, request: &[u8]) -> u8 {
        assert_eq!(request.len(), 28, "size of an UNMAP");
        let domain = word(request, 4);
        let pages = long(request, 8) / PAGE..=long(request, 16) / PAGE;
        if self.absent.contains(&domain) {
            pages.for_each(|page| self.see(Op::Unmap(domain, page)));
            return NOENT;
        }
        for page in pages {
            self.see(Op::Unmap(domain, page));
            if domain >= KEEPS {
                continue;
            }
            let was = self.mapped.remove(&(domain, page));
            let refused = self.refused_maps.contains(&(domain, page));
            assert!(was || refused || self.lenient, "not mapped: {page:#x}");
        }
        if domain >= KEEPS {
            3
        } else {
            0
        }
    }

    fn execute(&mut self, request: &[u8], answer: &mut [u8]) -> u8 {
        match request[0] {
            1 => self.attach(request),
            2 => self.detach(request),
            3 => self.map(request),
            4 => self.unmap(request),
            5 => {
                assert_eq!(request.len(), 72, "size of a PROBE");
                for (at, byte) in answer.iter_mut().enumerate() {
                    *byte = property(word(request, 4), at);
                }
                0
            }
            other => panic!("request of type {other}"),
        }
    }
}

impl Device for Iommu {
    fn answer(&mut self, readable: &[u8], writable: &mut [u8]) -> u32 {
        self.requests += 1;
        let room = writable.len();
        let (answer, tail) = writable.split_at_mut(room - 4);
        tail.fill(0);
        tail[0] = self.execute(readable, answer);
        let mut claimed = room as u32;
        if self.nonsense {
            tail[0] = [0, 0, 0, 1, 6, 9, 0xff][model::random(7)];
            claimed = [0, 3, 4, 4, 4, 4, 5, u32::MAX][model::random(8)];
        }
        if tail[0] != 0 || claimed < 4 {
            self.refused += 1;
            if readable[0] == 3 {
                let page = long(readable, 8) / PAGE;
                self.refused_maps.insert((word(readable, 4), page));
            }
        }
        claimed
    }

    fn reset(&mut self) {
        self.mapped.clear();
        self.refused_maps.clear();
    }
}
