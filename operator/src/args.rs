//! The command line.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
};

use worker::args::LogFormat;

/// Live media that never jams: encoders and cameras in, players out.
#[derive(clap::Parser, Debug)]
#[command(name = "penstock", version, about)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(clap::Subcommand, Debug)]
pub(crate) enum Command {
    /// Everything on this machine, from a folder of YAML files
    Standalone(Standalone),
    /// Moves media for an operator: one process a node
    Worker(worker::args::Args),
    /// Decides for a Kubernetes cluster; not there yet
    Operator,
}

/// Arguments of `penstock standalone`.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Standalone {
    /// Folder with MediaStreams, PortPools and token Secrets; edits take effect at once
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,

    /// Where publishers and players of RTMP are accepted
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:1935")]
    pub(crate) rtmp: SocketAddr,

    /// Where players of HTTP-FLV are accepted
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:8080")]
    pub(crate) http: SocketAddr,

    /// Where /streams, /pools, /events, /sessions, /ports, /metrics and /healthz are served
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9180")]
    pub(crate) admin: SocketAddr,

    /// The worker's health port, answered by its watchdog
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9181")]
    pub(crate) health: SocketAddr,

    /// Address that publishers and players reach this machine at, best first; repeat for several [default: the first address
    /// that is not loopback]
    #[arg(long, value_name = "ADDR")]
    pub(crate) advertise: Vec<IpAddr>,

    /// Threads that move media [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) shards: Option<u16>,

    /// Serve POST /debug/fault, which breaks shards and sessions on purpose
    #[arg(long)]
    pub(crate) test_hooks: bool,

    /// How log lines are written to standard error
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

/// Says plainly that Kubernetes mode is still to be built.
pub(crate) fn operator_is_not_there() -> ExitCode {
    eprintln!(
        "penstock operator: running on a Kubernetes cluster does not work yet. Use `penstock standalone DIR` on one machine; \
         it takes the same YAML."
    );
    ExitCode::from(2)
}
