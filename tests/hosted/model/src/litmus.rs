// SPDX-License-Identifier: GPL-2.0

//! Tests of the model itself: what memory order and interrupts can do in it, and what not.

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
        spawn, //
    },
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Relaxed,
            Release, //
        },
        SpinLockIrq, //
    }, //
};

use crate::Scenario;

/// All of them.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "messages_arrive",
        run: messages_arrive,
        steps: 1000,
    },
    Scenario {
        name: "loads_are_weak",
        run: loads_are_weak,
        steps: 1_000_000,
    },
    Scenario {
        name: "interrupts_respect_locks",
        run: interrupts_respect_locks,
        steps: 1000,
    },
];

/// What was stored before a release is found after an acquire.
fn messages_arrive() {
    let (data, flag) = (Arc::new(Atomic::new(0)), Arc::new(Atomic::new(0)));
    let (their_data, their_flag) = (data.clone(), flag.clone());
    let writer = spawn(move || {
        their_data.store(1, Relaxed);
        their_flag.store(1, Release);
    });
    if flag.load(Acquire) == 1 {
        assert_eq!(data.load(Relaxed), 1, "a message did not arrive");
    }
    writer.join();
    assert_eq!(data.load(Relaxed), 1, "not seen after the end of its CPU");
}

/// Without the release, a store can be found before the one that was made before it.
fn loads_are_weak() {
    let mut found = BTreeSet::new();
    for _ in 0..100 {
        let (data, flag) = (Arc::new(Atomic::new(0)), Arc::new(Atomic::new(0)));
        let (their_data, their_flag) = (data.clone(), flag.clone());
        let writer = spawn(move || {
            their_data.store(1, Relaxed);
            their_flag.store(1, Relaxed);
        });
        for _ in 0..model::random(8) {
            model::step();
        }
        let flag = flag.load(Acquire);
        found.insert((flag, data.load(Relaxed)));
        writer.join();
    }
    assert!(found.contains(&(1, 0)), "found only {found:?}");
}

/// An interrupt comes, but never while a lock is held.
fn interrupts_respect_locks() {
    let lock = Arc::new(SpinLockIrq::new(0));
    let log = Arc::new(Mutex::new(Vec::new()));
    let (their_lock, their_log) = (lock.clone(), log.clone());
    model::on_interrupt(model::random(3), move || {
        // This would wait for ever if the interrupted code held it.
        *their_lock.lock() += 1;
        their_log
            .lock()
            .expect("no task panics here")
            .push("interrupt");
    });
    for _ in 0..3 {
        *lock.lock() += 1;
    }
    assert_eq!(*lock.lock(), 4);
    assert_eq!(log.lock().expect("no task panics here").len(), 1);
}
