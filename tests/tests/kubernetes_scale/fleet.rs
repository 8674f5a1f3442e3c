//! Workers that speak the real contract over real sessions and move no media: what is bound is a line in a table.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use proto::control::v1 as wire;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;
use wire::report::Kind;
use wire::worker_message::Body;
use worker::assignment::StreamRef;
use worker::listeners::digest;
use worker::look::{Sight, look};

/// As a worker's own.
const BEAT: Duration = Duration::from_millis(250);
const CLOSED_REMEMBERED: Duration = Duration::from_secs(60);
const REDIAL: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
const ANSWER: Duration = Duration::from_secs(5);
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Messages that wait for one session: reports of all streams of a worker that was just given them.
const OUTBOX: usize = 65_536;

/// Of the health port; each worker has its own address.
const HEALTH: u16 = 9181;

/// An `OperatorMessage`, but that of the directory no entry is read: what 200 machines have to read is none of one thread's business.
#[derive(Clone, PartialEq, prost::Message)]
struct Told {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, tag = "2")]
    sequence: u64,
    #[prost(message, optional, tag = "4")]
    assign: Option<wire::Assign>,
    #[prost(message, optional, tag = "5")]
    revoke: Option<wire::Revoke>,
    #[prost(message, optional, tag = "6")]
    directory: Option<DirectoryTold>,
    #[prost(message, optional, tag = "7")]
    inventory_request: Option<wire::InventoryRequest>,
    #[prost(message, optional, tag = "8")]
    watch: Option<wire::Watch>,
    #[prost(message, optional, tag = "9")]
    close_leak: Option<wire::CloseLeak>,
    #[prost(message, optional, tag = "10")]
    inquire: Option<wire::Inquire>,
}

/// A `DirectoryUpdate`, but for its entries.
#[derive(Clone, PartialEq, prost::Message)]
struct DirectoryTold {
    #[prost(uint64, tag = "1")]
    version: u64,
    #[prost(bytes = "vec", tag = "6")]
    digest: Vec<u8>,
}

/// A worker to play.
#[derive(Clone)]
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) node: String,
    /// On loopback.
    pub(crate) address: Ipv4Addr,
    /// Bound to the pod.
    pub(crate) token: String,
}

/// Where operators are, and by what they are known.
#[derive(Clone)]
pub(crate) struct Operators {
    pub(crate) addresses: Vec<SocketAddr>,
    /// Of the certificate.
    pub(crate) name: String,
    /// PEM.
    pub(crate) authority: String,
}

/// Workers on a thread of their own; they end when it is dropped.
pub(crate) struct Fleet {
    stop: Option<oneshot::Sender<Infallible>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Fleet {
    pub(crate) fn start(pods: Vec<Pod>, operators: &Operators) -> Fleet {
        let (stop, stopped) = oneshot::channel();
        let operators = operators.clone();
        let play = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a thread can have a runtime");
            LocalSet::new().block_on(&runtime, async move {
                for pod in pods {
                    begin(pod, &operators).await;
                }
                // It is never sent; the sender's end is the word.
                let _ = stopped.await;
            });
        };
        let thread = std::thread::Builder::new().name("workers".to_owned()).spawn(play);
        Fleet { stop: Some(stop), thread: Some(thread.expect("a thread can be started")) }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(std::thread::JoinHandle::join);
        if !std::thread::panicking() {
            assert!(matches!(ended, Some(Ok(()))), "the workers' thread panicked");
        }
    }
}

/// One worker, shared by its sessions.
struct Worker {
    hello: wire::Hello,
    term: u64,
    epoch: u64,
    /// By UID.
    streams: BTreeMap<String, Held>,
    /// What a beat's digest is of.
    bound: BTreeMap<u16, StreamRef>,
    closed: VecDeque<(Instant, wire::Closed)>,
    directory: DirectoryTold,
    /// By an id that no other session has.
    sessions: BTreeMap<u64, Session>,
    next_session: u64,
}

struct Held {
    stream: StreamRef,
    /// RTP first.
    ports: Vec<u16>,
    protocol: wire::Protocol,
}

struct Session {
    outbox: mpsc::Sender<wire::WorkerMessage>,
    /// The last command applied.
    sequence: u64,
}

async fn begin(pod: Pod, operators: &Operators) {
    let boot_id = format!("boot-of-{}", pod.uid);
    let health = TcpListener::bind((pod.address, HEALTH)).await;
    let health = health.unwrap_or_else(|e| panic!("{}:{HEALTH}: {e}", pod.address));
    spawn_local(answer_looks(health, boot_id.clone()));
    let hello = wire::Hello {
        worker: pod.name,
        node: pod.node,
        pod_uid: pod.uid,
        boot_id,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        addresses: vec![pod.address.to_string()],
        listener_ports: vec![1935, 8080, HEALTH.into(), 9183],
        rtmp_port: 1935,
        http_port: 8080,
        health_port: HEALTH.into(),
        template: "simulated".to_owned(),
        ..wire::Hello::default()
    };
    let worker = Rc::new(RefCell::new(Worker {
        hello,
        term: 0,
        epoch: 0,
        streams: BTreeMap::new(),
        bound: BTreeMap::new(),
        closed: VecDeque::new(),
        directory: DirectoryTold::default(),
        sessions: BTreeMap::new(),
        next_session: 1,
    }));
    let bearer = MetadataValue::try_from(format!("Bearer {}", pod.token)).expect("a token is ASCII");
    for &address in &operators.addresses {
        spawn_local(keep(worker.clone(), operators.clone(), address, bearer.clone()));
    }
    spawn_local(async move {
        let mut beats = interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beats.tick().await;
            worker.borrow_mut().beat();
        }
    });
}

/// The health port: a process is here, and which.
async fn answer_looks(listener: TcpListener, boot_id: String) {
    let body = serde_json::json!({"bootId": boot_id}).to_string();
    let answer =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        spawn_local(answer_look(socket, answer.clone()));
    }
}

async fn answer_look(mut socket: TcpStream, answer: String) {
    let exchange = async {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") && request.len() < 4096 {
            if socket.read_buf(&mut request).await? == 0 {
                return Ok(());
            }
        }
        socket.write_all(answer.as_bytes()).await
    };
    // Whoever asks and goes has no answer.
    let _ = timeout(ANSWER, exchange).await;
}

/// Keeps a session to one replica.
async fn keep(
    worker: Rc<RefCell<Worker>>,
    operators: Operators,
    address: SocketAddr,
    bearer: MetadataValue<Ascii>,
) {
    let mut wait = REDIAL.0;
    loop {
        let begun = Instant::now();
        let id = {
            let mut worker = worker.borrow_mut();
            worker.next_session += 1;
            worker.next_session
        };
        // Why it ended is in the operator's log.
        let _ = session(&worker, id, &operators, address, &bearer).await;
        worker.borrow_mut().sessions.remove(&id);
        wait = if begun.elapsed() > Duration::from_secs(1) { REDIAL.0 } else { (wait * 2).min(REDIAL.1) };
        sleep(wait).await;
    }
}

async fn session(
    worker: &Rc<RefCell<Worker>>,
    id: u64,
    operators: &Operators,
    address: SocketAddr,
    bearer: &MetadataValue<Ascii>,
) -> Result<(), Box<dyn std::error::Error>> {
    let (outbox, messages) = mpsc::channel(OUTBOX);
    let mut inbound = dial(operators, address, bearer, messages).await?;
    worker.borrow_mut().greet(id, outbox);
    while let Some(message) = inbound.message().await? {
        if let Some(inquire) = message.inquire {
            spawn_local(witness(worker.clone(), id, inquire));
        } else {
            worker.borrow_mut().obey(id, message);
        }
    }
    Ok(())
}

async fn dial(
    operators: &Operators,
    address: SocketAddr,
    bearer: &MetadataValue<Ascii>,
    messages: mpsc::Receiver<wire::WorkerMessage>,
) -> Result<Streaming<Told>, Box<dyn std::error::Error>> {
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(&operators.authority))
        .domain_name(&operators.name);
    let channel = Endpoint::from_shared(format!("https://{address}"))?
        .connect_timeout(ANSWER)
        .http2_keep_alive_interval(Duration::from_secs(1))
        .keep_alive_timeout(ANSWER)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true)
        .tls_config(tls)?
        .connect()
        .await?;
    let mut client = Grpc::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    client.ready().await?;
    let mut request = Request::new(ReceiverStream::new(messages));
    request.metadata_mut().insert("authorization", bearer.clone());
    let path = PathAndQuery::from_static("/penstock.control.v1.Control/Session");
    let codec = ProstCodec::<wire::WorkerMessage, Told>::default();
    Ok(timeout(ANSWER, client.streaming(request, path, codec)).await??.into_inner())
}

/// Says hello as this worker with that token: what the operator has against it, if anything.
pub(crate) fn knock(
    operators: &Operators,
    name: &str,
    node: &str,
    uid: &str,
    token: &str,
) -> Result<(), Code> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a thread can have a runtime").block_on(async {
        let (outbox, messages) = mpsc::channel(1);
        let hello = wire::Hello {
            worker: name.to_owned(),
            node: node.to_owned(),
            pod_uid: uid.to_owned(),
            boot_id: "impostor".to_owned(),
            ..wire::Hello::default()
        };
        let hello = wire::WorkerMessage { body: Some(Body::Hello(hello)) };
        outbox.send(hello).await.expect("there is room for one");
        let bearer = MetadataValue::try_from(format!("Bearer {token}")).expect("a token is ASCII");
        let code = |error: Box<dyn std::error::Error>| match error.downcast_ref::<Status>() {
            Some(status) => status.code(),
            None => panic!("no answer: {error}"),
        };
        let mut inbound = dial(operators, operators.addresses[0], &bearer, messages).await.map_err(code)?;
        match timeout(ANSWER, inbound.message()).await {
            Ok(Ok(Some(_))) => Ok(()),
            // The call is ended without a word to the worker; the operator's log has it.
            Ok(Ok(None)) => Err(Code::Ok),
            Ok(Err(status)) => Err(status.code()),
            Err(_) => panic!("neither a word nor a refusal in {ANSWER:?}"),
        }
    })
}

/// Looks at another worker for an operator.
async fn witness(worker: Rc<RefCell<Worker>>, session: u64, asked: wire::Inquire) {
    let port = u16::try_from(asked.port).unwrap_or_default();
    let (sight, boot_id) = match look(&asked.address, port).await {
        Sight::Answered { boot_id } => (wire::Sight::Answered, boot_id),
        Sight::Refused => (wire::Sight::Refused, String::new()),
        Sight::Silent => (wire::Sight::Silent, String::new()),
    };
    let seen = wire::Witnessed { inquiry: asked.inquiry, sight: sight.into(), boot_id };
    worker.borrow_mut().send(session, Body::Witnessed(seen));
}

impl Worker {
    fn greet(&mut self, session: u64, outbox: mpsc::Sender<wire::WorkerMessage>) {
        self.sessions.insert(session, Session { outbox, sequence: 0 });
        let hello = wire::Hello { term: self.term, epoch: self.epoch, ..self.hello.clone() };
        self.send(session, Body::Hello(hello));
        self.tell_inventory(session, 0);
    }

    fn send(&mut self, session: u64, body: Body) {
        let Some(to) = self.sessions.get(&session) else { return };
        if to.outbox.try_send(wire::WorkerMessage { body: Some(body) }).is_err() {
            // Without its outbox the session ends, and the next begins with an inventory.
            self.sessions.remove(&session);
        }
    }

    fn report(&mut self, kind: Kind) {
        let body = Body::Report(wire::Report { kind: Some(kind) });
        for session in self.sessions.keys().copied().collect::<Vec<_>>() {
            self.send(session, body.clone());
        }
    }

    fn beat(&mut self) {
        if self.sessions.is_empty() {
            return;
        }
        let digest = digest(self.bound.iter().map(|(&port, stream)| (port, stream)));
        let term = self.term;
        for (session, sequence) in self.sessions.iter().map(|(&id, it)| (id, it.sequence)).collect::<Vec<_>>()
        {
            self.send(session, Body::Beat(wire::Beat { sequence, digest, term, draining: false }));
        }
    }

    fn obey(&mut self, session: u64, message: Told) {
        let Told {
            term,
            sequence,
            assign,
            revoke,
            directory,
            inventory_request,
            watch,
            close_leak,
            inquire: _,
        } = message;
        if term < self.term {
            return;
        }
        self.term = term;
        // An inventory that is asked for tells of this command, too.
        if let Some(session) = self.sessions.get_mut(&session) {
            session.sequence = session.sequence.max(sequence);
        }
        if let Some(directory) = directory {
            self.directory = directory;
        }
        if let Some(assign) = assign {
            self.assign(&assign);
        }
        if let Some(revoke) = revoke {
            self.revoke(&reference(revoke.stream.as_ref()));
        }
        if let Some(request) = inventory_request {
            self.tell_inventory(session, request.id);
        }
        if watch.is_some() {
            self.tell_inventory(session, 0);
        }
        if let Some(leak) = close_leak {
            let owner = self.bound.get(&u16::try_from(leak.port).unwrap_or_default()).cloned();
            if let Some(owner) = owner {
                self.revoke(&owner);
            }
        }
    }

    fn assign(&mut self, assign: &wire::Assign) {
        let stream = reference(assign.stream.as_ref());
        self.epoch = self.epoch.max(stream.epoch);
        let held = self.streams.get(&*stream.uid).map(|held| held.stream.epoch);
        if held.is_some_and(|epoch| stream.epoch < epoch) {
            return;
        }
        if held.is_some_and(|epoch| stream.epoch > epoch) {
            self.close(&stream.uid);
        }
        let rtp = assign.rtp.as_ref();
        let ports = rtp.iter().flat_map(|rtp| [Some(rtp.rtp_port), rtp.rtcp_port]).flatten();
        let ports: Vec<u16> = ports.map(|port| u16::try_from(port).expect("a port")).collect();
        for &port in &ports {
            let before = self.bound.insert(port, stream.clone());
            assert!(before.is_none_or(|it| it == stream), "port {port} was leased twice on a node");
        }
        let protocol = match rtp.map(wire::RtpSource::transport) {
            Some(wire::RtpTransport::Udp) => wire::Protocol::Udp,
            _ => wire::Protocol::Tcp,
        };
        let held = Held { stream: stream.clone(), ports, protocol };
        let assigned = held.assigned();
        self.streams.insert(stream.uid.to_string(), held);
        self.report(assigned);
    }

    fn revoke(&mut self, stream: &StreamRef) {
        if self.streams.get(&*stream.uid).is_some_and(|held| held.stream.epoch <= stream.epoch) {
            self.close(&stream.uid);
        } else {
            let stream = Some(told(stream));
            self.report(Kind::Closed(wire::Closed { stream, ..wire::Closed::default() }));
        }
    }

    fn close(&mut self, uid: &str) {
        let Some(held) = self.streams.remove(uid) else { return };
        for port in &held.ports {
            self.bound.remove(port);
        }
        let ports = held.ports.iter().copied().map(u32::from).collect();
        let closed = wire::Closed { stream: Some(told(&held.stream)), ports, ago_ms: 0 };
        self.closed.push_back((Instant::now(), closed.clone()));
        self.report(Kind::Closed(closed));
    }

    /// Everything held, and that all of it is in force.
    fn tell_inventory(&mut self, session: u64, request_id: u64) {
        while self.closed.front().is_some_and(|(at, _)| at.elapsed() > CLOSED_REMEMBERED) {
            self.closed.pop_front();
        }
        let bound = self.streams.values().flat_map(|held| {
            let stream = told(&held.stream);
            held.ports.iter().map(move |&port| wire::Binding {
                port: port.into(),
                protocol: held.protocol.into(),
                stream: Some(stream.clone()),
            })
        });
        let closed = self.closed.iter().map(|(at, closed)| wire::Closed {
            ago_ms: u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX),
            ..closed.clone()
        });
        let range = |start, end| wire::PortRange { start, end };
        let DirectoryTold { version, digest } = self.directory.clone();
        let inventory = wire::Inventory {
            sequence: self.sessions.get(&session).map_or(0, |session| session.sequence),
            bound: bound.collect(),
            closed: closed.collect(),
            holders: Vec::new(),
            streams: self.streams.values().map(|held| told(&held.stream)).collect(),
            host: Some(wire::HostPorts { ephemeral: Some(range(32_768, 60_999)), reserved: Vec::new() }),
            request_id,
            directory_digest: digest,
            directory_version: version,
        };
        self.send(session, Body::Inventory(inventory));
        for assigned in self.streams.values().map(Held::assigned).collect::<Vec<_>>() {
            self.send(session, Body::Report(wire::Report { kind: Some(assigned) }));
        }
    }
}

impl Held {
    fn assigned(&self) -> Kind {
        let ports = self.ports.iter().copied().map(u32::from).collect();
        Kind::Assigned(wire::Assigned { stream: Some(told(&self.stream)), ports, next_ports: vec![] })
    }
}

fn reference(stream: Option<&wire::StreamRef>) -> StreamRef {
    let stream = stream.expect("each command of the operator names its stream");
    StreamRef { uid: stream.uid.as_str().into(), epoch: stream.epoch }
}

fn told(stream: &StreamRef) -> wire::StreamRef {
    wire::StreamRef { uid: stream.uid.to_string(), epoch: stream.epoch }
}
