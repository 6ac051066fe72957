// SPDX-License-Identifier: GPL-2.0

//! KUnit tests for what is computed here, at the limits of the types, and for the registry.

use super::{
    domain::{
        is_range,
        whole_granules, //
    },
    registry::{
        self,
        Key, //
    },
    DomainConfig,
    Gather,
    Geometry,
    Prot,
    ProtFlag, //
};
use crate::{
    bindings,
    page::PAGE_SIZE,
    prelude::*, //
};

#[kunit_tests(rust_iommu_driver)]
mod limits {
    use super::*;

    const MAX: usize = usize::MAX;

    #[test]
    fn ranges() {
        assert!(is_range(0, 0x3000));
        // The last page of the address space.
        assert!(is_range(MAX - 0xfff, 0x1000));
        assert!(is_range(MAX, 1));
        assert!(is_range(0, MAX));
        // The last address overflows.
        assert!(!is_range(MAX - 0xfff, 0x1001));
        assert!(is_range(1, MAX));
        assert!(!is_range(2, MAX));
        // There is nothing.
        assert!(!is_range(0, 0));
        assert!(!is_range(MAX, 0));
    }

    #[test]
    fn whole_granules_limits() {
        let sizes = 0x4020_1000;

        assert_eq!(whole_granules(0, 0, sizes), 0);
        assert_eq!(whole_granules(0, 0xfff, sizes), 0);
        // Not a multiple of the size of the page that was asked for, which is not needed.
        assert_eq!(whole_granules(0x20_0000, 0x20_1000, sizes), 0x20_1000);
        assert_eq!(whole_granules(0x20_0000, 0x20_1fff, sizes), 0x20_1000);
        // The end would overflow.
        assert_eq!(whole_granules(MAX - 0x1fff, 0x2000, sizes), 0x1000);
        assert_eq!(whole_granules(0x1000, MAX, sizes), MAX - 0x1fff);
        assert_eq!(whole_granules(0, 0x1000, 0), 0);
    }

    #[test]
    fn prot_conversion() {
        let prot = ProtFlag::Read | ProtFlag::Mmio;

        assert_eq!(Prot::from_raw(prot.as_raw()), prot);
        assert_eq!(Prot::from_raw(-1).as_raw(), 0x3f);
        assert_eq!(Prot::from_raw(0), Prot::empty());
        assert_eq!(Prot::from_raw(1 << 30), Prot::empty());
    }

    #[test]
    fn domain_config() {
        let config = |page_sizes, first, last| DomainConfig {
            page_sizes,
            geometry: Geometry { first, last },
        };
        let page = PAGE_SIZE as u64;

        assert!(config(page, 0, u64::MAX).validate(false).is_ok());
        assert!(config(!(page - 1), 5, 5).validate(false).is_ok());
        assert!(config(0, 0, u64::MAX).validate(true).is_err());
        assert!(config(page | 1, 0, u64::MAX).validate(true).is_err());
        assert!(config(page | 2, 0, u64::MAX).validate(true).is_ok());
        assert!(config(page, 6, 5).validate(true).is_err());
        assert!(config(2 * page, 0, u64::MAX).validate(false).is_err());
        assert!(config(2 * page, 0, u64::MAX).validate(true).is_ok());
        assert!(config(page | (2 * page), 0, u64::MAX)
            .validate(false)
            .is_ok());
    }

    #[test]
    fn gather() {
        let mut raw = bindings::iommu_iotlb_gather {
            start: MAX,
            ..pin_init::zeroed()
        };

        // SAFETY: `raw` is initialized, and not used elsewhere before `gather` is gone.
        let mut gather = unsafe { Gather::from_raw(&mut raw) };

        assert_eq!(gather.range(), None);
        assert!(!gather.queued());
        gather.add_range(5, 4);
        assert_eq!(gather.range(), None);
        gather.add_range(0x2000, 0x2fff);
        assert_eq!(gather.range(), Some((0x2000, 0x2fff)));
        gather.add_range(0, 0);
        assert_eq!(gather.range(), Some((0, 0x2fff)));
        gather.add_range(MAX as u64, u64::MAX);
        assert_eq!(gather.range(), Some((0, MAX as u64)));
    }

    #[test]
    fn gather_one_range() {
        let mut raw = bindings::iommu_iotlb_gather {
            start: MAX,
            ..pin_init::zeroed()
        };

        // SAFETY: `raw` is initialized, and not used elsewhere before `gather` is gone.
        let mut gather = unsafe { Gather::from_raw(&mut raw) };

        assert!(!gather.extend(5, 4));
        assert_eq!(gather.range(), None);
        for (first, last, done, range) in [
            (0x2000, 0x2fff, true, (0x2000, 0x2fff)),
            (0x3001, 0x3fff, false, (0x2000, 0x2fff)),
            (0x3000, 0x3fff, true, (0x2000, 0x3fff)),
            (0x0000, 0x1ffe, false, (0x2000, 0x3fff)),
            (0x1000, 0x1fff, true, (0x1000, 0x3fff)),
            (0x1800, 0x2800, true, (0x1000, 0x3fff)),
        ] {
            assert_eq!(gather.extend(first, last), done);
            assert_eq!(gather.range(), Some(range));
        }
        assert!(!gather.restart(5, 4));
        assert_eq!(gather.range(), Some((0x1000, 0x3fff)));
        assert!(gather.restart(MAX as u64, MAX as u64));
        assert_eq!(gather.range(), Some((MAX as u64, MAX as u64)));
        assert!(!gather.extend(0, 0));
        assert!(gather.extend(0, MAX as u64 - 1));
        assert_eq!(gather.range(), Some((0, MAX as u64)));
    }

    #[test]
    fn gather_of_the_core() {
        // As `iommu_iotlb_gather_add_range()` leaves it.
        let mut raw = bindings::iommu_iotlb_gather {
            start: 0x1000,
            end: 0x8fff,
            ..pin_init::zeroed()
        };

        // SAFETY: `raw` is initialized, and not used elsewhere before `gather` is gone.
        let mut gather = unsafe { Gather::from_raw(&mut raw) };

        assert_eq!(gather.range(), None);
        assert!(gather.extend(0x4000, 0x4fff));
        assert_eq!(gather.range(), Some((0x4000, 0x4fff)));
    }

    #[test]
    fn no_gather() {
        // SAFETY: Null is allowed.
        let mut gather = unsafe { Gather::from_raw(core::ptr::null_mut()) };

        gather.add_range(0, 1);
        assert!(!gather.extend(0, 1));
        assert!(!gather.restart(0, 1));
        assert_eq!(gather.range(), None);
        assert!(!gather.queued());
    }
}

#[kunit_tests(rust_iommu_driver_registry)]
mod registrations {
    use super::*;

    /// No IOMMU driver has this.
    struct Object;

    static OBJECT: Object = Object;

    /// The kernel itself.
    const HERE: *mut bindings::module = core::ptr::null_mut();

    /// Adds an entry. Nodes and data are only compared, so that numbers will do.
    fn insert(number: usize, data: usize) -> Result {
        insert_for(HERE, number, data)
    }

    /// The same for a module, which is only compared as well.
    fn insert_for(module: *mut bindings::module, number: usize, data: usize) -> Result {
        let (key, object) = (Key::of::<Object>(module), core::ptr::from_ref(&OBJECT));

        // SAFETY: `OBJECT` is `Sync` and lives for ever. The key is that of its type; nobody asks
        // for that of another module.
        unsafe { registry::insert(key, fwnode(number), data as *const c_void, object.cast()) }
    }

    fn remove(number: usize) {
        registry::remove(Key::of::<Object>(HERE), fwnode(number));
    }

    fn fwnode(number: usize) -> *mut bindings::fwnode_handle {
        number as *mut bindings::fwnode_handle
    }

    #[test]
    fn nothing_twice() {
        assert_eq!(insert(1, 10), Ok(()));
        assert_eq!(insert(1, 20), Err(EBUSY));
        assert_eq!(insert(2, 10), Err(EBUSY));
        assert_eq!(insert(2, 20), Ok(()));
        // What was removed can come back, in another place.
        remove(1);
        assert_eq!(insert(3, 20), Err(EBUSY));
        assert_eq!(insert(3, 10), Ok(()));
        remove(2);
        remove(3);
        assert_eq!(insert(1, 20), Ok(()));
        remove(1);
    }

    /// A type of another module may have the same `TypeId`.
    #[test]
    fn modules_are_told_apart() {
        let there = core::ptr::dangling_mut();

        assert_eq!(insert(1, 10), Ok(()));
        assert_eq!(insert_for(there, 1, 10), Ok(()));
        remove(1);
        assert_eq!(insert_for(there, 1, 10), Err(EBUSY));
        assert_eq!(insert(1, 10), Ok(()));
        remove(1);
        registry::remove(Key::of::<Object>(there), fwnode(1));
    }
}
