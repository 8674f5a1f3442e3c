//! The language of the stories: a line is a step, `#` begins a comment, `key=value` says what is not the default.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use operator_core::Config;
use operator_core::config::{NodeMatch, PathGrants};
use operator_core::event::{Event, Listed, NodeObject, WriteOutcome};
use operator_core::ids::{ObjectName, Protocol, Term};
use operator_core::port_set::PortSet;
use operator_core::reason::Reason;
use operator_core::spec::{
    Latency, OnDuplicate, PlayPolicy, PlayProtocol, PoolSpec, PortRange, PublishPolicy, PushProtocol,
    Refusal, Remote, RtpSource, RtpTransport, Selector, Shrink, SlowViewer, Source, SsrcPolicy, StreamSpec,
};

use super::print;
use super::world::World;

/// The words of one line.
struct Step<'a> {
    words: Vec<&'a str>,
    options: BTreeMap<&'a str, &'a str>,
}

/// Runs a story; what it prints.
pub(crate) fn run(text: &str, story: &Path) -> String {
    let mut config = Config::standalone();
    if text.lines().any(|line| line.trim() == "#cluster") {
        config.node_match = NodeMatch::Labels;
        config.path_grants = PathGrants::Namespaces(BTreeMap::new());
        config.node_ports = Config::cluster().node_ports;
    }
    let mut world = World::new(config);
    let mut out = String::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        out.push_str(&format!("> {line}\n"));
        world.place = format!("{}:{}", story.display(), number + 1);
        step(&mut world, line);
        world.settle();
        out.push_str(&std::mem::take(&mut world.out));
    }
    out
}

fn step(world: &mut World, line: &str) {
    let (options, words): (Vec<&str>, Vec<&str>) =
        line.split_whitespace().partition(|word| word.contains('='));
    let options = options.into_iter().filter_map(|option| option.split_once('=')).collect();
    let step = Step { words, options };
    match step.words[..] {
        ["lead"] => world.lead(Term(step.number("floor").unwrap_or(0))),
        ["demote"] => world.event(Event::Demoted),
        ["list"] => world.list(step.number("version"), &step.names("without")),
        ["wait", time] => world.pass(duration(time)),
        ["pool", name] => world.put_pool(name, step.pool_spec(), step.number("created")),
        ["pool", name, "gone"] => world.delete_pool(name),
        ["stream", name, kind] => {
            world.put_stream(name, step.stream_spec(name, kind), step.number("created"))
        }
        ["touch", name] => world.touch(name, step.text("value").unwrap_or("1")),
        ["delete", name] => world.delete_stream(name),
        ["vanish", name] => world.vanish(name),
        ["restore", version] => world.restore(version.parse().expect("a version is a number")),
        ["backup"] => world.backup(),
        ["record", name] => world.bring_back(name),
        ["believe"] => world.event(Event::AbsenceConfirmed),
        ["secret", name] => {
            let hashes: Arc<[[u8; 32]]> =
                step.names("tokens").iter().map(|token| [token.len() as u8; 32]).collect();
            world.event(Event::SecretSeen { name: ObjectName::new("default", name), token_sha256: hashes });
        }
        ["secret", name, "gone"] => world.event(Event::SecretGone { name: ObjectName::new("default", name) }),
        ["node", name] => world.event(Event::NodeSeen(NodeObject {
            name: name.into(),
            labels: selector(&step.names("labels")),
            ready: step.text("ready") != Some("no"),
            unschedulable: step.text("cordoned") == Some("yes"),
            addresses: step.names("addresses").into_iter().map(Into::into).collect(),
            own: step.names("own").into_iter().map(|it| it.parse().expect("an address")).collect(),
            pods: step.networks("pods"),
        })),
        ["node", name, "gone"] => world.event(Event::NodeGone { name: name.into() }),
        ["services", "listed"] => {
            let names = Some(step.names("names").into_iter().map(Into::into).collect());
            world.event(Event::Listed(Listed::ServiceCidrs { names }));
        }
        ["services", name] => {
            let networks = step.networks("networks");
            world.event(Event::ServiceCidrSeen { name: name.into(), networks });
        }
        ["services", name, "gone"] => world.event(Event::ServiceCidrGone { name: name.into() }),
        ["worker", name] => world.start_worker(
            name,
            step.text("node").unwrap_or("local"),
            (step.number("term"), step.number("epoch")),
            step.text("template").unwrap_or_default(),
            step.port("shared"),
            step.text("old") == Some("yes"),
        ),
        ["worker", name, "dies"] => world.kill_worker(name),
        ["worker", name, "restarts"] => world.restart_worker(name),
        ["worker", name, "disconnects"] => world.disconnect(name),
        ["worker", name, "connects"] => world.connect(name),
        ["worker", name, "drains"] => world.drain_worker(name),
        ["worker", name, "mute"] => world.mute(name, true),
        ["worker", name, "speaks"] => world.mute(name, false),
        ["worker", name, "lost"] => world.lose_worker(name),
        ["worker", name, "degraded"] => world.degrade_worker(name),
        ["worker", name, "forgets", stream] => world.forget(name, stream),
        ["worker", name, "hushes", stream] => world.hush(name, stream),
        ["worker", name, "binds", stream] => {
            let ports = [step.port("port"), step.port("next")];
            world.bind_stray(name, stream, step.number("epoch").unwrap_or(1), ports);
        }
        ["worker", name, "leaks", port] => world.leak(name, port.parse().expect("a port is a number")),
        ["worker", name, "keeps", port] => world.keep(name, port.parse().expect("a port is a number")),
        ["worker", name, "stuck", stream] => world.stuck(name, stream),
        ["worker", name, "clash", stream] => world.clash(name, stream),
        ["thief", node, port] => {
            let protocol = if step.text("protocol") == Some("udp") { Protocol::Udp } else { Protocol::Tcp };
            world.thief(node, port.parse().expect("a port is a number"), protocol);
        }
        ["thief", node, port, "leaves"] => {
            world.thief_leaves(node, port.parse().expect("a port is a number"))
        }
        ["scan", worker] => world.scan(worker),
        ["publish", stream] => world.publish(stream, true),
        ["unpublish", stream] => world.publish(stream, false),
        ["media", stream, flows] => world.media(stream, flows == "flows"),
        ["arrives", stream] => world.arrive(stream, false, step.text("settled") != Some("no")),
        ["returns", stream] => world.arrive(stream, true, false),
        ["api", "holds"] => world.hold = true,
        ["api", "answers"] => world.release(None),
        ["api", "answers", outcome] => world.release(Some(outcome_of(outcome))),
        ["api", "loses"] => world.release_late(false),
        ["api", "loses", "and", "holds"] => world.release_late(true),
        ["api", "delivers"] => world.deliver_late(),
        ["show"] => {
            let shown = print::state(&world.state, &world.names());
            world.out.push_str(&shown);
        }
        ["status", name] => {
            let shown = print::status(world.status(name));
            world.out.push_str(&shown);
        }
        ["pool-status", name] => {
            let shown = print::pool_status(world.pool_status(name));
            world.out.push_str(&shown);
        }
        ["quiet", time] => {
            world.writes_made();
            world.pass(duration(time));
            assert_eq!(world.writes_made(), 0, "{}: something was written", world.place);
        }
        _ => panic!("{}: no such step: {line}", world.place),
    }
}

impl<'a> Step<'a> {
    fn text(&self, key: &str) -> Option<&'a str> {
        self.options.get(key).copied()
    }

    fn number(&self, key: &str) -> Option<u64> {
        self.text(key).map(|text| text.parse().unwrap_or_else(|_| panic!("{key} is a number")))
    }

    fn port(&self, key: &str) -> Option<u16> {
        self.number(key).map(|port| u16::try_from(port).expect("a port has 16 bits"))
    }

    fn names(&self, key: &str) -> Vec<&'a str> {
        self.text(key).map(|text| text.split(',').collect()).unwrap_or_default()
    }

    fn networks(&self, key: &str) -> Vec<IpNet> {
        self.names(key).into_iter().map(|it| it.parse().expect("a network")).collect()
    }

    fn pool_spec(&self) -> PoolSpec {
        let ranges: Vec<PortRange> = self.names("ranges").into_iter().map(range).collect();
        let mut numbers = PortSet::from_ranges(ranges.iter().copied());
        for reserved in self.names("reserved") {
            numbers.remove_range(range(reserved));
        }
        PoolSpec {
            default: self.text("default") != Some("no"),
            ranges,
            numbers,
            node_selector: selector(&self.names("nodes")),
            allowed_namespaces: self.names("namespaces").into_iter().map(Arc::from).collect(),
            cooldown: duration(self.text("cooldown").unwrap_or("10s")),
            shrink: match self.text("shrink") {
                Some("move") => Shrink::Move { deadline: duration(self.text("deadline").unwrap_or("3600s")) },
                Some(other) => panic!("no such policy: {other}"),
                None => Shrink::Wait,
            },
            nearly_exhausted_percent: 80,
        }
    }

    fn stream_spec(&self, name: &str, kind: &str) -> Result<Arc<StreamSpec>, Refusal> {
        let rtp = |transport, rtcp| {
            let ssrc = self.number("ssrc").map(|ssrc| u32::try_from(ssrc).expect("an SSRC has 32 bits"));
            let ssrc_policy = if ssrc.is_some() { SsrcPolicy::Enforce } else { SsrcPolicy::Learn };
            let port = self.port("port");
            let shared = self.text("shared") == Some("yes");
            let active = transport == RtpTransport::TcpActive;
            let remote = active.then(|| Remote { host: "192.0.2.7".into(), port: 15060 });
            Source::Rtp(RtpSource {
                transport,
                ssrc,
                ssrc_policy,
                rtcp: rtcp && !shared,
                port,
                shared,
                remote,
            })
        };
        let source = match kind {
            "push" => Source::Push { protocols: vec![PushProtocol::Rtmp] },
            "udp" => rtp(RtpTransport::Udp, true),
            "tcp" => rtp(RtpTransport::TcpPassive, false),
            "dial" => rtp(RtpTransport::TcpActive, false),
            "bad" => {
                let message = "spec.source: give one of push and rtp".to_owned();
                return Err(Refusal { reason: Reason::InvalidSpec, message });
            }
            _ => panic!("no such source: {kind}"),
        };
        let secret = |key| self.text(key).map(Arc::from);
        Ok(Arc::new(StreamSpec {
            path: self.text("path").map_or_else(|| format!("default/{name}").into(), Into::into),
            source,
            pool: self.text("pool").map(Into::into),
            publish: Arc::new(PublishPolicy {
                on_duplicate: if self.text("duplicate") == Some("takeover") {
                    OnDuplicate::Takeover
                } else {
                    OnDuplicate::Reject
                },
                start_timeout: Duration::from_secs(10),
                stall_timeout: Duration::from_secs(10),
                resume_window: Duration::from_secs(15),
                token_secret: secret("publish-token"),
                allowed_cidrs: Vec::new(),
            }),
            play: Arc::new(PlayPolicy {
                protocols: vec![PlayProtocol::Rtmp, PlayProtocol::HttpFlv],
                latency: Latency::Normal,
                slow_viewer: SlowViewer::SkipToKeyframe,
                start_timeout: Duration::from_secs(10),
                token_secret: secret("play-token"),
                allowed_cidrs: Vec::new(),
            }),
            release_after_idle: self.text("release").map(duration),
            ttl_after_idle: self.text("ttl").map(duration),
            node_selector: selector(&self.names("nodes")),
            preferred_node: self.text("node").map(Into::into),
            paused: self.text("paused") == Some("yes"),
        }))
    }
}

fn outcome_of(word: &str) -> WriteOutcome {
    match word {
        "conflict" => WriteOutcome::Conflict,
        "refused" => WriteOutcome::Refused { message: "status.epoch may not fall".to_owned() },
        "unknown" => WriteOutcome::Unknown,
        _ => panic!("no such outcome: {word}"),
    }
}

/// `20000-20009`, or one number.
fn range(text: &str) -> PortRange {
    let (start, end) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.parse().expect("a port is a number");
    PortRange { start: number(start), end: number(end) }
}

/// `zone:a`.
fn selector(labels: &[&str]) -> Selector {
    labels
        .iter()
        .filter_map(|label| label.split_once(':'))
        .map(|(key, value)| (key.into(), value.into()))
        .collect()
}

fn duration(text: &str) -> Duration {
    match text.strip_suffix("ms") {
        Some(millis) => Duration::from_millis(millis.parse().expect("milliseconds are a number")),
        None => Duration::from_secs(
            text.strip_suffix('s').expect("s or ms").parse().expect("seconds are a number"),
        ),
    }
}
