//! One libFuzzer binary for all parsers of network bytes; `FUZZ_TARGET` names the one.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

#[path = "../targets/mod.rs"]
mod targets;

fn target() -> fn(&[u8]) {
    static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();
    *TARGET.get_or_init(|| {
        let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target: use ./run TARGET");
        let names = || targets::TARGETS.iter().map(|(name, _)| *name).collect::<Vec<_>>();
        let found = targets::TARGETS.iter().find(|(known, _)| *known == name);
        found.unwrap_or_else(|| panic!("no target {name}: there are {:?}", names())).1
    })
}

fuzz_target!(|data: &[u8]| target()(data));
