//! Actions, ledger and statuses as lines.

use std::collections::BTreeMap;

use operator_core::State;
use operator_core::action::{Action, AssignedSource, Command, Severity, Tokens};
use operator_core::ids::{Ports, StreamRef, Uid};
use operator_core::status::{Conditions, PoolStatus, PreviousPorts, RtpPorts, StreamStatus};

/// Names of streams by UID, for people.
pub(crate) type Names = BTreeMap<Uid, String>;

pub(crate) fn action(action: &Action, names: &Names, node: &str) -> String {
    match action {
        Action::WriteStream { uid, status, claim, .. } => {
            let kind = if *claim { "claim" } else { "status" };
            format!("write {kind} {}: {}", stream(uid, names), summary(status))
        }
        Action::WritePool { name, status, .. } => format!("write pool {name}: {}", pool_summary(status)),
        Action::DeleteStream { uid, .. } => format!("delete {}", stream(uid, names)),
        Action::Confirm { uid, name, .. } => {
            let place = name.as_ref().map_or_else(|| "anywhere".to_owned(), ToString::to_string);
            format!("read {} ({place})", stream(uid, names))
        }
        Action::RecordTerm { term } => format!("record term {term}"),
        Action::Command { session: _, term, sequence, command } => {
            format!("{node} <- t{term} #{sequence} {}", self::command(command, names))
        }
        Action::CloseSession { session, why } => format!("close session {session}: {why}"),
        Action::Emit { object, reason, severity, note } => {
            let severity = match severity {
                Severity::Normal => "event",
                Severity::Warning => "warning",
            };
            format!("{severity} {reason} {object}: {note}")
        }
    }
}

fn command(command: &Command, names: &Names) -> String {
    match command {
        Command::Welcome => "Welcome".to_owned(),
        Command::Assign(assign) => {
            let source = match &assign.source {
                AssignedSource::Push { .. } => "push".to_owned(),
                AssignedSource::Rtp { source, ports, next } => {
                    let next = next.map_or(String::new(), |next| format!(" and {next}"));
                    let ssrc = source.ssrc.map_or(String::new(), |ssrc| format!(" ssrc={ssrc}"));
                    format!("{:?} {ports}{next}{ssrc}", source.transport)
                }
                AssignedSource::Shared { source } => {
                    format!("{:?} shared ssrc={}", source.transport, source.ssrc.unwrap_or_default())
                }
            };
            let tokens = match &assign.publish_tokens {
                Tokens::Open => String::new(),
                Tokens::Required(hashes) => format!(" tokens={}", hashes.len()),
            };
            format!("Assign {} {source} {}{tokens}", claim(&assign.stream, names), assign.path)
        }
        Command::Revoke { stream, reason } => format!("Revoke {} {reason}", claim(stream, names)),
        Command::Directory(directory) => {
            let entries: Vec<String> = directory
                .entries
                .iter()
                .map(|entry| {
                    let owner = entry.worker.as_ref().map_or("nobody", |worker| worker.as_str());
                    format!("{}={owner}@{}", entry.path, entry.stream.epoch)
                })
                .chain(directory.removed.iter().map(|path| format!("-{path}")))
                .collect();
            let full = if directory.full { " full" } else { "" };
            format!("Directory v{}{full} [{}]", directory.version, entries.join(" "))
        }
        Command::Networks(networks) => {
            let all =
                [("services", &networks.services), ("pods", &networks.pods), ("nodes", &networks.nodes)];
            let all = all.map(|(kind, networks)| {
                let networks: Vec<String> = networks.iter().map(ToString::to_string).collect();
                format!("{kind}={}", networks.join(","))
            });
            format!("Networks {}", all.join(" "))
        }
        Command::InventoryRequest => "InventoryRequest".to_owned(),
        Command::Watch { ranges, .. } => {
            let ranges: Vec<String> =
                ranges.iter().map(|range| format!("{}-{}", range.start, range.end)).collect();
            format!("Watch {}", ranges.join(","))
        }
        Command::CloseLeak { port, stream } => {
            let whose = stream.as_ref().map_or_else(|| "nobody".to_owned(), |stream| claim(stream, names));
            format!("CloseLeak {port} of {whose}")
        }
    }
}

/// The ledger, and where each stream stands.
pub(crate) fn state(state: &State, names: &Names) -> String {
    let mut out = String::new();
    for ports in state.ports() {
        out.push_str(&format!(
            "  ledger {} {}: capacity {} = free {} + leased {} + cooling {} + quarantined {}; draining {}\n",
            ports.node,
            ports.pool,
            ports.capacity,
            ports.free,
            ports.leased,
            ports.cooling,
            ports.quarantined,
            ports.draining
        ));
    }
    for held in state.claims() {
        let ports = held.ports.map_or_else(|| "no ports".to_owned(), |ports| ports.to_string());
        let ports = held.second.map_or(ports.clone(), |second| format!("{ports} and {second}"));
        let revoking = if held.revoking { ", to be closed" } else { "" };
        out.push_str(&format!(
            "  claim {} on {}: {ports}{revoking}\n",
            claim(&held.stream, names),
            held.node
        ));
    }
    for seen in state.streams() {
        out.push_str(&format!("  stream {}: {}\n", seen.name.name, summary(seen.stored)));
    }
    let counters = format!("{:?}", state.counters());
    let counted: Vec<&str> = counters
        .trim_start_matches("Counters { ")
        .trim_end_matches(" }")
        .split(", ")
        .filter(|counter| !counter.ends_with(": 0") && !counter.starts_with("writes_dropped"))
        .collect();
    out.push_str(&format!("  counted: {}\n", counted.join(", ")));
    out
}

/// A status in one line.
pub(crate) fn summary(status: &StreamStatus) -> String {
    let ports = status.ports.as_ref().map_or(String::new(), |ports| {
        let RtpPorts { pool: _, rtp, rtcp, transport: _, previous } = ports;
        let previous = previous.map_or(String::new(), |PreviousPorts { rtp, rtcp, since, closes_at }| {
            let open = if since.is_some() { "" } else { "(alone)" };
            let until = closes_at.map_or(String::new(), |at| format!("(until {})", at.0));
            format!(" previous={}{open}{until}", Ports { rtp, rtcp })
        });
        format!(" ports={}{previous}", Ports { rtp: *rtp, rtcp: *rtcp })
    });
    let worker = status
        .assignment
        .as_ref()
        .map_or_else(String::new, |assignment| format!(" on={}", assignment.worker));
    let failovers =
        if status.failovers > 0 { format!(" failovers={}", status.failovers) } else { String::new() };
    let conditions = conditions(&status.conditions);
    format!(
        "{} e{} t{}{worker}{ports}{failovers} {conditions}",
        status.phase.as_str(),
        status.epoch,
        status.term
    )
}

fn conditions(conditions: &Conditions) -> String {
    let shown: Vec<String> = conditions
        .iter()
        .map(|(kind, condition)| {
            let sign = if condition.status { '+' } else { '-' };
            format!("{sign}{}/{}", kind.as_str(), condition.reason)
        })
        .collect();
    shown.join(" ")
}

/// A status in full.
pub(crate) fn status(status: &StreamStatus) -> String {
    let mut out = format!("  {}\n", summary(status));
    for endpoint in &status.endpoints {
        out.push_str(&format!("  {:?} {} {}\n", endpoint.usage, endpoint.protocol, endpoint.url));
    }
    for (kind, condition) in &status.conditions {
        out.push_str(&format!(
            "  {} since {}: {}\n",
            kind.as_str(),
            condition.last_transition.0,
            condition.message
        ));
    }
    if let Some(publisher) = &status.publisher {
        out.push_str(&format!("  publisher {}\n", publisher.remote));
    }
    if let Some(failover) = &status.last_failover {
        out.push_str(&format!(
            "  last failover {} -> {}: {}, gap {:?} ms\n",
            failover.from, failover.to, failover.reason, failover.gap_ms
        ));
    }
    out
}

fn pool_summary(status: &PoolStatus) -> String {
    format!(
        "nodes {} capacity {} free {} leased {} cooling {} quarantined {} draining {} {}",
        status.nodes,
        status.capacity,
        status.free,
        status.leased,
        status.cooling,
        status.quarantined,
        status.draining,
        conditions(&status.conditions)
    )
}

/// A pool's status in full.
pub(crate) fn pool_status(status: &PoolStatus) -> String {
    let mut out = format!("  {}\n", pool_summary(status));
    for problem in &status.problems {
        out.push_str(&format!(
            "  problem {} {} {} {}\n",
            problem.node,
            problem.port,
            problem.source.as_str(),
            problem.owner
        ));
    }
    for name in &status.blocked_by {
        out.push_str(&format!("  blocked by {name}\n"));
    }
    for (kind, condition) in &status.conditions {
        out.push_str(&format!("  {}: {}\n", kind.as_str(), condition.message));
    }
    out
}

fn stream(uid: &Uid, names: &Names) -> String {
    names.get(uid).cloned().unwrap_or_else(|| uid.to_string())
}

fn claim(key: &StreamRef, names: &Names) -> String {
    format!("{}@{}", stream(&key.uid, names), key.epoch)
}
