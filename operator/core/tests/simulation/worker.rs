//! A worker process and its node: the worker's side of the contract (`control.proto`), with sockets in a table.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use operator_core::Command;
use operator_core::action::{Assign, AssignedSource, Directory, KnownDirectory};
use operator_core::digest::DirectoryDigest;
use operator_core::event::{Beat, Binding, Closed, Hello, Holder, HostPorts, Inventory, Report};
use operator_core::ids::{
    BootId, Epoch, NodeName, Path, Ports, Protocol, StreamRef, Term, Uid, UnixTime, WorkerName,
};
use operator_core::spec::{PortRange, RtpTransport};
use operator_core::status::Publisher;

/// How long a closed port is remembered.
const CLOSED_MEMORY: Duration = Duration::from_secs(60);

/// The public listeners of each worker. One of them lies in the ranges that pools get.
pub(crate) const LISTENERS: [u16; 2] = [1935, 20013];

/// A node's port table.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) name: NodeName,
    pub(crate) sockets: BTreeMap<(u16, Protocol), Socket>,
}

/// Who has a socket open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Socket {
    /// A worker process, for a stream.
    Media(usize, StreamRef),
    /// A worker process that forgot to close it, with or without knowing whose it was.
    Leak(usize, Option<StreamRef>),
    /// Somebody else, since then.
    Thief(Duration),
}

impl Running {
    /// Media comes on what is to take the place of its ports.
    pub(crate) fn has_arrived(&self) -> bool {
        self.next.is_some_and(|next| self.arrived.is_some_and(|(port, _)| port == next.rtp))
    }

    /// All its numbers.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u16> {
        self.ports.into_iter().chain(self.next).flat_map(Ports::numbers)
    }
}

impl Host {
    /// Somebody takes a number, if nobody has it.
    pub(crate) fn thieve(&mut self, port: u16, protocol: Protocol, now: Duration) {
        self.sockets.entry((port, protocol)).or_insert(Socket::Thief(now));
    }

    /// Somebody gives a number back.
    pub(crate) fn give_back(&mut self, port: u16) {
        self.sockets.retain(|(number, _), socket| *number != port || !matches!(socket, Socket::Thief(_)));
    }
}

/// A stream that runs in a worker.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    pub(crate) epoch: operator_core::ids::Epoch,
    pub(crate) ports: Option<Ports>,
    /// Numbers that are open beside those, to take their place.
    pub(crate) next: Option<Ports>,
    /// What was last said of media on one of the two.
    arrived: Option<(u16, bool)>,
    pub(crate) transport: Protocol,
    pub(crate) publisher: Option<Publisher>,
    /// Why the last one ended; empty while none has.
    ended: &'static str,
    pub(crate) live: bool,
}

/// A worker process. One that ends is never used again.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) index: usize,
    /// When the process began.
    pub(crate) started: Duration,
    pub(crate) alive: bool,
    pub(crate) paused: bool,
    pub(crate) host: usize,
    pub(crate) name: WorkerName,
    pub(crate) pod_uid: Arc<str>,
    pub(crate) boot: BootId,
    pub(crate) term: Term,
    /// The highest told of any stream.
    pub(crate) epoch: Epoch,
    pub(crate) running: BTreeMap<Uid, Running>,
    closed: Vec<(StreamRef, Vec<u16>, Duration)>,
    pub(crate) watch: Vec<PortRange>,
    pub(crate) scan_interval: Duration,
    last_scan: Vec<Holder>,
    /// Sockets stay open when streams end: a bug of the worker.
    pub(crate) leaks: bool,
    /// By replica.
    pub(crate) links: BTreeMap<usize, usize>,
    pub(crate) directory: KnownPaths,
}

/// What a worker keeps of the directory.
#[derive(Debug, Default)]
pub(crate) struct KnownPaths {
    pub(crate) entries: BTreeMap<Path, (StreamRef, Option<WorkerName>)>,
    version: u64,
    /// Of all that was told, where no piece is missing.
    digest: Option<DirectoryDigest>,
}

/// What a command made a worker do.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) reports: Vec<Report>,
    /// An inventory is to be begun.
    pub(crate) inventory: bool,
    /// A rule that the operator broke.
    pub(crate) broken: Option<String>,
}

impl Worker {
    pub(crate) fn new(
        index: usize,
        host: usize,
        node: &NodeName,
        name: WorkerName,
        pod_uid: Arc<str>,
    ) -> Self {
        let _ = node;
        Self {
            index,
            started: Duration::ZERO,
            alive: true,
            paused: false,
            host,
            name,
            pod_uid,
            boot: BootId::from(format!("boot-{index}")),
            term: Term(0),
            epoch: Epoch(0),
            running: BTreeMap::new(),
            closed: Vec::new(),
            watch: Vec::new(),
            scan_interval: Duration::from_secs(5),
            last_scan: Vec::new(),
            leaks: false,
            links: BTreeMap::new(),
            directory: KnownPaths::default(),
        }
    }

    pub(crate) fn hello(&self, host: &Host) -> Hello {
        Hello {
            worker: self.name.clone(),
            node: host.name.clone(),
            pod_uid: self.pod_uid.clone(),
            boot: self.boot.clone(),
            addresses: vec![format!("10.0.0.{}", self.host + 1).into()],
            listener_ports: LISTENERS.to_vec(),
            term: self.term,
            epoch: self.epoch,
            rtmp_port: 1935,
            http_port: 8080,
            health_port: 9181,
            rtp_shared_port: Some(LISTENERS[1]),
            changes_leases: true,
            knows_networks: true,
            template: "".into(),
        }
    }

    /// Everything that this process holds, with what a host scan found that began when `sequence` was the last command.
    pub(crate) fn inventory(
        &mut self,
        host: &Host,
        (sequence, holders): (u64, Vec<Holder>),
        now: Duration,
    ) -> Inventory {
        self.closed.retain(|(_, _, at)| now - *at <= CLOSED_MEMORY);
        let bound = host.sockets.iter().filter_map(|(&(port, protocol), socket)| match socket {
            Socket::Media(owner, stream) if *owner == self.index => {
                Some(Binding { port, protocol, stream: Some(stream.clone()) })
            }
            Socket::Leak(owner, stream) if *owner == self.index => {
                Some(Binding { port, protocol, stream: stream.clone() })
            }
            Socket::Media(..) | Socket::Leak(..) | Socket::Thief(_) => None,
        });
        let closed = self.closed.iter().map(|(stream, ports, at)| Closed {
            stream: stream.clone(),
            ports: ports.clone(),
            ago: now - *at,
        });
        Inventory {
            sequence,
            bound: bound.collect(),
            closed: closed.collect(),
            holders,
            streams: self.running.iter().map(|(uid, run)| StreamRef::new(uid.clone(), run.epoch)).collect(),
            host: host_ports(),
            directory: self.directory.told(),
        }
    }

    pub(crate) fn beat(&self, host: &Host, sequence: u64) -> Beat {
        let nobody = StreamRef::new(Uid::from(""), operator_core::ids::Epoch(0));
        let bound = host.sockets.iter().filter_map(|(&(port, _), socket)| match socket {
            Socket::Media(owner, stream) if *owner == self.index => Some((port, stream)),
            Socket::Leak(owner, stream) if *owner == self.index => {
                Some((port, stream.as_ref().unwrap_or(&nobody)))
            }
            Socket::Media(..) | Socket::Leak(..) | Socket::Thief(_) => None,
        });
        Beat { sequence, digest: digest(bound), term: self.term, draining: false }
    }

    /// The foreign sockets, when they changed since this was asked before.
    pub(crate) fn scan(&mut self, host: &Host) -> Option<Report> {
        let holders = self.holders(host);
        if holders == self.last_scan {
            return None;
        }
        self.last_scan.clone_from(&holders);
        Some(Report::Scan { holders, host: host_ports() })
    }

    pub(crate) fn holders(&self, host: &Host) -> Vec<Holder> {
        let watched = |port: u16| self.watch.iter().any(|range| (range.start..=range.end).contains(&port));
        let foreign = host.sockets.iter().filter(|((port, _), _)| watched(*port));
        foreign.filter_map(|(&(port, protocol), socket)| self.holder(port, protocol, socket)).collect()
    }

    fn holder(&self, port: u16, protocol: Protocol, socket: &Socket) -> Option<Holder> {
        match socket {
            Socket::Media(owner, _) | Socket::Leak(owner, _) if *owner == self.index => None,
            Socket::Media(..) | Socket::Leak(..) | Socket::Thief(_) => Some(Holder {
                port,
                protocol,
                user: 1000,
                process: "thief".into(),
                show: format!("{protocol} LISTEN *:{port}").into(),
            }),
        }
    }

    /// What is to be told again in a new session, since an inventory doesn't say it.
    pub(crate) fn media_reports(&self) -> Vec<Report> {
        let mut reports = Vec::new();
        for (uid, run) in &self.running {
            let stream = StreamRef::new(uid.clone(), run.epoch);
            reports.push(publisher(stream.clone(), run));
            if let Some((port, settled)) = run.arrived {
                reports.push(Report::Arrived { stream: stream.clone(), port, settled });
            }
            reports.push(Report::Media { stream, live: run.live });
        }
        reports
    }

    /// Obeys a command whose term is not lower than one heard before.
    pub(crate) fn obey(&mut self, host: &mut Host, command: &Command, now: Duration) -> Done {
        let mut done = Done::default();
        match command {
            Command::Welcome | Command::Networks(_) => {}
            Command::Directory(directory) => self.directory.learn(directory),
            Command::Assign(assign) => {
                self.epoch = self.epoch.max(assign.stream.epoch);
                self.assign(host, assign, now, &mut done);
            }
            Command::Revoke { stream, reason: _ } => {
                let ports = match self.running.get(&stream.uid) {
                    Some(run) if run.epoch == stream.epoch => self.stop(host, &stream.uid, now),
                    Some(_) | None => self.close_forgotten(host, stream, now),
                };
                done.reports.push(closed(stream.clone(), ports));
            }
            Command::InventoryRequest => done.inventory = true,
            Command::Watch { ranges, interval } => {
                self.watch.clone_from(ranges);
                self.scan_interval = *interval;
                done.inventory = true;
            }
            Command::CloseLeak { port, stream } => {
                let (index, port) = (self.index, *port);
                let before = host.sockets.len();
                host.sockets.retain(|(number, _), socket| {
                    *number != port || *socket != Socket::Leak(index, stream.clone())
                });
                if let Some(stream) = stream.clone().filter(|_| host.sockets.len() < before) {
                    self.closed.push((stream, vec![port], now));
                }
            }
        }
        done
    }

    fn assign(&mut self, host: &mut Host, assign: &Assign, now: Duration, done: &mut Done) {
        let stream = assign.stream.clone();
        let (ports, next) = (assign.source.ports(), assign.source.next());
        let transport = match &assign.source {
            AssignedSource::Rtp { source, .. } if source.transport == RtpTransport::Udp => Protocol::Udp,
            // Only what is bound has one.
            AssignedSource::Rtp { .. } | AssignedSource::Push { .. } | AssignedSource::Shared { .. } => {
                Protocol::Tcp
            }
        };
        if let Some(run) = self.running.get_mut(&stream.uid) {
            if run.epoch == stream.epoch {
                let had = [run.ports, run.next];
                if (run.ports != ports && (ports.is_none() || run.next != ports))
                    || run.transport != transport
                {
                    done.broken =
                        Some(format!("{stream} has {had:?} and is told {ports:?} at the same epoch"));
                }
                self.shift(host, &stream, [ports, next], now, done);
                return;
            }
            if run.epoch > stream.epoch {
                done.broken = Some(format!("{stream} is assigned where epoch {} runs", run.epoch));
                return;
            }
            let former = StreamRef::new(stream.uid.clone(), run.epoch);
            if run.ports.is_none() && ports.is_none() {
                // Who sends to no port of its own stays, and is told of anew.
                run.epoch = stream.epoch;
                let live = run.live;
                done.reports.push(closed(former.clone(), Vec::new()));
                done.reports.push(publisher(stream.clone(), run));
                done.reports.push(Report::Media { stream: stream.clone(), live });
                done.reports.push(Report::Assigned { stream, ports, next: None });
                self.closed.push((former, Vec::new(), now));
                return;
            }
            let ports = self.stop(host, &former.uid, now);
            done.reports.push(closed(former, ports));
        }
        if let Err(report) = self.bind(host, &stream, ports, transport, done) {
            done.reports.push(report);
            return;
        }
        let run = Running {
            epoch: stream.epoch,
            ports,
            next: None,
            arrived: None,
            transport,
            publisher: None,
            ended: "",
            live: false,
        };
        self.running.insert(stream.uid.clone(), run);
        self.shift(host, &stream, [ports, next], now, done);
    }

    /// Of a stream that runs, closes what is not among these leases and opens what is.
    fn shift(
        &mut self,
        host: &mut Host,
        stream: &StreamRef,
        [ports, next]: [Option<Ports>; 2],
        now: Duration,
        done: &mut Done,
    ) {
        let Some(run) = self.running.get(&stream.uid).cloned() else { return };
        let had: Vec<Ports> = run.ports.into_iter().chain(run.next).collect();
        for lease in had.iter().filter(|lease| ports != Some(**lease) && next != Some(**lease)) {
            let numbers: Vec<u16> = lease.numbers().collect();
            let closed = self.close(host, stream, &numbers, run.transport);
            self.closed.push((stream.clone(), closed, now));
            done.reports.push(Report::PortsClosed { stream: stream.clone(), ports: numbers });
        }
        let mut open = next.filter(|next| had.contains(next));
        if let Some(wanted) = next.filter(|next| !had.contains(next)) {
            match self.bind(host, stream, Some(wanted), run.transport, done) {
                Ok(()) => open = Some(wanted),
                Err(report) => done.reports.push(report),
            }
        }
        let arrived = run.arrived.filter(|_| run.next == open);
        self.running.insert(stream.uid.clone(), Running { ports, next: open, arrived, ..run });
        done.reports.push(Report::Assigned { stream: stream.clone(), ports, next: open });
    }

    /// Closes numbers, unless this process leaks; those that are really closed.
    fn close(&self, host: &mut Host, stream: &StreamRef, numbers: &[u16], transport: Protocol) -> Vec<u16> {
        let mut really_closed = Vec::new();
        for &port in numbers {
            let socket = host.sockets.remove(&(port, transport));
            if !self.leaks || socket.is_none() {
                really_closed.push(port);
            } else {
                let known = (port % 4 < 2).then(|| stream.clone());
                host.sockets.insert((port, transport), Socket::Leak(self.index, known));
            }
        }
        really_closed
    }

    /// All numbers or none; each is tried in both protocols.
    fn bind(
        &self,
        host: &mut Host,
        stream: &StreamRef,
        ports: Option<Ports>,
        transport: Protocol,
        done: &mut Done,
    ) -> Result<(), Report> {
        let numbers: Vec<u16> = ports.into_iter().flat_map(Ports::numbers).collect();
        for &port in &numbers {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let Some(socket) = host.sockets.get(&(port, protocol)) else { continue };
                if let Socket::Media(owner, other) = socket
                    && *owner == self.index
                {
                    done.broken = Some(format!("{stream} is to have {port}, which {other} has open here"));
                }
                let own = matches!(socket, Socket::Media(owner, _) | Socket::Leak(owner, _) if *owner == self.index);
                let holder = self.holder(port, protocol, socket);
                let error = "Address already in use".into();
                return Err(Report::BindFailed {
                    stream: stream.clone(),
                    port,
                    protocol,
                    error,
                    holder,
                    own,
                });
            }
        }
        for port in numbers {
            host.sockets.insert((port, transport), Socket::Media(self.index, stream.clone()));
        }
        Ok(())
    }

    /// Ends a stream. Its numbers, which are closed unless this process leaks.
    fn stop(&mut self, host: &mut Host, uid: &Uid, now: Duration) -> Vec<u16> {
        let Some(run) = self.running.remove(uid) else { return Vec::new() };
        let stream = StreamRef::new(uid.clone(), run.epoch);
        let numbers: Vec<u16> = run.numbers().collect();
        let really_closed = self.close(host, &stream, &numbers, run.transport);
        self.closed.push((stream, really_closed, now));
        numbers
    }

    /// A stream and its sockets are gone, unheard.
    pub(crate) fn drop_silently(&mut self, host: &mut Host, uid: &Uid) {
        let Some(run) = self.running.remove(uid) else { return };
        for port in run.numbers() {
            host.sockets.remove(&(port, run.transport));
        }
    }

    /// Somebody else has the sockets of a stream.
    pub(crate) fn snatch(&mut self, host: &mut Host, uid: &Uid, now: Duration) {
        let ports: Vec<u16> = self.running.get(uid).into_iter().flat_map(Running::numbers).collect();
        self.drop_silently(host, uid);
        for port in ports {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                host.thieve(port, protocol, now);
            }
        }
    }

    /// Closes what was forgotten when a stream ended; its numbers.
    fn close_forgotten(&mut self, host: &mut Host, stream: &StreamRef, now: Duration) -> Vec<u16> {
        let leak = Socket::Leak(self.index, Some(stream.clone()));
        let sockets = host.sockets.iter().filter(|(_, socket)| **socket == leak);
        let ports: Vec<u16> = sockets.map(|((port, _), _)| *port).collect();
        host.sockets.retain(|_, socket| *socket != leak);
        self.closed.push((stream.clone(), ports.clone(), now));
        ports
    }

    /// The process is over, and so are its sockets.
    pub(crate) fn die(&mut self, host: &mut Host) {
        self.alive = false;
        self.running.clear();
        let index = self.index;
        host.sockets.retain(|_, socket| match socket {
            Socket::Media(owner, _) | Socket::Leak(owner, _) => *owner != index,
            Socket::Thief(_) => true,
        });
    }

    /// A publisher comes or goes; what is to be told.
    pub(crate) fn set_publisher(&mut self, uid: &Uid, here: bool, now: Duration) -> Vec<Report> {
        let Some(run) = self.running.get_mut(uid) else { return Vec::new() };
        let stream = StreamRef::new(uid.clone(), run.epoch);
        run.publisher = here.then(|| Publisher {
            remote: "192.0.2.1:40000".into(),
            since: UnixTime(now.as_secs()),
            codecs: vec!["H264".into()],
        });
        run.live = here;
        run.ended = if here { "" } else { "NoPublisher" };
        let media = Report::Media { stream: stream.clone(), live: here };
        let publisher = publisher(stream.clone(), run);
        let mut reports = if here { vec![publisher, media] } else { vec![media, publisher] };
        // Of two leases the sender comes to either, and stays or doesn't.
        if let (true, Some(ports), Some(next)) = (here, run.ports, run.next) {
            let (port, settled) = match now.as_millis() % 4 {
                0 => (ports.rtp, false),
                1 => (next.rtp, false),
                _ => (next.rtp, true),
            };
            run.arrived = Some((port, settled));
            reports.push(Report::Arrived { stream, port, settled });
        }
        reports
    }
}

impl KnownPaths {
    fn learn(&mut self, directory: &Directory) {
        // The first piece of a whole one replaces what there was; the others follow it.
        if directory.full {
            self.entries.clear();
        }
        for entry in &directory.entries {
            self.entries.insert(entry.path.clone(), (entry.stream.clone(), entry.worker.clone()));
        }
        for path in &directory.removed {
            self.entries.remove(path);
        }
        (self.version, self.digest) = (directory.version, directory.digest);
    }

    /// For an inventory.
    fn told(&self) -> Option<KnownDirectory> {
        self.digest.map(|digest| KnownDirectory { version: self.version, digest })
    }
}

fn closed(stream: StreamRef, ports: Vec<u16>) -> Report {
    Report::Closed(Closed { stream, ports, ago: Duration::ZERO })
}

fn publisher(stream: StreamRef, run: &Running) -> Report {
    Report::Publisher { stream, publisher: run.publisher.clone(), reason: run.ended.into() }
}

fn host_ports() -> HostPorts {
    HostPorts { ephemeral: Some(PortRange { start: 32768, end: 60999 }), reserved: Vec::new() }
}

/// FNV-1a 64 as `Beat.digest` of the contract says it, written apart from the core's.
fn digest<'a>(bound: impl Iterator<Item = (u16, &'a StreamRef)>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for (port, stream) in bound {
        let bytes = port.to_be_bytes().into_iter().chain(stream.uid.as_str().bytes()).chain([0]);
        for byte in bytes.chain(stream.epoch.0.to_be_bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    hash
}
