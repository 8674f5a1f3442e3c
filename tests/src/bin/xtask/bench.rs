//! `cargo xtask bench NAME`: measurements beside peers, printed as tables ready for the README.

mod bare_loop;
mod canary;
mod fanout;
mod start;
mod statistics;

use std::process::Command;

use tests::tools::cargo_path;

use crate::setup;

pub(crate) use bare_loop::serve as bare_loop;

const NAMES: &str = "start, fanout, canary, core";

/// Tells what there is.
pub(crate) fn list() -> Result<(), String> {
    println!(
        "start    exec to the end of the RTMP handshake, idle memory, 1 000 streams; nginx-rtmp beside it"
    );
    println!("fanout   500 viewers of 2 Mbit/s; nginx-rtmp and a bare send loop beside it");
    println!("canary   CPU of a worker at rest, with its canary and without");
    println!("core     cost of an event in the planning core, 10 to 100 000 streams");
    Ok(())
}

/// Runs one, on a release build.
pub(crate) fn run(name: &str) -> Result<(), String> {
    match name {
        "core" => cargo(&["bench", "--package", "operator-core"]),
        "start" => {
            prepare()?;
            start::run()
        }
        "canary" => {
            prepare()?;
            canary::run()
        }
        "fanout" => {
            prepare()?;
            // The viewers are to cost little: the load runs in a release build too.
            if cfg!(debug_assertions) {
                let xtask = ["run", "--release", "--quiet", "--package", "tests", "--bin", "xtask", "--"];
                return cargo(&[&xtask[..], &["bench", "fanout"]].concat());
            }
            fanout::run()
        }
        _ => Err(format!("no bench {name}; there are {NAMES}")),
    }
}

fn prepare() -> Result<(), String> {
    setup::run()?;
    cargo(&["build", "--release", "--package", "operator"])
}

fn cargo(arguments: &[&str]) -> Result<(), String> {
    let mut cargo = Command::new(cargo_path());
    let status = cargo.args(arguments).status().map_err(|e| format!("{cargo:?}: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("cargo {} ended with {status}", arguments.join(" "))) }
}
