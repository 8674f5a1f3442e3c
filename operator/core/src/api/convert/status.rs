//! Status as the API holds it, out of the planner's and back into it.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;

use crate::{
    api,
    ids::{NodeName, ObjectName, Path, PoolName, UnixTime, WorkerName},
    reason::Reason,
    spec::RtpTransport,
    status,
};

/// A stream's status for the API.
pub fn api_stream_status(status: &status::StreamStatus) -> api::MediaStreamStatus {
    let status::StreamStatus {
        observed_generation,
        phase,
        epoch,
        term,
        path,
        source,
        assignment,
        ports,
        endpoints,
        publisher,
        failovers,
        last_failover,
        conditions,
    } = status;
    api::MediaStreamStatus {
        observed_generation: Some(*observed_generation),
        phase: Some(api_phase(*phase)),
        epoch: Some(signed(*epoch)),
        term: Some(signed(*term)),
        path: path.as_ref().map(ToString::to_string),
        source: source.map(|kind| kind.as_str().to_owned()),
        assignment: assignment.as_ref().map(api_assignment),
        ports: ports.as_ref().map(api_ports),
        endpoints: endpoints.iter().map(api_endpoint).collect(),
        publisher: publisher.as_ref().map(api_publisher),
        failovers: i64::from(*failovers),
        last_failover: last_failover.as_ref().map(api_failover),
        conditions: api_conditions(conditions),
    }
}

/// A pool's status for the API.
pub fn api_pool_status(status: &status::PoolStatus) -> api::PortPoolStatus {
    let status::PoolStatus {
        observed_generation,
        nodes,
        capacity,
        free,
        leased,
        cooling,
        quarantined,
        draining,
        worst_node,
        blocked_by,
        problems,
        conditions,
    } = status;
    let used = u64::from(capacity.saturating_sub(*free));
    api::PortPoolStatus {
        observed_generation: Some(*observed_generation),
        nodes: i64::from(*nodes),
        capacity: i64::from(*capacity),
        free: i64::from(*free),
        leased: i64::from(*leased),
        cooling: i64::from(*cooling),
        quarantined: i64::from(*quarantined),
        used_percent: signed((used * 100).div_ceil(u64::from((*capacity).max(1)))),
        draining: i64::from(*draining),
        worst_node: worst_node
            .as_ref()
            .map(|worst| api::WorstNode { name: worst.name.to_string(), free: i64::from(worst.free) }),
        blocked_by: blocked_by.iter().map(ToString::to_string).collect(),
        problems: problems.iter().map(api_problem).collect(),
        conditions: api_conditions(conditions),
    }
}

/// What a stored status says to a new leader. A word that this version does not know is left out, and is written anew.
pub(super) fn stream_status(status: &api::MediaStreamStatus) -> status::StreamStatus {
    status::StreamStatus {
        observed_generation: status.observed_generation.unwrap_or_default(),
        phase: status.phase.map(phase).unwrap_or_default(),
        epoch: unsigned(status.epoch),
        term: unsigned(status.term),
        path: status.path.as_deref().map(Path::from),
        source: status.source.as_deref().and_then(status::SourceKind::parse),
        assignment: status.assignment.as_ref().map(assignment),
        ports: status.ports.as_ref().map(ports),
        endpoints: status.endpoints.iter().filter_map(endpoint).collect(),
        publisher: status.publisher.as_ref().map(publisher),
        failovers: u32::try_from(status.failovers).unwrap_or_default(),
        last_failover: status.last_failover.as_ref().and_then(failover),
        conditions: conditions(&status.conditions),
    }
}

/// As [`stream_status`], for a pool.
pub(super) fn pool_status(status: &api::PortPoolStatus) -> status::PoolStatus {
    let number = |number: i64| u32::try_from(number).unwrap_or_default();
    status::PoolStatus {
        observed_generation: status.observed_generation.unwrap_or_default(),
        nodes: number(status.nodes),
        capacity: number(status.capacity),
        free: number(status.free),
        leased: number(status.leased),
        cooling: number(status.cooling),
        quarantined: number(status.quarantined),
        draining: number(status.draining),
        worst_node: status.worst_node.as_ref().map(|worst| status::WorstNode {
            name: NodeName::from(worst.name.as_str()),
            free: number(worst.free),
        }),
        blocked_by: status.blocked_by.iter().filter_map(|name| object_name(name)).collect(),
        problems: status.problems.iter().filter_map(problem).collect(),
        conditions: conditions(&status.conditions),
    }
}

fn api_phase(phase: status::Phase) -> api::StreamPhase {
    match phase {
        status::Phase::Pending => api::StreamPhase::Pending,
        status::Phase::Ready => api::StreamPhase::Ready,
        status::Phase::Live => api::StreamPhase::Live,
        status::Phase::Idle => api::StreamPhase::Idle,
        status::Phase::Paused => api::StreamPhase::Paused,
        status::Phase::Refused => api::StreamPhase::Refused,
        status::Phase::Terminating => api::StreamPhase::Terminating,
    }
}

fn phase(phase: api::StreamPhase) -> status::Phase {
    match phase {
        api::StreamPhase::Pending => status::Phase::Pending,
        api::StreamPhase::Ready => status::Phase::Ready,
        api::StreamPhase::Live => status::Phase::Live,
        api::StreamPhase::Idle => status::Phase::Idle,
        api::StreamPhase::Paused => status::Phase::Paused,
        api::StreamPhase::Refused => status::Phase::Refused,
        api::StreamPhase::Terminating => status::Phase::Terminating,
    }
}

fn api_assignment(assignment: &status::Assignment) -> api::Assignment {
    let status::Assignment { worker, pod_uid, node, addresses, since } = assignment;
    api::Assignment {
        worker: worker.to_string(),
        pod_uid: pod_uid.to_string(),
        node: node.to_string(),
        addresses: strings(addresses),
        since: Some(api_time(*since)),
    }
}

fn assignment(assignment: &api::Assignment) -> status::Assignment {
    let api::Assignment { worker, pod_uid, node, addresses, since } = assignment;
    status::Assignment {
        worker: WorkerName::from(worker.as_str()),
        pod_uid: pod_uid.as_str().into(),
        node: NodeName::from(node.as_str()),
        addresses: texts(addresses),
        since: time(since.as_ref()),
    }
}

fn api_ports(ports: &status::RtpPorts) -> api::Ports {
    let status::RtpPorts { pool, rtp, rtcp, transport, previous } = ports;
    api::Ports {
        pool: pool.as_ref().map(ToString::to_string),
        rtp: *rtp,
        rtcp: *rtcp,
        transport: match transport {
            RtpTransport::Udp => api::RtpTransport::Udp,
            RtpTransport::TcpPassive => api::RtpTransport::TcpPassive,
            RtpTransport::TcpActive => api::RtpTransport::TcpActive,
        },
        previous: previous.as_ref().map(api_previous_ports),
    }
}

fn api_previous_ports(ports: &status::PreviousPorts) -> api::PreviousPorts {
    let status::PreviousPorts { rtp, rtcp, since, closes_at } = *ports;
    api::PreviousPorts { rtp, rtcp, since: since.map(api_time), closes_at: closes_at.map(api_time) }
}

fn ports(ports: &api::Ports) -> status::RtpPorts {
    let api::Ports { pool, rtp, rtcp, transport, previous } = ports;
    status::RtpPorts {
        pool: pool.as_deref().map(PoolName::from),
        rtp: *rtp,
        rtcp: *rtcp,
        transport: super::object::transport(*transport),
        previous: previous.as_ref().map(previous_ports),
    }
}

fn previous_ports(ports: &api::PreviousPorts) -> status::PreviousPorts {
    let api::PreviousPorts { rtp, rtcp, since, closes_at } = ports;
    let known = |at: &Option<api::Time>| at.as_ref().map(|at| time(Some(at)));
    status::PreviousPorts { rtp: *rtp, rtcp: *rtcp, since: known(since), closes_at: known(closes_at) }
}

fn api_endpoint(endpoint: &status::Endpoint) -> api::Endpoint {
    let status::Endpoint { usage, protocol, url } = endpoint;
    api::Endpoint {
        use_: match usage {
            status::Usage::Publish => api::EndpointUse::Publish,
            status::Usage::Play => api::EndpointUse::Play,
        },
        protocol: (*protocol).to_owned(),
        url: url.clone(),
    }
}

fn endpoint(endpoint: &api::Endpoint) -> Option<status::Endpoint> {
    let api::Endpoint { use_, protocol, url } = endpoint;
    Some(status::Endpoint {
        usage: match use_ {
            api::EndpointUse::Publish => status::Usage::Publish,
            api::EndpointUse::Play => status::Usage::Play,
        },
        protocol: ["RTMP", "HTTPFLV", "RTP"].into_iter().find(|known| known == protocol)?,
        url: url.clone(),
    })
}

fn api_publisher(publisher: &status::Publisher) -> api::Publisher {
    let status::Publisher { remote, since, codecs } = publisher;
    api::Publisher { remote: remote.to_string(), since: Some(api_time(*since)), codecs: strings(codecs) }
}

fn publisher(publisher: &api::Publisher) -> status::Publisher {
    let api::Publisher { remote, since, codecs } = publisher;
    status::Publisher { remote: remote.as_str().into(), since: time(since.as_ref()), codecs: texts(codecs) }
}

fn api_failover(failover: &status::Failover) -> api::Failover {
    let status::Failover { at, from, to, reason, gap_ms } = failover;
    api::Failover {
        at: api_time(*at),
        from: from.to_string(),
        to: to.to_string(),
        reason: reason.as_str().to_owned(),
        gap_millis: gap_ms.map(signed),
    }
}

fn failover(failover: &api::Failover) -> Option<status::Failover> {
    let api::Failover { at, from, to, reason, gap_millis } = failover;
    Some(status::Failover {
        at: time(Some(at)),
        from: WorkerName::from(from.as_str()),
        to: WorkerName::from(to.as_str()),
        reason: Reason::parse(reason)?,
        gap_ms: gap_millis.map(|gap| unsigned(Some(gap))),
    })
}

fn api_conditions(conditions: &status::Conditions) -> Vec<api::Condition> {
    let condition = |(kind, condition): (&status::ConditionType, &status::Condition)| {
        let status::Condition { status, reason, message, observed_generation, last_transition } = condition;
        api::Condition {
            type_: kind.as_str().to_owned(),
            status: if *status { "True" } else { "False" }.to_owned(),
            reason: reason.as_str().to_owned(),
            message: message.clone(),
            observed_generation: Some(*observed_generation),
            last_transition_time: api_time(*last_transition),
        }
    };
    conditions.iter().map(condition).collect()
}

fn conditions(conditions: &[api::Condition]) -> status::Conditions {
    let condition = |condition: &api::Condition| {
        let api::Condition { type_, status, reason, message, observed_generation, last_transition_time } =
            condition;
        let kind = status::ConditionType::parse(type_)?;
        let condition = status::Condition {
            status: status == "True",
            reason: Reason::parse(reason)?,
            message: message.clone(),
            observed_generation: observed_generation.unwrap_or_default(),
            last_transition: time(Some(last_transition_time)),
        };
        Some((kind, condition))
    };
    conditions.iter().filter_map(condition).collect()
}

fn api_problem(problem: &status::Problem) -> api::PortProblem {
    let status::Problem { node, port, source, owner, since } = problem;
    api::PortProblem {
        node: node.to_string(),
        port: *port,
        source: source.as_str().to_owned(),
        owner: owner.clone(),
        since: Some(api_time(*since)),
    }
}

fn problem(problem: &api::PortProblem) -> Option<status::Problem> {
    let api::PortProblem { node, port, source, owner, since } = problem;
    Some(status::Problem {
        node: NodeName::from(node.as_str()),
        port: *port,
        source: status::ProblemSource::parse(source)?,
        owner: owner.clone(),
        since: time(since.as_ref()),
    })
}

fn object_name(text: &str) -> Option<ObjectName> {
    text.split_once('/').map(|(namespace, name)| ObjectName::new(namespace, name))
}

fn api_time(time: UnixTime) -> api::Time {
    api::Time(Timestamp::from_second(signed(time.0)).unwrap_or(Timestamp::MAX))
}

fn time(time: Option<&api::Time>) -> UnixTime {
    UnixTime(unsigned(time.map(|time| time.0.as_second())))
}

/// The API's numbers are signed; none of ours comes near the end of them.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: Option<i64>) -> u64 {
    number.and_then(|number| u64::try_from(number).ok()).unwrap_or_default()
}

fn strings(texts: &[Arc<str>]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

fn texts(texts: &[String]) -> Vec<Arc<str>> {
    texts.iter().map(|text| text.as_str().into()).collect()
}

#[cfg(test)]
mod tests;
