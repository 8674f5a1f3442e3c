//! The command line of the tools for people.

use std::{net::SocketAddr, path::PathBuf};

use operator_core::{api, ids::ObjectName};

// Each looks, says what it sees, and ends: with 0 where all is well. (In a doc comment this would be what `penstock --help` says.)
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Tool {
    /// Tells whether an installation on a cluster does its job
    Check(Check),
    /// Looks at this host for what will hurt: port ranges, who holds ports, limits, the clock
    Doctor(Doctor),
    /// Says why a stream is not playing, and what to do
    Why(Why),
    /// Ends who publishes a stream, or all who play it, now
    Kick(Kick),
}

/// Arguments of `penstock check`.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Check {
    /// Probes port of the operator; the name stands for all replicas that it leads to
    #[arg(long, value_name = "HOST:PORT", default_value = "penstock-operator:9192")]
    pub(crate) operator: String,

    /// Workers that each replica is to hear at least
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) workers: usize,
}

/// Arguments of `penstock doctor`.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Doctor {
    /// Folder whose PortPools count, as `penstock standalone` reads it [default: the pools of whoever runs here, or the cluster's]
    #[arg(value_name = "DIR", conflicts_with_all = ["admin", "cluster"])]
    pub(crate) dir: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) whom: Whom,

    /// How it is said
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// Arguments of `penstock why`.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Why {
    /// The stream
    #[arg(value_name = "NAMESPACE/NAME", value_parser = object_name)]
    pub(crate) stream: ObjectName,

    /// What the encoder or the player was given, to be compared with what it should be
    #[arg(long)]
    pub(crate) url: Option<String>,

    #[command(flatten)]
    pub(crate) whom: Whom,

    /// How it is said
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// Arguments of `penstock kick`.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Kick {
    /// The stream
    #[arg(value_name = "NAMESPACE/NAME", value_parser = object_name)]
    pub(crate) stream: ObjectName,

    /// End all who play it, rather than who publishes it
    #[arg(long)]
    pub(crate) viewers: bool,

    #[command(flatten)]
    pub(crate) whom: Whom,
}

/// Who is asked.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Whom {
    /// Ask this admin port of `penstock standalone` or of a worker [default: 127.0.0.1:9180 where somebody answers, else the
    /// cluster]
    #[arg(long, value_name = "ADDR", conflicts_with = "cluster")]
    pub(crate) admin: Option<SocketAddr>,

    /// Ask the cluster: with the rights of the pod that this runs in, else with kubectl
    #[arg(long)]
    pub(crate) cluster: bool,

    /// On a cluster: the Lease by which replicas of the operator agree who leads
    #[arg(long, value_name = "NAMESPACE/NAME", default_value = "penstock-system/penstock", value_parser = object_name)]
    pub(crate) lease: ObjectName,
}

/// How a tool says it.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

fn object_name(text: &str) -> Result<ObjectName, String> {
    let (namespace, name) = text.split_once('/').unwrap_or((api::DEFAULT_NAMESPACE, text));
    if namespace.is_empty() || name.is_empty() || name.contains('/') {
        return Err("write NAMESPACE/NAME, as kubectl shows them, e.g. default/cam-1".to_owned());
    }
    Ok(ObjectName::new(namespace, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tool_has_its_own_line_of_help() {
        use clap::CommandFactory as _;
        let command = crate::args::Args::command();
        let about =
            |command: &clap::Command| command.get_about().map(ToString::to_string).unwrap_or_default();
        assert!(about(&command).starts_with("Live media"), "{}", about(&command));
        for (name, begin) in [("doctor", "Looks at this host"), ("why", "Says why"), ("kick", "Ends who")] {
            let tool = command.find_subcommand(name).unwrap();
            assert!(about(tool).starts_with(begin), "{name}: {}", about(tool));
        }
    }

    #[test]
    fn an_object_is_a_namespace_and_a_name() {
        assert_eq!(object_name("live/cam"), Ok(ObjectName::new("live", "cam")));
        assert_eq!(object_name("cam"), Ok(ObjectName::new("default", "cam")));
        for wrong in ["", "/cam", "live/", "live/cam/1"] {
            assert!(object_name(wrong).unwrap_err().contains("NAMESPACE/NAME"), "{wrong}");
        }
    }
}
