// SPDX-License-Identifier: GPL-2.0

//! A device that is slow, or silent, and memory that is short.

use kernel::{
    model::{
        self,
        random, //
    },
    prelude::*,
    processor::cpu_relax,
    virtio::Behaviour, //
};

use super::{
    rig::{
        attach,
        map_request,
        span,
        Rig, //
    },
    scenarios::join, //
};
use crate::{
    iommu::Op,
    uapi::Request, //
};

fn count(log: &[String], text: &str) -> usize {
    log.iter().filter(|line| line.contains(text)).count()
}

/// Maps and unmaps until the device does not answer, as the core does it. Returns the pages.
fn turn_until_late(rig: &Rig, domain: u32) -> Vec<u64> {
    let mut pages = Vec::new();
    loop {
        let page = rig.page();
        if let Err(error) = rig.map(domain, page) {
            assert_eq!(error, EIO);
            return pages;
        }
        pages.push(page);
        let mapped = rig.sync_map(domain, page);
        let unmapped = rig.engine.unmap_and_sync(domain, span(page));
        assert!(mapped.is_ok() || unmapped.is_err(), "back at once");
        if let Err(error) = unmapped {
            assert_eq!(error, EIO);
            return pages;
        }
    }
}

/// The device answers no more. Who cannot sleep gives up, others wait until it is unplugged.
pub(super) fn silent() {
    let mut behaviour = Behaviour::healthy();
    behaviour.silent_after = Some(random(6));
    let rig = Rig::new(behaviour);
    rig.iommu().lenient = true;
    model::set_tick(3_000_000_000);
    let cpus = (1..3).map(|domain| rig.cpu(move |rig| turn_until_late(&rig, domain)));
    let cpus: Vec<_> = cpus.collect();
    let caller = rig.cpu(|rig| loop {
        if let Err(error) = rig.call(attach(0)) {
            break error;
        }
    });
    join(cpus);
    for _ in 0..200 {
        model::step();
    }
    rig.bus.break_queue();
    assert_eq!(caller.join(), EIO);
    let told = model::take_log();
    assert_eq!(count(&told, "no answer within"), 1, "messages");
    rig.end_broken();
}

/// The device answers no more for a while. Nothing is mapped meanwhile, and what was given up is
/// done when it answers again.
pub(super) fn late() {
    let mut behaviour = Behaviour::healthy();
    behaviour.silent_after = Some(40 + random(6));
    // Two CPUs and the caller leave room for many more, which the device is to do one by one.
    behaviour.ring_size = 64;
    let rig = Rig::new(behaviour);
    let room = rig.room();
    rig.iommu().lenient = true;
    model::set_tick(3_000_000_000);
    for domain in 1..4 {
        rig.enter(domain);
    }
    let cpus = (1..3).map(|domain| rig.cpu(move |rig| turn_until_late(&rig, domain)));
    let cpus: Vec<_> = cpus.collect();
    let caller = rig.cpu(|rig| {
        while rig.iommu().requests < 40 {
            rig.call(attach(0)).expect("a device that is slow");
        }
        rig.call(attach(0)).expect("a device that is slow");
    });
    let pages = join(cpus);
    let replay = rig.cpu(|rig| {
        let mut pages: Vec<_> = (0..3).map(|_| rig.page()).collect();
        rig.engine.stage_all(&"a replay", || {
            while let Some(&page) = pages.last() {
                rig.engine.stage(map_request(3, page))?;
                rig.note(Op::Map(3, page));
                pages.pop();
            }
            Ok(())
        })
    });

    assert_eq!(rig.map(1, rig.page()), Err(EIO), "mapped while it is late");
    let mut given_up = Vec::new();
    let mut lost = Vec::new();
    for _ in 0..=room {
        let page = rig.page();
        match rig.unmap(3, page) {
            Ok(()) => {
                assert_eq!(rig.sync(), Err(EIO), "back at once");
                given_up.push(page);
            }
            Err(error) => {
                assert_eq!(error, EIO);
                lost.push(page);
            }
        }
    }
    assert!(!lost.is_empty(), "there is room for all");
    let last = *given_up.last().expect("there is room for none");
    let told = model::take_log();
    assert_eq!(count(&told, "no answer within"), 1, "messages");
    assert!(count(&told, "not done") > lost.len(), "messages");

    rig.bus.wake();
    let next = rig.page();
    while let Err(error) = rig.map(3, next) {
        assert_eq!(error, EIO);
        cpu_relax();
    }
    let done = rig.iommu().seen.contains(&Op::Unmap(3, last));
    assert!(done, "mapped before all that was given up is answered");
    rig.unmap(3, next).expect("it is awake");
    caller.join();
    assert_eq!(replay.join(), Ok(()), "who may sleep waits");
    rig.engine
        .sync_sleeping(&"what is left")
        .expect("it is awake");
    for (domain, pages) in (1..).zip(pages) {
        for page in pages {
            // There may have been no room for the last: that is barred then.
            if rig.iommu().mapped.contains(&(domain, page)) {
                assert_eq!(rig.map(domain, page), Err(EIO), "given up, and mapped over");
            }
        }
    }
    for page in lost {
        assert_eq!(rig.map(3, page), Err(EIO), "mapped over {page:#x}");
    }
    rig.turn(3).expect("it is awake");
    assert_eq!(count(&model::take_log(), "answers again"), 1, "messages");
    rig.end(room);
}

/// The device answers no more, and is about to be reset. Every wait ends.
pub(super) fn end_of_silence() {
    let mut behaviour = Behaviour::healthy();
    behaviour.silent_after = Some(0);
    let rig = Rig::new(behaviour);
    model::set_tick(300_000_000);
    let caller = rig.cpu(|rig| rig.call(attach(0)));
    for _ in 0..random(400) {
        model::step();
    }
    rig.engine.begin_end();
    let detached = rig
        .engine
        .detach_all(detach_requests(), |request, _| panic!("{request}"));
    assert_eq!(detached, Err(EIO));
    assert_eq!(caller.join(), Err(EIO));
    rig.end_broken();
}

/// DETACH requests for endpoints of one domain.
fn detach_requests() -> impl Iterator<Item = Request> {
    (0..3).map(|endpoint| Request::Detach {
        domain: 1,
        endpoint,
    })
}

/// The device answers no more while it is about to be reset. What it has refused before is
/// reported.
pub(super) fn refused_at_the_end() {
    let mut behaviour = Behaviour::healthy();
    behaviour.silent_after = Some(random(3));
    let rig = Rig::new(behaviour);
    rig.iommu().stubborn.insert(1);
    model::set_tick(300_000_000);
    rig.engine.begin_end();
    let mut reported = 0;
    let detached = rig
        .engine
        .detach_all(detach_requests(), |_, _| reported += 1);
    assert_eq!(detached, Err(EIO));
    assert_eq!(reported, rig.iommu().requests, "reported");
    rig.end_broken();
}

/// No buffer can be mapped for DMA any more, and the device is about to be reset. Every wait ends.
pub(super) fn end_of_shortage() {
    let rig = Rig::new(Behaviour::healthy());
    model::set_unmappable(1);
    model::set_tick(300_000_000);
    let caller = rig.cpu(|rig| rig.call(attach(0)));
    let replay = rig.cpu(|rig| {
        rig.engine
            .stage_all(&"what is mapped", || rig.engine.stage(map_request(1, 1)))
    });
    for _ in 0..random(400) {
        model::step();
    }
    rig.engine.begin_end();
    let detached = rig
        .engine
        .detach_all(detach_requests(), |request, _| panic!("{request}"));
    assert_eq!(detached, Err(EIO));
    assert_eq!(caller.join(), Err(EIO));
    assert_eq!(replay.join(), Err(EIO));
    rig.end_broken();
}

/// No buffer can be mapped for DMA for a long time. Who cannot sleep gives up, and that is told
/// once; others wait.
pub(super) fn unmappable_for_long() {
    let rig = Rig::new(Behaviour::healthy());
    let room = rig.room();
    model::set_unmappable(1);
    model::set_tick(3_000_000_000);
    let cpus = (1..3).map(|domain| rig.cpu(move |rig| rig.turn(domain)));
    let cpus: Vec<_> = cpus.collect();
    let caller = rig.cpu(|rig| rig.call(attach(0)));
    for result in join(cpus) {
        assert_eq!(result, Err(ENOMEM));
    }
    model::set_unmappable(0);
    assert_eq!(caller.join(), Ok(()));
    rig.turn(1).expect("there is memory");
    assert_eq!(count(&model::take_log(), "no memory"), 1, "messages");
    rig.end(room);
}
