// SPDX-License-Identifier: GPL-2.0

//! A domain loses its last endpoint, and gets another, while CPUs map and unmap in it.
//!
//! The device knows a moment before the driver, so that it denies what comes meanwhile.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        Mutex, //
    }, //
};

use kernel::{
    model::{
        self,
        once_in,
        random, //
    },
    prelude::*,
    sync::SpinLockIrq,
    virtio::Behaviour, //
};

use super::{
    rig::{
        attach,
        map_request,
        span,
        Rig, //
    }, //
};
use crate::uapi::Request;

/// The domain of [`attach`].
const DOMAIN: u32 = 1;

const DETACH: Request = Request::Detach {
    domain: DOMAIN,
    endpoint: 0,
};

/// What `viommu/domain/` does with the engine, without a memory of what is mapped.
#[derive(Clone)]
struct Domain {
    rig: Rig,
    /// Whether the device is told of changes.
    present: Arc<SpinLockIrq<bool>>,
    /// What was mapped at some time.
    pages: Arc<Mutex<Vec<u64>>>,
}

impl Domain {
    fn map(&self, page: u64) -> Result {
        self.pages.lock().expect("no task panics here").push(page);
        loop {
            let present = self.present.lock();
            if !*present {
                return Ok(());
            }
            let staged = self.rig.engine.stage(map_request(DOMAIN, page));
            drop(present);
            match staged {
                Ok(()) => return self.rig.engine.sync_map(DOMAIN, span(page)),
                Err(error) => self.rig.engine.make_room(error)?,
            }
        }
    }

    fn unmap(&self, page: u64) -> Result {
        let to_tell = *self.present.lock();
        if to_tell {
            self.rig.engine.unmap_and_sync(DOMAIN, span(page))?;
        }
        Ok(())
    }

    /// Whether the endpoint is detached then.
    fn leave(&self) -> bool {
        let engine = &self.rig.engine;
        engine.domain_is_leaving(DOMAIN);
        match self.rig.call(DETACH) {
            Ok(()) => {
                *self.present.lock() = false;
                assert!(engine.domain_has_left(DOMAIN).is_some(), "it was there");
                true
            }
            Err(error) => {
                assert_eq!(error, EIO);
                engine.domain_stays(DOMAIN);
                false
            }
        }
    }

    fn enter(&self) {
        self.rig.call(attach(0)).expect("a healthy device");
        self.rig.enter(DOMAIN);
        *self.present.lock() = true;
    }
}

/// Nobody who maps or unmaps is told that the domain was not there, and nothing of that is left when
/// it is there again.
pub(super) fn last_endpoint() {
    let rig = Rig::new(Behaviour::healthy());
    let room = rig.room();
    rig.iommu().lenient = true;
    rig.enter(DOMAIN);
    let domain = Domain {
        rig: rig.clone(),
        present: Arc::new(SpinLockIrq::new(true)),
        pages: Arc::default(),
    };

    let mut cpus: Vec<_> = (0..2)
        .map(|_| {
            let domain = domain.clone();
            rig.cpu(move |rig| {
                for _ in 0..3 {
                    let page = rig.page();
                    domain.map(page).expect("a domain that comes and goes");
                    domain.unmap(page).expect("a domain that comes and goes");
                }
            })
        })
        .collect();
    let coming = domain.clone();
    cpus.push(rig.cpu(move |rig| {
        for _ in 0..2 {
            for _ in 0..random(60) {
                model::step();
            }
            if once_in(3) {
                rig.iommu().stubborn.insert(DOMAIN);
            }
            let left = coming.leave();
            assert_ne!(left, rig.iommu().stubborn.remove(&DOMAIN));
            if left {
                coming.enter();
            }
        }
    }));
    cpus.into_iter().for_each(|cpu| cpu.join());

    rig.sync().expect("a healthy device");
    for line in model::take_log() {
        // An UNMAP may come late, but a MAP is staged only while the domain is there.
        assert!(!line.starts_with("MAP"), "told: {line}");
    }
    rig.iommu().seen.retain(|op| op.domain() != DOMAIN);
    let pages = domain.pages.lock().expect("no task panics here").clone();
    for page in pages {
        let again = rig.map(DOMAIN, page);
        assert_eq!(again, Ok(()), "of {page:#x}, when all is over");
        assert_eq!(rig.sync_map(DOMAIN, page), Ok(()), "of {page:#x}");
    }
    // What was denied is not counted, unless it came when the domain had left.
    let counted = rig.engine.stats().refused;
    let refused = core::mem::replace(&mut rig.iommu().refused, counted);
    assert!(counted <= refused, "{counted} refusals of {refused}");
    rig.end(room);
}

/// The device denies that there is such a domain, but does not let its endpoint go. What was mapped
/// meanwhile may or may not be there, so that nothing is mapped there any more.
pub(super) fn denied_but_there() {
    let rig = Rig::new(Behaviour::healthy());
    let room = rig.room();
    rig.iommu().absent.insert(DOMAIN);
    rig.iommu().stubborn.insert(DOMAIN);

    rig.enter(DOMAIN);
    rig.engine.domain_is_leaving(DOMAIN);
    let denied = rig.page();
    rig.map(DOMAIN, denied).expect("a healthy device");
    assert_eq!(rig.sync_map(DOMAIN, denied), Ok(()), "may still leave");
    let other = rig.page();
    rig.map(DOMAIN, other).expect("a healthy device");
    assert_eq!(rig.call(DETACH), Err(EIO));
    rig.engine.domain_stays(DOMAIN);
    assert_eq!(rig.sync_map(DOMAIN, other), Err(EIO), "denied, and stays");

    for page in [denied, rig.page()] {
        assert_eq!(rig.map(DOMAIN, page), Err(EIO), "mapped at {page:#x}");
    }
    assert_eq!(rig.map(DOMAIN + 1, rig.page()), Ok(()), "another domain");
    rig.iommu().refused = 0;
    rig.end(room);
}

/// The first domain of [`all_leave`], and the one in which a CPU maps meanwhile.
const FIRST: u32 = 1000;

/// Before the end, each endpoint is detached, however many there are, and each that stays is
/// reported. Who maps meanwhile is not told that the domain was not there.
pub(super) fn all_leave() {
    let rig = Rig::new(Behaviour::healthy());
    let room = rig.room();
    let domains = FIRST..FIRST + 2 * room as u32 + 1;
    let stubborn: BTreeSet<u32> = domains.clone().filter(|_| once_in(4)).collect();
    rig.iommu().stubborn = stubborn.clone();

    rig.enter(FIRST);
    let cpu = rig.cpu(|rig| {
        for _ in 0..4 {
            let page = rig.page();
            rig.map(FIRST, page).expect("a healthy device");
            assert_eq!(rig.sync_map(FIRST, page), Ok(()), "of {page:#x}");
        }
    });
    rig.engine.begin_end();
    let mut stays = BTreeSet::new();
    let requests = domains.clone().map(|domain| Request::Detach {
        domain,
        endpoint: domain - FIRST,
    });
    let result = rig.engine.detach_all(requests, |request, _| {
        let Request::Detach { domain, .. } = request else {
            panic!("{request}");
        };
        assert!(stays.insert(domain), "reported twice: {request}");
    });
    assert_eq!(result, Ok(()));
    assert_eq!(stays, stubborn, "reported");
    for domain in domains {
        let left = rig.iommu().absent.contains(&domain);
        assert_ne!(left, stubborn.contains(&domain), "of domain {domain}");
    }
    cpu.join();

    // What was denied is not counted.
    let counted = rig.engine.stats().refused;
    rig.iommu().refused = counted;
    rig.end(room);
}
