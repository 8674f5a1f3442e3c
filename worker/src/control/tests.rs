//! Control between an operator on loopback and a shard that is a pair of channels.

use std::future::Future;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use ::tests::running::Folder;
use proto::control::v1::control_server::{Control as ControlService, ControlServer};
use tokio::sync::Mutex as AsyncMutex;
use tokio::task::LocalSet;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status as RpcStatus, Streaming};

use super::*;
use crate::counters::Counters;
use crate::pulse::Pulse;
use crate::seats::Peers;
use crate::shard::{EndReason, PublisherInfo};
use crate::targets::Denied;

const SOON: Duration = Duration::from_secs(10);
const TOKEN: &str = "s3cret";

/// Fails the test, by name, if the future doesn't end.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.unwrap_or_else(|_| panic!("waited {SOON:?} for {what}"))
}

/// A session as the operator sees it.
struct Dialled {
    bearer: Option<String>,
    from_worker: Streaming<wire::WorkerMessage>,
    to_worker: mpsc::Sender<Result<wire::OperatorMessage, RpcStatus>>,
    sequence: u64,
}

struct Operator(mpsc::Sender<Dialled>);

#[tonic::async_trait]
impl ControlService for Operator {
    type SessionStream = ReceiverStream<Result<wire::OperatorMessage, RpcStatus>>;

    async fn session(
        &self,
        request: Request<Streaming<wire::WorkerMessage>>,
    ) -> Result<Response<Self::SessionStream>, RpcStatus> {
        let bearer = request.metadata().get("authorization").map(|value| value.to_str().unwrap().to_owned());
        let (to_worker, messages) = mpsc::channel(64);
        let dialled = Dialled { bearer, from_worker: request.into_inner(), to_worker, sequence: 0 };
        self.0.send(dialled).await.unwrap();
        Ok(Response::new(ReceiverStream::new(messages)))
    }
}

impl Dialled {
    async fn tell(&mut self, term: u64, body: Command) {
        self.sequence += 1;
        let message = wire::OperatorMessage { term, sequence: self.sequence, body: Some(body) };
        self.to_worker.send(Ok(message)).await.unwrap();
    }

    async fn next(&mut self) -> Body {
        let message = soon("a message of the worker", self.from_worker.message()).await.unwrap();
        message.expect("the session goes on").body.unwrap()
    }

    /// The next message that is no beat.
    async fn word(&mut self) -> Body {
        loop {
            match self.next().await {
                Body::Beat(_) => {}
                body => return body,
            }
        }
    }

    async fn report(&mut self) -> Kind {
        loop {
            match self.word().await {
                Body::Report(report) => match report.kind.unwrap() {
                    // This host's own sockets come and go.
                    Kind::Scan(_) => {}
                    kind => return kind,
                },
                Body::Inventory(_) => {}
                other => panic!("a report was due: {other:?}"),
            }
        }
    }

    async fn inventory(&mut self) -> wire::Inventory {
        loop {
            match self.word().await {
                Body::Inventory(inventory) => return inventory,
                Body::Report(_) | Body::Witnessed(_) => {}
                other => panic!("an inventory was due: {other:?}"),
            }
        }
    }

    /// The first beat with this sequence.
    async fn beat(&mut self, sequence: u64) -> wire::Beat {
        loop {
            match self.next().await {
                Body::Beat(beat) if beat.sequence >= sequence => return beat,
                Body::Hello(_)
                | Body::Inventory(_)
                | Body::Beat(_)
                | Body::Report(_)
                | Body::Witnessed(_) => {}
            }
        }
    }

    /// Is told to watch a number that this process has open for no stream, while the scan for Hello is under way; reads Hello.
    async fn told_to_watch_a_stray(mut self) -> (Self, UdpSocket) {
        let stray = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = u32::from(stray.local_addr().unwrap().port());
        let ranges = vec![wire::PortRange { start: port, end: port }];
        self.tell(1, Command::Watch(wire::Watch { ranges, interval_ms: 250 })).await;
        let Body::Hello(_) = self.next().await else { panic!("Hello comes first") };
        (self, stray)
    }

    /// Reads Hello and the first inventory.
    async fn greeted(mut self) -> (Self, wire::Hello, wire::Inventory) {
        let Body::Hello(hello) = self.next().await else { panic!("Hello comes first") };
        let Body::Inventory(inventory) = self.next().await else { panic!("the inventory comes second") };
        (self, hello, inventory)
    }
}

/// Control with its neighbours.
struct World {
    sessions: AsyncMutex<mpsc::Receiver<Dialled>>,
    commands: AsyncMutex<mpsc::Receiver<ShardCommand>>,
    reports: mpsc::Sender<ShardReport>,
    findings: mpsc::Sender<Finding>,
    ports: BoundPorts,
    routes: Routes,
    targets: Targets,
    status: Arc<Status>,
    stop: watch::Sender<Ending>,
    ending: Arc<AtomicBool>,
}

/// Plays a test against a running control.
fn with_control<F: Future<Output = ()>>(test: impl FnOnce(World) -> F) {
    with_control_that_reads("/proc".into(), test);
}

fn with_control_that_reads<F: Future<Output = ()>>(proc: PathBuf, test: impl FnOnce(World) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(LocalSet::new().run_until(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let (dialled, sessions) = mpsc::channel(4);
        let service = ControlServer::new(Operator(dialled));
        tokio::task::spawn_local(async move {
            let server = tonic::transport::Server::builder().add_service(service);
            server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        let (commands, commanded) = mpsc::channel(64);
        let (arrivals, _) = mpsc::channel(1);
        let shard = ShardHandle {
            index: 0,
            pulse: Pulse::new(Thread::Shard(0)),
            counters: Arc::new(Counters::default()),
            commands,
            arrivals,
        };
        let (reports, reported) = mpsc::channel(64);
        let (findings, found) = mpsc::channel(4);
        let (stop, stopped) = watch::channel(Ending::No);
        let (ports, status) = (BoundPorts::default(), Arc::new(Status::default()));
        let (routes, targets) = (Routes::default(), Targets::default());
        let ending = Arc::new(AtomicBool::new(false));
        let hello = wire::Hello {
            worker: "local".into(),
            boot_id: "b00t".into(),
            rtp_shared_port: 10_000,
            ..wire::Hello::default()
        };
        let parts = Parts {
            routes: routes.clone(),
            operators: vec![
                operators::Operator::new(
                    &format!("http://{address}"),
                    Arc::new(operators::Credentials {
                        token: Some(operators::Token::Given(TOKEN.to_owned())),
                        authority: None,
                    }),
                )
                .unwrap(),
            ],
            hello,
            shards: vec![shard],
            directory: Arc::default(),
            ports: ports.clone(),
            rtp: RtpStats::default(),
            proc,
            targets: targets.clone(),
            connections: Peers::default().connections,
            clock: Clock::start(),
            pulse: Pulse::new(Thread::Control),
            status: status.clone(),
            ending: ending.clone(),
        };
        let control = tokio::task::spawn_local(run(parts, reported, found, stopped));
        let world = World {
            sessions: sessions.into(),
            commands: commanded.into(),
            reports,
            findings,
            ports,
            routes,
            targets,
            status,
            stop,
            ending,
        };
        test(world).await;
        control.abort();
    }));
}

impl World {
    async fn session(&self) -> Dialled {
        soon("a session", async { self.sessions.lock().await.recv().await.unwrap() }).await
    }

    async fn command(&self) -> ShardCommand {
        soon("a command to the shard", async { self.commands.lock().await.recv().await.unwrap() }).await
    }

    /// Assigns the stream `a` with a port, and sees that it is in force.
    async fn leased(&self, session: &mut Dialled) -> (u16, Option<crate::hub::Ingress>) {
        let port = free_port();
        session.tell(1, assign("a", 1, udp(port))).await;
        let (_, ingress) = self.assigned().await;
        self.says(ShardReport::Assigned(own("a", 1))).await;
        assert_eq!(session.report().await, assigned("a", 1, &[port]));
        (port, ingress)
    }

    async fn assigned(&self) -> (Arc<Assignment>, Option<crate::hub::Ingress>) {
        match self.command().await {
            ShardCommand::Assign { assignment, ingress } => (assignment, ingress),
            _ => panic!("an assignment was due"),
        }
    }

    async fn says(&self, report: ShardReport) {
        self.reports.send(report).await.unwrap();
    }
}

fn stream(uid: &str, epoch: u64) -> wire::StreamRef {
    wire::StreamRef { uid: uid.to_owned(), epoch }
}

fn assign(uid: &str, epoch: u64, rtp: Option<wire::RtpSource>) -> Command {
    Command::Assign(wire::Assign {
        stream: Some(stream(uid, epoch)),
        path: format!("live/{uid}"),
        publish: Some(wire::PublishPolicy::default()),
        play: Some(wire::PlayPolicy::default()),
        rtp,
        ..wire::Assign::default()
    })
}

fn udp(port: u16) -> Option<wire::RtpSource> {
    let transport = wire::RtpTransport::Udp.into();
    Some(wire::RtpSource { transport, rtp_port: port.into(), ..wire::RtpSource::default() })
}

fn shared(ssrc: u32) -> Option<wire::RtpSource> {
    let transport = wire::RtpTransport::Udp.into();
    Some(wire::RtpSource { transport, ssrc: Some(ssrc), shared: true, ..wire::RtpSource::default() })
}

fn revoke(uid: &str, epoch: u64) -> Command {
    Command::Revoke(wire::Revoke { stream: Some(stream(uid, epoch)), reason: "Deleted".into() })
}

fn closed(uid: &str, epoch: u64, ports: &[u16]) -> Kind {
    let ports = ports.iter().map(|&port| port.into()).collect();
    Kind::Closed(wire::Closed { stream: Some(stream(uid, epoch)), ports, ago_ms: 0 })
}

fn assigned(uid: &str, epoch: u64, ports: &[u16]) -> Kind {
    let ports = ports.iter().map(|&port| port.into()).collect();
    Kind::Assigned(wire::Assigned { stream: Some(stream(uid, epoch)), ports, next_ports: vec![] })
}

/// A number that is free in both transports; tests run side by side, so none is handed out twice.
fn free_port() -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(30_100);
    loop {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(port < 32_000, "no free port on this host");
        if TcpListener::bind(("0.0.0.0", port)).is_ok() && UdpSocket::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
}

/// As `StreamRef` of this crate.
fn own(uid: &str, epoch: u64) -> StreamRef {
    StreamRef { uid: uid.into(), epoch }
}

#[test]
fn a_session_begins_with_hello_and_inventory_and_carries_the_token() {
    with_control(async |world: World| {
        let session = world.session().await;
        assert_eq!(session.bearer.as_deref(), Some("Bearer s3cret"));
        let (mut session, hello, inventory) = session.greeted().await;
        assert_eq!((&*hello.worker, &*hello.boot_id, hello.term), ("local", "b00t", 0));
        assert_eq!((inventory.sequence, inventory.bound.len(), inventory.streams.len()), (0, 0, 0));
        assert!(inventory.host.unwrap().ephemeral.is_some());
        session.tell(7, Command::InventoryRequest(wire::InventoryRequest { id: 9 })).await;
        let inventory = session.inventory().await;
        assert_eq!((inventory.sequence, inventory.request_id), (1, 9));
        let beat = session.beat(1).await;
        assert_eq!((beat.digest, beat.term), (0xcbf2_9ce4_8422_2325, 7));
    });
}

#[test]
fn an_inventory_names_the_directory_as_the_operator_did_unless_something_of_it_was_not_followed() {
    with_control(async |world: World| {
        let (mut session, _, inventory) = world.session().await.greeted().await;
        assert_eq!((inventory.directory_version, inventory.directory_digest.len()), (0, 0));
        assert!(!world.status.is_known(), "nobody leads");
        let sound = wire::DirectoryEntry {
            path: "live/a".into(),
            stream: Some(wire::StreamRef { uid: "a".into(), epoch: 1 }),
            publish: Some(wire::PublishPolicy::default()),
            play: Some(wire::PlayPolicy::default()),
            ..wire::DirectoryEntry::default()
        };
        let unsound = wire::DirectoryEntry { stream: None, ..sound.clone() };
        for (version, entry, named) in [(4, sound, true), (5, unsound, false)] {
            let update = wire::DirectoryUpdate {
                version,
                full: version == 4,
                entries: vec![entry],
                digest: b"name".into(),
                ..wire::DirectoryUpdate::default()
            };
            session.tell(7, Command::Directory(update)).await;
            session.tell(7, Command::InventoryRequest(wire::InventoryRequest { id: version })).await;
            let inventory = session.inventory().await;
            assert_eq!(inventory.directory_version, version);
            assert_eq!(inventory.directory_digest, if named { &b"name"[..] } else { b"" });
        }
        // The inventory was the last thing that was owed.
        session.tell(7, Command::InventoryRequest(wire::InventoryRequest { id: 6 })).await;
        session.inventory().await;
        assert!(world.status.is_known());
    });
}

#[test]
fn a_stream_is_assigned_told_and_revoked() {
    with_control(async |world: World| {
        let (mut session, ..) = world.session().await.greeted().await;
        session.tell(1, assign("a", 3, None)).await;
        let (assignment, ingress) = world.assigned().await;
        assert!(&*assignment.path == "live/a" && ingress.is_none());
        world.says(ShardReport::Assigned(own("a", 3))).await;
        assert_eq!(session.report().await, assigned("a", 3, &[]));
        world.says(ShardReport::Media { stream: own("a", 3), live: true }).await;
        assert_eq!(
            session.report().await,
            Kind::Media(wire::MediaChanged { stream: Some(stream("a", 3)), live: true })
        );
        // What a shard says of an epoch that is over is nobody's business.
        world.says(ShardReport::Media { stream: own("a", 2), live: false }).await;

        session.tell(1, revoke("a", 3)).await;
        let ShardCommand::Revoke { stream: revoked, reason } = world.command().await else {
            panic!("a revoke was due")
        };
        assert_eq!((revoked, &*reason), (own("a", 3), "Deleted"));
        world.says(ShardReport::Closed(own("a", 3))).await;
        assert_eq!(session.report().await, closed("a", 3, &[]));
        // Of what is not here nothing is asked of a shard.
        session.tell(1, revoke("nobody", 1)).await;
        assert_eq!(session.report().await, closed("nobody", 1, &[]));
    });
}

#[test]
fn that_a_device_is_not_connected_to_is_told_once_however_often_it_is_tried() {
    with_control(async |world: World| {
        let (mut session, ..) = world.session().await.greeted().await;
        session.tell(1, assign("a", 1, None)).await;
        world.assigned().await;
        let failed = |error: &str| ShardReport::DialFailed { stream: own("a", 1), error: error.into() };
        for error in ["refused", "refused", "silent", "refused"] {
            world.says(failed(error)).await;
        }
        for error in ["refused", "silent", "refused"] {
            let Kind::Publisher(told) = session.report().await else {
                panic!("a word of the device was due")
            };
            assert_eq!((told.publisher, &*told.reason), (None, error));
        }
    });
}

#[test]
fn a_lease_is_bound_shown_and_closed_before_it_is_told() {
    with_control(async |world: World| {
        let (mut session, ..) = world.session().await.greeted().await;
        let (port, ingress) = world.leased(&mut session).await;
        let digest = crate::listeners::digest([(port, &own("a", 1))].into_iter());
        assert_eq!(session.beat(1).await.digest, digest);
        assert!(UdpSocket::bind(("0.0.0.0", port)).is_err());

        session.tell(1, revoke("a", 1)).await;
        assert!(matches!(world.command().await, ShardCommand::Revoke { .. }));
        drop(ingress);
        world.says(ShardReport::Closed(own("a", 1))).await;
        assert_eq!(session.report().await, closed("a", 1, &[port]));
        UdpSocket::bind(("0.0.0.0", port)).unwrap();
        session.tell(1, Command::InventoryRequest(wire::InventoryRequest { id: 1 })).await;
        let inventory = session.inventory().await;
        assert_eq!((inventory.bound.len(), inventory.closed.len()), (0, 1));
        assert_eq!(inventory.closed[0].ports, [u32::from(port)]);
    });
}

#[test]
fn a_stream_on_the_shared_port_binds_nothing_and_goes_on_at_a_new_epoch() {
    with_control(async |world: World| {
        let (mut session, ..) = world.session().await.greeted().await;
        session.tell(1, assign("a", 1, shared(7))).await;
        let (_, ingress) = world.assigned().await;
        assert!(ingress.is_some() && world.routes.knows(Protocol::Udp, 7));
        world.says(ShardReport::Assigned(own("a", 1))).await;
        assert_eq!(session.report().await, assigned("a", 1, &[]));
        assert_eq!(session.beat(1).await.digest, crate::listeners::digest(std::iter::empty()));

        session.tell(1, assign("a", 2, shared(7))).await;
        let (assignment, another) = world.assigned().await;
        assert!(assignment.stream.epoch == 2 && another.is_none(), "its ingress goes on");
        world.says(ShardReport::Closed(own("a", 1))).await;
        assert_eq!(session.report().await, closed("a", 1, &[]));
        world.says(ShardReport::Assigned(own("a", 2))).await;
        assert_eq!(session.report().await, assigned("a", 2, &[]));

        // One that has ended is made anew.
        drop(ingress);
        assert!(!world.routes.knows(Protocol::Udp, 7));
        session.tell(1, assign("a", 2, shared(7))).await;
        let (_, anew) = world.assigned().await;
        assert!(anew.is_some() && world.routes.knows(Protocol::Udp, 7));
    });
}

#[test]
fn a_stream_that_goes_to_the_shared_port_is_taken_once_its_own_are_closed() {
    with_control(async |world: World| {
        let (mut session, ..) = world.session().await.greeted().await;
        let (port, former) = world.leased(&mut session).await;
        // The last of them is told again meanwhile.
        for epoch in [2, 3, 3] {
            session.tell(1, assign("a", epoch, shared(7))).await;
            let (assignment, ingress) = world.assigned().await;
            assert!(assignment.stream.epoch == epoch && ingress.is_none(), "epoch {epoch}");
        }
        assert!(!world.routes.knows(Protocol::Udp, 7));
        drop(former);
        world.says(ShardReport::Closed(own("a", 1))).await;
        assert_eq!(session.report().await, closed("a", 1, &[port]));
        let (assignment, ingress) = world.assigned().await;
        assert!(assignment.stream.epoch == 3 && ingress.is_some() && world.routes.knows(Protocol::Udp, 7));
    });
}

#[test]
fn a_new_epoch_gets_its_ports_once_those_of_the_former_are_closed() {
    with_control(async |world: World| {
        let (mut session, ..) = world.session().await.greeted().await;
        let (port, former) = world.leased(&mut session).await;

        session.tell(1, assign("a", 2, udp(port))).await;
        let (assignment, ingress) = world.assigned().await;
        assert!(assignment.stream.epoch == 2 && ingress.is_none());
        drop(former);
        world.says(ShardReport::Closed(own("a", 1))).await;
        assert_eq!(session.report().await, closed("a", 1, &[port]));
        let (assignment, ingress) = world.assigned().await;
        assert!(assignment.stream.epoch == 2 && ingress.is_some());
        world.says(ShardReport::Assigned(own("a", 2))).await;
        assert_eq!(session.report().await, assigned("a", 2, &[port]));
        assert_eq!(world.ports.all(), [(port, Protocol::Udp, own("a", 2))]);

        // An assignment that comes late changes nothing.
        session.tell(1, assign("a", 1, udp(port))).await;
        session.beat(3).await;
        assert_eq!(world.ports.all(), [(port, Protocol::Udp, own("a", 2))]);
    });
}

#[test]
fn a_second_lease_is_opened_beside_the_first_and_either_is_closed_before_it_is_told() {
    with_control(async |world: World| {
        let (mut session, ..) = world.session().await.greeted().await;
        let (first, ingress) = world.leased(&mut session).await;
        let second = free_port();
        let both = |first: u16, second: u16| {
            let next = wire::LeasedPorts { rtp_port: second.into(), rtcp_port: None };
            udp(first).map(|rtp| wire::RtpSource { next: Some(next), ..rtp })
        };
        session.tell(1, assign("a", 1, both(first, second))).await;
        let (assignment, another) = world.assigned().await;
        assert!(another.is_none(), "its ingress goes on");
        assert_eq!(assignment.rtp.as_ref().unwrap().ports.next(), Some(Ports { rtp: second, rtcp: None }));
        world.says(ShardReport::Assigned(own("a", 1))).await;
        let Kind::Assigned(told) = session.report().await else { panic!("an acknowledgement was due") };
        assert_eq!((told.ports, told.next_ports), (vec![first.into()], vec![second.into()]));
        let table = |ports: &[u16]| {
            let mut all: Vec<_> = ports.iter().map(|&port| (port, Protocol::Udp, own("a", 1))).collect();
            all.sort();
            all
        };
        assert_eq!(world.ports.all(), table(&[first, second]));

        // Where media comes is told, and told again to whoever asks for the inventory.
        world.says(ShardReport::Arrived { stream: own("a", 1), port: second, settled: true }).await;
        let arrived =
            Kind::Arrived(wire::Arrived { stream: Some(stream("a", 1)), port: second.into(), settled: true });
        assert_eq!(session.report().await, arrived);
        session.tell(1, Command::InventoryRequest(wire::InventoryRequest { id: 1 })).await;
        assert_eq!(session.inventory().await.bound.len(), 2);
        assert!(matches!(session.report().await, Kind::Assigned(_)));
        assert_eq!(session.report().await, arrived);

        // The first is told to be closed once the ingress has closed it.
        session.tell(1, assign("a", 1, udp(second))).await;
        let _ = world.assigned().await;
        session.beat(4).await;
        assert_eq!(world.ports.all(), table(&[first, second]));
        drop(ingress);
        let kept = world.ports.lease(&own("a", 1), RtpTransport::Udp, Ports { rtp: second, rtcp: None });
        world.says(ShardReport::LeasesClosed(own("a", 1))).await;
        let ports = vec![first.into()];
        assert_eq!(
            session.report().await,
            Kind::PortsClosed(wire::PortsClosed { stream: Some(stream("a", 1)), ports })
        );
        assert_eq!(world.ports.all(), table(&[second]));
        drop(kept);
    });
}

#[test]
fn a_second_lease_that_is_taken_is_reported_and_the_first_stays() {
    with_control(async |world: World| {
        let (mut session, ..) = world.session().await.greeted().await;
        let (first, _ingress) = world.leased(&mut session).await;
        let second = free_port();
        let thief = TcpListener::bind(("127.0.0.1", second)).unwrap();
        let next = Some(wire::LeasedPorts { rtp_port: second.into(), rtcp_port: None });
        let both = || udp(first).map(|rtp| wire::RtpSource { next, ..rtp });
        session.tell(1, assign("a", 1, both())).await;
        let (assignment, _) = world.assigned().await;
        assert_eq!(assignment.rtp.as_ref().unwrap().ports.next(), None, "nobody serves it");
        let Kind::BindFailed(failed) = session.report().await else { panic!("a failed bind was due") };
        assert_eq!((failed.port, failed.own), (second.into(), false));
        assert_eq!(world.ports.all(), [(first, Protocol::Udp, own("a", 1))]);
        drop(thief);

        // It is tried again when it is asked for again; numbers that have nothing to do with those that it has are not taken.
        session.tell(1, assign("a", 1, both())).await;
        assert!(world.assigned().await.0.rtp.as_ref().unwrap().ports.next().is_some());
        session.tell(1, assign("a", 1, udp(free_port()))).await;
        session.beat(4).await;
        assert_eq!(world.ports.all().len(), 2);
    });
}

#[test]
fn a_port_that_is_taken_is_reported_with_its_holder() {
    with_control(async |world: World| {
        let (mut session, ..) = world.session().await.greeted().await;
        let port = free_port();
        let thief = TcpListener::bind(("127.0.0.1", port)).unwrap();
        session.tell(1, assign("a", 1, udp(port))).await;
        let Kind::BindFailed(failed) = session.report().await else { panic!("a failed bind was due") };
        assert_eq!((failed.port, failed.protocol(), failed.own), (port.into(), wire::Protocol::Tcp, false));
        assert!(failed.error.contains("in use"), "{failed:?}");
        let holder = failed.holder.unwrap();
        assert_eq!(holder.show, format!("ss -ltnpe 'sport = :{port}'"));
        assert!(!holder.process.is_empty());
        drop(thief);

        session.tell(1, assign("a", 2, udp(port))).await;
        let _ingress = world.assigned().await;
        session.tell(1, assign("b", 1, udp(port))).await;
        let Kind::BindFailed(failed) = session.report().await else { panic!("a failed bind was due") };
        assert_eq!((failed.stream, failed.own), (Some(stream("b", 1)), true));
        assert_eq!(world.status.bind_failures.value(), 2);
    });
}

#[test]
fn only_the_highest_term_is_obeyed() {
    with_control(async |world: World| {
        let (mut session, ..) = world.session().await.greeted().await;
        session.tell(5, Command::Welcome(wire::Welcome::default())).await;
        session.tell(4, assign("a", 1, None)).await;
        session.tell(5, assign("b", 1, None)).await;
        assert_eq!(&*world.assigned().await.0.stream.uid, "b");
        assert_eq!(world.status.stale_commands.value(), 1);
        assert_eq!(session.beat(3).await.term, 5);
    });
}

#[test]
fn the_clusters_own_networks_are_kept_from_as_they_are_told() {
    with_control(async |world: World| {
        let (mut session, ..) = world.session().await.greeted().await;
        let networks = |services: &str| wire::ClusterNetworks {
            services: vec![services.to_owned()],
            pods: vec!["10.244.0.0/16".to_owned()],
            nodes: vec!["198.51.100.7/32".to_owned()],
        };
        session.tell(1, Command::Networks(networks("10.96.0.0/16"))).await;
        session.beat(1).await;
        let check = |address: &str| world.targets.check(address.parse().unwrap());
        assert_eq!(check("10.96.0.1"), Err(Denied::Service));
        assert_eq!(check("10.244.1.2"), Err(Denied::Pod));
        assert_eq!(check("198.51.100.7"), Err(Denied::Node));
        session.tell(1, Command::Networks(networks("10.96.0.0/33"))).await;
        session.beat(2).await;
        assert_eq!(world.status.invalid_commands.value(), 1);
        assert_eq!(check("10.96.0.1"), Err(Denied::Service), "what can't be read takes nothing away");
        session.tell(1, Command::Networks(networks("10.97.0.0/16"))).await;
        session.beat(3).await;
        assert_eq!((check("10.96.0.1"), check("10.97.0.1")), (Ok(()), Err(Denied::Service)));
    });
}

#[test]
fn ports_that_were_lost_with_an_ingress_are_bound_anew() {
    with_control(async |world: World| {
        let (mut session, ..) = world.session().await.greeted().await;
        let (port, ingress) = world.leased(&mut session).await;
        // Its task has panicked.
        drop(ingress);
        assert_eq!(world.ports.all(), []);

        session.tell(1, assign("a", 1, udp(port))).await;
        let (_, ingress) = world.assigned().await;
        assert!(ingress.is_some());
        assert_eq!(world.ports.all(), [(port, Protocol::Udp, own("a", 1))]);
    });
}

#[test]
fn a_command_that_breaks_the_contract_harms_no_other() {
    with_control(async |world: World| {
        let (mut session, ..) = world.session().await.greeted().await;
        let broken = wire::Assign { stream: Some(stream("a", 1)), ..wire::Assign::default() };
        session.tell(1, Command::Assign(broken)).await;
        session.tell(1, assign("b", 1, None)).await;
        assert_eq!(&*world.assigned().await.0.stream.uid, "b");
        assert_eq!(world.status.invalid_commands.value(), 1);
    });
}

#[test]
fn streams_outlive_a_session_and_the_next_one_is_told_all() {
    with_control(async |world: World| {
        let (mut session, ..) = world.session().await.greeted().await;
        let port = free_port();
        session.tell(6, assign("a", 1, udp(port))).await;
        let _ingress = world.assigned().await;
        world.says(ShardReport::Assigned(own("a", 1))).await;
        assert_eq!(session.report().await, assigned("a", 1, &[port]));
        drop(session);

        let publisher = PublisherInfo {
            remote: "[::ffff:192.0.2.1]:5".parse().unwrap(),
            since_unix_ms: 8,
            protocol: "RTP",
            codecs: vec!["H264"],
        };
        let publisher = Some(publisher);
        world
            .says(ShardReport::Publisher { stream: own("a", 1), publisher, reason: Some(EndReason::Left) })
            .await;
        let (mut session, hello, inventory) = world.session().await.greeted().await;
        assert_eq!((hello.term, hello.epoch, inventory.sequence), (6, 1, 0));
        assert_eq!((inventory.streams, inventory.bound[0].port), (vec![stream("a", 1)], port.into()));
        assert_eq!(session.report().await, assigned("a", 1, &[port]));
        let Kind::Publisher(changed) = session.report().await else { panic!("the publisher was due") };
        assert_eq!(changed.publisher.unwrap().remote, "192.0.2.1:5");
    });
}

#[test]
fn a_stuck_shard_is_reported_with_its_streams() {
    with_control(async |world: World| {
        let (mut session, ..) = world.session().await.greeted().await;
        session.tell(1, assign("a", 1, None)).await;
        drop(world.assigned().await);
        let (thread, age) = (Thread::Shard(0), Duration::from_secs(1));
        world.findings.send(Finding::Stuck { thread, verdict: Verdict::Starved, age }).await.unwrap();
        world.findings.send(Finding::Stuck { thread, verdict: Verdict::Blocked, age }).await.unwrap();
        let stuck = wire::ShardStuck { shard: 0, verdict: "blocked".into(), streams: vec![stream("a", 1)] };
        assert_eq!(session.report().await, Kind::Stuck(stuck));
    });
}

#[test]
fn an_inventory_with_the_sequence_of_a_watch_has_a_scan_of_its_ranges() {
    with_control(async |world: World| {
        let (mut session, stray) = world.session().await.told_to_watch_a_stray().await;
        let before = session.inventory().await;
        assert_eq!((before.sequence, before.bound.len()), (0, 0));
        let after = session.inventory().await;
        assert_eq!((after.sequence, after.bound.len()), (1, 1));
        drop(stray);
    });
}

#[test]
fn a_scan_that_fails_answers_nobody_and_the_next_one_does() {
    let folder = Folder::new("proc");
    let proc = folder.file("proc");
    with_control_that_reads(proc.clone(), async |world: World| {
        let (mut session, stray) = world.session().await.told_to_watch_a_stray().await;
        soon("the scans for Hello and for Watch to fail", async {
            while world.status.scan_failures.value() < 2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        std::os::unix::fs::symlink("/proc", proc).unwrap();
        let inventory = session.inventory().await;
        assert_eq!((inventory.sequence, inventory.bound.len()), (1, 1));
        drop(stray);
    });
}

#[test]
fn a_socket_of_no_lease_is_told_when_two_scans_have_seen_it_and_when_it_is_gone() {
    with_control(async |world: World| {
        let (mut session, ..) = world.session().await.greeted().await;
        let port = u32::from(free_port());
        let ranges = vec![wire::PortRange { start: port, end: port }];
        session.tell(1, Command::Watch(wire::Watch { ranges, interval_ms: 250 })).await;
        assert_eq!(session.inventory().await.bound, []);
        let stray = UdpSocket::bind(("127.0.0.1", port as u16)).unwrap();
        let found = session.inventory().await;
        assert_eq!((found.bound.len(), &found.bound[0].stream), (1, &None));
        drop(stray);
        assert_eq!(session.inventory().await.bound, []);
    });
}

#[test]
fn holders_inside_the_watched_ranges_are_told_when_they_change() {
    with_control(async |world: World| {
        let (mut session, ..) = world.session().await.greeted().await;
        let port = u32::from(free_port());
        let ranges = vec![wire::PortRange { start: port, end: port }];
        session.tell(1, Command::Watch(wire::Watch { ranges, interval_ms: 250 })).await;
        assert_eq!(session.inventory().await.holders, []);
        // A socket of this process that no lease accounts for is a leak, not a holder.
        let stray = UdpSocket::bind(("127.0.0.1", port as u16)).unwrap();
        session.tell(1, Command::InventoryRequest(wire::InventoryRequest { id: 2 })).await;
        let inventory = session.inventory().await;
        assert_eq!((inventory.holders, inventory.bound.len()), (vec![], 1));
        assert_eq!((inventory.bound[0].port, &inventory.bound[0].stream), (port, &None));
        drop(stray);
    });
}

#[test]
fn control_ends_when_the_shards_are_drained() {
    with_control(async |world: World| {
        let (_session, ..) = world.session().await.greeted().await;
        world.stop.send_replace(Ending::Now);
        assert!(matches!(world.command().await, ShardCommand::Drain));
        assert!(world.ending.load(Ordering::Relaxed), "who looks now is told so");
        world.says(ShardReport::Drained(0)).await;
        soon("control's end", world.reports.closed()).await;
    });
}

/// Far longer than a test takes.
const LONG: Ending = Ending::Drain(Duration::from_secs(3600));

#[test]
fn a_worker_that_drains_serves_its_stream_until_it_is_taken_off() {
    with_control(async |world: World| {
        let (mut session, ..) = world.session().await.greeted().await;
        session.tell(1, assign("a", 1, None)).await;
        let (assignment, _) = world.assigned().await;
        world.says(ShardReport::Assigned(assignment.stream.clone())).await;
        assert!(!session.beat(1).await.draining);
        world.stop.send_replace(LONG);
        while !session.beat(1).await.draining {}
        assert!(!world.ending.load(Ordering::Relaxed), "it is well, and serves");

        session.tell(1, revoke("a", 1)).await;
        assert!(matches!(world.command().await, ShardCommand::Revoke { .. }));
        world.says(ShardReport::Closed(assignment.stream.clone())).await;
        assert!(matches!(world.command().await, ShardCommand::Drain), "nothing is left");
        assert!(world.ending.load(Ordering::Relaxed));
    });
}

#[test]
fn a_worker_that_nobody_empties_ends_at_its_deadline_and_one_without_streams_at_once() {
    for (assigns, stop) in [(true, Ending::Drain(Duration::from_millis(1))), (false, LONG)] {
        with_control(async move |world: World| {
            let (mut session, ..) = world.session().await.greeted().await;
            if assigns {
                session.tell(1, assign("a", 1, None)).await;
                world.assigned().await;
            }
            world.stop.send_replace(stop);
            assert!(matches!(world.command().await, ShardCommand::Drain));
        });
    }
}
