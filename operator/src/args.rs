//! The command line.

mod tools;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use operator_core::config::PathGrants;
use worker::args::LogFormat;
use worker::limits::{CONNECTIONS_PER_ADDRESS, HANDSHAKES_PER_ADDRESS};

pub(crate) use tools::{Check, Doctor, Kick, Output, Tool, Whom, Why};

/// Live media that never jams: encoders and cameras in, players out.
#[derive(clap::Parser, Debug)]
#[command(name = "penstock", version)]
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
    /// Decides for a Kubernetes cluster
    Operator(Operator),
    #[command(flatten)]
    Tool(Tool),
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

    /// Where rtp streams that lease no port (spec.source.rtp.shared) come in, over TCP and over UDP on one number, e.g. 0.0.0.0:10000
    /// [default: nowhere]
    #[arg(long, value_name = "ADDR")]
    pub(crate) rtp_shared: Option<SocketAddr>,

    /// Where /streams, /pools, /events, /sessions, /ports, /budget, /metrics and /healthz are served
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9180")]
    pub(crate) admin: SocketAddr,

    /// The worker's health port, answered by its watchdog
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9181")]
    pub(crate) health: SocketAddr,

    /// Address that publishers and players reach this machine at, best first; repeat for several [default: the one that
    /// --rtmp and --http name, else the first that is not loopback]
    #[arg(long, value_name = "ADDR")]
    pub(crate) advertise: Vec<IpAddr>,

    /// Connections that one address (an IPv6 /64) may have to the public listeners and leased rtp ports; raise it where a proxy is before
    /// them
    #[arg(long, value_name = "N", default_value_t = CONNECTIONS_PER_ADDRESS, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) connections_per_address: u32,

    /// The same of connections that have not said yet what they want
    #[arg(long, value_name = "N", default_value_t = HANDSHAKES_PER_ADDRESS, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) handshakes_per_address: u32,

    /// Threads that move media [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) shards: Option<u16>,

    /// Serve POST /debug/fault, which breaks shards, sessions and leases on purpose
    #[arg(long)]
    pub(crate) test_hooks: bool,

    /// How log lines are written to standard error
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

/// Arguments of `penstock operator`.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Operator {
    /// Where workers dial us, over TLS
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:9190")]
    pub(crate) sessions: SocketAddr,

    /// Certificate for the sessions, PEM
    #[arg(long, value_name = "FILE", default_value = "/etc/penstock/tls/tls.crt")]
    pub(crate) tls_cert: PathBuf,

    /// Key of that certificate, PEM
    #[arg(long, value_name = "FILE", default_value = "/etc/penstock/tls/tls.key")]
    pub(crate) tls_key: PathBuf,

    /// Where /livez, /readyz and /metrics are served
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:9192")]
    pub(crate) probes: SocketAddr,

    /// Lease in our namespace by which replicas agree who leads
    #[arg(long, value_name = "NAME", default_value = "penstock")]
    pub(crate) lease: String,

    /// Our own namespace
    #[arg(long, value_name = "NAMESPACE", env = "PENSTOCK_NAMESPACE")]
    pub(crate) namespace: String,

    /// Our own pod
    #[arg(long, value_name = "NAME", env = "PENSTOCK_POD_NAME")]
    pub(crate) pod_name: String,

    /// Its unique id
    #[arg(long, value_name = "UID", env = "PENSTOCK_POD_UID")]
    pub(crate) pod_uid: String,

    /// Its address
    #[arg(long, value_name = "ADDR", env = "PENSTOCK_POD_IP")]
    pub(crate) pod_ip: Option<IpAddr>,

    /// Name that leads to all replicas, who look at workers that one of them does not hear
    #[arg(long, value_name = "HOST")]
    pub(crate) peers: Option<String>,

    /// ServiceAccount in our namespace whose pods are workers
    #[arg(long, value_name = "NAME", default_value = "penstock-worker")]
    pub(crate) workers_service_account: String,

    /// Audience that a worker's token must be made for
    #[arg(long, value_name = "NAME", default_value = "penstock")]
    pub(crate) audience: String,

    /// Namespace whose token Secrets are read, `*` for all; repeat for several [default: none]
    #[arg(long = "secret-namespaces", value_name = "NAMESPACE")]
    pub(crate) secret_namespaces: Vec<String>,

    /// Lets streams of a namespace use paths below PREFIX/ too; `*` for any prefix or namespace; repeat for several
    #[arg(long = "path-grants", value_name = "PREFIX=NAMESPACE", value_parser = path_grant)]
    pub(crate) path_grants: Vec<PathGrant>,

    /// How log lines are written to standard error
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

/// One value of `--path-grants`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PathGrant {
    /// With its final slash; empty for any path.
    prefix: Arc<str>,
    namespace: Arc<str>,
}

/// Namespaces to read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Namespaces {
    All,
    These(BTreeSet<String>),
}

impl Operator {
    pub(crate) fn secret_namespaces(&self) -> Namespaces {
        if self.secret_namespaces.iter().any(|name| name == "*") {
            Namespaces::All
        } else {
            Namespaces::These(self.secret_namespaces.iter().cloned().collect())
        }
    }

    pub(crate) fn grants(&self) -> PathGrants {
        let mut grants: BTreeMap<Arc<str>, Vec<Arc<str>>> = BTreeMap::new();
        for PathGrant { prefix, namespace } in &self.path_grants {
            grants.entry(namespace.clone()).or_default().push(prefix.clone());
        }
        PathGrants::Namespaces(grants)
    }
}

fn path_grant(text: &str) -> Result<PathGrant, String> {
    let (prefix, namespace) = text
        .split_once('=')
        .filter(|(prefix, namespace)| !prefix.is_empty() && !namespace.is_empty())
        .ok_or("write PREFIX=NAMESPACE, e.g. live=cameras")?;
    let prefix = match prefix.trim_end_matches('/') {
        "*" => String::new(),
        prefix => format!("{prefix}/"),
    };
    Ok(PathGrant { prefix: prefix.into(), namespace: namespace.into() })
}

#[cfg(test)]
mod tests;
