//! Control: obeys the operator, one command after the other, and tells it what is so.
//!
//! ```text
//!  operators ⇄ session.rs ⇄ Control ─→ listeners.rs (bind) ─→ shards
//!                             ↑ reports of shards, findings of the watchdog, host scans
//! ```
//!
//! It keeps on without an operator: streams play, and what happened is in the next session's inventory.

pub mod operators;
pub mod session;
pub mod streams;

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use proto::control::v1 as wire;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use wire::operator_message::Body as Command;
use wire::report::Kind;
use wire::worker_message::Body;

use crate::assignment::{Assignment, Ports, RtpPorts, RtpSource, RtpTransport, StreamRef};
use crate::clock::Clock;
use crate::convert::{self, Invalid};
use crate::counters::Count;
use crate::directory::{Applied, Directory, Update};
use crate::listeners::{BindError, BoundPorts, PortLease};
use crate::look::{Sight, look};
use crate::pulse::{Pulse, Thread};
use crate::routes::Routes;
use crate::rtp::RtpStats;
use crate::rtp::edits::edits;
use crate::rtp::sockets::Entrance;
use crate::scan::{Holder, HostScan, Protocol, Scanner, Socket};
use crate::seats::Seats;
use crate::shard::{ShardCommand, ShardHandle, ShardReport, shard_of};
use crate::targets::Targets;
use crate::watchdog::verdict::{Finding, Verdict};
use operators::Operator;
use session::{Event, SessionId};
use streams::{Change, Held, Stop, Streams};

/// Between two beats; silence of three makes a worker suspect (design §5).
const BEAT: Duration = Duration::from_millis(250);

/// Between two scans, until the operator says otherwise.
const SCAN_EVERY: Duration = Duration::from_secs(5);

/// However often the operator wants scans.
const SCAN_EVERY_MIN: Duration = Duration::from_millis(250);

/// A failed bind is reported without its holder when that is not found in this time.
const HOLDER_TIMEOUT: Duration = Duration::from_millis(400);

/// Commands that wait for one shard whose queue is full. A shard that far behind is stuck, and the watchdog ends it.
const BACKLOG_MAX: usize = 65_536;

/// How long the shards have to end their sessions politely.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);

/// Looks at other workers at once: each is a socket for 300 ms.
const LOOKS_MAX: usize = 256;

/// What sessions, between them, may have waiting here.
const EVENTS: usize = 1024;

/// What control is made of.
#[derive(Debug)]
pub struct Parts {
    /// The operators to dial.
    pub operators: Vec<Operator>,
    /// What this worker says of itself; control fills in term and epoch.
    pub hello: wire::Hello,
    /// Where streams go.
    pub shards: Vec<ShardHandle>,
    /// Kept for front.
    pub directory: Arc<Directory>,
    /// Where leases come from.
    pub ports: BoundPorts,
    /// Whose the SSRCs of the shared port are.
    pub routes: Routes,
    /// Counted by rtp ingresses.
    pub rtp: RtpStats,
    /// Where the kernel tells of sockets and processes: `/proc`.
    pub proc: PathBuf,
    /// Whom rtp ingresses may connect to.
    pub targets: Targets,
    /// How many may connect to leased rtp ports, together with all public listeners.
    pub connections: Seats,
    /// The process's clock.
    pub clock: Clock,
    /// Of the thread that control runs on.
    pub pulse: Arc<Pulse>,
    /// For admin.
    pub status: Arc<Status>,
    /// Told on the health port, before the sessions end: nothing is served here any more.
    pub ending: Arc<AtomicBool>,
}

/// What control was told of its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// Nothing.
    #[default]
    No,
    /// It comes when nothing is served here any more, and after this time in any case.
    Drain(Duration),
    /// It comes now.
    Now,
}

/// What admin and metrics read of control.
#[derive(Debug, Default)]
pub struct Status {
    /// Sessions that are up.
    pub sessions: Count,
    /// The highest term.
    pub term: Count,
    /// Commands of a lower term.
    pub stale_commands: Count,
    /// Commands that broke the contract.
    pub invalid_commands: Count,
    /// Ports that could not be bound.
    pub bind_failures: Count,
    /// Looks at the host that failed.
    pub scan_failures: Count,
    /// Sockets that no stream owned.
    pub leaks: Count,
    known: AtomicBool,
    scan: Mutex<HostScan>,
    watched: Mutex<Vec<RangeInclusive<u16>>>,
}

impl Status {
    /// An operator that leads knows what this process holds, so it can be given streams. It stays so while no operator is heard.
    pub fn is_known(&self) -> bool {
        self.known.load(Ordering::Relaxed)
    }

    /// The last scan.
    pub fn scan(&self) -> HostScan {
        self.scan.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The numbers that the operator wants to be watched: those of this node's pools.
    pub fn watched(&self) -> Vec<RangeInclusive<u16>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The state of control. Runs on one thread.
struct Control {
    parts: Parts,
    streams: Streams,
    sessions: BTreeMap<SessionId, Session>,
    /// Commands that found a shard's queue full, in their order.
    backlog: Vec<VecDeque<ShardCommand>>,
    /// The highest told, of all sessions.
    term: u64,
    /// The highest told of any stream.
    epoch: u64,
    ranges: Vec<RangeInclusive<u16>>,
    scan_every: Duration,
    scanner: Scanner,
    /// Numbers that could not be bound, and are not told yet.
    unbound: Vec<BindError>,
    /// Looks for their holders.
    names: Scanner,
    scans: JoinSet<Scanned>,
    /// Looks at other workers.
    looks: JoinSet<(SessionId, u64, Sight)>,
    /// Inventories that wait for a scan that begins from here on: one answers all that a session has asked by then. For which
    /// session, and the last request.
    inventories: BTreeMap<SessionId, u64>,
    /// Sockets of no lease that two scans saw.
    strays: Vec<Socket>,
    /// It is to end: operators are asked to have the streams served elsewhere.
    draining: bool,
}

struct Session {
    url: String,
    outbox: mpsc::Sender<Vec<wire::WorkerMessage>>,
    /// The last command applied.
    sequence: u64,
    /// It has had its first inventory, and gets reports from there on.
    told: bool,
}

/// An inventory whose scan has begun.
struct Owed {
    session: SessionId,
    request_id: u64,
    /// The last command of the session that its scan was begun after.
    sequence: u64,
}

/// A scan that is over.
struct Scanned {
    scanner: Scanner,
    outcome: std::io::Result<HostScan>,
    inventories: Vec<Owed>,
}

/// Runs control until it is stopped; then the sessions of the shards have ended.
pub async fn run(
    parts: Parts,
    mut reports: mpsc::Receiver<ShardReport>,
    mut findings: mpsc::Receiver<Finding>,
    mut stop: watch::Receiver<Ending>,
) {
    let (events, mut happened) = mpsc::channel(EVENTS);
    let ids = Arc::new(AtomicU64::new(1));
    let mut dialling = JoinSet::new();
    for operator in parts.operators.clone() {
        dialling.spawn(operator.keep(ids.clone(), events.clone()));
    }
    let mut control = Control::new(parts);
    let mut beats = tokio::time::interval(BEAT);
    beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut next_scan = tokio::time::Instant::now() + control.scan_every;
    let mut deadline = None;
    loop {
        tokio::select! {
            Some(event) = happened.recv() => {
                control.parts.pulse.busy("a message of an operator");
                control.session_event(event);
            }
            Some(report) = reports.recv() => {
                control.parts.pulse.busy("a report of a shard");
                control.shard_report(report);
            }
            Some(finding) = findings.recv() => control.finding(&finding),
            Some(Ok(scanned)) = control.scans.join_next() => {
                control.parts.pulse.busy("the host scan");
                control.tell_unbound().await;
                control.scanned(scanned);
                next_scan = tokio::time::Instant::now() + control.scan_every;
            }
            Some(Ok(seen)) = control.looks.join_next() => control.looked(seen),
            () = tokio::time::sleep_until(next_scan), if control.scans.is_empty() => control.scan(),
            _ = beats.tick() => {
                control.parts.pulse.busy("a beat");
                // What shards have closed is told before the digest that lacks it.
                while let Ok(report) = reports.try_recv() {
                    control.shard_report(report);
                }
                control.tell_unbound().await;
                control.beat();
            }
            Ok(()) = stop.changed() => match *stop.borrow_and_update() {
                Ending::No => {}
                Ending::Drain(within) => {
                    deadline = Some(tokio::time::Instant::now() + within);
                    control.draining = true;
                    control.beat();
                }
                Ending::Now => break,
            },
            () = tokio::time::sleep_until(deadline.unwrap_or(next_scan)), if deadline.is_some() => {
                tracing::warn!(streams = control.streams.count(), "streams that no other worker has taken end with this one");
                break;
            }
        }
        if control.draining && control.streams.count() == 0 {
            break;
        }
        control.send_backlog();
        // The commands of one plan come together.
        if happened.is_empty() {
            control.tell_unbound().await;
        }
        control.note_known();
        control.parts.pulse.idle();
    }
    control.parts.ending.store(true, Ordering::Relaxed);
    control.end_sessions(&mut reports).await;
}

impl Control {
    fn new(parts: Parts) -> Control {
        Control {
            streams: Streams::default(),
            sessions: BTreeMap::new(),
            backlog: parts.shards.iter().map(|_| VecDeque::new()).collect(),
            term: 0,
            epoch: 0,
            ranges: Vec::new(),
            scan_every: SCAN_EVERY,
            scanner: Scanner::default(),
            unbound: Vec::new(),
            names: Scanner::default(),
            scans: JoinSet::new(),
            looks: JoinSet::new(),
            inventories: BTreeMap::new(),
            strays: Vec::new(),
            draining: false,
            parts,
        }
    }

    /// A leader sends the directory behind all that it asks a new process for.
    fn note_known(&self) {
        let owes = !self.inventories.is_empty() || !self.scans.is_empty();
        if !self.parts.status.is_known() && !owes && self.parts.directory.is_received() {
            self.parts.status.known.store(true, Ordering::Relaxed);
            tracing::info!("an operator that leads knows what is held here: ready for streams");
        }
    }

    // ------------------------------------------------------------------------------------------------ sessions

    /// Looks at another worker, for an operator that does not hear it.
    fn look(&mut self, session: SessionId, inquire: &wire::Inquire) {
        let (inquiry, address) = (inquire.inquiry, inquire.address.clone());
        let Ok(port) = u16::try_from(inquire.port) else { return };
        if self.looks.len() >= LOOKS_MAX {
            // Silence of a witness is an answer, too.
            return;
        }
        self.looks.spawn(async move { (session, inquiry, look(&address, port).await) });
    }

    fn looked(&mut self, (session, inquiry, sight): (SessionId, u64, Sight)) {
        let (sight, boot_id) = match sight {
            Sight::Answered { boot_id } => (wire::Sight::Answered, boot_id),
            Sight::Refused => (wire::Sight::Refused, String::new()),
            Sight::Silent => (wire::Sight::Silent, String::new()),
        };
        let witnessed = wire::Witnessed { inquiry, sight: sight.into(), boot_id };
        self.send(session, vec![Body::Witnessed(witnessed)]);
    }

    fn session_event(&mut self, event: Event) {
        match event {
            Event::Up { session, url, outbox } => {
                tracing::info!(operator = url, session, "session with operator");
                self.sessions.insert(session, Session { url, outbox, sequence: 0, told: false });
                let hello = wire::Hello { term: self.term, epoch: self.epoch, ..self.parts.hello.clone() };
                self.send(session, vec![Body::Hello(hello)]);
                self.inventory(session, 0);
            }
            Event::Received { session, message } => self.command(session, *message),
            Event::Down { session } => {
                self.sessions.remove(&session);
            }
        }
        self.parts.status.sessions.set(self.sessions.len() as u64);
    }

    /// Queues messages for a session. One that takes none is given up: the next begins with an inventory.
    fn send(&mut self, session: SessionId, bodies: Vec<Body>) {
        let Some(to) = self.sessions.get(&session) else { return };
        let batch = bodies.into_iter().map(|body| wire::WorkerMessage { body: Some(body) }).collect();
        if to.outbox.try_send(batch).is_err() {
            tracing::warn!(operator = to.url, session, "session does not take what is sent, and is given up");
            self.sessions.remove(&session);
        }
    }

    /// Tells all sessions that have had their inventory.
    fn report(&mut self, kind: Kind) {
        let body = Body::Report(wire::Report { kind: Some(kind) });
        for session in self.told() {
            self.send(session, vec![body.clone()]);
        }
    }

    fn told(&self) -> Vec<SessionId> {
        self.sessions.iter().filter(|(_, session)| session.told).map(|(&id, _)| id).collect()
    }

    fn beat(&mut self) {
        let digest = self.parts.ports.digest();
        for session in self.told() {
            let sequence = self.sessions.get(&session).map_or(0, |session| session.sequence);
            let beat = wire::Beat { sequence, digest, term: self.term, draining: self.draining };
            self.send(session, vec![Body::Beat(beat)]);
        }
    }

    // ------------------------------------------------------------------------------------------------ commands

    fn command(&mut self, session: SessionId, message: wire::OperatorMessage) {
        let wire::OperatorMessage { term, sequence, body } = message;
        let Some(known) = self.sessions.get(&session) else { return };
        // Who is alive may be asked in any term.
        let asks = matches!(body, Some(Command::Inquire(_)));
        if term < self.term && !asks {
            self.parts.status.stale_commands.add(1);
            tracing::warn!(
                operator = known.url,
                term,
                highest = self.term,
                "a command of a lower term is not obeyed"
            );
            return;
        }
        if term > self.term {
            tracing::info!(operator = known.url, term, "new term");
            self.term = term;
            self.parts.status.term.set(term);
        }
        // What it asks for is begun after it.
        if let Some(known) = self.sessions.get_mut(&session) {
            known.sequence = known.sequence.max(sequence);
        }
        if let Err(invalid) = self.apply(session, body) {
            self.parts.status.invalid_commands.add(1);
            tracing::error!(session, sequence, %invalid, "a command breaks the contract and is not applied");
        }
    }

    fn apply(&mut self, session: SessionId, body: Option<Command>) -> Result<(), Invalid> {
        match body {
            Some(Command::Welcome(wire::Welcome { operator })) => {
                tracing::info!(operator, session, term = self.term, "welcomed");
            }
            Some(Command::Assign(assign)) => {
                let assignment = convert::assignment(assign)?;
                let shared = assignment.rtp.as_ref().is_some_and(|rtp| rtp.ports == RtpPorts::Shared);
                if shared && self.parts.hello.rtp_shared_port == 0 {
                    let problem = String::from("is asked of a worker without such a port");
                    return Err(Invalid { field: "rtp.shared", problem });
                }
                self.assign(Arc::new(assignment));
            }
            Some(Command::Revoke(wire::Revoke { stream, reason })) => {
                self.revoke(convert::required_ref(stream)?, reason);
            }
            Some(Command::Directory(update)) => self.directory(update),
            Some(Command::Networks(networks)) => {
                self.parts.targets.cluster.set(convert::networks(networks)?);
            }
            Some(Command::InventoryRequest(wire::InventoryRequest { id })) => self.inventory(session, id),
            Some(Command::Watch(watch)) => {
                self.ranges = convert::ranges(&watch)?;
                let mut watched = self.parts.status.watched.lock().unwrap_or_else(PoisonError::into_inner);
                watched.clone_from(&self.ranges);
                drop(watched);
                self.scan_every = Duration::from_millis(watch.interval_ms).max(SCAN_EVERY_MIN);
                self.inventory(session, 0);
            }
            Some(Command::CloseLeak(wire::CloseLeak { port, stream })) => {
                self.close_leak(convert::port("port", port)?, stream);
            }
            Some(Command::Inquire(inquire)) => self.look(session, &inquire),
            // Of a later version of the contract.
            None => tracing::warn!(session, "a command that this worker doesn't know is not applied"),
        }
        Ok(())
    }

    fn assign(&mut self, assignment: Arc<Assignment>) {
        self.epoch = self.epoch.max(assignment.stream.epoch);
        match self.streams.assign(assignment.clone()) {
            Change::Take => self.take(assignment),
            // Its ingress has ended, and its ports with it: the operator has seen it by the digest.
            Change::Alter | Change::Shift
                if !self
                    .streams
                    .find(&assignment.stream.uid)
                    .is_some_and(|held| held.is_replacing() || self.is_bound(held)) =>
            {
                self.take(assignment);
            }
            Change::Shift => self.shift(assignment),
            Change::Alter | Change::Replace => {
                self.tell(&assignment.path.clone(), ShardCommand::Assign { assignment, ingress: None });
            }
            Change::AfterStop => {}
            Change::Stale => {
                let epoch = assignment.stream.epoch;
                tracing::warn!(stream = %assignment, epoch, "an assignment older than what is held is not applied");
            }
        }
    }

    /// Whether all ports of a stream are open.
    fn is_bound(&self, held: &Held) -> bool {
        let Some(rtp) = &held.assignment.rtp else { return true };
        match rtp.ports {
            // Of two leases the one that is left is served.
            RtpPorts::Leased { .. } => {
                rtp.ports.leases().any(|lease| self.is_open(&held.assignment.stream, rtp.transport, lease))
            }
            RtpPorts::Shared => !held.is_over(),
        }
    }

    fn is_open(&self, stream: &StreamRef, transport: RtpTransport, lease: Ports) -> bool {
        let owns = |port| self.parts.ports.owner(port, transport.protocol()).as_ref() == Some(stream);
        lease.numbers().all(owns)
    }

    /// Another second lease comes, or one of two goes: whoever sends to what stays notices nothing.
    fn shift(&mut self, assignment: Arc<Assignment>) {
        let (next, assignment) = self.bind_next(assignment);
        self.streams.shifted(assignment.clone(), next);
        let path = assignment.path.clone();
        self.tell(&path, ShardCommand::Assign { assignment, ingress: None });
    }

    /// Binds the leases of an assignment that are not open, beside one that is. What can't be bound is reported, and not of the
    /// assignment any more.
    fn bind_next(&mut self, assignment: Arc<Assignment>) -> (Option<PortLease>, Arc<Assignment>) {
        let Some(rtp) = &assignment.rtp else { return (None, assignment) };
        let is_open = |lease: &Ports| self.is_open(&assignment.stream, rtp.transport, *lease);
        let Some(missing) = rtp.ports.leases().find(|lease| !is_open(lease)) else {
            return (None, assignment);
        };
        match self.parts.ports.lease(&assignment.stream, rtp.transport, missing) {
            Ok(lease) => (Some(lease), assignment),
            Err(error) => {
                self.unbound.push(error);
                let rtp = RtpSource { ports: rtp.ports.without_next(missing), ..rtp.clone() };
                (None, Arc::new(Assignment { rtp: Some(rtp), ..(*assignment).clone() }))
            }
        }
    }

    /// Whether a stream is as its assignment says.
    fn holds(&self, held: &Held) -> bool {
        let shard = &self.parts.shards[shard_of(&held.assignment.path, self.parts.shards.len())];
        self.is_bound(held) && !shard.pulse.ended()
    }

    /// Binds an assignment's ports, if it has any, and hands it to its shard.
    fn take(&mut self, assignment: Arc<Assignment>) {
        let path = assignment.path.clone();
        let Some(rtp) = &assignment.rtp else {
            self.streams.handed(assignment.clone(), Vec::new(), None);
            return self.tell(&path, ShardCommand::Assign { assignment, ingress: None });
        };
        let entrance = match rtp.ports {
            RtpPorts::Leased { lease, next: _ } => {
                let lease = self.parts.ports.lease(&assignment.stream, rtp.transport, lease);
                lease.map(Entrance::Leased)
            }
            RtpPorts::Shared => Ok(Entrance::Shared(self.parts.routes.lease(rtp))),
        };
        match entrance {
            Ok(entrance) => {
                let (next, assignment) = self.bind_next(assignment);
                let leases = [entrance.ports(), next.as_ref().map(|next| next.ports)];
                let ports = leases.into_iter().flatten().flat_map(Ports::numbers).collect();
                let (edits, edited) = edits(assignment.clone(), next);
                self.streams.handed(assignment.clone(), ports, Some(edits));
                let parts = &self.parts;
                let ingress = crate::rtp::ingress(
                    entrance,
                    edited,
                    parts.targets.clone(),
                    parts.connections.clone(),
                    parts.rtp.clone(),
                    parts.clock,
                );
                self.tell(&path, ShardCommand::Assign { assignment, ingress: Some(ingress) });
            }
            Err(error) => {
                if let Some(stream) = self.streams.drop_unbound(&assignment.stream) {
                    let reason = String::from("BindFailed");
                    self.tell(&path, ShardCommand::Revoke { stream, reason });
                }
                self.unbound.push(error);
            }
        }
    }

    /// Reports the numbers that could not be bound since the last call, with their holders: one look at the host for all.
    async fn tell_unbound(&mut self) {
        if self.unbound.is_empty() {
            return;
        }
        let unbound = std::mem::take(&mut self.unbound);
        let numbers: Vec<_> = unbound.iter().map(|error| (error.port, error.protocol)).collect();
        let (ranges, mut names) = (self.ranges.clone(), std::mem::take(&mut self.names));
        let proc = self.parts.proc.clone();
        let look = tokio::task::spawn_blocking(move || {
            let holders = names.holders(&proc, &ranges, &numbers);
            (names, holders)
        });
        let holders = match tokio::time::timeout(HOLDER_TIMEOUT, look).await {
            Ok(Ok((names, holders))) => {
                self.names = names;
                holders.unwrap_or_default()
            }
            Ok(Err(_)) | Err(_) => Vec::new(),
        };
        let holders = holders.into_iter().chain(std::iter::repeat(None));
        for (error, holder) in unbound.into_iter().zip(holders) {
            self.bind_failed(&error, holder.as_ref());
        }
    }

    fn bind_failed(&mut self, error: &BindError, holder: Option<&Holder>) {
        self.parts.status.bind_failures.add(1);
        let BindError { stream, port, protocol, own, source } = error;
        tracing::warn!(uid = %stream.uid, epoch = stream.epoch, %error, ?holder, own = own.is_some(), "port not bound");
        self.report(Kind::BindFailed(wire::BindFailed {
            stream: Some(convert::stream_ref(stream)),
            port: u32::from(*port),
            protocol: convert::protocol(*protocol).into(),
            error: source.to_string(),
            holder: holder.map(convert::holder),
            own: own.is_some(),
        }));
    }

    fn revoke(&mut self, stream: StreamRef, reason: String) {
        match self.streams.revoke(&stream) {
            Stop::Tell(held) => {
                let path = self.streams.find(&held.uid).map(|held| held.assignment.path.clone());
                let path = path.expect("a stream that is to be told to stop is held");
                self.tell(&path, ShardCommand::Revoke { stream: held, reason });
            }
            Stop::Absent => self.say_absent(&stream),
            Stop::UnderWay => {}
        }
    }

    fn say_absent(&mut self, stream: &StreamRef) {
        let stream = Some(convert::stream_ref(stream));
        self.report(Kind::Closed(wire::Closed { stream, ports: Vec::new(), ago_ms: 0 }));
    }

    fn close_leak(&mut self, port: u16, believed: Option<wire::StreamRef>) {
        let owner = [Protocol::Tcp, Protocol::Udp]
            .into_iter()
            .find_map(|protocol| self.parts.ports.owner(port, protocol));
        let Some(owner) = owner else {
            let lost = self.strays.iter().any(|stray| stray.port == port);
            let how = if lost { "can be closed by no lease here" } else { "is closed already" };
            tracing::info!(port, "a leak that is to be closed {how}");
            return;
        };
        if believed.is_some_and(|believed| believed != convert::stream_ref(&owner)) {
            tracing::info!(port, uid = %owner.uid, epoch = owner.epoch, "a port is another's by now and is not closed");
            return;
        }
        self.parts.status.leaks.add(1);
        tracing::error!(port, uid = %owner.uid, epoch = owner.epoch, "a leaked port is closed");
        self.revoke(owner, String::from("Leak"));
    }

    fn directory(&mut self, update: wire::DirectoryUpdate) {
        let wire::DirectoryUpdate { version, full, entries, removed_paths, more, digest } = update;
        let own_name = &self.parts.hello.worker;
        let (mut checked, mut lacks) = (Vec::with_capacity(entries.len()), false);
        for entry in entries {
            // Paths may be keys, and are in no log.
            let uid = entry.stream.as_ref().map(|stream| stream.uid.clone()).unwrap_or_default();
            match convert::directory_entry(entry, own_name) {
                Ok(entry) => checked.push(entry),
                Err(invalid) => {
                    lacks = true;
                    tracing::error!(uid, %invalid, "an entry of the directory breaks the contract");
                }
            }
        }
        let removed = &removed_paths;
        let update = Update { version, full, more, entries: checked, removed, digest, lacks };
        match self.parts.directory.apply(update) {
            Applied::Yes => {}
            Applied::ButEpochs(streams) => {
                for (known, StreamRef { uid, epoch }) in streams {
                    tracing::warn!(%uid, known, epoch, "a lower epoch in the directory is not followed");
                }
            }
            Applied::TooOld => tracing::warn!(version, "an older directory is not applied"),
        }
    }

    // ------------------------------------------------------------------------------------------------ shards

    /// Puts a command into the queue of the path's shard, behind those that wait.
    fn tell(&mut self, path: &str, command: ShardCommand) {
        let shard = shard_of(path, self.parts.shards.len());
        let waiting = &mut self.backlog[shard];
        if waiting.len() < BACKLOG_MAX {
            waiting.push_back(command);
        } else {
            tracing::error!(shard, "a shard is {BACKLOG_MAX} commands behind; one more is dropped");
        }
    }

    fn send_backlog(&mut self) {
        for (shard, waiting) in self.parts.shards.iter().zip(&mut self.backlog) {
            while let Some(command) = waiting.pop_front() {
                match shard.commands.try_send(command) {
                    Ok(()) => {}
                    Err(mpsc::error::TrySendError::Full(command)) => {
                        waiting.push_front(command);
                        break;
                    }
                    // The shard is gone, and the watchdog will end the process.
                    Err(mpsc::error::TrySendError::Closed(_)) => waiting.clear(),
                }
            }
        }
    }

    fn shard_report(&mut self, report: ShardReport) {
        let kind = match report {
            ShardReport::Assigned(stream) => self.streams.in_force(&stream),
            ShardReport::Closed(stream) => return self.stream_closed(stream),
            ShardReport::LeasesClosed(stream) => {
                let open = self.parts.ports.of(&stream);
                self.streams.leases_closed(&stream, &open, self.parts.clock.now())
            }
            ShardReport::Arrived { stream, port, settled } => self.streams.arrived(&stream, port, settled),
            ShardReport::Publisher { stream, publisher, reason } => {
                self.streams.publisher(&stream, publisher, reason)
            }
            ShardReport::DialFailed { stream, error } => self.streams.dial_failed(&stream, error),
            ShardReport::Media { stream, live } => self.streams.media(&stream, live),
            ShardReport::Drained(_) => None,
        };
        if let Some(kind) = kind {
            self.report(kind);
        }
    }

    fn stream_closed(&mut self, stream: StreamRef) {
        let after = self.streams.closed(&stream, self.parts.clock.now());
        if let Some(mut kind) = after.report {
            self.hold_back_open_ports(&stream, &mut kind);
            self.report(kind);
        }
        if let Some(next) = after.next {
            self.take(next);
        }
    }

    /// What is told to be closed is closed: the table of bound ports has the last word.
    fn hold_back_open_ports(&self, stream: &StreamRef, kind: &mut Kind) {
        let Kind::Closed(closed) = kind else { return };
        for (port, _, owner) in self.parts.ports.all() {
            if owner == *stream && closed.ports.contains(&port.into()) {
                tracing::error!(port, uid = %stream.uid, epoch = stream.epoch, "a closed stream still has its port bound");
                closed.ports.retain(|&number| number != u32::from(port));
            }
        }
    }

    fn finding(&mut self, finding: &Finding) {
        let Finding::Stuck { thread: Thread::Shard(shard), verdict, age: _ } = finding else { return };
        if *verdict == Verdict::Starved {
            return;
        }
        let shards = self.parts.shards.len();
        let streams = self.streams.refs_where(|path| shard_of(path, shards) == usize::from(*shard));
        self.report(Kind::Stuck(wire::ShardStuck {
            shard: (*shard).into(),
            verdict: verdict.as_str().to_owned(),
            streams,
        }));
    }

    /// Lets the shards end their sessions, and waits for them a little.
    async fn end_sessions(&mut self, reports: &mut mpsc::Receiver<ShardReport>) {
        let mut left = 0;
        for shard in &self.parts.shards {
            left += usize::from(shard.commands.try_send(ShardCommand::Drain).is_ok());
        }
        let drained = async {
            while left > 0 {
                match reports.recv().await {
                    Some(ShardReport::Drained(_)) => left -= 1,
                    Some(_) => {}
                    None => return,
                }
            }
        };
        if tokio::time::timeout(DRAIN_TIMEOUT, drained).await.is_err() {
            tracing::warn!("not all sessions took their last bytes in time");
        }
    }

    // ------------------------------------------------------------------------------------------------ the host

    /// Sends an inventory to a session as soon as a scan is done that begins from here on.
    fn inventory(&mut self, session: SessionId, request_id: u64) {
        self.inventories.insert(session, request_id);
        if self.scans.is_empty() {
            self.scan();
        }
    }

    fn scan(&mut self) {
        let (ranges, mut scanner) = (self.ranges.clone(), std::mem::take(&mut self.scanner));
        let (ports, listeners) = (self.parts.ports.clone(), self.parts.hello.listener_ports.clone());
        let proc = self.parts.proc.clone();
        let owed = |(session, request_id)| {
            let sequence = self.sessions.get(&session)?.sequence;
            Some(Owed { session, request_id, sequence })
        };
        let inventories = std::mem::take(&mut self.inventories).into_iter().filter_map(owed).collect();
        self.scans.spawn_blocking(move || {
            let before = ports.all();
            let outcome = scanner.scan(&proc, &ranges, |port, protocol| {
                before.iter().any(|(bound, transport, _)| (*bound, *transport) == (port, protocol))
                    || listeners.contains(&u32::from(port))
            });
            // A lease bound while the scan ran is not a stray.
            let outcome = outcome.map(|mut scan| {
                scan.stray.retain(|socket| ports.owner(socket.port, socket.protocol).is_none());
                scan
            });
            Scanned { scanner, outcome, inventories }
        });
    }

    fn scanned(&mut self, scanned: Scanned) {
        let Scanned { scanner, outcome, inventories } = scanned;
        self.scanner = scanner;
        match outcome {
            Ok(found) => {
                let last = self.parts.status.scan();
                if (&last.holders, &last.host) != (&found.holders, &found.host) {
                    let holders = found.holders.iter().map(convert::holder).collect();
                    let host = Some(convert::host_ports(&found.host));
                    self.report(Kind::Scan(wire::Scan { holders, host }));
                }
                // One scan alone may have met a lease that was bound and closed while it ran.
                let strays: Vec<Socket> =
                    found.stray.iter().filter(|stray| last.stray.contains(stray)).cloned().collect();
                for Socket { port, protocol, .. } in
                    strays.iter().filter(|stray| !self.strays.contains(stray))
                {
                    tracing::error!(
                        port,
                        ?protocol,
                        "a leak: a socket is open that no stream has, and nobody here can close it; its number is set aside until this worker is restarted"
                    );
                }
                if std::mem::replace(&mut self.strays, strays) != self.strays {
                    // No beat's digest has them: without an inventory no operator would hear of a leak, nor of its end.
                    for session in self.told() {
                        self.inventories.entry(session).or_insert(0);
                    }
                }
                *self.parts.status.scan.lock().unwrap_or_else(PoisonError::into_inner) = found;
            }
            Err(error) => {
                self.parts.status.scan_failures.add(1);
                let proc = self.parts.proc.display();
                tracing::error!(%error, "host scan failed: {proc}/net cannot be read; operators that ask who holds the ports wait");
                // An inventory would tell of holders that the last scan met. The next scan is for these, too.
                for Owed { session, request_id, sequence: _ } in inventories {
                    self.inventories.entry(session).or_insert(request_id);
                }
                return;
            }
        }
        for owed in inventories {
            self.send_inventory(owed);
        }
        if !self.inventories.is_empty() {
            self.scan();
        }
    }

    fn send_inventory(&mut self, Owed { session, request_id, sequence }: Owed) {
        let Some(to) = self.sessions.get_mut(&session) else { return };
        to.told = true;
        let HostScan { holders, stray, host } = self.parts.status.scan();
        let binding = |port: u16, protocol, stream: Option<&StreamRef>| wire::Binding {
            port: port.into(),
            protocol: convert::protocol(protocol).into(),
            stream: stream.map(convert::stream_ref),
        };
        let leased = self.parts.ports.all();
        let bound = leased.iter().map(|(port, protocol, stream)| binding(*port, *protocol, Some(stream)));
        let (directory_version, directory_digest) = self.parts.directory.told();
        let inventory = wire::Inventory {
            sequence,
            bound: bound.chain(stray.iter().map(|s| binding(s.port, s.protocol, None))).collect(),
            closed: self.streams.recently_closed(self.parts.clock.now()),
            holders: holders.iter().map(convert::holder).collect(),
            streams: self.streams.refs(),
            host: Some(convert::host_ports(&host)),
            request_id,
            directory_digest,
            directory_version,
        };
        // A replica that begins to lead asks for the inventory, and has kept nothing of what was said before.
        let reports = self.streams.state(|held| self.holds(held)).into_iter();
        let reports = reports.map(|kind| Body::Report(wire::Report { kind: Some(kind) }));
        self.send(session, [Body::Inventory(inventory)].into_iter().chain(reports).collect());
    }
}

#[cfg(test)]
mod tests;
