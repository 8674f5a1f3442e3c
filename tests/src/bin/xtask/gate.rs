//! `cargo xtask test`: the only gate.

use std::process::Command;

use serde_json::Value;
use tests::cluster::Programs;
use tests::image::penstock;
use tests::tools::cargo_path;

use crate::steps::Steps;
use crate::{image, setup};

/// Tests against the release binary mostly wait for media that runs at its own speed, so more of them run at once than
/// there are cores.
const END_TO_END_THREADS: &str = "4";

/// Runs everything, to the end even when something fails, and tells the counts.
pub(crate) fn run() -> Result<(), String> {
    let mut steps = Steps::begin();
    steps.step("real clients are installed", || setup::run().map(|()| true));
    steps.check("format", &mut cargo(&["fmt", "--all", "--check"]));
    steps.check(
        "lints",
        &mut cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]),
    );
    // What ships is what is tested. Where it can't be made, the end-to-end tests still say something of the same code.
    let shipped = steps.step("the static release binary and its image are built", image::run);
    let built = shipped
        || steps
            .check("release build", &mut cargo(&["build", "--release", "--locked", "--package", "operator"]));
    let targets = test_targets()?;
    let (end_to_end, others): (Vec<_>, Vec<_>) =
        targets.iter().partition(|(package, _)| package == env!("CARGO_PKG_NAME"));
    steps.cargo_test(
        "unit tests, scenarios, simulation, generated files",
        cargo(TEST).args(["--lib", "--bins"]).args(named(&others)),
    );
    steps.cargo_test("examples of the documentation", cargo(TEST).arg("--doc"));
    steps.step("a Kubernetes of real parts is built", || {
        setup::cluster()?;
        Programs::build().map(|_| true)
    });
    if built {
        // In processes of their own, for which the environment says what is tested.
        let own = std::env::current_exe().map_err(|e| format!("this program's own file: {e}"))?;
        let mut peer = Command::new(own);
        peer.arg("rtmp-peer");
        let mut command = cargo(TEST);
        command.args(named(&end_to_end)).env("RUST_TEST_THREADS", END_TO_END_THREADS);
        if shipped {
            for command in [&mut peer, &mut command] {
                command.env("PENSTOCK_BIN", penstock::program());
            }
        }
        steps.check("the crate rtmp pushes and plays", &mut peer);
        steps.cargo_test("layers, and real clients against the release binary", &mut command);
    }
    steps.end()
}

/// All packages each time: of some of them alone, dependencies would have other features, and be compiled once more.
const TEST: &[&str] = &["test", "--workspace", "--locked", "--no-fail-fast"];

/// The files of integration tests, each with its package.
fn test_targets() -> Result<Vec<(String, String)>, String> {
    let output = cargo(&["metadata", "--no-deps", "--locked", "--format-version", "1"]).output();
    let output = output.map_err(|e| format!("cargo metadata: {e}"))?;
    let metadata: Value = serde_json::from_slice(&output.stdout)
        .map_err(|e| format!("cargo metadata: {e}: {}", String::from_utf8_lossy(&output.stderr)))?;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut targets = Vec::new();
    for package in list(&metadata["packages"]) {
        for target in list(&package["targets"]) {
            if list(&target["kind"]).contains(&"test".into()) {
                targets.push((text(&package["name"]), text(&target["name"])));
            }
        }
    }
    match targets.iter().find(|(of, name)| targets.iter().any(|(other, its)| its == name && other != of)) {
        None => Ok(targets),
        // cargo would run both where one is asked for.
        Some((package, name)) => {
            Err(format!("tests of two packages are called {name}; rename that of {package}"))
        }
    }
}

fn named(targets: &[&(String, String)]) -> Vec<String> {
    targets.iter().flat_map(|(_, name)| ["--test".to_owned(), name.clone()]).collect()
}

fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(cargo_path());
    command.args(arguments);
    command
}
