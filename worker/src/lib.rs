//! The worker: one process a node that owns sockets and moves media. It decides nothing; the operator does.

use std::process::ExitCode;

pub mod admin;
pub mod args;
pub mod assignment;
pub mod canary;
pub mod clock;
pub mod connection;
pub mod control;
pub mod convert;
pub mod counters;
pub mod directory;
mod egress;
pub mod front;
pub mod health;
pub mod hub;
mod ingress;
pub mod limits;
pub mod listeners;
pub mod log;
pub mod look;
mod metrics;
mod node_lock;
pub mod pages;
mod process;
pub mod pulse;
pub mod routes;
pub mod rtp;
pub mod scan;
pub mod seats;
pub mod shard;
pub mod shared_port;
pub mod targets;
pub mod watchdog;

/// Runs a worker until it is told to end (SIGTERM, or the parent's death with `--supervised`). Logging must be set up before
/// (`log::install`). Starts its own threads and runtimes, so it must not be called inside one.
pub fn run(args: args::Args) -> ExitCode {
    process::run(args)
}
