// SPDX-License-Identifier: GPL-2.0

//! A device that refuses requests whose answers nobody waits for: whom it concerns learns of it.

use kernel::{
    model::once_in,
    prelude::*,
    virtio::Behaviour, //
};

use super::{
    rig::Rig,
    scenarios::join, //
};
use crate::iommu::{
    KEEPS,
    REFUSED, //
};

/// The device refuses a MAP now and then, and exactly who made it learns of that.
pub(super) fn refused_maps() {
    let rig = Rig::new(Behaviour::healthy());
    let room = rig.room();
    let cpus = (1..4).map(|domain| {
        rig.cpu(move |rig| {
            rig.enter(domain);
            for _ in 0..3 {
                let (page, refused) = (rig.page(), once_in(2));
                let phys = if refused { REFUSED } else { 0 };
                rig.map_to(domain, page, phys).expect("a healthy device");
                let expected = if refused { Err(ENOMEM) } else { Ok(()) };
                assert_eq!(rig.sync_map(domain, page), expected, "of {page:#x}");
                assert_eq!(rig.sync_map(domain, page), Ok(()), "told twice");
            }
        })
    });
    join(cpus.collect());
    rig.end(room);
}

/// The device refuses a MAP, and who made it unmaps before it asks. The next one there is told of its
/// own fate.
pub(super) fn outdated_refusals() {
    let rig = Rig::new(Behaviour::healthy());
    let room = rig.room();
    rig.iommu().remaps = true;
    let cpus = (1..4).map(|domain| {
        rig.cpu(move |rig| {
            rig.enter(domain);
            for _ in 0..3 {
                let page = rig.page();
                rig.map_to(domain, page, REFUSED).expect("a healthy device");
                rig.unmap(domain, page).expect("a healthy device");
                rig.sync().expect("a healthy device");
                let refused = once_in(2);
                let phys = if refused { REFUSED } else { 0 };
                rig.map_to(domain, page, phys).expect("a healthy device");
                let expected = if refused { Err(ENOMEM) } else { Ok(()) };
                assert_eq!(rig.sync_map(domain, page), expected, "of {page:#x}");
            }
        })
    });
    join(cpus.collect());
    rig.end(room);
}

/// The device refuses UNMAPs. Nobody maps there again before the domain is gone.
pub(super) fn refused_unmaps() {
    let rig = Rig::new(Behaviour::healthy());
    let room = rig.room();
    let cpus = (0..3).map(|cpu| {
        rig.cpu(move |rig| {
            let domain = KEEPS + cpu;
            let page = rig.page();
            rig.enter(domain);
            rig.map(domain, page).expect("a healthy device");
            rig.sync_map(domain, page).expect("not refused");
            rig.unmap(domain, page).expect("a healthy device");
            rig.sync().expect("a refused UNMAP fails no sync");
            assert_eq!(rig.map(domain, page), Err(EIO), "mapped over {page:#x}");
            assert_eq!(
                rig.map(domain, rig.page()),
                Ok(()),
                "mapped beside {page:#x}"
            );
            rig.sync().expect("a healthy device");
            let left = rig.engine.domain_has_left(domain);
            assert!(left.is_some(), "it was there");
            rig.turn(cpu + 1).expect("a healthy device");
        })
    });
    join(cpus.collect());
    rig.end(room);
}

/// More requests of a domain are refused than can be told apart. None is forgotten before the domain
/// has left, and all are then.
pub(super) fn many_refusals() {
    let rig = Rig::new(Behaviour::healthy());
    let room = rig.room();
    rig.iommu().remaps = true;
    let cpus = (0..2).map(|cpu| {
        rig.cpu(move |rig| {
            let domain = KEEPS + cpu;
            let pages: Vec<_> = (0..70).map(|_| rig.page()).collect();
            let map_each = |rig: &Rig| {
                for page in &pages {
                    rig.map(domain, *page).expect("not barred");
                    assert_eq!(rig.sync_map(domain, *page), Ok(()), "of {page:#x}");
                }
            };
            rig.enter(domain);
            for page in &pages {
                rig.map_to(domain, *page, REFUSED)
                    .expect("a healthy device");
            }
            for page in &pages {
                assert_eq!(rig.sync_map(domain, *page), Err(ENOMEM), "of {page:#x}");
            }
            map_each(&rig);
            for page in &pages {
                rig.unmap(domain, *page).expect("a healthy device");
            }
            rig.sync().expect("a refused UNMAP fails no sync");
            for page in &pages {
                assert_eq!(rig.map(domain, *page), Err(EIO), "mapped over {page:#x}");
            }
            let left = rig.engine.domain_has_left(domain);
            rig.engine
                .domain_is_there(domain, left.expect("it was there"));
            map_each(&rig);
        })
    });
    join(cpus.collect());
    rig.end(room);
}

/// The device writes statuses and lengths at random. Waits end, and refusals are told.
pub(super) fn nonsense() {
    let rig = Rig::new(Behaviour::healthy());
    let room = rig.room();
    rig.iommu().nonsense = true;
    let cpus = (1..4).map(|domain| {
        rig.cpu(move |rig| {
            rig.enter(domain);
            for _ in 0..3 {
                let page = rig.page();
                rig.map(domain, page).expect("the device is in use");
                let result = rig.sync_map(domain, page);
                let refused = rig.iommu().refused_maps.contains(&(domain, page));
                assert_eq!(result.is_err(), refused, "of {page:#x}: {result:?}");
                if !refused {
                    rig.unmap(domain, page).expect("the device is in use");
                    rig.sync().expect("the device is in use");
                }
            }
        })
    });
    join(cpus.collect());
    rig.iommu().nonsense = false;
    rig.end(room);
}
