//! The binary `penstock`: arguments, then one of its three parts.

use std::process::ExitCode;

use clap::Parser as _;

use args::{Args, Command};

mod admin;
mod args;
mod clock;
mod convert;
mod event_log;
mod folder;
mod limits;
mod metrics;
mod run;
mod sessions;
mod shutdown;
mod standalone;
mod store;
mod supervisor;
mod table;
mod telemetry;
mod worker_pages;
mod yaml;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match Args::parse().command {
        Command::Standalone(args) => standalone::run(args),
        Command::Worker(args) => {
            worker::log::install(args.log_format);
            worker::run(args)
        }
        Command::Operator => args::operator_is_not_there(),
    }
}
