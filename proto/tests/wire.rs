//! The contract on the wire: each message with all of its fields set, byte for byte. A line that changes is a worker that an
//! older operator misunderstands; new fields, which come with the next number, change only what is after them.

use std::fmt::Write;

use prost::Message;
use proto::control::v1::*;

fn stream() -> Option<StreamRef> {
    Some(StreamRef { uid: "u".into(), epoch: 2 })
}

fn holder() -> Holder {
    Holder { port: 20_001, protocol: Protocol::Udp.into(), uid: 1000, process: "p".into(), show: "ss".into() }
}

fn host() -> Option<HostPorts> {
    let range = |start, end| PortRange { start, end };
    Some(HostPorts { ephemeral: Some(range(32_768, 60_999)), reserved: vec![range(1, 2)] })
}

fn closed() -> Closed {
    Closed { stream: stream(), ports: vec![20_000, 20_001], ago_ms: 5 }
}

fn publish() -> Option<PublishPolicy> {
    Some(PublishPolicy {
        on_duplicate: OnDuplicate::Takeover.into(),
        start_timeout_ms: 1,
        stall_timeout_ms: 2,
        resume_window_ms: 3,
        access: access(),
        protocols: vec!["RTMP".into()],
    })
}

fn play() -> Option<PlayPolicy> {
    Some(PlayPolicy {
        protocols: vec!["HTTPFLV".into()],
        latency: Latency::Bulk.into(),
        slow_viewer: SlowViewer::Disconnect.into(),
        start_timeout_ms: 4,
        access: access(),
    })
}

fn access() -> Option<Access> {
    Some(Access { token_sha256: vec![vec![0xab]], token_required: true, allowed_cidrs: vec!["::/0".into()] })
}

fn from_worker() -> Vec<(&'static str, worker_message::Body)> {
    use worker_message::Body;
    let report = |kind| Body::Report(Report { kind: Some(kind) });
    vec![
        (
            "Hello",
            Body::Hello(Hello {
                worker: "w".into(),
                node: "n".into(),
                pod_uid: "d".into(),
                boot_id: "b".into(),
                version: "v".into(),
                addresses: vec!["a".into()],
                listener_ports: vec![1935],
                term: 7,
                rtmp_port: 1,
                http_port: 2,
                health_port: 3,
                admin_port: 4,
                template: "t".into(),
                epoch: 5,
                rtp_shared_port: 10_000,
                capabilities: vec![Capability::ChangeLeases.into(), Capability::ClusterNetworks.into()],
            }),
        ),
        (
            "Inventory",
            Body::Inventory(Inventory {
                sequence: 9,
                bound: vec![Binding { port: 20_000, protocol: Protocol::Tcp.into(), stream: stream() }],
                closed: vec![closed()],
                holders: vec![holder()],
                streams: stream().into_iter().collect(),
                host: host(),
                request_id: 6,
                directory_digest: vec![4; 2],
                directory_version: 3,
            }),
        ),
        ("Beat", Body::Beat(Beat { sequence: 9, digest: 0xcbf2_9ce4_8422_2325, term: 7, draining: true })),
        (
            "Assigned",
            report(report::Kind::Assigned(Assigned {
                stream: stream(),
                ports: vec![20_000],
                next_ports: vec![20_002],
            })),
        ),
        (
            "BindFailed",
            report(report::Kind::BindFailed(BindFailed {
                stream: stream(),
                port: 20_000,
                protocol: Protocol::Tcp.into(),
                error: "e".into(),
                holder: Some(holder()),
                own: true,
            })),
        ),
        ("Closed", report(report::Kind::Closed(closed()))),
        (
            "PublisherChanged",
            report(report::Kind::Publisher(PublisherChanged {
                stream: stream(),
                publisher: Some(Publisher {
                    remote: "r".into(),
                    since_unix_ms: 8,
                    protocol: "RTMP".into(),
                    codecs: vec!["H264".into()],
                }),
                reason: "Left".into(),
            })),
        ),
        ("MediaChanged", report(report::Kind::Media(MediaChanged { stream: stream(), live: true }))),
        (
            "PortsClosed",
            report(report::Kind::PortsClosed(PortsClosed { stream: stream(), ports: vec![20_000, 20_001] })),
        ),
        ("Arrived", report(report::Kind::Arrived(Arrived { stream: stream(), port: 20_002, settled: true }))),
        ("Scan", report(report::Kind::Scan(Scan { holders: vec![holder()], host: host() }))),
        (
            "ShardStuck",
            report(report::Kind::Stuck(ShardStuck {
                shard: 1,
                verdict: "blocked".into(),
                streams: stream().into_iter().collect(),
            })),
        ),
        (
            "Witnessed",
            Body::Witnessed(Witnessed { inquiry: 7, sight: Sight::Answered.into(), boot_id: "b".into() }),
        ),
    ]
}

fn from_operator() -> Vec<(&'static str, operator_message::Body)> {
    use operator_message::Body;
    vec![
        ("Welcome", Body::Welcome(Welcome { operator: "o".into() })),
        (
            "Assign",
            Body::Assign(Assign {
                stream: stream(),
                path: "live/a".into(),
                namespace: "n".into(),
                name: "a".into(),
                created_unix_ms: 11,
                publish: publish(),
                play: play(),
                rtp: Some(RtpSource {
                    transport: RtpTransport::TcpPassive.into(),
                    ssrc: Some(0),
                    ssrc_policy: SsrcPolicy::Learn.into(),
                    rtp_port: 20_000,
                    rtcp_port: Some(20_001),
                    remote: Some(Remote { host: "h".into(), port: 9 }),
                    shared: true,
                    next: Some(LeasedPorts { rtp_port: 20_002, rtcp_port: Some(20_003) }),
                }),
            }),
        ),
        ("Revoke", Body::Revoke(Revoke { stream: stream(), reason: "Deleted".into() })),
        (
            "DirectoryUpdate",
            Body::Directory(DirectoryUpdate {
                version: 12,
                full: true,
                entries: vec![DirectoryEntry {
                    path: "live/a".into(),
                    stream: stream(),
                    worker: "w".into(),
                    publish: publish(),
                    play: play(),
                }],
                removed_paths: vec!["live/b".into()],
                more: true,
                digest: vec![5; 2],
            }),
        ),
        ("InventoryRequest", Body::InventoryRequest(InventoryRequest { id: 13 })),
        (
            "Watch",
            Body::Watch(Watch { ranges: vec![PortRange { start: 20_000, end: 29_999 }], interval_ms: 5000 }),
        ),
        ("CloseLeak", Body::CloseLeak(CloseLeak { port: 20_000, stream: stream() })),
        (
            "ClusterNetworks",
            Body::Networks(ClusterNetworks {
                services: vec!["s".into()],
                pods: vec!["p".into()],
                nodes: vec!["n".into()],
            }),
        ),
        ("Inquire", Body::Inquire(Inquire { inquiry: 7, address: "a".into(), port: 9181 })),
    ]
}

#[test]
fn each_message_is_on_the_wire_as_it_was() {
    let mut text = String::new();
    let mut line = |name: &str, bytes: Vec<u8>| {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(text, "{name} {hex}").expect("a String takes all");
    };
    for (name, body) in from_worker() {
        let message = WorkerMessage { body: Some(body) };
        assert_eq!(WorkerMessage::decode(&*message.encode_to_vec()).as_ref(), Ok(&message));
        line(name, message.encode_to_vec());
    }
    for (name, body) in from_operator() {
        let message = OperatorMessage { term: 7, sequence: 9, body: Some(body) };
        assert_eq!(OperatorMessage::decode(&*message.encode_to_vec()).as_ref(), Ok(&message));
        line(name, message.encode_to_vec());
    }
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/wire.txt");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(golden, &text).expect("the golden file can be written");
    }
    let expected = std::fs::read_to_string(golden).unwrap_or_default();
    for (is, was) in text.lines().zip(expected.lines()) {
        assert_eq!(is, was, "UPDATE=1 rewrites {golden}");
    }
    assert_eq!(text.lines().count(), expected.lines().count(), "UPDATE=1 rewrites {golden}");
}

#[test]
fn a_message_of_a_later_version_is_read_as_far_as_it_is_known() {
    let beat = Beat { sequence: 1, digest: 2, term: 3, draining: false };
    // Field 99, a string.
    let later = [beat.encode_to_vec(), vec![0x9a, 0x06, 0x02, b'h', b'i']].concat();
    assert_eq!(Beat::decode(&*later), Ok(beat));
    // Body 99 of a worker's message.
    assert_eq!(WorkerMessage::decode(&[0x9a, 0x06, 0x00][..]), Ok(WorkerMessage { body: None }));
}
