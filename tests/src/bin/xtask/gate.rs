//! `cargo xtask test`: the only gate.

use std::process::Command;

use tests::cluster::Programs;
use tests::image::penstock;
use tests::tools::cargo_path;

use crate::steps::Steps;
use crate::{image, peer, setup};

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
    steps.cargo_test(
        "unit tests, scenarios, simulation, generated files",
        &mut cargo(&["test", "--workspace", "--exclude", "tests", "--locked", "--no-fail-fast"]),
    );
    steps.step("a Kubernetes of real parts is built", || {
        setup::cluster()?;
        Programs::build().map(|_| true)
    });
    if built {
        let mut command = cargo(&["test", "--package", "tests", "--locked", "--no-fail-fast"]);
        command.env("RUST_TEST_THREADS", END_TO_END_THREADS);
        if shipped {
            command.env("PENSTOCK_BIN", penstock::program());
        }
        steps.step("the crate rtmp pushes and plays", peer::run);
        steps.cargo_test("layers, and real clients against the release binary", &mut command);
    }
    steps.end()
}

fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(cargo_path());
    command.args(arguments);
    command
}
