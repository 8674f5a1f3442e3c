//! `cargo xtask`: the gate, the benchmarks and the long runs of this repository.
#![allow(clippy::print_stdout, reason = "a command-line tool speaks on its standard output")]

mod bench;
mod cluster;
mod coverage;
mod gate;
mod image;
mod peer;
mod setup;
mod soak;
mod steps;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  test                    everything that must hold before a commit: format, lints, unit tests, generated files,
                          layers, and real clients against the release binary
  setup                   only install the clients that the tests need
  bench NAME              a measurement beside peers: start, fanout or core
  cluster up [NODES]      a Kubernetes of real parts on this machine; `cluster install` puts penstock on it
  coverage                how much of the parsers of network bytes the fuzz corpus reaches
  image                   the container image, built without a container engine; `docker load` and `ctr images import` take it
  ps-send CLIP HOST:PORT  sends a file as a GB28181 camera would; `cargo xtask ps-send` tells its options
  soak NAME               a long run, such as simulation, chaos or scale; `cargo xtask soak` tells them and their sizes

PENSTOCK_CACHE moves the folder of downloaded tools and made clips (~/.cache/penstock).
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["test"] => gate::run(),
        ["setup"] => setup::run().and_then(|()| setup::cluster()),
        ["bench"] => bench::list(),
        ["bench", name] => bench::run(name),
        // A process of `bench fanout`.
        ["bare-loop", address] => bench::bare_loop(address),
        ["cluster", words @ ..] => cluster::run(words),
        ["coverage"] => coverage::run(),
        ["image"] => image::run().map(drop),
        // A step of `test`.
        ["rtmp-peer"] => peer::run(),
        ["ps-send", words @ ..] => tests::ps_sender::main(words),
        ["soak"] => soak::list(),
        ["soak", name, words @ ..] => soak::run(name, words),
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            Ok(())
        }
        _ => Err(format!("no such command: {}\n\n{USAGE}", words.join(" "))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}
