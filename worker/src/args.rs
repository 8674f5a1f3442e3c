//! What a worker is told on its command line. No port range is among it: ports come from the operator, one lease at a time.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;

use crate::limits::{CONNECTIONS_PER_ADDRESS, HANDSHAKES_PER_ADDRESS};

/// The environment variable that holds the bearer token of the session, so that it shows in no process list.
pub const SESSION_TOKEN_ENV: &str = "PENSTOCK_SESSION_TOKEN";

/// Arguments of `penstock worker`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Operators to dial, e.g. https://penstock-operator.penstock-system.svc:9190; a name stands for all replicas that it leads
    /// to; repeat for several
    #[arg(long, value_name = "URL", required = true)]
    pub operator: Vec<String>,

    /// Authority of the operators' certificates, PEM
    #[arg(long, value_name = "FILE")]
    pub operator_ca: Option<PathBuf>,

    /// Token that proves to the operators who this worker is, e.g. a projected serviceAccountToken; read for each dial
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// Wait until no other worker runs on this node
    #[arg(long)]
    pub node_lock: bool,

    /// Name of this worker; on a cluster the pod's name
    #[arg(long)]
    pub name: String,

    /// Node that this worker runs on; media ports belong to a node
    #[arg(long)]
    pub node: String,

    /// Unique id of the pod, where there is one
    #[arg(long, value_name = "UID", default_value = "", env = "PENSTOCK_POD_UID")]
    pub pod_uid: String,

    /// What this worker was made from, e.g. the pod's label controller-revision-hash: in a rollout streams go to the newest
    #[arg(long, value_name = "NAME", default_value = "", env = "PENSTOCK_TEMPLATE")]
    pub template: String,

    /// Where publishers and players of RTMP are accepted
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:1935")]
    pub rtmp: SocketAddr,

    /// Where players of HTTP-FLV are accepted
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:8080")]
    pub http: SocketAddr,

    /// Where rtp streams that lease no port (spec.source.rtp.shared) come in, over TCP and over UDP on one number, e.g. 0.0.0.0:10000
    /// [default: nowhere]
    #[arg(long, value_name = "ADDR")]
    pub rtp_shared: Option<SocketAddr>,

    /// Sessions, ports, metrics and health for people and Prometheus
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub admin: SocketAddr,

    /// Metrics alone, where Prometheus reaches them [default: with the other pages on --admin]
    #[arg(long, value_name = "ADDR")]
    pub metrics: Option<SocketAddr>,

    /// The health port, answered by the watchdog's own thread
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9181")]
    pub health: SocketAddr,

    /// Address that publishers and players reach this node at, best first; repeat for several
    #[arg(long, value_name = "ADDR")]
    pub advertise: Vec<IpAddr>,

    /// Seconds that streams have, after SIGTERM, to be served by other workers; keep it below the pod's
    /// terminationGracePeriodSeconds
    #[arg(long, value_name = "SECONDS", default_value_t = 25)]
    pub drain_deadline: u64,

    /// Network that a stream's device (spec.source.rtp.remote) may be in though it is loopback, link-local, this node itself, or the
    /// cluster's: of Services, pods or nodes; repeat for several
    #[arg(long, value_name = "CIDR")]
    pub allow_targets: Vec<IpNet>,

    /// Network that it may not be in, whatever else allows it; repeat for several
    #[arg(long, value_name = "CIDR")]
    pub deny_targets: Vec<IpNet>,

    /// Connections that one address (an IPv6 /64) may have to the public listeners and leased rtp ports; raise it where a proxy is before
    /// them
    #[arg(long, value_name = "N", default_value_t = CONNECTIONS_PER_ADDRESS, value_parser = clap::value_parser!(u32).range(1..))]
    pub connections_per_address: u32,

    /// The same of connections that have not said yet what they want
    #[arg(long, value_name = "N", default_value_t = HANDSHAKES_PER_ADDRESS, value_parser = clap::value_parser!(u32).range(1..))]
    pub handshakes_per_address: u32,

    /// Threads that move media [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub shards: Option<u16>,

    /// Standard input is a pipe held by the parent: exit at once when it ends
    #[arg(long)]
    pub supervised: bool,

    /// Serve POST /debug/fault on the admin address, which breaks shards, sessions and leases on purpose
    #[arg(long)]
    pub test_hooks: bool,

    /// How log lines are written to standard error
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// How a log line is written.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}
