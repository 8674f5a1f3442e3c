//! The public listeners. A thread of its own accepts, listens to a peer until its stream is known, and hands the socket to the
//! shard of the stream: a stuck shard swallows no connection.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use aws_lc_rs::digest;
use bytes::{Bytes, BytesMut};
use media::http::{self, Asked, Status};
use media::policy::{Access, Denied, TokenDigest};
use media::rtmp::{self, PlayRefusal, PublishRefusal, Session};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinSet, LocalSet};

use crate::canary::Cage;
use crate::clock::Clock;
use crate::connection::{Arrival, Wants};
use crate::counters::{Counters, DropReason};
use crate::directory::{Directory, Entry, Lookup, Owner};
use crate::ingress::{close_with, last_words};
use crate::limits::{ACCEPT_RETRY, BACKLOG, DIRECTORY_WAIT, HTTP_HEAD_DEADLINE, REFUSAL_DEADLINE};
use crate::pulse::{Pulse, Thread};
use crate::seats::{self, Full, Peers};
use crate::shard::{ShardHandle, shard_of};
use crate::shared_port::SharedPort;

/// What front is made with.
#[derive(Debug)]
pub struct Config {
    /// Where RTMP is spoken; from [`bind`].
    pub rtmp: std::net::TcpListener,
    /// Where HTTP is spoken; from [`bind`].
    pub http: std::net::TcpListener,
    /// Where RTMP is spoken with canaries alone, on loopback; from [`bind`].
    pub private: std::net::TcpListener,
    /// Where rtp comes in that is told apart by SSRC, if anywhere.
    pub shared: Option<SharedPort>,
    /// Who is a canary, and what it may have.
    pub cage: Cage,
    /// Which paths there are.
    pub directory: Arc<Directory>,
    /// Who takes the connections.
    pub shards: Vec<ShardHandle>,
    /// How many there may be.
    pub peers: Peers,
    /// The process's clock.
    pub clock: Clock,
}

/// Front's thread, as others see it.
#[derive(Debug)]
pub struct FrontHandle {
    /// Ticks while its loop turns.
    pub pulse: Arc<Pulse>,
    /// What it counts.
    pub counters: Arc<Counters>,
    /// `--test-hooks`: as long as it is true, nobody is accepted at the public listener of RTMP.
    pub deaf: watch::Sender<bool>,
    /// Ends when the process does.
    pub thread: JoinHandle<()>,
}

/// Binds a public listener. Not SO_REUSEPORT: a second process, or a stuck thread, would swallow connections.
pub fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(address.ip() != Ipv6Addr::UNSPECIFIED)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Starts front.
pub fn spawn(config: Config) -> io::Result<FrontHandle> {
    let pulse = Pulse::new(Thread::Front);
    let counters = Arc::new(Counters::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let (beat, counts) = (pulse.clone(), counters.clone());
    let (deaf, is_deaf) = watch::channel(false);
    let thread = std::thread::Builder::new().name("front".into()).spawn(move || {
        let _ended = EndedOnDrop(beat.clone());
        runtime.block_on(LocalSet::new().run_until(async move {
            let Config { rtmp, http, private, shared, cage, directory, shards, peers, clock } = config;
            let front = Rc::new(Front { directory, cage, shards, clock, counters: counts, peers });
            let mut tasks = JoinSet::new();
            tasks.spawn_local(beat.beat());
            let listeners = [
                (rtmp, Door { spoken: Spoken::Rtmp, admits: Admits::All, deaf: Some(is_deaf) }),
                (http, Door { spoken: Spoken::Http, admits: Admits::All, deaf: None }),
                (private, Door { spoken: Spoken::Rtmp, admits: Admits::Canaries, deaf: None }),
            ];
            for (listener, door) in listeners {
                match TcpListener::from_std(listener) {
                    Ok(listener) => tasks.spawn_local(accept(front.clone(), listener, door)),
                    Err(error) => return tracing::error!(%error, "the listeners can't be watched"),
                };
            }
            if let Some(shared) = shared
                && let Err(error) =
                    shared.serve(&mut tasks, clock, front.counters.clone(), front.peers.connections.clone())
            {
                return tracing::error!(%error, "the shared rtp port can't be watched");
            }
            drop(front);
            // None of them ends by itself.
            if let Some(Err(error)) = tasks.join_next().await
                && let Ok(panic) = error.try_into_panic()
            {
                std::panic::resume_unwind(panic);
            }
        }));
    })?;
    Ok(FrontHandle { pulse, counters, deaf, thread })
}

struct EndedOnDrop(Arc<Pulse>);

impl Drop for EndedOnDrop {
    fn drop(&mut self) {
        self.0.set_ended();
    }
}

/// What all connections of front share.
struct Front {
    directory: Arc<Directory>,
    cage: Cage,
    shards: Vec<ShardHandle>,
    clock: Clock,
    counters: Arc<Counters>,
    peers: Peers,
}

/// A place among the connections whose stream isn't known yet.
struct Seat {
    front: Rc<Front>,
    whose: Whose,
}

/// Who sits there.
#[derive(Debug)]
enum Whose {
    /// Somebody who is counted; the places are given back on drop.
    Users {
        /// Among those who have not said yet what they want.
        _handshake: seats::Seat,
        /// Among all.
        connection: seats::Seat,
    },
    /// A canary: it takes nobody's place.
    Canarys,
}

/// How a listener is served.
struct Door {
    spoken: Spoken,
    admits: Admits,
    deaf: Option<watch::Receiver<bool>>,
}

#[derive(Clone, Copy, Debug)]
enum Spoken {
    Rtmp,
    Http,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Admits {
    All,
    Canaries,
}

async fn accept(front: Rc<Front>, listener: TcpListener, door: Door) {
    let Door { spoken, admits, mut deaf } = door;
    let mut connections = JoinSet::new();
    loop {
        if let Some(deaf) = &mut deaf {
            // Who could change it is gone only with the process.
            let _ = deaf.wait_for(|deaf| !deaf).await;
        }
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, remote)) => {
                    let seat = if front.cage.is_ours(remote) {
                        Seat { front: front.clone(), whose: Whose::Canarys }
                    } else if admits == Admits::Canaries {
                        // Any process of the node may try.
                        continue;
                    } else {
                        front.counters.accepted.add(1);
                        match front.seat(remote) {
                            Ok(whose) => Seat { front: front.clone(), whose },
                            Err(full) => {
                                front.counters.drop_one(full.reason());
                                continue;
                            }
                        }
                    };
                    // A Nagle wait for each step of a handshake would be 40 ms.
                    let _ = socket.set_nodelay(true);
                    match spoken {
                        Spoken::Rtmp => connections.spawn_local(listen_rtmp(seat, socket, remote)),
                        Spoken::Http => connections.spawn_local(listen_http(seat, socket, remote)),
                    };
                }
                Err(error) => {
                    // Out of descriptors, or memory: the connection stays in the backlog, and trying at once would spin.
                    tracing::warn!(%error, "accept");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            },
            Some(ended) = connections.join_next() => {
                if ended.is_err_and(|error| error.is_panic()) {
                    tracing::error!("a session panicked before its stream was known; it alone is ended");
                    front.counters.session_panics.add(1);
                }
            }
        }
    }
}

/// Listens to an RTMP peer until it says what it wants.
async fn listen_rtmp(seat: Seat, socket: TcpStream, remote: SocketAddr) {
    let front = seat.front.clone();
    let config = rtmp::Config { seed: front.clock.now().as_nanos() as u64, ..rtmp::Config::default() };
    let mut session = Box::new(Session::new(config, front.clock.now()));
    let (request, publishes) = match ask_rtmp(&front, &socket, &mut session).await {
        Ok(Some(rtmp::Event::Publish(request))) => (request, true),
        Ok(Some(rtmp::Event::Play(request))) => (request, false),
        Ok(_) => return,
        Err(error) => {
            let reason = match error {
                rtmp::Error::StartDeadline(_) => DropReason::Deadline,
                _ => DropReason::Protocol,
            };
            seat.counters().drop_one(reason);
            tracing::debug!(%remote, %error, "RTMP peer ended");
            return last_words(&socket, &mut session).await;
        }
    };
    let token = request.token.as_ref().map(|token| digest_of(token.as_bytes()));
    let decided = front.decide(&seat, &request.path, remote, token, |entry| match publishes {
        true => (entry.publish.rtmp, &entry.publish.access, "this stream is not published over RTMP"),
        false => (entry.play.rtmp, &entry.play.access, "this stream is not played over RTMP"),
    });
    match decided.await {
        Ok(entry) => {
            let wants = if publishes { Wants::PublishRtmp(session) } else { Wants::PlayRtmp(session) };
            front.hand_over(seat, socket, remote, &request.path, entry, wants);
        }
        Err(no) => {
            // Anybody can ask for anything: not a line a peer in the usual log, and never the path, which may be a key.
            tracing::debug!(%remote, publishes, why = no.why(), "refused");
            match (publishes, no.is_denial()) {
                (true, true) => session.refuse_publish(PublishRefusal::Denied, &no.why()),
                (true, false) => session.refuse_publish(PublishRefusal::BadName, &no.why()),
                (false, true) => session.refuse_play(PlayRefusal::Denied, &no.why()),
                (false, false) => session.refuse_play(PlayRefusal::StreamNotFound, &no.why()),
            }
            last_words(&socket, &mut session).await;
        }
    }
}

/// Drives the session to its request; `None` where the peer left before.
async fn ask_rtmp(
    front: &Front,
    socket: &TcpStream,
    session: &mut Session,
) -> Result<Option<rtmp::Event>, rtmp::Error> {
    let mut buffer = BytesMut::with_capacity(4096);
    loop {
        while let Some(words) = session.poll_transmit() {
            if !write_all(front, socket, &words, session.deadline()).await {
                return Ok(None);
            }
        }
        if let Some(event) = session.poll_event() {
            return Ok(Some(event));
        }
        match read_some(front, socket, &mut buffer, session.deadline()).await {
            Read::Some => session.receive(buffer.split().freeze(), front.clock.now())?,
            Read::Closed => return Ok(None),
            Read::Late => session.timeout(front.clock.now())?,
        }
    }
}

/// Reads an HTTP request and answers it, or hands the socket on.
async fn listen_http(seat: Seat, socket: TcpStream, remote: SocketAddr) {
    let front = seat.front.clone();
    let answer = match ask_http(&front, &socket).await {
        Some(Asked::Flv { path, token, head_only }) => {
            let token = token.map(|token| digest_of(token.as_bytes()));
            let decided = front.decide(&seat, &path, remote, token, |entry| {
                (entry.play.http_flv, &entry.play.access, "this stream is not played over HTTP-FLV")
            });
            match decided.await {
                Ok(_) if head_only => http::answer(Status::Ok, ""),
                Ok(entry) => return front.hand_over(seat, socket, remote, &path, entry, Wants::PlayFlv),
                Err(no) => {
                    tracing::debug!(%remote, why = no.why(), "refused");
                    http::answer(no.status(), &no.why())
                }
            }
        }
        Some(Asked::Preflight) => http::answer(Status::NoContent, ""),
        Some(Asked::Refused(status)) => {
            seat.counters().drop_one(DropReason::Protocol);
            http::answer(status, refusal_words(status))
        }
        Some(Asked::Incomplete) => {
            seat.counters().drop_one(DropReason::Deadline);
            http::answer(Status::RequestTimeout, "the request's head did not come in time")
        }
        None => return,
    };
    close_with(&socket, &answer, REFUSAL_DEADLINE).await;
}

/// Reads a request's head; `None` where the peer left before it was whole.
async fn ask_http(front: &Front, socket: &TcpStream) -> Option<Asked> {
    let deadline = front.clock.now() + HTTP_HEAD_DEADLINE;
    let mut buffer = BytesMut::with_capacity(1024);
    loop {
        match read_some(front, socket, &mut buffer, Some(deadline)).await {
            Read::Some => match http::parse(&buffer) {
                Asked::Incomplete => {}
                asked => return Some(asked),
            },
            Read::Closed => return None,
            Read::Late => return Some(Asked::Incomplete),
        }
    }
}

fn refusal_words(status: Status) -> &'static str {
    match status {
        Status::NotFound => "streams are under /<path>.flv",
        Status::MethodNotAllowed => "only GET, HEAD and OPTIONS are answered here",
        Status::HeaderTooLarge => "the request's head is too large",
        Status::BadRequest => "this is not HTTP/1.1",
        Status::Ok
        | Status::NoContent
        | Status::Unauthorized
        | Status::Forbidden
        | Status::RequestTimeout
        | Status::Unavailable => "",
    }
}

enum Read {
    Some,
    Closed,
    Late,
}

/// Reads what there is, once there is something.
async fn read_some(
    front: &Front,
    socket: &TcpStream,
    buffer: &mut BytesMut,
    deadline: Option<Duration>,
) -> Read {
    let reading = async {
        loop {
            if socket.readable().await.is_err() {
                return Read::Closed;
            }
            buffer.reserve(1024);
            // No more than a request's head at once: the session's bounds are counted in these.
            let mut limited = bytes::BufMut::limit(&mut *buffer, http::HEAD_BYTES_MAX);
            match socket.try_read_buf(&mut limited) {
                Ok(0) => return Read::Closed,
                Ok(_) => return Read::Some,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Read::Closed,
            }
        }
    };
    within(front, deadline, reading).await.unwrap_or(Read::Late)
}

/// False where the peer left, or took too long.
async fn write_all(front: &Front, socket: &TcpStream, words: &Bytes, deadline: Option<Duration>) -> bool {
    let writing = async {
        let mut rest = &words[..];
        while !rest.is_empty() {
            match socket.try_write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if socket.writable().await.is_err() {
                        return false;
                    }
                }
                Err(_) => return false,
            }
        }
        true
    };
    within(front, deadline, writing).await.unwrap_or(false)
}

/// `None` where the deadline passed first. A session without one has its request, and what it still says is little.
async fn within<T>(front: &Front, deadline: Option<Duration>, work: impl Future<Output = T>) -> Option<T> {
    let deadline = deadline.unwrap_or_else(|| front.clock.now() + REFUSAL_DEADLINE);
    let at = tokio::time::Instant::from_std(front.clock.instant(deadline));
    tokio::time::timeout_at(at, work).await.ok()
}

/// SHA-256, the form in which tokens are known here.
pub fn digest_of(token: &[u8]) -> TokenDigest {
    let digest = digest::digest(&digest::SHA256, token);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// Why a peer may not have what it asked for.
enum No {
    Undeclared,
    Unknown,
    Elsewhere(Arc<str>),
    Protocol(&'static str),
    Denied(Denied),
}

impl No {
    fn why(&self) -> String {
        match self {
            No::Undeclared => "no MediaStream declares this path".into(),
            No::Unknown => "the worker has just started and doesn't know its streams yet; try again".into(),
            No::Elsewhere(worker) => format!("the stream is on worker {worker}"),
            No::Protocol(why) => (*why).into(),
            No::Denied(denied) => denied.to_string(),
        }
    }

    fn is_denial(&self) -> bool {
        match self {
            No::Denied(_) | No::Protocol(_) => true,
            No::Undeclared | No::Unknown | No::Elsewhere(_) => false,
        }
    }

    fn status(&self) -> Status {
        match self {
            No::Undeclared | No::Elsewhere(_) => Status::NotFound,
            No::Unknown => Status::Unavailable,
            No::Protocol(_) | No::Denied(Denied::Address) => Status::Forbidden,
            No::Denied(Denied::TokenMissing | Denied::TokenWrong) => Status::Unauthorized,
        }
    }
}

impl Front {
    /// Looks a path up and checks who asks. `rule` names what of the entry holds for the request.
    async fn decide(
        &self,
        seat: &Seat,
        path: &str,
        remote: SocketAddr,
        token: Option<TokenDigest>,
        rule: impl Fn(&Entry) -> (bool, &Access, &'static str),
    ) -> Result<Arc<Entry>, No> {
        match seat.whose {
            Whose::Canarys => return self.cage.entry(path).ok_or(No::Undeclared),
            Whose::Users { .. } => {}
        }
        let entry = match self.directory.lookup(path) {
            Lookup::Declared(entry) => entry,
            Lookup::Undeclared => return Err(No::Undeclared),
            Lookup::Unknown => {
                let mut received = self.directory.received();
                let first = received.wait_for(|received| *received);
                let _ = tokio::time::timeout(DIRECTORY_WAIT, first).await;
                match self.directory.lookup(path) {
                    Lookup::Declared(entry) => entry,
                    Lookup::Undeclared => return Err(No::Undeclared),
                    Lookup::Unknown => return Err(No::Unknown),
                }
            }
        };
        let (spoken, access, why) = rule(&entry);
        if !spoken {
            return Err(No::Protocol(why));
        }
        access.check(remote.ip(), token.as_ref()).map_err(|denied| {
            self.counters.drop_one(DropReason::Denied);
            No::Denied(denied)
        })?;
        match &entry.owner {
            Owner::Here | Owner::Nobody => Ok(entry),
            Owner::Elsewhere(worker) => Err(No::Elsewhere(worker.clone())),
        }
    }

    /// Places for a connection that has just come.
    fn seat(&self, remote: SocketAddr) -> Result<Whose, Full> {
        let (address, now) = (remote.ip(), self.clock.now());
        let connection = self.peers.connections.take(address, now)?;
        Ok(Whose::Users { _handshake: self.peers.handshakes.take(address, now)?, connection })
    }

    /// Gives a connection to the shard of its path.
    fn hand_over(
        &self,
        seat: Seat,
        socket: TcpStream,
        remote: SocketAddr,
        path: &str,
        entry: Arc<Entry>,
        wants: Wants,
    ) {
        let shard = &self.shards[shard_of(path, self.shards.len())];
        let socket = match socket.into_std() {
            Ok(socket) => socket,
            Err(error) => {
                return tracing::debug!(%remote, %error, "a connection was lost before it was handed over");
            }
        };
        let (seat, counters) = match seat.whose {
            Whose::Users { _handshake, connection } => (Some(connection), &self.counters),
            Whose::Canarys => (None, self.cage.counters()),
        };
        let arrival = Arrival { socket, remote, path: path.into(), entry, wants, seat };
        if shard.arrivals.try_send(arrival).is_err() {
            counters.drop_one(DropReason::ShardBusy);
            tracing::warn!(%remote, shard = shard.index, "the shard takes no connections");
        }
    }
}

impl Seat {
    /// Where is counted what becomes of who sits here.
    fn counters(&self) -> &Counters {
        match self.whose {
            Whose::Users { .. } => &self.front.counters,
            Whose::Canarys => self.front.cage.counters(),
        }
    }
}
