//! What one event costs with 10 to 100 000 streams: the figure to look at is that it stays flat. `cargo bench -p operator-core`.
//!
//! Eight workers, half of the streams pushed, half GB28181 over UDP with a pair of ports each. An event's cost is all that
//! follows from it: the plans, and the answers of API and worker to what was planned.

#![allow(clippy::print_stdout, clippy::disallowed_methods, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use operator_core::action::{Action, Command};
use operator_core::event::{
    Beat, Binding, Closed, Event, Hello, Inventory, Listed, Now, Report, WriteOutcome,
};
use operator_core::ids::{
    Epoch, ObjectName, Ports, Protocol, ResourceVersion, SessionId, StreamRef, Term, Uid,
};
use operator_core::port_set::PortSet;
use operator_core::spec::{
    Latency, OnDuplicate, PlayPolicy, PlayProtocol, PoolObject, PoolSpec, PortRange, PublishPolicy,
    PushProtocol, RtpSource, RtpTransport, Shrink, SlowViewer, Source, SsrcPolicy, StreamObject, StreamSpec,
};
use operator_core::status::StreamStatus;
use operator_core::{Config, State, plan};

const WORKERS: u64 = 8;
const SIZES: [u64; 5] = [10, 100, 1_000, 10_000, 100_000];
const ROUNDS: u64 = 400;

type Change<'a> = &'a dyn Fn(&mut Bench, u64);

fn main() {
    let changes: [(&str, Change); 5] = [
        ("media stops or flows", &|bench, round| bench.media(round)),
        ("beat", &|bench, round| bench.beat(round)),
        ("rules edited", &|bench, round| bench.edit(round)),
        ("deleted and made again", &|bench, round| bench.remake(round)),
        ("worker asked, inventory of 1/8 compared", &|bench, round| bench.reconnect(round)),
    ];
    println!("median microseconds for one event and all that follows from it");
    print!("{:42}", "streams");
    for size in SIZES {
        print!("{size:>10}");
    }
    println!();
    let mut benches: Vec<Bench> = SIZES.iter().map(|&size| Bench::new(size)).collect();
    for (name, change) in changes {
        print!("{name:42}");
        for bench in &mut benches {
            let rounds = if name.starts_with("worker") { 16 } else { ROUNDS };
            let mut costs: Vec<Duration> = (0..rounds).map(|round| bench.measure(round, change)).collect();
            costs.sort();
            print!("{:>10.1}", costs[costs.len() / 2].as_secs_f64() * 1e6);
        }
        println!();
    }
}

struct Bench {
    state: State,
    now: Duration,
    version: u64,
    streams: Vec<StreamObject>,
    sessions: BTreeMap<SessionId, (u64, u64)>,
    open: BTreeMap<StreamRef, (SessionId, Option<Ports>)>,
    pending: VecDeque<Event>,
    last_session: u64,
}

impl Bench {
    fn new(size: u64) -> Self {
        let mut bench = Self {
            state: State::new(Config::standalone()),
            now: Duration::from_secs(1),
            version: 0,
            streams: Vec::new(),
            sessions: BTreeMap::new(),
            open: BTreeMap::new(),
            pending: VecDeque::new(),
            last_session: 0,
        };
        bench.pending.push_back(Event::Lead { floor: Term(0) });
        let range = PortRange { start: 20000, end: 49999 };
        bench.pending.push_back(Event::PoolSeen(Box::new(pool(range))));
        bench.pending.push_back(Event::Listed(Listed::Pools { names: BTreeSet::from(["media".into()]) }));
        bench.pending.push_back(Event::Listed(Listed::Nodes { names: BTreeSet::new() }));
        bench.pending.push_back(Event::Listed(Listed::Secrets { names: BTreeSet::new() }));
        bench.pending.push_back(Event::Listed(Listed::ServiceCidrs { names: None }));
        let uids = BTreeSet::new();
        bench
            .pending
            .push_back(Event::Listed(Listed::Streams { resource_version: ResourceVersion(0), uids }));
        bench.settle();
        for worker in 0..WORKERS {
            bench.connect(worker);
        }
        bench.settle();
        bench.streams = (0..size).map(|number| stream(number, 0)).collect();
        bench.pending.extend(bench.streams.iter().map(|object| Event::StreamSeen(Box::new(object.clone()))));
        bench.settle();
        assert!(bench.state.claims().count() as u64 == size, "each stream has its claim");
        bench
    }

    fn measure(&mut self, round: u64, change: Change) -> Duration {
        self.now += Duration::from_millis(1);
        change(self, round);
        let start = Instant::now();
        self.settle();
        start.elapsed()
    }

    fn pick(&self, round: u64) -> usize {
        // Spread over all of them, the same in each run.
        usize::try_from(round * 7919 % self.streams.len() as u64).unwrap()
    }

    fn key(&self, round: u64) -> (StreamRef, SessionId) {
        let uid = &self.streams[self.pick(round)].uid;
        let range = StreamRef::new(uid.clone(), Epoch(0))..=StreamRef::new(uid.clone(), Epoch(u64::MAX));
        let (key, (session, _)) = self.open.range(range).next().expect("each stream is open");
        (key.clone(), *session)
    }

    fn media(&mut self, round: u64) {
        let (stream, session) = self.key(round);
        self.pending.push_back(Event::Report {
            session,
            report: Report::Media { stream, live: round.is_multiple_of(2) },
        });
    }

    fn beat(&mut self, round: u64) {
        let (session, (_, sequence)) =
            self.sessions.iter().nth(usize::try_from(round % WORKERS).unwrap()).unwrap();
        // Not the last sequence: digests are not compared, as while commands are under way.
        let beat = Beat { sequence: sequence - 1, digest: 0, term: Term(1), draining: false };
        self.pending.push_back(Event::Beat { session: *session, beat });
    }

    fn edit(&mut self, round: u64) {
        self.version += 1;
        let index = self.pick(round);
        let object = &mut self.streams[index];
        let mut spec = (**object.spec.as_ref().unwrap()).clone();
        let play = PlayPolicy { start_timeout: Duration::from_millis(round), ..(*spec.play).clone() };
        spec.play = Arc::new(play);
        object.spec = Ok(Arc::new(spec));
        object.generation += 1;
        object.resource_version = ResourceVersion(self.version);
        let object = object.clone();
        self.pending.push_back(Event::StreamSeen(Box::new(object)));
    }

    fn remake(&mut self, round: u64) {
        self.version += 1;
        let index = self.pick(round);
        let number = u64::try_from(index).unwrap();
        let again =
            StreamObject { resource_version: ResourceVersion(self.version), ..stream(number, self.version) };
        let gone = std::mem::replace(&mut self.streams[index], again.clone());
        self.pending.push_back(Event::StreamGone { uid: gone.uid });
        self.pending.push_back(Event::StreamSeen(Box::new(again)));
    }

    fn reconnect(&mut self, round: u64) {
        self.connect(round % WORKERS);
    }

    fn connect(&mut self, worker: u64) {
        self.last_session += 1;
        let session = SessionId(self.last_session);
        let former =
            self.sessions.iter().find(|(_, (known, _))| *known == worker).map(|(session, _)| *session);
        if let Some(former) = former {
            self.sessions.remove(&former);
            for (owner, _) in self.open.values_mut().filter(|(owner, _)| *owner == former) {
                *owner = session;
            }
        }
        self.sessions.insert(session, (worker, 0));
        let name = format!("w{worker}");
        let hello = Hello {
            worker: name.as_str().into(),
            node: name.as_str().into(),
            pod_uid: name.as_str().into(),
            boot: name.as_str().into(),
            addresses: vec!["192.0.2.1".into()],
            listener_ports: vec![1935],
            term: Term(0),
            epoch: Epoch(0),
            rtmp_port: 1935,
            http_port: 8080,
            rtp_shared_port: None,
            changes_leases: true,
            knows_networks: true,
            health_port: 9181,
            template: "".into(),
        };
        self.pending.push_back(Event::Hello { session, hello });
    }

    fn settle(&mut self) {
        loop {
            let now = Now { mono: self.now, wall_unix_ms: 1_700_000_000_000 };
            for action in plan(&mut self.state, now) {
                self.answer(action);
            }
            let Some(event) = self.pending.pop_front() else { return };
            self.state.observe(event, now);
        }
    }

    fn answer(&mut self, action: Action) {
        match action {
            Action::WriteStream { id, .. }
            | Action::WritePool { id, .. }
            | Action::DeleteStream { id, .. } => {
                self.version += 1;
                let outcome = WriteOutcome::Written { resource_version: ResourceVersion(self.version) };
                self.pending.push_back(Event::Write { id, outcome });
            }
            Action::RecordTerm { term } => self.pending.push_back(Event::TermRecorded { term }),
            Action::Command { session, term: _, sequence, command } => self.obey(session, sequence, command),
            Action::Confirm { .. } | Action::CloseSession { .. } | Action::Emit { .. } => {}
        }
    }

    fn obey(&mut self, session: SessionId, sequence: u64, command: Command) {
        if let Some((_, last)) = self.sessions.get_mut(&session) {
            *last = sequence;
        }
        match command {
            Command::Assign(assign) => {
                let stream = assign.stream;
                let ports = assign.source.ports();
                self.open.insert(stream.clone(), (session, ports));
                self.pending.push_back(Event::Report {
                    session,
                    report: Report::Assigned { stream, ports, next: None },
                });
            }
            Command::Revoke { stream, reason: _ } => {
                self.open.remove(&stream);
                let closed = Closed { stream, ports: Vec::new(), ago: Duration::ZERO };
                self.pending.push_back(Event::Report { session, report: Report::Closed(closed) });
            }
            Command::Watch { .. } | Command::InventoryRequest => {
                let here = self.open.iter().filter(|(_, (owner, _))| *owner == session);
                let streams = here.clone().map(|(key, _)| key.clone()).collect();
                let bound = here
                    .flat_map(|(key, (_, ports))| {
                        ports.iter().flat_map(|ports| ports.numbers()).map(move |port| (key, port))
                    })
                    .map(|(key, port)| Binding { port, protocol: Protocol::Udp, stream: Some(key.clone()) })
                    .collect();
                let inventory = Inventory { sequence, bound, streams, ..Inventory::default() };
                self.pending.push_back(Event::Inventory { session, inventory });
            }
            Command::Welcome | Command::Directory(_) | Command::Networks(_) | Command::CloseLeak { .. } => {}
        }
    }
}

fn pool(range: PortRange) -> PoolObject {
    PoolObject {
        uid: "pool".into(),
        name: "media".into(),
        resource_version: ResourceVersion(1),
        generation: 1,
        created_unix_ms: 1,
        spec: Ok(Arc::new(PoolSpec {
            default: true,
            ranges: vec![range],
            numbers: PortSet::from_ranges([range]),
            node_selector: BTreeMap::new(),
            allowed_namespaces: Vec::new(),
            cooldown: Duration::from_secs(10),
            shrink: Shrink::Wait,
            nearly_exhausted_percent: 80,
        })),
        status: Box::default(),
    }
}

fn stream(number: u64, version: u64) -> StreamObject {
    let source = if number.is_multiple_of(2) {
        Source::Push { protocols: vec![PushProtocol::Rtmp] }
    } else {
        let (transport, ssrc_policy) = (RtpTransport::Udp, SsrcPolicy::Learn);
        Source::Rtp(RtpSource {
            transport,
            ssrc: None,
            ssrc_policy,
            rtcp: true,
            port: None,
            shared: false,
            remote: None,
        })
    };
    let timeout = Duration::from_secs(10);
    StreamObject {
        uid: Uid::from(format!("7d3a2c1e-0000-4000-8000-{number:06}{version:06}")),
        name: ObjectName::new(format!("team-{}", number % 20), format!("cam-{number}")),
        resource_version: ResourceVersion(1),
        generation: 1,
        created_unix_ms: number,
        deleting: false,
        touch: None,
        spec: Ok(Arc::new(StreamSpec {
            path: format!("live/cam-{number}").into(),
            source,
            pool: None,
            publish: Arc::new(PublishPolicy {
                on_duplicate: OnDuplicate::Reject,
                start_timeout: timeout,
                stall_timeout: timeout,
                resume_window: timeout,
                token_secret: None,
                allowed_cidrs: Vec::new(),
            }),
            play: Arc::new(PlayPolicy {
                protocols: vec![PlayProtocol::Rtmp, PlayProtocol::HttpFlv],
                latency: Latency::Normal,
                slow_viewer: SlowViewer::SkipToKeyframe,
                start_timeout: timeout,
                token_secret: None,
                allowed_cidrs: Vec::new(),
            }),
            release_after_idle: None,
            ttl_after_idle: None,
            node_selector: BTreeMap::new(),
            preferred_node: None,
            paused: false,
        })),
        status: Box::<StreamStatus>::default(),
    }
}
