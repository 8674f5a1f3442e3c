//! The parts of the binary `penstock`: the operator's drivers, standalone, and the tools for people.

use std::process::ExitCode;

use clap::Parser as _;

use args::{Args, Command};

mod admin;
mod args;
mod asks;
mod clock;
mod cluster;
mod convert;
mod event_log;
mod folder;
mod limits;
mod metrics;
mod page;
mod run;
mod sessions;
mod shutdown;
mod standalone;
mod store;
mod supervisor;
mod table;
mod telemetry;
mod tools;
mod witnesses;
mod worker_pages;
mod yaml;

/// Does what the command line says.
pub fn main() -> ExitCode {
    match Args::parse().command {
        Command::Standalone(args) => standalone::run(args),
        Command::Worker(args) => {
            worker::log::install(args.log_format);
            worker::run(args)
        }
        Command::Operator(args) => cluster::run(args),
        Command::Tool(tool) => tools::run(&tool),
    }
}
