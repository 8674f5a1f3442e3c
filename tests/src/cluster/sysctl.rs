//! Settings of the whole machine that a kubelet changes; they are put back.

use std::fs;
use std::path::PathBuf;

use super::{Parts, write};

const CHANGED: [&str; 3] = ["vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops"];

fn file(name: &str) -> PathBuf {
    PathBuf::from("/proc/sys").join(name)
}

/// Notes what is set now.
pub(super) fn keep(parts: &Parts) -> Result<(), String> {
    CHANGED.iter().try_for_each(|name| {
        let value = fs::read_to_string(file(name)).map_err(|e| format!("{name}: {e}"))?;
        write(&parts.file("sysctl").join(name), &value)
    })
}

/// Sets what was noted.
pub(super) fn restore(parts: &Parts) {
    for name in CHANGED {
        let kept = fs::read_to_string(parts.file("sysctl").join(name));
        if let Err(error) = kept.and_then(|value| fs::write(file(name), value)) {
            eprintln!("{name} is not set back: {error}");
        }
    }
}
