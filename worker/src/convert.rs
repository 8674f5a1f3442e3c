//! The border to the contract: messages become checked types here and nowhere else, and reports become messages.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use media::policy::{Access, Latency, OnDuplicate, PlayPolicy, PublishPolicy, SlowViewer, TokenDigest};
use proto::control::v1 as wire;

use crate::assignment::{
    Assignment, Ports, Remote, RtpPorts, RtpSource, RtpTransport, SsrcPolicy, StreamRef,
};
use crate::directory::{Entry, Owner};
use crate::scan::{Holder, HostPorts, Protocol};
use crate::shard::PublisherInfo;
use crate::targets::Networks;

/// A field of a message is not what the contract says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Invalid {
    /// Its name in the contract.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

fn invalid(field: &'static str, problem: impl Into<String>) -> Invalid {
    Invalid { field, problem: problem.into() }
}

/// Assign.
pub fn assignment(assign: wire::Assign) -> Result<Assignment, Invalid> {
    let wire::Assign { stream, path, namespace, name, created_unix_ms, publish, play, rtp } = assign;
    if path.is_empty() {
        return Err(invalid("path", "is empty"));
    }
    Ok(Assignment {
        stream: required_ref(stream)?,
        path: path.into(),
        namespace: namespace.into(),
        name: name.into(),
        created_unix_ms,
        publish: publish_policy(publish.ok_or_else(|| invalid("publish", "is missing"))?)?,
        play: play_policy(play.ok_or_else(|| invalid("play", "is missing"))?)?,
        rtp: rtp.map(rtp_source).transpose()?,
    })
}

/// The stream that a command must name.
pub fn required_ref(stream: Option<wire::StreamRef>) -> Result<StreamRef, Invalid> {
    let stream = stream.ok_or_else(|| invalid("stream", "is missing"))?;
    if stream.uid.is_empty() {
        return Err(invalid("stream.uid", "is empty"));
    }
    Ok(StreamRef { uid: stream.uid.into(), epoch: stream.epoch })
}

fn publish_policy(policy: wire::PublishPolicy) -> Result<PublishPolicy, Invalid> {
    let on_duplicate = match policy.on_duplicate() {
        wire::OnDuplicate::Unspecified | wire::OnDuplicate::Reject => OnDuplicate::Reject,
        wire::OnDuplicate::Takeover => OnDuplicate::Takeover,
    };
    Ok(PublishPolicy {
        on_duplicate,
        start_timeout: Duration::from_millis(policy.start_timeout_ms),
        stall_timeout: Duration::from_millis(policy.stall_timeout_ms),
        resume_window: Duration::from_millis(policy.resume_window_ms),
        rtmp: names(&policy.protocols, "RTMP"),
        access: access(policy.access)?,
    })
}

fn play_policy(policy: wire::PlayPolicy) -> Result<PlayPolicy, Invalid> {
    let latency = match policy.latency() {
        wire::Latency::Unspecified | wire::Latency::Normal => Latency::Normal,
        wire::Latency::Low => Latency::Low,
        wire::Latency::Bulk => Latency::Bulk,
    };
    let slow_viewer = match policy.slow_viewer() {
        wire::SlowViewer::Unspecified | wire::SlowViewer::SkipToKeyframe => SlowViewer::SkipToKeyframe,
        wire::SlowViewer::Disconnect => SlowViewer::Disconnect,
    };
    Ok(PlayPolicy {
        rtmp: names(&policy.protocols, "RTMP"),
        http_flv: names(&policy.protocols, "HTTPFLV"),
        latency,
        slow_viewer,
        start_timeout: Duration::from_millis(policy.start_timeout_ms),
        access: access(policy.access)?,
    })
}

/// Protocols of a later version are not known here and not offered.
fn names(protocols: &[String], protocol: &str) -> bool {
    protocols.iter().any(|name| name == protocol)
}

fn access(access: Option<wire::Access>) -> Result<Access, Invalid> {
    let wire::Access { token_sha256, token_required, allowed_cidrs } = access.unwrap_or_default();
    let digest = |token: Vec<u8>| {
        TokenDigest::try_from(token)
            .map_err(|token| invalid("access.token_sha256", format!("has {} bytes, not 32", token.len())))
    };
    let network = |cidr: String| {
        cidr.parse().map_err(|_| invalid("access.allowed_cidrs", format!("{cidr:?} is not in CIDR notation")))
    };
    Ok(Access {
        tokens: token_sha256.into_iter().map(digest).collect::<Result<_, _>>()?,
        token_required,
        allowed: allowed_cidrs.into_iter().map(network).collect::<Result<_, _>>()?,
    })
}

fn rtp_source(rtp: wire::RtpSource) -> Result<RtpSource, Invalid> {
    let transport = match rtp.transport() {
        wire::RtpTransport::Udp => RtpTransport::Udp,
        wire::RtpTransport::TcpPassive => RtpTransport::TcpPassive,
        wire::RtpTransport::TcpActive => RtpTransport::TcpActive,
        wire::RtpTransport::Unspecified => {
            return Err(invalid("rtp.transport", "is none that this worker knows"));
        }
    };
    let ssrc_policy = match rtp.ssrc_policy() {
        wire::SsrcPolicy::Unspecified | wire::SsrcPolicy::Enforce => SsrcPolicy::Enforce,
        wire::SsrcPolicy::Learn => SsrcPolicy::Learn,
    };
    let rtcp = rtp.rtcp_port.map(|number| port("rtp.rtcp_port", number)).transpose()?;
    let next = rtp.next.map(next_ports).transpose()?;
    let is_told_apart = rtp.ssrc.is_some() && ssrc_policy == SsrcPolicy::Enforce;
    if rtp.shared && (!is_told_apart || transport == RtpTransport::TcpActive) {
        return Err(invalid(
            "rtp.shared",
            "is for an SSRC that is enforced, and for senders that come to us",
        ));
    }
    let remote = rtp.remote.map(remote).transpose()?;
    let active = transport == RtpTransport::TcpActive;
    if active && remote.is_none() {
        return Err(invalid("rtp.remote", "is missing"));
    }
    if active && (rtcp.is_some() || next.is_some_and(|next| next.rtcp.is_some())) {
        return Err(invalid("rtp.rtcp_port", "has no use where RTCP is on the one connection"));
    }
    Ok(RtpSource {
        transport,
        ssrc: rtp.ssrc,
        ssrc_policy,
        ports: match rtp.shared {
            true => RtpPorts::Shared,
            false => {
                RtpPorts::Leased { lease: Ports { rtp: port("rtp.rtp_port", rtp.rtp_port)?, rtcp }, next }
            }
        },
        remote: remote.filter(|_| active),
    })
}

fn next_ports(next: wire::LeasedPorts) -> Result<Ports, Invalid> {
    let wire::LeasedPorts { rtp_port, rtcp_port } = next;
    Ok(Ports {
        rtp: port("rtp.next.rtp_port", rtp_port)?,
        rtcp: rtcp_port.map(|number| port("rtp.next.rtcp_port", number)).transpose()?,
    })
}

fn remote(remote: wire::Remote) -> Result<Remote, Invalid> {
    if remote.host.is_empty() {
        return Err(invalid("rtp.remote.host", "is empty"));
    }
    Ok(Remote { port: port("rtp.remote.port", remote.port)?, host: remote.host.into() })
}

/// A number from 1 to 65535.
pub fn port(field: &'static str, number: u32) -> Result<u16, Invalid> {
    match u16::try_from(number) {
        Ok(port) if port != 0 => Ok(port),
        _ => Err(invalid(field, format!("{number} is not a port"))),
    }
}

/// Watch.
pub fn ranges(watch: &wire::Watch) -> Result<Vec<RangeInclusive<u16>>, Invalid> {
    let range =
        |range: &wire::PortRange| Ok(port("ranges.start", range.start)?..=port("ranges.end", range.end)?);
    watch.ranges.iter().map(range).collect()
}

/// The cluster's own networks.
pub fn networks(networks: wire::ClusterNetworks) -> Result<Networks, Invalid> {
    let wire::ClusterNetworks { services, pods, nodes } = networks;
    let parse = |field, all: Vec<String>| {
        let parse = |cidr: String| {
            cidr.parse().map_err(|_| invalid(field, format!("{cidr:?} is not in CIDR notation")))
        };
        all.into_iter().map(parse).collect::<Result<_, _>>()
    };
    Ok(Networks {
        services: parse("networks.services", services)?,
        pods: parse("networks.pods", pods)?,
        nodes: parse("networks.nodes", nodes)?,
    })
}

/// An entry of the directory, as the worker of this name sees it.
pub fn directory_entry(entry: wire::DirectoryEntry, own_name: &str) -> Result<(Arc<str>, Entry), Invalid> {
    let wire::DirectoryEntry { path, stream, worker, publish, play } = entry;
    let owner = match worker.as_str() {
        "" => Owner::Nobody,
        name if name == own_name => Owner::Here,
        _ => Owner::Elsewhere(worker.into()),
    };
    let entry = Entry {
        stream: required_ref(stream)?,
        owner,
        publish: publish_policy(publish.ok_or_else(|| invalid("publish", "is missing"))?)?,
        play: play_policy(play.ok_or_else(|| invalid("play", "is missing"))?)?,
    };
    Ok((path.into(), entry))
}

/// To the contract.
pub fn stream_ref(stream: &StreamRef) -> wire::StreamRef {
    wire::StreamRef { uid: stream.uid.to_string(), epoch: stream.epoch }
}

/// To the contract.
pub fn protocol(protocol: Protocol) -> wire::Protocol {
    match protocol {
        Protocol::Tcp => wire::Protocol::Tcp,
        Protocol::Udp => wire::Protocol::Udp,
    }
}

/// To the contract.
pub fn holder(holder: &Holder) -> wire::Holder {
    wire::Holder {
        port: holder.socket.port.into(),
        protocol: protocol(holder.socket.protocol).into(),
        uid: holder.socket.uid,
        process: holder.process.clone().unwrap_or_default(),
        show: crate::scan::show(holder.socket.protocol, holder.socket.port),
    }
}

/// To the contract.
pub fn host_ports(host: &HostPorts) -> wire::HostPorts {
    let range = |range: &RangeInclusive<u16>| wire::PortRange {
        start: (*range.start()).into(),
        end: (*range.end()).into(),
    };
    wire::HostPorts {
        ephemeral: host.ephemeral.as_ref().map(range),
        reserved: host.reserved.iter().map(range).collect(),
    }
}

/// To the contract.
pub fn publisher(publisher: &PublisherInfo) -> wire::Publisher {
    wire::Publisher {
        remote: canonical(publisher.remote).to_string(),
        since_unix_ms: publisher.since_unix_ms,
        protocol: publisher.protocol.to_owned(),
        codecs: publisher.codecs.iter().map(|codec| (*codec).to_owned()).collect(),
    }
}

/// An IPv4 peer of a dual-stack socket by its IPv4 address.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::from((ip, address.port())),
        IpAddr::V6(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assign() -> wire::Assign {
        wire::Assign {
            stream: Some(wire::StreamRef { uid: String::from("u1"), epoch: 3 }),
            path: String::from("live/cam-1"),
            namespace: String::from("default"),
            name: String::from("cam-1"),
            created_unix_ms: 7,
            publish: Some(wire::PublishPolicy {
                stall_timeout_ms: 10_000,
                protocols: vec![String::from("RTMP"), String::from("WHIP")],
                access: Some(wire::Access {
                    token_sha256: vec![vec![9; 32]],
                    token_required: true,
                    allowed_cidrs: vec![String::from("10.0.0.0/8"), String::from("::/0")],
                }),
                ..wire::PublishPolicy::default()
            }),
            play: Some(wire::PlayPolicy {
                protocols: vec![String::from("HTTPFLV")],
                ..wire::PlayPolicy::default()
            }),
            rtp: Some(wire::RtpSource {
                transport: wire::RtpTransport::Udp.into(),
                ssrc: Some(200_000_001),
                ssrc_policy: wire::SsrcPolicy::Unspecified.into(),
                rtp_port: 20_000,
                rtcp_port: Some(20_001),
                remote: None,
                shared: false,
                next: Some(wire::LeasedPorts { rtp_port: 20_002, rtcp_port: Some(20_003) }),
            }),
        }
    }

    #[test]
    fn an_assignment_is_taken_over_field_by_field_with_the_first_alternative_as_default() {
        let checked = assignment(assign()).unwrap();
        assert_eq!((&*checked.stream.uid, checked.stream.epoch, checked.created_unix_ms), ("u1", 3, 7));
        assert_eq!((&*checked.path, &*checked.namespace, &*checked.name), ("live/cam-1", "default", "cam-1"));
        assert_eq!((checked.publish.rtmp, checked.publish.on_duplicate), (true, OnDuplicate::Reject));
        assert_eq!(checked.publish.stall_timeout, Duration::from_secs(10));
        assert_eq!((checked.publish.access.tokens.len(), checked.publish.access.allowed.len()), (1, 2));
        assert_eq!(
            (checked.play.rtmp, checked.play.http_flv, checked.play.latency),
            (false, true, Latency::Normal)
        );
        let rtp = checked.rtp.unwrap();
        assert_eq!(
            (rtp.transport, rtp.ssrc, rtp.ssrc_policy),
            (RtpTransport::Udp, Some(200_000_001), SsrcPolicy::Enforce)
        );
        assert_eq!(
            rtp.ports,
            RtpPorts::Leased {
                lease: Ports { rtp: 20_000, rtcp: Some(20_001) },
                next: Some(Ports { rtp: 20_002, rtcp: Some(20_003) }),
            }
        );
    }

    #[test]
    fn what_the_contract_forbids_is_refused_by_the_fields_name() {
        let check = |edit: fn(&mut wire::Assign), expected: &str| {
            let mut assign = assign();
            edit(&mut assign);
            assert_eq!(assignment(assign).unwrap_err().to_string(), expected);
        };
        check(|a| a.stream = None, "stream: is missing");
        check(|a| a.stream.as_mut().unwrap().uid.clear(), "stream.uid: is empty");
        check(|a| a.path.clear(), "path: is empty");
        check(|a| a.publish = None, "publish: is missing");
        check(|a| a.play = None, "play: is missing");
        check(|a| a.rtp.as_mut().unwrap().transport = 9, "rtp.transport: is none that this worker knows");
        check(|a| a.rtp.as_mut().unwrap().rtp_port = 65_536, "rtp.rtp_port: 65536 is not a port");
        check(|a| a.rtp.as_mut().unwrap().rtcp_port = Some(0), "rtp.rtcp_port: 0 is not a port");
        check(
            |a| {
                let rtp = a.rtp.as_mut().unwrap();
                (rtp.shared, rtp.ssrc) = (true, None);
            },
            "rtp.shared: is for an SSRC that is enforced, and for senders that come to us",
        );
        let next = |rtp_port, rtcp_port| Some(wire::LeasedPorts { rtp_port, rtcp_port });
        let check_next = |next, expected: &str| {
            let mut assign = assign();
            assign.rtp.as_mut().unwrap().next = next;
            assert_eq!(assignment(assign).unwrap_err().to_string(), expected);
        };
        check_next(next(0, None), "rtp.next.rtp_port: 0 is not a port");
        check_next(next(20_002, Some(65_536)), "rtp.next.rtcp_port: 65536 is not a port");
        let dial = |host: &str, port| Some(wire::Remote { host: host.to_owned(), port });
        let check_dial = |remote, rtcp_port, expected: &str| {
            let mut assign = assign();
            let rtp = assign.rtp.as_mut().unwrap();
            rtp.transport = wire::RtpTransport::TcpActive.into();
            (rtp.remote, rtp.rtcp_port) = (remote, rtcp_port);
            assert_eq!(assignment(assign).unwrap_err().to_string(), expected);
        };
        check_dial(None, None, "rtp.remote: is missing");
        check_dial(dial("", 1), None, "rtp.remote.host: is empty");
        check_dial(dial("h", 0), None, "rtp.remote.port: 0 is not a port");
        check_dial(
            dial("h", 1),
            Some(20_001),
            "rtp.rtcp_port: has no use where RTCP is on the one connection",
        );
        check(
            |a| a.publish.as_mut().unwrap().access.as_mut().unwrap().token_sha256[0].truncate(31),
            "access.token_sha256: has 31 bytes, not 32",
        );
        check(
            |a| {
                a.publish.as_mut().unwrap().access.as_mut().unwrap().allowed_cidrs[0] =
                    String::from("10.0.0.0/33")
            },
            "access.allowed_cidrs: \"10.0.0.0/33\" is not in CIDR notation",
        );
    }

    #[test]
    fn the_owner_of_a_path_is_here_elsewhere_or_nobody() {
        let owner = |worker: &str| {
            let wire::Assign { stream, path, publish, play, .. } = assign();
            let entry = wire::DirectoryEntry { path, stream, worker: worker.to_owned(), publish, play };
            directory_entry(entry, "local").unwrap().1.owner
        };
        assert_eq!(owner(""), Owner::Nobody);
        assert_eq!(owner("local"), Owner::Here);
        assert_eq!(owner("b"), Owner::Elsewhere("b".into()));
    }
}
