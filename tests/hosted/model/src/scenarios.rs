// SPDX-License-Identifier: GPL-2.0

//! What CPUs do with the engine at the same time, and what must hold then.

use std::sync::atomic::Ordering::SeqCst;

use kernel::{
    model::{
        self,
        once_in,
        random,
        JoinHandle, //
    },
    prelude::*,
    processor::cpu_relax,
    virtio::Behaviour, //
};

use super::{
    leaving,
    refused,
    rig::{
        attach,
        Rig, //
    },
    slow, //
};
use crate::{
    iommu::{
        attach_status,
        property, //
    },
    Scenario, //
};

/// All of them.
pub const ALL: &[Scenario] = &[
    scenario("map_and_unmap", map_and_unmap),
    scenario("one_domain", one_domain),
    scenario("refused_maps", refused::refused_maps),
    scenario("outdated_refusals", refused::outdated_refusals),
    scenario("refused_unmaps", refused::refused_unmaps),
    Scenario {
        name: "many_refusals",
        run: refused::many_refusals,
        steps: 1_000_000,
    },
    scenario("calls", calls),
    scenario("interrupts", interrupts),
    scenario("smallest_ring", smallest_ring),
    scenario("last_endpoint", leaving::last_endpoint),
    scenario("denied_but_there", leaving::denied_but_there),
    scenario("all_leave", leaving::all_leave),
    scenario("broken", broken),
    scenario("reset", reset),
    scenario("reset_while_collecting", reset_while_collecting),
    Scenario {
        name: "silent",
        run: slow::silent,
        // Each CPU looks ten thousand times, as it does in the kernel.
        steps: 3_000_000,
    },
    Scenario {
        name: "late",
        run: slow::late,
        steps: 3_000_000,
    },
    Scenario {
        name: "end_of_silence",
        run: slow::end_of_silence,
        steps: 3_000_000,
    },
    Scenario {
        name: "refused_at_the_end",
        run: slow::refused_at_the_end,
        steps: 3_000_000,
    },
    Scenario {
        name: "end_of_shortage",
        run: slow::end_of_shortage,
        steps: 3_000_000,
    },
    scenario("nonsense", refused::nonsense),
    scenario("unmappable", unmappable),
    Scenario {
        name: "unmappable_for_long",
        run: slow::unmappable_for_long,
        steps: 3_000_000,
    },
];

const fn scenario(name: &'static str, run: fn()) -> Scenario {
    Scenario {
        name,
        run,
        steps: 100_000,
    }
}

pub(super) fn join<T>(cpus: Vec<JoinHandle<T>>) -> Vec<T> {
    cpus.into_iter().map(JoinHandle::join).collect()
}

/// CPUs map and unmap, each in a domain of its own. Nothing allocates.
fn map_and_unmap() {
    let rig = Rig::new(Behaviour::healthy());
    let room = rig.room();
    let allocations = model::allocations();
    let cpus = (1..4).map(|domain| {
        rig.cpu(move |rig| {
            for _ in 0..2 {
                rig.turn(domain).expect("a healthy device");
            }
        })
    });
    join(cpus.collect());
    assert_eq!(model::allocations(), allocations, "allocations");
    rig.end(room);
}

/// CPUs unmap neighbouring pages of one domain, and map others there.
fn one_domain() {
    let rig = Rig::new(Behaviour::healthy());
    let room = rig.room();
    let base = 1000;
    for page in base..base + 9 {
        rig.map(1, page).expect("a healthy device");
    }
    if once_in(2) {
        rig.sync().expect("a healthy device");
    }
    let cpus = (0..3).map(|cpu| {
        rig.cpu(move |rig| {
            for turn in 0..3 {
                let page = base + 3 * turn + cpu;
                rig.unmap(1, page).expect("a healthy device");
                if once_in(2) {
                    rig.sync().expect("a healthy device");
                    assert!(!rig.iommu().mapped.contains(&(1, page)));
                    rig.map(1, page + 100).expect("a healthy device");
                    rig.unmap(1, page + 100).expect("a healthy device");
                }
            }
            rig.sync().expect("a healthy device");
        })
    });
    join(cpus.collect());
    rig.end(room);
}

fn check_probe(rig: &Rig, endpoint: u32) -> Result {
    let (bytes, written) = rig.engine.probe(endpoint, 12)?;
    assert_eq!(written, 16, "bytes written for {endpoint}");
    let expected: Vec<_> = (0..12).map(|at| property(endpoint, at)).collect();
    assert_eq!(bytes[..12], expected, "properties of {endpoint}");
    assert_eq!(bytes[12..], [0; 4], "status of a PROBE");
    Ok(())
}

/// What a caller learns of the answer to an ATTACH.
fn attach_result(endpoint: u32) -> Result {
    let results = [
        Ok(()),
        Err(EIO),
        Err(ENOSYS),
        Err(EIO),
        Err(EINVAL),
        Err(ERANGE),
        Err(ENOENT),
        Err(EFAULT),
        Err(ENOMEM),
    ];
    results[usize::from(attach_status(endpoint))]
}

/// Callers that wait for the answer to one request, among others.
fn calls() {
    let rig = Rig::new(Behaviour::healthy());
    let room = rig.room();
    let cpus = (1..4).map(|cpu| {
        rig.cpu(move |rig| {
            for turn in 0..3 {
                let endpoint = 9 * cpu + turn + cpu;
                match random(3) {
                    0 => check_probe(&rig, endpoint).expect("a healthy device"),
                    1 => {
                        let expected = attach_result(endpoint);
                        assert_eq!(rig.call(attach(endpoint)), expected);
                        // The caller has learned of it, so it is nobody else's business.
                        rig.iommu().refused -= u64::from(expected.is_err());
                    }
                    _ => rig.turn(cpu).expect("a healthy device"),
                }
            }
        })
    });
    join(cpus.collect());
    rig.end(room);
}

/// What a CPU does is interrupted by something that waits for the device itself.
fn interrupts() {
    let rig = Rig::new(Behaviour::healthy());
    let room = rig.room();
    let cpus = (1..3).map(|domain| {
        rig.cpu(move |rig| {
            for interrupt in 0..3 {
                let rig = rig.clone();
                let range = 8 << random(6);
                model::on_interrupt(random(range), move || {
                    rig.turn(10 * domain + interrupt).expect("a healthy device");
                });
            }
            for _ in 0..2 {
                rig.turn(domain).expect("a healthy device");
            }
        })
    });
    join(cpus.collect());
    rig.end(room);
}

/// There is room for one request, and who waits for its answer is interrupted by somebody else who
/// has one.
fn smallest_ring() {
    let mut behaviour = Behaviour::healthy();
    behaviour.ring_size = 2;
    let rig = Rig::new(behaviour);
    let room = rig.room();
    assert_eq!(room, 1, "requests");
    let cpus = (1..4).map(|cpu| {
        rig.cpu(move |rig| {
            for interrupt in 0..3 {
                let rig = rig.clone();
                model::on_interrupt(random(8 << random(5)), move || {
                    rig.turn(10 * cpu + interrupt).expect("a healthy device");
                });
            }
            for endpoint in [9 * cpu, 18 * cpu] {
                if once_in(2) {
                    check_probe(&rig, endpoint).expect("a healthy device");
                } else {
                    rig.call(attach(endpoint)).expect("a healthy device");
                }
            }
        })
    });
    join(cpus.collect());
    rig.end(room);
}

/// The queue breaks: the device wrote nonsense to it, or the virtio core takes it away. It meets
/// requests of every kind, in rings of every size, and a CPU that is interrupted by another user.
fn broken() {
    let mut behaviour = Behaviour::healthy();
    if once_in(4) {
        behaviour.ring_size = 2;
    }
    if once_in(2) {
        behaviour.breaks_after = Some(random(12));
    }
    let rig = Rig::new(behaviour);
    let mut cpus: Vec<_> = (1..4)
        .map(|domain| {
            rig.cpu(move |rig| {
                for interrupt in 0..random(3) as u32 {
                    let rig = rig.clone();
                    model::on_interrupt(random(8 << random(5)), move || {
                        let result = rig.turn(10 * domain + interrupt);
                        assert!(matches!(result, Ok(()) | Err(EIO)), "{result:?}");
                    });
                }
                let error = loop {
                    let result = match random(5) {
                        0 => rig.call(attach(0)),
                        1 => check_probe(&rig, domain),
                        2 => {
                            // Waits, too
                            let _ = rig.engine.domain_has_left(domain);
                            rig.sync()
                        }
                        _ => rig.turn(domain),
                    };
                    if let Err(error) = result {
                        break error;
                    }
                    cpu_relax();
                };
                assert_eq!(error, EIO);
            })
        })
        .collect();
    cpus.push(rig.cpu(|rig| {
        for _ in 0..random(100) {
            model::step();
        }
        rig.bus.break_queue();
    }));
    join(cpus);
    rig.end_broken();
}

/// The device is reset while CPUs are at work.
fn reset() {
    let rig = Rig::new(Behaviour::healthy());
    rig.iommu().lenient = true;
    let room = rig.room();
    let mut cpus: Vec<_> = (1..4)
        .map(|domain| {
            rig.cpu(move |rig| {
                for turn in 0..4 {
                    let resets = rig.resets.load(SeqCst);
                    let result = match random(3) {
                        0 => check_probe(&rig, domain),
                        1 => {
                            // Accepted or refused
                            let endpoint = 9 * turn + [0, 4][random(2)];
                            let result = rig.call(attach(endpoint));
                            if result == attach_result(endpoint) {
                                Ok(())
                            } else {
                                assert!(result.is_err(), "of {endpoint}: another's answer");
                                result
                            }
                        }
                        _ => {
                            let page = rig.page();
                            rig.map(domain, page)
                                .and_then(|()| rig.sync_map(domain, page))
                                .and_then(|()| rig.unmap(domain, page))
                                .and_then(|()| rig.sync())
                        }
                    };
                    if let Err(error) = result {
                        assert!(error == ENODEV || error == EIO, "{error:?}");
                        let now = rig.resets.load(SeqCst);
                        assert!(resets != now || now % 2 == 1, "{error:?} without a reset");
                    }
                }
            })
        })
        .collect();
    cpus.push(rig.cpu(|rig| {
        for _ in 0..1 + random(2) {
            rig.reset_soon();
        }
    }));
    join(cpus);
    assert_eq!(rig.room(), room, "slots were lost or made");
    rig.turn(50).expect("a healthy device");
    rig.bus.reset();
}

/// A caller holds an answer from before a reset, and lets go of it after.
fn reset_while_collecting() {
    let mut behaviour = Behaviour::healthy();
    behaviour.ring_size = 4;
    let rig = Rig::new(behaviour);
    rig.iommu().lenient = true;
    let room = rig.room();
    let caller = rig.cpu(|rig| {
        let _ = rig.call(attach(0));
    });
    rig.reset_soon();
    // Among the new slots, there is a place for one from before.
    rig.map(1, rig.page()).expect("a healthy device");
    caller.join();
    for _ in 0..room {
        rig.map(1, rig.page()).expect("a healthy device");
    }
    rig.sync().expect("a healthy device");
    assert_eq!(rig.room(), room, "slots were lost or made");
    rig.bus.reset();
}

/// Now and then a buffer cannot be mapped for DMA. That passes.
fn unmappable() {
    let rig = Rig::new(Behaviour::healthy());
    let room = rig.room();
    model::set_unmappable(2 + random(4));
    let cpus = (1..4).map(|domain| {
        rig.cpu(move |rig| {
            rig.turn(domain).expect("a healthy device");
            rig.call(attach(0)).expect("a healthy device");
            let page = rig.page();
            rig.map(domain, page).expect("a healthy device");
            rig.unmap(domain, page).expect("a healthy device");
            rig.turn(domain).expect("a healthy device");
        })
    });
    join(cpus.collect());
    model::set_unmappable(0);
    rig.end(room);
}
