// SPDX-License-Identifier: GPL-2.0

//! Fuzzes the driver's pure code: the parsers and encoders of `uapi/`, and reserved regions,
//! mappings, sets of ranges and sequence numbers of `viommu/`, from the same files.
//!
//! Each target compares the code with a naive version of itself, written here from the
//! specification in the plainest way. The variable `FUZZ_TARGET` says which one runs.

#![no_main]

use std::{
    env,
    sync::OnceLock, //
};

use libfuzzer_sys::fuzz_target;

mod input;
mod span;
#[allow(dead_code, unused_imports)]
#[path = "../../../../uapi/mod.rs"]
mod uapi;
mod viommu;
mod wire;

use input::Input;

type Target = fn(&mut Input<'_>);

const TARGETS: &[(&str, Target)] = &[
    ("config", wire::config),
    ("event", wire::event),
    ("mappings", viommu::mappings_target::run),
    ("property", wire::property),
    ("request", wire::request),
    ("reserved", viommu::reserved_target::run),
    ("span", span::run),
    ("spans", viommu::spans_target::run),
    ("window", viommu::window_target::run),
];

fn target() -> Target {
    let name = env::var("FUZZ_TARGET").unwrap_or_default();
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("no target {name:?}")).1
}

fuzz_target!(|data: &[u8]| {
    static TARGET: OnceLock<Target> = OnceLock::new();
    TARGET.get_or_init(target)(&mut Input::new(data));
});
