//! A small world for the stories: an API that keeps objects, workers that do what they are told. Nothing is random and time
//! passes only when the story says so.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use operator_core::action::{Action, AssignedSource, Command, KnownDirectory};
use operator_core::digest::Digest;
use operator_core::event::{
    Beat, Binding, Closed, Event, Hello, Holder, HostPorts, Inventory, Listed, Now, Report, WriteOutcome,
};
use operator_core::ids::{
    Epoch, ObjectName, Ports, Protocol, ResourceVersion, SessionId, StreamRef, Term, Uid, UnixTime, WriteId,
};
use operator_core::spec::{PoolObject, PoolSpec, PortRange, Refusal, RtpTransport, StreamObject, StreamSpec};
use operator_core::status::{PoolStatus, Publisher, StreamStatus};
use operator_core::{Config, State, plan};

use super::print;

const BEAT: Duration = Duration::from_millis(250);

#[derive(Clone, Default)]
struct Api {
    version: u64,
    streams: BTreeMap<String, StreamObject>,
    pools: BTreeMap<String, PoolObject>,
}

#[derive(Default)]
struct Worker {
    node: String,
    boot: u32,
    session: Option<SessionId>,
    term: Term,
    epoch: Epoch,
    template: String,
    sequence: u64,
    open: BTreeMap<StreamRef, Option<Ports>>,
    /// Numbers that are open beside those, to take their place, and whether media comes on them.
    next: BTreeMap<StreamRef, (Ports, Option<bool>)>,
    /// Those of them that listen.
    tcp: BTreeSet<StreamRef>,
    leaks: BTreeSet<u16>,
    /// Those of them that it can't close.
    kept: BTreeSet<u16>,
    /// What was last said of a stream's publisher and media.
    said: BTreeMap<StreamRef, (Option<Publisher>, bool)>,
    closed: Vec<(Duration, StreamRef, Vec<u16>)>,
    watched: Vec<PortRange>,
    /// What it was told of the directory, where no piece is missing.
    directory: Option<KnownDirectory>,
    mute: bool,
    draining: bool,
    shared_port: Option<u16>,
    /// Of a version that knows of one lease a stream alone.
    old: bool,
    inbox: VecDeque<(Term, u64, Command)>,
}

pub(crate) struct World {
    pub(crate) state: State,
    pub(crate) out: String,
    pub(crate) hold: bool,
    pub(crate) place: String,
    now: Duration,
    api: Api,
    saved: Option<Api>,
    workers: BTreeMap<String, Worker>,
    thieves: BTreeSet<(String, u16, Protocol)>,
    pending: VecDeque<Event>,
    held: Vec<Action>,
    late: Vec<Action>,
    last_session: u64,
    last_uid: u64,
    uids: BTreeMap<Uid, String>,
    writes: usize,
}

impl World {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            state: State::new(config),
            out: String::new(),
            hold: false,
            place: String::new(),
            now: Duration::from_secs(100),
            api: Api { version: 100, ..Api::default() },
            saved: None,
            workers: BTreeMap::new(),
            thieves: BTreeSet::new(),
            pending: VecDeque::new(),
            held: Vec::new(),
            late: Vec::new(),
            last_session: 0,
            last_uid: 0,
            uids: BTreeMap::new(),
            writes: 0,
        }
    }

    pub(crate) fn names(&self) -> print::Names {
        self.uids.clone()
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.pending.push_back(event);
    }

    /// Lets every event have its consequences.
    pub(crate) fn settle(&mut self) {
        loop {
            self.plan();
            let Some(event) = self.pending.pop_front() else { return };
            let now = self.at();
            self.state.observe(event, now);
        }
    }

    fn plan(&mut self) {
        let now = self.at();
        let actions = plan(&mut self.state, now);
        let violations = self.state.check();
        assert!(violations.is_empty(), "{}: {violations:#?}\n{}", self.place, self.out);
        for action in actions {
            let node = match &action {
                Action::Command { session, .. } => self.node_of(*session),
                _ => String::new(),
            };
            let line = print::action(&action, &self.uids, &node);
            self.out.push_str(&format!("  {line}\n"));
            self.perform(action);
        }
    }

    /// Time passes; deadlines and beats happen when they are due.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.settle();
        let end = self.now + time;
        loop {
            let beat =
                BEAT * u32::try_from(self.now.as_nanos() / BEAT.as_nanos() + 1).expect("stories are short");
            let deadline = self.state.next_deadline().map_or(end, |deadline| deadline.max(self.now));
            let next = beat.min(deadline).min(end);
            let stuck = next == self.now && deadline <= self.now;
            self.now = next;
            if next == beat {
                self.beat();
            }
            self.settle();
            assert!(
                !(stuck && self.state.next_deadline().is_some_and(|at| at <= self.now)),
                "{}: time stands still",
                self.place
            );
            if self.now == end && self.state.next_deadline().is_none_or(|at| at > end) {
                return;
            }
        }
    }

    fn at(&self) -> Now {
        let wall = Duration::from_secs(1_700_000_000) + self.now;
        Now {
            mono: self.now,
            wall_unix_ms: u64::try_from(wall.as_millis()).expect("the year is below 500 million"),
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::WriteStream { .. } | Action::WritePool { .. } | Action::DeleteStream { .. } => {
                self.writes += 1;
                if self.hold { self.held.push(action) } else { self.write(action) }
            }
            Action::Confirm { uid, name: _, since } => {
                let found = self.api.streams.values().find(|object| object.uid == uid).cloned().map(Box::new);
                let forgotten = found.is_none() && self.api.version < since.0;
                self.event(if forgotten {
                    Event::Forgotten { uid }
                } else {
                    Event::Confirmed { uid, found }
                });
            }
            Action::RecordTerm { term } => self.event(Event::TermRecorded { term }),
            Action::Command { session, term, sequence, command } => {
                let found = self.workers.iter_mut().find(|(_, worker)| worker.session == Some(session));
                if let Some((name, worker)) = found {
                    let name = name.clone();
                    worker.inbox.push_back((term, sequence, command));
                    if !worker.mute {
                        self.work(&name);
                    }
                }
            }
            Action::CloseSession { .. } | Action::Emit { .. } => {}
        }
    }

    // ------------------------------------------------------------------------------------------------- the API

    fn version(&mut self) -> ResourceVersion {
        self.api.version += 1;
        ResourceVersion(self.api.version)
    }

    fn write(&mut self, action: Action) {
        let id = match &action {
            Action::WriteStream { id, .. }
            | Action::WritePool { id, .. }
            | Action::DeleteStream { id, .. } => *id,
            _ => unreachable!("only writes come here"),
        };
        let (outcome, echo) = self.apply(action);
        if !matches!(outcome, WriteOutcome::Written { .. }) {
            self.out.push_str(&format!("  api: {outcome:?}\n"));
        }
        self.event(Event::Write { id, outcome });
        self.pending.extend(echo);
    }

    fn apply(&mut self, action: Action) -> (WriteOutcome, Option<Event>) {
        match action {
            Action::WriteStream { uid, name, resource_version, status, .. } => {
                let Some(object) = self.api.streams.get_mut(&*name.name).filter(|object| object.uid == uid)
                else {
                    return (WriteOutcome::NotFound, None);
                };
                if object.resource_version != resource_version {
                    return (WriteOutcome::Conflict, None);
                }
                if status.term < object.status.term || status.epoch < object.status.epoch {
                    return (WriteOutcome::Refused { message: "status.epoch may not fall".to_owned() }, None);
                }
                object.status = status;
                self.api.version += 1;
                object.resource_version = ResourceVersion(self.api.version);
                let echo = Event::StreamSeen(Box::new(object.clone()));
                (WriteOutcome::Written { resource_version: object.resource_version }, Some(echo))
            }
            Action::WritePool { uid, name, resource_version, status, .. } => {
                let Some(object) = self.api.pools.get_mut(name.as_str()).filter(|object| object.uid == uid)
                else {
                    return (WriteOutcome::NotFound, None);
                };
                if object.resource_version != resource_version {
                    return (WriteOutcome::Conflict, None);
                }
                object.status = status;
                self.api.version += 1;
                object.resource_version = ResourceVersion(self.api.version);
                let echo = Event::PoolSeen(Box::new(object.clone()));
                (WriteOutcome::Written { resource_version: object.resource_version }, Some(echo))
            }
            Action::DeleteStream { uid, name, .. } => {
                let there = self.api.streams.get(&*name.name).is_some_and(|object| object.uid == uid);
                if !there {
                    return (WriteOutcome::NotFound, None);
                }
                self.api.streams.remove(&*name.name);
                let resource_version = self.version();
                (WriteOutcome::Written { resource_version }, Some(Event::StreamGone { uid }))
            }
            _ => unreachable!("only writes come here"),
        }
    }

    pub(crate) fn release(&mut self, outcome: Option<WriteOutcome>) {
        self.hold = false;
        for action in std::mem::take(&mut self.held) {
            match (&outcome, id_of(&action)) {
                (Some(outcome), Some(id)) => self.event(Event::Write { id, outcome: outcome.clone() }),
                _ => self.write(action),
            }
        }
    }

    /// Nobody hears how the writes end; they come to pass later.
    /// The answers to the writes that are held are lost; what follows is held too, or not.
    pub(crate) fn release_late(&mut self, hold: bool) {
        self.hold = hold;
        for action in std::mem::take(&mut self.held) {
            let id = id_of(&action).expect("only writes are held");
            self.late.push(action);
            self.event(Event::Write { id, outcome: WriteOutcome::Unknown });
        }
    }

    pub(crate) fn deliver_late(&mut self) {
        for action in std::mem::take(&mut self.late) {
            let (outcome, echo) = self.apply(action);
            self.out.push_str(&format!("  late: {outcome:?}\n"));
            self.pending.extend(echo);
        }
    }

    pub(crate) fn lead(&mut self, floor: Term) {
        self.event(Event::Lead { floor });
        let pools: Vec<_> = self.api.pools.values().cloned().collect();
        let names = pools.iter().map(|pool| pool.name.clone()).collect();
        self.pending.extend(pools.into_iter().map(|pool| Event::PoolSeen(Box::new(pool))));
        self.event(Event::Listed(Listed::Pools { names }));
        self.event(Event::Listed(Listed::Secrets { names: BTreeSet::new() }));
        self.event(Event::Listed(Listed::ServiceCidrs { names: None }));
        let names = self.state.nodes().map(|node| node.name.clone()).collect();
        self.event(Event::Listed(Listed::Nodes { names }));
        self.list(None, &[]);
    }

    pub(crate) fn list(&mut self, version: Option<u64>, without: &[&str]) {
        let listed: Vec<_> = self
            .api
            .streams
            .iter()
            .filter(|(name, _)| !without.contains(&name.as_str()))
            .map(|(_, object)| object.clone())
            .collect();
        let uids = listed.iter().map(|object| object.uid.clone()).collect();
        self.pending.extend(listed.into_iter().map(|object| Event::StreamSeen(Box::new(object))));
        let resource_version = ResourceVersion(version.unwrap_or(self.api.version));
        self.event(Event::Listed(Listed::Streams { resource_version, uids }));
    }

    pub(crate) fn put_stream(
        &mut self,
        name: &str,
        spec: Result<Arc<StreamSpec>, Refusal>,
        created: Option<u64>,
    ) {
        let resource_version = self.version();
        let object = match self.api.streams.get(name) {
            Some(before) => {
                StreamObject { resource_version, generation: before.generation + 1, spec, ..before.clone() }
            }
            None => {
                self.last_uid += 1;
                let uid = Uid::from(format!("u{}", self.last_uid));
                self.uids.insert(uid.clone(), name.to_owned());
                StreamObject {
                    uid,
                    name: ObjectName::new("default", name),
                    resource_version,
                    generation: 1,
                    created_unix_ms: created.unwrap_or(self.last_uid),
                    deleting: false,
                    touch: None,
                    spec,
                    status: Box::new(StreamStatus::default()),
                }
            }
        };
        self.api.streams.insert(name.to_owned(), object.clone());
        self.event(Event::StreamSeen(Box::new(object)));
    }

    pub(crate) fn touch(&mut self, name: &str, value: &str) {
        let resource_version = self.version();
        let object = self.api.streams.get_mut(name).expect("the stream is there");
        object.touch = Some(value.into());
        object.resource_version = resource_version;
        let object = object.clone();
        self.event(Event::StreamSeen(Box::new(object)));
    }

    pub(crate) fn delete_stream(&mut self, name: &str) {
        let object = self.api.streams.remove(name).expect("the stream is there");
        self.version();
        self.event(Event::StreamGone { uid: object.uid });
    }

    /// It is gone, and the watch missed it.
    pub(crate) fn vanish(&mut self, name: &str) {
        self.api.streams.remove(name).expect("the stream is there");
        self.version();
    }

    pub(crate) fn backup(&mut self) {
        self.saved = Some(self.api.clone());
    }

    /// One stream is as the backup has it.
    pub(crate) fn bring_back(&mut self, name: &str) {
        let resource_version = self.version();
        let saved = self.saved.as_ref().expect("a backup was made");
        let object = StreamObject { resource_version, ..saved.streams[name].clone() };
        self.api.streams.insert(name.to_owned(), object);
    }

    pub(crate) fn restore(&mut self, version: u64) {
        self.api = self.saved.clone().expect("a backup was made");
        self.api.version = version;
    }

    pub(crate) fn put_pool(&mut self, name: &str, spec: PoolSpec, created: Option<u64>) {
        let resource_version = self.version();
        let spec = Ok(Arc::new(spec));
        let object = match self.api.pools.get(name) {
            Some(before) => {
                PoolObject { resource_version, generation: before.generation + 1, spec, ..before.clone() }
            }
            None => {
                self.last_uid += 1;
                PoolObject {
                    uid: format!("p{}", self.last_uid).into(),
                    name: name.into(),
                    resource_version,
                    generation: 1,
                    created_unix_ms: created.unwrap_or(self.last_uid),
                    spec,
                    status: Box::new(PoolStatus::default()),
                }
            }
        };
        self.api.pools.insert(name.to_owned(), object.clone());
        self.event(Event::PoolSeen(Box::new(object)));
    }

    pub(crate) fn delete_pool(&mut self, name: &str) {
        let object = self.api.pools.remove(name).expect("the pool is there");
        self.event(Event::PoolGone { name: name.into(), uid: object.uid });
    }

    pub(crate) fn status(&self, name: &str) -> &StreamStatus {
        &self.api.streams[name].status
    }

    pub(crate) fn pool_status(&self, name: &str) -> &PoolStatus {
        &self.api.pools[name].status
    }

    pub(crate) fn writes_made(&mut self) -> usize {
        std::mem::take(&mut self.writes)
    }

    // ------------------------------------------------------------------------------------------------- workers

    /// `term` and `epoch` are the highest that it was told before the story begins.
    pub(crate) fn start_worker(
        &mut self,
        name: &str,
        node: &str,
        (term, epoch): (Option<u64>, Option<u64>),
        template: &str,
        shared_port: Option<u16>,
        old: bool,
    ) {
        let (term, epoch) = (Term(term.unwrap_or(0)), Epoch(epoch.unwrap_or(0)));
        let (node, template) = (node.to_owned(), template.to_owned());
        let worker = Worker { node, boot: 1, term, epoch, template, shared_port, old, ..Worker::default() };
        self.workers.insert(name.to_owned(), worker);
        self.connect(name);
    }

    pub(crate) fn connect(&mut self, name: &str) {
        self.last_session += 1;
        let session = SessionId(self.last_session);
        let worker = self.workers.get_mut(name).expect("the worker is there");
        worker.session = Some(session);
        worker.sequence = 0;
        worker.inbox.clear();
        let hello = Hello {
            worker: name.into(),
            node: worker.node.as_str().into(),
            pod_uid: format!("pod-{name}").into(),
            boot: format!("{name}-{}", worker.boot).into(),
            addresses: vec!["192.0.2.1".into()],
            listener_ports: [1935, 8080].into_iter().chain(worker.shared_port).collect(),
            term: worker.term,
            epoch: worker.epoch,
            rtmp_port: 1935,
            http_port: 8080,
            health_port: 9181,
            rtp_shared_port: worker.shared_port,
            changes_leases: !worker.old,
            knows_networks: !worker.old,
            template: worker.template.as_str().into(),
        };
        self.event(Event::Hello { session, hello });
        self.inventory(name);
    }

    pub(crate) fn disconnect(&mut self, name: &str) {
        let worker = self.workers.get_mut(name).expect("the worker is there");
        if let Some(session) = worker.session.take() {
            self.event(Event::SessionClosed { session });
        }
    }

    pub(crate) fn kill_worker(&mut self, name: &str) {
        self.disconnect(name);
        let worker = self.workers.get_mut(name).expect("the worker is there");
        *worker = Worker {
            node: worker.node.clone(),
            boot: worker.boot,
            term: worker.term,
            shared_port: worker.shared_port,
            ..Worker::default()
        };
    }

    pub(crate) fn restart_worker(&mut self, name: &str) {
        self.kill_worker(name);
        let worker = self.workers.get_mut(name).expect("the worker is there");
        worker.boot += 1;
        worker.term = Term(0);
        self.connect(name);
    }

    pub(crate) fn drain_worker(&mut self, name: &str) {
        self.workers.get_mut(name).expect("the worker is there").draining = true;
        self.pass(Duration::from_millis(250));
    }

    pub(crate) fn mute(&mut self, name: &str, mute: bool) {
        self.workers.get_mut(name).expect("the worker is there").mute = mute;
        if !mute {
            self.work(name);
        }
    }

    pub(crate) fn lose_worker(&mut self, name: &str) {
        let boot = format!("{name}-{}", self.workers[name].boot).into();
        self.event(Event::WorkerLost { worker: name.into(), boot });
    }

    pub(crate) fn degrade_worker(&mut self, name: &str) {
        let boot = format!("{name}-{}", self.workers[name].boot).into();
        self.event(Event::WorkerDegraded { worker: name.into(), boot });
    }

    /// The worker closes a stream without a word.
    pub(crate) fn forget(&mut self, name: &str, stream: &str) {
        let uid = self.uid(stream);
        let worker = self.workers.get_mut(name).expect("the worker is there");
        worker.open.retain(|key, _| key.uid != uid);
        worker.next.retain(|key, _| key.uid != uid);
    }

    /// Its publisher leaves while nobody listens.
    pub(crate) fn hush(&mut self, name: &str, stream: &str) {
        let key = self.key(stream);
        *self.said(name, &key) = (None, false);
    }

    /// The worker has a stream open that nobody gave to it, on a port or on two.
    pub(crate) fn bind_stray(&mut self, name: &str, stream: &str, epoch: u64, ports: [Option<u16>; 2]) {
        let uid = self
            .uids
            .iter()
            .find(|(_, known)| *known == stream)
            .map_or_else(|| stream.into(), |(uid, _)| uid.clone());
        let [first, next] = ports.map(|port| port.map(|rtp| Ports { rtp, rtcp: None }));
        let key = StreamRef::new(uid, Epoch(epoch));
        let worker = self.workers.get_mut(name).expect("the worker is there");
        worker.open.insert(key.clone(), first);
        worker.next.extend(next.map(|next| (key, (next, None))));
    }

    pub(crate) fn leak(&mut self, name: &str, port: u16) {
        self.workers.get_mut(name).expect("the worker is there").leaks.insert(port);
        self.inventory(name);
    }

    pub(crate) fn keep(&mut self, name: &str, port: u16) {
        self.workers.get_mut(name).expect("the worker is there").kept.insert(port);
        self.leak(name, port);
    }

    pub(crate) fn stuck(&mut self, name: &str, stream: &str) {
        let streams = vec![self.key(stream)];
        self.report(name, Report::ShardStuck { shard: 0, verdict: "blocked".into(), streams });
    }

    pub(crate) fn thief(&mut self, node: &str, port: u16, protocol: Protocol) {
        self.thieves.insert((node.to_owned(), port, protocol));
    }

    pub(crate) fn thief_leaves(&mut self, node: &str, port: u16) {
        self.thieves.retain(|(on, held, _)| on != node || *held != port);
    }

    pub(crate) fn scan(&mut self, name: &str) {
        let holders = self.holders(name);
        self.report(name, Report::Scan { holders, host: HostPorts::default() });
    }

    pub(crate) fn publish(&mut self, stream: &str, here: bool) {
        let key = self.key(stream);
        let publisher = here.then(|| Publisher {
            remote: "198.51.100.7:4000".into(),
            since: UnixTime(1),
            codecs: vec!["H264".into()],
        });
        let reason = if here { "" } else { "connection closed" };
        let name = self.owner(&key);
        self.said(&name, &key).0 = publisher.clone();
        self.report(&name, Report::Publisher { stream: key, publisher, reason: reason.into() });
    }

    pub(crate) fn media(&mut self, stream: &str, live: bool) {
        let key = self.key(stream);
        let name = self.owner(&key);
        self.said(&name, &key).1 = live;
        self.report(&name, Report::Media { stream: key, live });
    }

    /// The worker says that another of its own streams has the number.
    pub(crate) fn clash(&mut self, name: &str, stream: &str) {
        let key = self.key(stream);
        let worker = self.workers.get_mut(name).expect("the worker is there");
        let ports = worker.open.remove(&key).flatten().expect("the stream has ports here");
        self.report(
            name,
            Report::BindFailed {
                stream: key,
                port: ports.rtp,
                protocol: Protocol::Udp,
                error: "address in use".into(),
                holder: None,
                own: true,
            },
        );
    }

    fn said(&mut self, name: &str, key: &StreamRef) -> &mut (Option<Publisher>, bool) {
        self.workers.get_mut(name).expect("the worker is there").said.entry(key.clone()).or_default()
    }

    fn uid(&self, stream: &str) -> Uid {
        self.uids
            .iter()
            .rev()
            .find(|(_, name)| *name == stream)
            .map(|(uid, _)| uid.clone())
            .expect("the stream is known")
    }

    fn key(&self, stream: &str) -> StreamRef {
        let uid = self.uid(stream);
        let open = self.workers.values().flat_map(|worker| worker.open.keys());
        open.filter(|key| key.uid == uid).max().cloned().expect("some worker has the stream")
    }

    fn owner(&self, key: &StreamRef) -> String {
        let owner = self.workers.iter().find(|(_, worker)| worker.open.contains_key(key));
        owner.map(|(name, _)| name.clone()).expect("some worker has the stream")
    }

    fn node_of(&self, session: SessionId) -> String {
        let worker = self.workers.values().find(|worker| worker.session == Some(session));
        worker.map_or_else(|| format!("session {session}"), |worker| worker.node.clone())
    }

    /// A worker does what it was told.
    fn work(&mut self, name: &str) {
        while let Some((term, sequence, command)) =
            self.workers.get_mut(name).and_then(|worker| worker.inbox.pop_front())
        {
            let now = self.now;
            let worker = self.workers.get_mut(name).expect("it has just been there");
            if term < worker.term {
                continue;
            }
            worker.term = term;
            worker.sequence = sequence;
            match command {
                Command::Welcome | Command::Networks(_) => {}
                Command::Directory(update) => {
                    let version = update.version;
                    worker.directory = update.digest.map(|digest| KnownDirectory { version, digest });
                }
                Command::Assign(assign) => {
                    let next = assign.source.next();
                    let ports = match assign.source {
                        AssignedSource::Push { .. } | AssignedSource::Shared { .. } => None,
                        AssignedSource::Rtp { source, ports, next: _ } => {
                            if source.transport != RtpTransport::Udp {
                                worker.tcp.insert(assign.stream.clone());
                            }
                            Some(ports)
                        }
                    };
                    self.assign(name, assign.stream, ports, next);
                }
                Command::Revoke { stream, reason: _ } => {
                    let next = worker.next.remove(&stream).map(|(ports, _)| ports);
                    let open = worker.open.remove(&stream).flatten();
                    let ports: Vec<u16> = open.into_iter().chain(next).flat_map(Ports::numbers).collect();
                    worker.closed.push((now, stream.clone(), ports.clone()));
                    self.report(name, Report::Closed(Closed { stream, ports, ago: Duration::ZERO }));
                }
                Command::InventoryRequest => self.inventory(name),
                Command::Watch { ranges, .. } => {
                    worker.watched = ranges;
                    self.inventory(name);
                }
                Command::CloseLeak { port, .. } => {
                    if !worker.kept.contains(&port) {
                        worker.leaks.remove(&port);
                    }
                }
            }
        }
    }

    fn assign(&mut self, name: &str, stream: StreamRef, ports: Option<Ports>, next: Option<Ports>) {
        self.open_first(name, &stream, ports);
        self.open_next(name, &stream, next);
        let worker = &self.workers[name];
        if let Some(ports) = worker.open.get(&stream).copied() {
            let next = worker.next.get(&stream).map(|(ports, _)| *ports);
            self.report(name, Report::Assigned { stream, ports, next });
        }
    }

    /// What is open beside a stream's ports is as it was told, or is reported not to be.
    fn open_next(&mut self, name: &str, stream: &StreamRef, next: Option<Ports>) {
        let worker = self.workers.get_mut(name).expect("it has just been there");
        let open = worker.next.get(stream).map(|(ports, _)| *ports);
        if !worker.open.contains_key(stream) || open == next {
            return;
        }
        if let Some(closed) = open {
            worker.next.remove(stream);
            self.close_ports(name, stream, closed);
        }
        let Some(next) = next else { return };
        match self.thief_of(name, next) {
            Some((port, protocol)) => self.fail_to_bind(name, stream.clone(), port, protocol),
            None => {
                let worker = self.workers.get_mut(name).expect("it has just been there");
                worker.next.insert(stream.clone(), (next, None));
            }
        }
    }

    fn close_ports(&mut self, name: &str, stream: &StreamRef, ports: Ports) {
        let ports: Vec<u16> = ports.numbers().collect();
        let now = self.now;
        let worker = self.workers.get_mut(name).expect("it has just been there");
        worker.closed.push((now, stream.clone(), ports.clone()));
        self.report(name, Report::PortsClosed { stream: stream.clone(), ports });
    }

    fn thief_of(&self, name: &str, ports: Ports) -> Option<(u16, Protocol)> {
        let node = &self.workers[name].node;
        let mut thieves = self.thieves.iter().filter(|(on, _, _)| on == node);
        thieves
            .find(|(_, held, _)| ports.numbers().any(|port| port == *held))
            .map(|(_, port, protocol)| (*port, *protocol))
    }

    fn fail_to_bind(&mut self, name: &str, stream: StreamRef, port: u16, protocol: Protocol) {
        let holder = Some(holder(port, protocol));
        let error = "address in use".into();
        self.report(name, Report::BindFailed { stream, port, protocol, error, holder, own: false });
    }

    /// Media comes on what is open beside a stream's ports, or on these again.
    pub(crate) fn arrive(&mut self, stream: &str, back: bool, settled: bool) {
        let key = self.key(stream);
        let name = self.owner(&key);
        let worker = self.workers.get_mut(&name).expect("it has just been there");
        let first = worker.open[&key].expect("the stream has ports");
        let (next, said) = worker.next.get_mut(&key).expect("two leases are open");
        *said = (!back).then_some(settled);
        let port = if back { first.rtp } else { next.rtp };
        self.report(&name, Report::Arrived { stream: key, port, settled });
    }

    fn open_first(&mut self, name: &str, stream: &StreamRef, ports: Option<Ports>) {
        let stream = stream.clone();
        let worker = self.workers.get_mut(name).expect("it has just been there");
        if let Some(former) = worker.open.get(&stream).copied().flatten()
            && worker.next.get(&stream).map(|(next, _)| Some(*next)) == Some(ports)
        {
            // What was beside it is all that is wanted.
            worker.next.remove(&stream);
            worker.open.insert(stream.clone(), ports);
            return self.close_ports(name, &stream, former);
        }
        let worker = &self.workers[name];
        let again = worker.open.contains_key(&stream);
        let stolen = ports.and_then(|ports| self.thief_of(name, ports));
        if let Some((port, protocol)) = stolen.filter(|_| !again) {
            return self.fail_to_bind(name, stream, port, protocol);
        }
        let now = self.now;
        let worker = self.workers.get_mut(name).expect("it has just been there");
        let former = worker.open.iter().find(|(key, had)| {
            key.uid == stream.uid && key.epoch < stream.epoch && had.is_none() && ports.is_none()
        });
        let former = former.map(|(key, _)| key.clone());
        worker.open.insert(stream.clone(), ports);
        if let Some(former) = former {
            // Its encoder stays.
            worker.open.remove(&former);
            worker.closed.push((now, former.clone(), Vec::new()));
            let said = worker.said.remove(&former).unwrap_or_default();
            worker.said.insert(stream.clone(), said.clone());
            let (publisher, live) = said;
            let closed = Closed { stream: former, ports: Vec::new(), ago: Duration::ZERO };
            self.report(name, Report::Closed(closed));
            self.report(
                name,
                Report::Publisher { stream: stream.clone(), publisher, reason: Default::default() },
            );
            self.report(name, Report::Media { stream, live });
        }
    }

    fn report(&mut self, name: &str, report: Report) {
        let line = match &report {
            Report::Assigned { stream, ports: _, next } => {
                let beside = next.map_or(String::new(), |next| format!(" and {next}"));
                format!("Assigned {}@{}{beside}", self.uids[&stream.uid], stream.epoch)
            }
            Report::PortsClosed { stream, ports } => {
                format!("PortsClosed {}@{} {ports:?}", self.uids[&stream.uid], stream.epoch)
            }
            Report::BindFailed { port, protocol, .. } => format!("BindFailed {port}/{protocol}"),
            Report::Closed(closed) => {
                let name = self
                    .uids
                    .get(&closed.stream.uid)
                    .cloned()
                    .unwrap_or_else(|| closed.stream.uid.to_string());
                format!("Closed {name}@{}", closed.stream.epoch)
            }
            Report::Publisher { .. }
            | Report::Media { .. }
            | Report::Arrived { .. }
            | Report::Scan { .. }
            | Report::ShardStuck { .. } => String::new(),
        };
        let worker = &self.workers[name];
        if !line.is_empty() {
            self.out.push_str(&format!("  {} -> {line}\n", worker.node));
        }
        if let Some(session) = worker.session {
            self.event(Event::Report { session, report });
        }
    }

    fn inventory(&mut self, name: &str) {
        let holders = self.holders(name);
        let worker = &self.workers[name];
        let Some(session) = worker.session else { return };
        let mut bound: Vec<Binding> = worker
            .leaks
            .iter()
            .map(|&port| Binding { port, protocol: Protocol::Udp, stream: None })
            .collect();
        for (stream, ports) in &worker.open {
            let protocol = if worker.tcp.contains(stream) { Protocol::Tcp } else { Protocol::Udp };
            let next = worker.next.get(stream).map(|(ports, _)| *ports);
            for port in ports.iter().copied().chain(next).flat_map(Ports::numbers) {
                bound.push(Binding { port, protocol, stream: Some(stream.clone()) });
            }
        }
        let closed = worker.closed.iter().map(|(at, stream, ports)| Closed {
            stream: stream.clone(),
            ports: ports.clone(),
            ago: self.now - *at,
        });
        let inventory = Inventory {
            sequence: worker.sequence,
            bound,
            closed: closed.filter(|closed| closed.ago < Duration::from_secs(60)).collect(),
            holders,
            streams: worker.open.keys().cloned().collect(),
            host: HostPorts::default(),
            directory: worker.directory,
        };
        self.out.push_str(&format!(
            "  {} -> Inventory {} open at #{}\n",
            worker.node,
            worker.open.len(),
            worker.sequence
        ));
        let said: Vec<_> = worker
            .said
            .iter()
            .filter(|(key, _)| worker.open.contains_key(*key))
            .map(|(key, said)| (key.clone(), said.clone()))
            .collect();
        let arrived: Vec<_> = worker
            .next
            .iter()
            .filter_map(|(stream, (ports, said))| Some((stream.clone(), ports.rtp, (*said)?)))
            .collect();
        self.event(Event::Inventory { session, inventory });
        for (stream, port, settled) in arrived {
            self.event(Event::Report { session, report: Report::Arrived { stream, port, settled } });
        }
        for (stream, (publisher, live)) in said {
            // A worker repeats why the last one ended, too.
            let reason = if publisher.is_some() { "" } else { "PublisherLeft" }.into();
            let report = Report::Publisher { stream: stream.clone(), publisher, reason };
            self.event(Event::Report { session, report });
            if live {
                self.event(Event::Report { session, report: Report::Media { stream, live } });
            }
        }
    }

    fn holders(&self, name: &str) -> Vec<Holder> {
        let worker = &self.workers[name];
        let seen = |port: u16| worker.watched.iter().any(|range| (range.start..=range.end).contains(&port));
        let thieves = self.thieves.iter().filter(|(node, port, _)| *node == worker.node && seen(*port));
        thieves.map(|(_, port, protocol)| holder(*port, *protocol)).collect()
    }

    fn beat(&mut self) {
        let mut beats = Vec::new();
        for worker in self.workers.values().filter(|worker| !worker.mute) {
            let Some(session) = worker.session else { continue };
            let mut ports: Vec<(u16, &StreamRef)> = Vec::new();
            for (stream, lease) in &worker.open {
                let next = worker.next.get(stream).map(|(ports, _)| *ports);
                let numbers = lease.iter().copied().chain(next).flat_map(Ports::numbers);
                ports.extend(numbers.map(|port| (port, stream)));
            }
            ports.sort();
            let mut digest = Digest::default();
            for (port, stream) in ports {
                digest.add(port, stream);
            }
            let beat = Beat {
                sequence: worker.sequence,
                digest: digest.value(),
                term: worker.term,
                draining: worker.draining,
            };
            beats.push(Event::Beat { session, beat });
        }
        self.pending.extend(beats);
    }
}

fn id_of(action: &Action) -> Option<WriteId> {
    match action {
        Action::WriteStream { id, .. } | Action::WritePool { id, .. } | Action::DeleteStream { id, .. } => {
            Some(*id)
        }
        Action::Confirm { .. }
        | Action::RecordTerm { .. }
        | Action::Command { .. }
        | Action::CloseSession { .. }
        | Action::Emit { .. } => None,
    }
}

fn holder(port: u16, protocol: Protocol) -> Holder {
    Holder {
        port,
        protocol,
        user: 1000,
        process: "thief".into(),
        show: format!("ss -ap sport = {port}").into(),
    }
}
