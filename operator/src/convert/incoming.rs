//! What a worker says, checked.

use std::{sync::Arc, time::Duration};

use operator_core::{
    Event,
    action::KnownDirectory,
    digest::DirectoryDigest,
    event::{Beat, Binding, Closed, Hello, Holder, HostPorts, Inventory, Report},
    ids::{BootId, Epoch, NodeName, Ports, Protocol, SessionId, StreamRef, Term, Uid, UnixTime, WorkerName},
    panel::Sight,
    spec::PortRange,
    status::Publisher,
};
use proto::control::v1::{self as wire, report::Kind, worker_message::Body};

/// A message that a sound worker does not send.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unsound {
    #[error("{0} is missing in the worker's message")]
    Missing(&'static str),
    #[error("{field} is {value} in the worker's message, which is no port")]
    Port { field: &'static str, value: u32 },
    #[error("{field} is {value} in the worker's message, more than any operator has told it")]
    Rising { field: &'static str, value: u64 },
    #[error("protocol is {0} in the worker's message, which is neither TCP nor UDP")]
    Protocol(i32),
    #[error("what was seen of another worker is nothing that this operator asks for")]
    Unasked,
    #[error("a lease of {0} ports in the worker's message; there are one or two")]
    Ports(usize),
}

/// A thousand steps a second for a million years.
const RISING_MAX: u64 = 1 << 55;

/// Where the worker that says hello serves its admin pages, if it does.
pub(crate) fn admin_port(body: &Body) -> Option<u16> {
    match body {
        Body::Hello(hello) => port("hello.admin_port", hello.admin_port).ok(),
        Body::Inventory(_) | Body::Beat(_) | Body::Report(_) | Body::Witnessed(_) => None,
    }
}

/// The event that a message is.
pub(crate) fn event(session: SessionId, body: Body) -> Result<Event, Unsound> {
    Ok(match body {
        Body::Hello(it) => Event::Hello { session, hello: hello(it)? },
        Body::Inventory(it) => Event::Inventory { session, inventory: inventory(it)? },
        Body::Beat(it) => Event::Beat { session, beat: beat(&it)? },
        Body::Report(it) => {
            let kind = it.kind.ok_or(Unsound::Missing("report.kind"))?;
            Event::Report { session, report: report(kind)? }
        }
        Body::Witnessed(_) => return Err(Unsound::Unasked),
    })
}

/// What a worker saw of another one.
pub(crate) fn sight(it: wire::Witnessed) -> Sight {
    match wire::Sight::try_from(it.sight) {
        Ok(wire::Sight::Answered) => Sight::Answered { boot: it.boot_id.into() },
        Ok(wire::Sight::Refused) => Sight::Refused,
        // What a newer worker says is no proof of life.
        Ok(wire::Sight::Silent | wire::Sight::Unspecified) | Err(_) => Sight::Silent,
    }
}

fn hello(it: wire::Hello) -> Result<Hello, Unsound> {
    let wire::Hello {
        worker,
        node,
        pod_uid,
        boot_id,
        version: _,
        addresses,
        listener_ports,
        term,
        epoch,
        rtmp_port,
        http_port,
        health_port,
        admin_port: _,
        template,
        rtp_shared_port,
        capabilities,
    } = it;
    Ok(Hello {
        worker: WorkerName::from(some(worker, "hello.worker")?),
        node: NodeName::from(some(node, "hello.node")?),
        pod_uid: pod_uid.into(),
        template: template.into(),
        boot: BootId::from(some(boot_id, "hello.boot_id")?),
        addresses: addresses.into_iter().map(Arc::from).collect(),
        listener_ports: listener_ports
            .into_iter()
            .map(|value| port("hello.listener_ports", value))
            .collect::<Result<_, _>>()?,
        term: Term(rising("hello.term", term)?),
        epoch: Epoch(rising("hello.epoch", epoch)?),
        rtmp_port: port("hello.rtmp_port", rtmp_port)?,
        http_port: port("hello.http_port", http_port)?,
        health_port: u16::try_from(health_port)
            .map_err(|_| Unsound::Port { field: "hello.health_port", value: health_port })?,
        rtp_shared_port: match rtp_shared_port {
            0 => None,
            number => Some(port("hello.rtp_shared_port", number)?),
        },
        changes_leases: capabilities.contains(&wire::Capability::ChangeLeases.into()),
        knows_networks: capabilities.contains(&wire::Capability::ClusterNetworks.into()),
    })
}

fn inventory(it: wire::Inventory) -> Result<Inventory, Unsound> {
    let wire::Inventory {
        sequence,
        bound,
        closed,
        holders,
        streams,
        host,
        request_id: _,
        directory_digest,
        directory_version,
    } = it;
    let version = rising("inventory.directory_version", directory_version)?;
    let digest = DirectoryDigest::from_bytes(&directory_digest);
    Ok(Inventory {
        sequence,
        bound: bound.into_iter().map(binding).collect::<Result<_, _>>()?,
        closed: closed.into_iter().map(self::closed).collect::<Result<_, _>>()?,
        holders: holders.into_iter().map(holder).collect::<Result<_, _>>()?,
        streams: streams.into_iter().map(stream).collect::<Result<_, _>>()?,
        host: host_ports(host)?,
        directory: digest.map(|digest| KnownDirectory { version, digest }),
    })
}

fn beat(it: &wire::Beat) -> Result<Beat, Unsound> {
    let wire::Beat { sequence, digest, term, draining } = *it;
    Ok(Beat { sequence, digest, term: Term(rising("beat.term", term)?), draining })
}

fn report(kind: Kind) -> Result<Report, Unsound> {
    Ok(match kind {
        Kind::Assigned(wire::Assigned { stream, ports, next_ports }) => {
            Report::Assigned { stream: stream_of(stream)?, ports: lease(&ports)?, next: lease(&next_ports)? }
        }
        Kind::PortsClosed(wire::PortsClosed { stream, ports }) => {
            let ports = ports.into_iter().map(|value| port("ports_closed.ports", value));
            Report::PortsClosed { stream: stream_of(stream)?, ports: ports.collect::<Result<_, _>>()? }
        }
        Kind::Arrived(wire::Arrived { stream, port, settled }) => {
            let port = self::port("arrived.port", port)?;
            Report::Arrived { stream: stream_of(stream)?, port, settled }
        }
        Kind::BindFailed(it) => bind_failed(it)?,
        Kind::Closed(it) => Report::Closed(closed(it)?),
        Kind::Publisher(wire::PublisherChanged { stream, publisher, reason }) => Report::Publisher {
            stream: stream_of(stream)?,
            publisher: publisher.map(self::publisher),
            reason: reason.into(),
        },
        Kind::Media(wire::MediaChanged { stream, live }) => {
            Report::Media { stream: stream_of(stream)?, live }
        }
        Kind::Scan(wire::Scan { holders, host }) => Report::Scan {
            holders: holders.into_iter().map(holder).collect::<Result<_, _>>()?,
            host: host_ports(host)?,
        },
        Kind::Stuck(wire::ShardStuck { shard, verdict, streams }) => Report::ShardStuck {
            shard,
            verdict: verdict.into(),
            streams: streams.into_iter().map(stream).collect::<Result<_, _>>()?,
        },
    })
}

fn bind_failed(it: wire::BindFailed) -> Result<Report, Unsound> {
    let wire::BindFailed { stream, port, protocol, error, holder, own } = it;
    Ok(Report::BindFailed {
        stream: stream_of(stream)?,
        port: self::port("bind_failed.port", port)?,
        protocol: self::protocol(protocol)?,
        error: error.into(),
        holder: holder.map(self::holder).transpose()?,
        own,
    })
}

fn binding(it: wire::Binding) -> Result<Binding, Unsound> {
    let wire::Binding { port, protocol, stream } = it;
    Ok(Binding {
        port: self::port("binding.port", port)?,
        protocol: self::protocol(protocol)?,
        stream: stream.map(self::stream).transpose()?,
    })
}

fn closed(it: wire::Closed) -> Result<Closed, Unsound> {
    let wire::Closed { stream, ports, ago_ms } = it;
    Ok(Closed {
        stream: stream_of(stream)?,
        ports: ports.into_iter().map(|value| port("closed.ports", value)).collect::<Result<_, _>>()?,
        ago: Duration::from_millis(ago_ms),
    })
}

fn holder(it: wire::Holder) -> Result<Holder, Unsound> {
    let wire::Holder { port, protocol, uid, process, show } = it;
    Ok(Holder {
        port: self::port("holder.port", port)?,
        protocol: self::protocol(protocol)?,
        user: uid,
        process: process.into(),
        show: show.into(),
    })
}

fn host_ports(it: Option<wire::HostPorts>) -> Result<HostPorts, Unsound> {
    let Some(wire::HostPorts { ephemeral, reserved }) = it else { return Ok(HostPorts::default()) };
    Ok(HostPorts {
        ephemeral: ephemeral.map(|it| range(&it)).transpose()?,
        reserved: reserved.iter().map(range).collect::<Result<_, _>>()?,
    })
}

fn range(it: &wire::PortRange) -> Result<PortRange, Unsound> {
    Ok(PortRange { start: port("range.start", it.start)?, end: port("range.end", it.end)? })
}

fn publisher(it: wire::Publisher) -> Publisher {
    let wire::Publisher { remote, since_unix_ms, protocol: _, codecs } = it;
    Publisher {
        remote: remote.into(),
        since: UnixTime(since_unix_ms / 1000),
        codecs: codecs.into_iter().map(Arc::from).collect(),
    }
}

fn lease(ports: &[u32]) -> Result<Option<Ports>, Unsound> {
    let number = |value: u32| port("assigned.ports", value);
    Ok(match ports {
        [] => None,
        [rtp] => Some(Ports { rtp: number(*rtp)?, rtcp: None }),
        [rtp, rtcp] => Some(Ports { rtp: number(*rtp)?, rtcp: Some(number(*rtcp)?) }),
        more => return Err(Unsound::Ports(more.len())),
    })
}

fn stream_of(it: Option<wire::StreamRef>) -> Result<StreamRef, Unsound> {
    stream(it.ok_or(Unsound::Missing("stream"))?)
}

fn stream(it: wire::StreamRef) -> Result<StreamRef, Unsound> {
    let wire::StreamRef { uid, epoch } = it;
    Ok(StreamRef::new(Uid::from(some(uid, "stream.uid")?), Epoch(rising("stream.epoch", epoch)?)))
}

fn some(text: String, field: &'static str) -> Result<String, Unsound> {
    if text.is_empty() { Err(Unsound::Missing(field)) } else { Ok(text) }
}

/// A term or an epoch. One is added to the highest, so one that no operator can have come to would be the last.
fn rising(field: &'static str, value: u64) -> Result<u64, Unsound> {
    if value < RISING_MAX { Ok(value) } else { Err(Unsound::Rising { field, value }) }
}

fn port(field: &'static str, value: u32) -> Result<u16, Unsound> {
    u16::try_from(value).ok().filter(|port| *port != 0).ok_or(Unsound::Port { field, value })
}

fn protocol(value: i32) -> Result<Protocol, Unsound> {
    match wire::Protocol::try_from(value) {
        Ok(wire::Protocol::Tcp) => Ok(Protocol::Tcp),
        Ok(wire::Protocol::Udp) => Ok(Protocol::Udp),
        Ok(wire::Protocol::Unspecified) | Err(_) => Err(Unsound::Protocol(value)),
    }
}
