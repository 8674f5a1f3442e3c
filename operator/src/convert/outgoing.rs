//! What the planner tells a worker.

use std::{sync::Arc, time::Duration};

use ipnet::IpNet;
use operator_core::{
    Command,
    action::{Assign, AssignedSource, ClusterNetworks, Directory, DirectoryEntry, Tokens},
    ids::{Ports, StreamRef, Term},
    spec::{
        Latency, OnDuplicate, PlayPolicy, PlayProtocol, PortRange, PublishPolicy, PushProtocol, Remote,
        RtpSource, RtpTransport, SlowViewer, SsrcPolicy,
    },
};
use prost::{Message as _, bytes::Bytes};
use proto::control::v1::{self as wire, operator_message::Body};

use crate::sessions::{Outbound, Shared};

/// Asks a worker to look at another one's health port: a question, which has no place among commands.
pub(crate) fn inquire(inquiry: u64, address: &str, port: u16) -> wire::OperatorMessage {
    let inquire = wire::Inquire { inquiry, address: address.to_owned(), port: port.into() };
    wire::OperatorMessage { term: 0, sequence: 0, body: Some(Body::Inquire(inquire)) }
}

/// The message that a command of `replica` is.
pub(crate) fn operator_message(replica: &str, term: Term, sequence: u64, command: &Command) -> Outbound {
    let body = match command {
        Command::Welcome => Body::Welcome(wire::Welcome { operator: replica.to_owned() }),
        Command::Assign(it) => Body::Assign(assign(it)),
        Command::Revoke { stream, reason } => Body::Revoke(wire::Revoke {
            stream: Some(self::stream(stream)),
            reason: reason.as_str().to_owned(),
        }),
        Command::Directory(it) => {
            let encoded = it.encoded.get_or_make(|| directory(it).encode_to_vec());
            return Outbound::shared(term.0, sequence, Shared::Directory, Bytes::from_owner(encoded));
        }
        Command::Networks(it) => {
            let encoded = it.encoded.get_or_make(|| networks(it).encode_to_vec());
            return Outbound::shared(term.0, sequence, Shared::Networks, Bytes::from_owner(encoded));
        }
        Command::InventoryRequest => Body::InventoryRequest(wire::InventoryRequest { id: sequence }),
        Command::Watch { ranges, interval } => Body::Watch(wire::Watch {
            ranges: ranges.iter().map(range).collect(),
            interval_ms: ms(*interval),
        }),
        Command::CloseLeak { port, stream } => Body::CloseLeak(wire::CloseLeak {
            port: u32::from(*port),
            stream: stream.as_ref().map(self::stream),
        }),
    };
    wire::OperatorMessage { term: term.0, sequence, body: Some(body) }.into()
}

fn assign(it: &Assign) -> wire::Assign {
    let Assign { stream, path, name, created_unix_ms, publish, publish_tokens, play, play_tokens, source } =
        it;
    let (protocols, rtp) = match source {
        AssignedSource::Push { protocols } => (protocols.iter().map(push_protocol).collect(), None),
        AssignedSource::Rtp { source, ports, next } => (Vec::new(), Some(rtp(source, Some(*ports), *next))),
        AssignedSource::Shared { source } => (Vec::new(), Some(rtp(source, None, None))),
    };
    wire::Assign {
        stream: Some(self::stream(stream)),
        path: path.to_string(),
        namespace: name.namespace.to_string(),
        name: name.name.to_string(),
        created_unix_ms: *created_unix_ms,
        publish: Some(publish_policy(publish, publish_tokens, protocols)),
        play: Some(play_policy(play, play_tokens)),
        rtp,
    }
}

fn directory(it: &Directory) -> wire::DirectoryUpdate {
    let Directory { version, full, entries, removed, more, digest, encoded: _ } = it;
    wire::DirectoryUpdate {
        version: *version,
        full: *full,
        entries: entries.iter().map(directory_entry).collect(),
        removed_paths: removed.iter().map(ToString::to_string).collect(),
        more: *more,
        digest: digest.map(|digest| digest.to_bytes().to_vec()).unwrap_or_default(),
    }
}

fn networks(it: &ClusterNetworks) -> wire::ClusterNetworks {
    let ClusterNetworks { services, pods, nodes, encoded: _ } = it;
    let text = |all: &[IpNet]| all.iter().map(ToString::to_string).collect();
    wire::ClusterNetworks { services: text(services), pods: text(pods), nodes: text(nodes) }
}

fn directory_entry(it: &DirectoryEntry) -> wire::DirectoryEntry {
    let DirectoryEntry { path, stream, worker, push, publish, publish_tokens, play, play_tokens } = it;
    let protocols: Vec<String> = push.iter().map(push_protocol).collect();
    wire::DirectoryEntry {
        path: path.to_string(),
        stream: Some(self::stream(stream)),
        worker: worker.as_ref().map(ToString::to_string).unwrap_or_default(),
        publish: Some(publish_policy(publish, publish_tokens, protocols)),
        play: Some(play_policy(play, play_tokens)),
    }
}

fn publish_policy(it: &PublishPolicy, tokens: &Tokens, protocols: Vec<String>) -> wire::PublishPolicy {
    let PublishPolicy {
        on_duplicate,
        start_timeout,
        stall_timeout,
        resume_window,
        token_secret: _,
        allowed_cidrs,
    } = it;
    let on_duplicate = match on_duplicate {
        OnDuplicate::Reject => wire::OnDuplicate::Reject,
        OnDuplicate::Takeover => wire::OnDuplicate::Takeover,
    };
    wire::PublishPolicy {
        on_duplicate: on_duplicate.into(),
        start_timeout_ms: ms(*start_timeout),
        stall_timeout_ms: ms(*stall_timeout),
        resume_window_ms: ms(*resume_window),
        access: Some(access(tokens, allowed_cidrs)),
        protocols,
    }
}

fn play_policy(it: &PlayPolicy, tokens: &Tokens) -> wire::PlayPolicy {
    let PlayPolicy { protocols, latency, slow_viewer, start_timeout, token_secret: _, allowed_cidrs } = it;
    let latency = match latency {
        Latency::Normal => wire::Latency::Normal,
        Latency::Low => wire::Latency::Low,
        Latency::Bulk => wire::Latency::Bulk,
    };
    let slow_viewer = match slow_viewer {
        SlowViewer::SkipToKeyframe => wire::SlowViewer::SkipToKeyframe,
        SlowViewer::Disconnect => wire::SlowViewer::Disconnect,
    };
    wire::PlayPolicy {
        protocols: protocols.iter().map(play_protocol).collect(),
        latency: latency.into(),
        slow_viewer: slow_viewer.into(),
        start_timeout_ms: ms(*start_timeout),
        access: Some(access(tokens, allowed_cidrs)),
    }
}

fn access(tokens: &Tokens, allowed_cidrs: &[Arc<str>]) -> wire::Access {
    let (token_sha256, token_required) = match tokens {
        Tokens::Open => (Vec::new(), false),
        Tokens::Required(hashes) => (hashes.iter().map(|hash| hash.to_vec()).collect(), true),
    };
    wire::Access {
        token_sha256,
        token_required,
        allowed_cidrs: allowed_cidrs.iter().map(ToString::to_string).collect(),
    }
}

fn rtp(source: &RtpSource, ports: Option<Ports>, next: Option<Ports>) -> wire::RtpSource {
    // Its numbers are in the lease, if it has one.
    let RtpSource { transport, ssrc, ssrc_policy, rtcp: _, port: _, shared, remote } = source;
    let transport = match transport {
        RtpTransport::Udp => wire::RtpTransport::Udp,
        RtpTransport::TcpPassive => wire::RtpTransport::TcpPassive,
        RtpTransport::TcpActive => wire::RtpTransport::TcpActive,
    };
    let ssrc_policy = match ssrc_policy {
        SsrcPolicy::Enforce => wire::SsrcPolicy::Enforce,
        SsrcPolicy::Learn => wire::SsrcPolicy::Learn,
    };
    wire::RtpSource {
        transport: transport.into(),
        ssrc: *ssrc,
        ssrc_policy: ssrc_policy.into(),
        rtp_port: ports.map_or(0, |ports| u32::from(ports.rtp)),
        rtcp_port: ports.and_then(|ports| ports.rtcp).map(u32::from),
        remote: remote
            .as_ref()
            .map(|Remote { host, port }| wire::Remote { host: host.to_string(), port: u32::from(*port) }),
        shared: *shared,
        next: next.map(|Ports { rtp, rtcp }| wire::LeasedPorts {
            rtp_port: u32::from(rtp),
            rtcp_port: rtcp.map(u32::from),
        }),
    }
}

fn push_protocol(it: &PushProtocol) -> String {
    match it {
        PushProtocol::Rtmp => "RTMP".to_owned(),
    }
}

fn play_protocol(it: &PlayProtocol) -> String {
    match it {
        PlayProtocol::Rtmp => "RTMP".to_owned(),
        PlayProtocol::HttpFlv => "HTTPFLV".to_owned(),
    }
}

fn stream(it: &StreamRef) -> wire::StreamRef {
    wire::StreamRef { uid: it.uid.to_string(), epoch: it.epoch.0 }
}

fn range(it: &PortRange) -> wire::PortRange {
    wire::PortRange { start: u32::from(it.start), end: u32::from(it.end) }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use operator_core::{digest::DirectoryDigest, ids::Path, limits};

    use super::*;

    fn entry(tokens: &Tokens, networks: usize, text: &str) -> DirectoryEntry {
        let allowed_cidrs: Vec<Arc<str>> = vec![text.into(); networks];
        let publish = PublishPolicy {
            on_duplicate: OnDuplicate::Takeover,
            start_timeout: Duration::MAX,
            stall_timeout: Duration::MAX,
            resume_window: Duration::MAX,
            token_secret: None,
            allowed_cidrs: allowed_cidrs.clone(),
        };
        let play = PlayPolicy {
            protocols: vec![PlayProtocol::Rtmp, PlayProtocol::HttpFlv],
            latency: Latency::Bulk,
            slow_viewer: SlowViewer::Disconnect,
            start_timeout: Duration::MAX,
            token_secret: None,
            allowed_cidrs,
        };
        DirectoryEntry {
            path: Path::from(text.repeat(8).as_str()),
            stream: StreamRef::new(text.into(), operator_core::ids::Epoch(u64::MAX)),
            worker: Some(text.into()),
            push: vec![PushProtocol::Rtmp],
            publish: publish.into(),
            publish_tokens: tokens.clone(),
            play: play.into(),
            play_tokens: tokens.clone(),
        }
    }

    #[test]
    fn an_entry_of_the_directory_weighs_what_the_planner_cuts_by() {
        let tokens = Tokens::Required([[255; 32]; limits::TOKENS_MAX].into());
        for entry in [
            entry(&Tokens::Open, 0, ""),
            entry(&Tokens::Open, 2, "0.0.0.0/0"),
            entry(&tokens, 0, "media.penstock.dev"),
            entry(&tokens, 64, "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255/128"),
        ] {
            let update = |entries| Directory {
                version: u64::MAX,
                full: true,
                entries,
                removed: Vec::new(),
                more: true,
                digest: Some(DirectoryDigest::default()),
                encoded: Default::default(),
            };
            let bytes = |entries| {
                let body = Some(Body::Directory(directory(&update(entries))));
                wire::OperatorMessage { term: u64::MAX, sequence: u64::MAX, body }.encoded_len()
            };
            let without = bytes(Vec::new());
            assert!(without < 64, "{without} bytes without entries");
            let (bytes, most) = (bytes(vec![entry.clone()]) - without, entry.bytes_max());
            assert!((bytes..bytes + 100).contains(&most), "{} has {bytes} bytes for {most}", entry.path);
            assert!(without + most < limits::DIRECTORY_BYTES, "one fits always: {most}");
        }
    }
}
