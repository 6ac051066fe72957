// SPDX-License-Identifier: GPL-2.0

//! Explores the request engine: `viommu/engine/`, from the same files.
//!
//! [shuttle] runs each scenario thousands of times, each time in another order of events; see
//! [`kernel::model`] for what the world is made of. loom would be exhaustive, but the engine spins:
//! a waiter looks at the answer counter hundreds of times before it looks at the ring, and each
//! look is a branch to loom. Two CPUs and one request are beyond it. What loom has and shuttle has
//! not, weak memory order, [`kernel::sync::atomic::Atomic`] brings along.
//!
//! A failure names the seed of its run, which repeats it exactly.

use std::{
    panic,
    process::exit,
    sync::atomic::{
        AtomicU64,
        Ordering::Relaxed, //
    },
    time::Instant, //
};

use kernel::model::{
    self,
    Defect,
    Order, //
};
use shuttle::{
    Config,
    FailurePersistence,
    MaxSteps,
    Runner, //
};

mod iommu;
mod litmus;
mod mutants;

include!(concat!(env!("OUT_DIR"), "/uapi.rs"));

/// The engine as it is, and the wrong copies of it.
mod variants {
    use super::*;

    include!(concat!(env!("OUT_DIR"), "/variants.rs"));
}

/// A scenario: its name, what it does, and how many steps it takes at most.
pub struct Scenario {
    name: &'static str,
    run: fn(),
    steps: usize,
}

/// A wrong copy of the engine: its name, and [`None`] if the change cannot be applied any more.
type Variant = (&'static str, Option<&'static [Scenario]>);

const USAGE: &str = "usage: model SCENARIO [--mutant NAME] [--defect NAME] [--runs N] [--seed N]
       model --list";

/// How much of the log is printed when a run fails.
const LOG_LINES: usize = 100;

static SEED: AtomicU64 = AtomicU64::new(0);

fn fail(message: &str) -> ! {
    eprintln!("model: {message}\n{USAGE}");
    exit(2);
}

fn list() -> ! {
    for scenario in variants::genuine::scenarios::ALL {
        println!("scenario {}", scenario.name);
    }
    for scenario in litmus::ALL {
        println!("scenario {}", scenario.name);
    }
    for mutant in mutants::MUTANTS {
        println!("mutant {}", mutant.name);
    }
    for (name, _) in Defect::ALL {
        println!("defect {name}");
    }
    exit(0);
}

/// Ends everything at the first failure: the state of the other tasks is of no use.
fn end_at_failure() {
    panic::set_hook(Box::new(|info| {
        let text = info
            .payload()
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| info.payload().downcast_ref::<&str>().copied())
            .unwrap_or("failed");
        let text = if text.starts_with("exceeded max_steps") {
            "somebody waits for something that does not come: the run does not end"
        } else {
            text
        };
        let place = info.location().map(|place| place.to_string());
        println!("FAILED with --seed {}", SEED.load(Relaxed));
        println!("{text}\nat {}", place.unwrap_or_default());
        for line in model::take_log().iter().take(LOG_LINES) {
            println!("log: {}", line.trim_end());
        }
        exit(1);
    }));
}

fn main() {
    let mut scenario = None;
    let mut scenarios = variants::genuine::scenarios::ALL;
    let mut defect = None;
    let (mut runs, mut seed) = (1000, 0);

    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        if arg == "--list" {
            list();
        }
        if !arg.starts_with("--") {
            scenario = Some(arg);
            continue;
        }
        let Some(value) = args.next() else {
            fail("an argument is missing");
        };
        let number = value.parse::<u64>();
        match (arg.as_str(), number) {
            ("--runs", Ok(number)) => runs = number,
            ("--seed", Ok(number)) => seed = number,
            ("--defect", _) => {
                let found = Defect::ALL.iter().find(|(name, _)| *name == value);
                defect = Some(found.unwrap_or_else(|| fail("no such defect")).1);
            }
            ("--mutant", _) => {
                let found = variants::MUTANTS.iter().find(|(name, _)| *name == value);
                scenarios = match found {
                    Some((_, Some(scenarios))) => scenarios,
                    Some((_, None)) => {
                        println!("what this mutant replaces is not there any more");
                        exit(77);
                    }
                    None => fail("no such mutant"),
                };
            }
            _ => fail("no such argument"),
        }
    }
    let scenario = scenario.unwrap_or_else(|| fail("which scenario?"));
    let mut all = scenarios.iter().chain(litmus::ALL);
    let Some(scenario) = all.find(|this| this.name == scenario) else {
        fail("no such scenario");
    };

    end_at_failure();
    let begin = Instant::now();
    for seed in seed..seed + runs {
        SEED.store(seed, Relaxed);
        let mut config = Config::new();
        config.stack_size = 1 << 18;
        config.failure_persistence = FailurePersistence::None;
        config.max_steps = MaxSteps::FailAfter(scenario.steps);
        config.silence_warnings = true;
        let run = scenario.run;
        Runner::new(Order::new(seed), config).run(move || {
            model::create(seed, defect);
            run();
        });
    }
    println!("{}: {runs} runs in {:?}", scenario.name, begin.elapsed());
}
