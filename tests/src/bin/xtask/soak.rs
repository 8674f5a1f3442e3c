//! `cargo xtask soak NAME`: the long runs, of which `cargo xtask test` runs a few minutes' part.

use std::process::Command;

use crate::gate::cargo_path;

/// A long run is a test with larger sizes, given by the environment.
struct Soak {
    name: &'static str,
    about: &'static str,
    arguments: &'static [&'static str],
    sizes: &'static [(&'static str, &'static str)],
}

const SOAKS: &[Soak] = &[
    Soak {
        name: "simulation",
        about: "10 000 seeds of operators, workers, a faulty API and links; about an hour",
        arguments: &["test", "--release", "--package", "operator-core", "--test", "simulation"],
        sizes: &[("PENSTOCK_SEEDS", "10000")],
    },
    Soak {
        name: "rounds",
        about: "2 000 rounds of make, send, end over 20 pairs of ports; about an hour",
        arguments: &["test", "--package", "tests", "--test", "failure_3_leaked_port"],
        sizes: &[("PENSTOCK_ROUNDS", "2000")],
    },
];

/// Tells what there is.
pub(crate) fn list() -> Result<(), String> {
    for Soak { name, about, .. } in SOAKS {
        println!("{name:12} {about}");
    }
    Ok(())
}

/// Runs one.
pub(crate) fn run(name: &str) -> Result<(), String> {
    let names = || SOAKS.iter().map(|soak| soak.name).collect::<Vec<_>>().join(", ");
    let soak = SOAKS.iter().find(|soak| soak.name == name);
    let soak = soak.ok_or_else(|| format!("no soak {name}; there are {}", names()))?;
    let mut cargo = Command::new(cargo_path());
    cargo.args(soak.arguments).args(["--", "--nocapture", "--test-threads", "1"]);
    cargo.envs(soak.sizes.iter().copied());
    let status = cargo.status().map_err(|e| format!("{cargo:?}: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("soak {name} failed: {status}")) }
}
