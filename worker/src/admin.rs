//! Pages for people and Prometheus, on control's runtime: sessions, ports, metrics, health. Loopback only by default.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use media::budget::Budget;
use serde::Deserialize;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use tokio::sync::{oneshot, watch};

use crate::canary::Board;
use crate::control::Status;
use crate::convert::canonical;
use crate::counters::Counters;
use crate::limits::{ADMIN_CONNECTIONS_MAX, BUDGET_OWNERS_TOLD_MAX, SNAPSHOT_DEADLINE};
use crate::listeners::{BoundPorts, Flaw};
use crate::metrics;
use crate::pages;
use crate::pulse::Pulse;
use crate::routes::Routes;
use crate::rtp::RtpStats;
use crate::scan::{self, Protocol};
use crate::shard::{
    Fault, Kick, Kicked, PublisherInfo, ShardCommand, ShardHandle, ShardSnapshot, StreamSnapshot,
    ViewerSnapshot, shard_of,
};

/// What the pages are made from.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Random for each start of the process.
    pub boot_id: Arc<str>,
    /// Who has the streams.
    pub shards: Vec<ShardHandle>,
    /// What front counts.
    pub front: Arc<Counters>,
    /// All watched threads.
    pub pulses: Vec<Arc<Pulse>>,
    /// Open media sockets.
    pub ports: BoundPorts,
    /// What rtp ingresses count.
    pub rtp: RtpStats,
    /// What came to the shared port for nobody.
    pub routes: Routes,
    /// What control shows.
    pub status: Arc<Status>,
    /// The process's media bytes.
    pub budget: Budget,
    /// What canaries came to.
    pub board: Arc<Board>,
    /// Front's: whether it accepts nobody at the public listener of RTMP (`test_hooks`).
    pub deaf: watch::Sender<bool>,
    /// The canary's: whether it begins no round (`test_hooks`).
    pub still: watch::Sender<bool>,
    /// False while a thread is stuck or a canary fails.
    pub ready: Arc<AtomicBool>,
    /// Whether things may be broken on purpose.
    pub test_hooks: bool,
}

/// Opens the port.
pub fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(ADMIN_CONNECTIONS_MAX as i32)?;
    Ok(socket.into())
}

/// Serves the pages for ever.
pub async fn serve(listener: std::net::TcpListener, admin: Admin) {
    serve_router(listener, router(admin), "the admin pages are gone").await;
}

/// Serves metrics alone, where Prometheus reaches them, for ever.
pub async fn serve_metrics(listener: std::net::TcpListener, admin: Admin) {
    let router = Router::new().route("/metrics", get(metrics_page)).with_state(admin);
    serve_router(listener, router, "the metrics are gone").await;
}

async fn serve_router(listener: std::net::TcpListener, router: Router, gone: &'static str) {
    match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => pages::serve(listener, router, pages::Bounds::default()).await,
        Err(error) => tracing::error!(%error, "{gone}"),
    }
}

fn router(admin: Admin) -> Router {
    let router = Router::new()
        .route("/sessions", get(sessions))
        .route("/ports", get(ports))
        .route("/budget", get(budget))
        .route("/metrics", get(metrics_page))
        .route("/healthz", get(healthz))
        .route("/kick", post(kick));
    let router = if admin.test_hooks { router.route("/debug/fault", post(fault)) } else { router };
    router.with_state(admin)
}

impl Admin {
    /// Who is on each shard, in their order; `None` for one that doesn't answer in time.
    pub(crate) async fn snapshots(&self) -> Vec<Option<ShardSnapshot>> {
        self.ask(ShardCommand::Snapshot).await
    }

    /// What each shard answers to a command, in their order; `None` for one that doesn't in time.
    async fn ask<T>(&self, command: impl Fn(oneshot::Sender<T>) -> ShardCommand) -> Vec<Option<T>> {
        // All are asked before one is waited for, so that those who hang cost one deadline together.
        let asked: Vec<_> = self
            .shards
            .iter()
            .map(|shard| {
                let (reply, answer) = oneshot::channel();
                shard.commands.try_send(command(reply)).ok().map(|()| answer)
            })
            .collect();
        let until = tokio::time::Instant::now() + SNAPSHOT_DEADLINE;
        let mut answers = Vec::with_capacity(asked.len());
        for answer in asked {
            answers.push(match answer {
                Some(answer) => tokio::time::timeout_at(until, answer).await.ok().and_then(Result::ok),
                None => None,
            });
        }
        answers
    }
}

async fn sessions(State(admin): State<Admin>) -> Json<Value> {
    let (mut streams, mut silent) = (Vec::new(), Vec::new());
    for (index, snapshot) in admin.snapshots().await.into_iter().enumerate() {
        match snapshot {
            Some(snapshot) => {
                streams.extend(snapshot.streams.iter().map(|stream| stream_json(index, stream)))
            }
            None => silent.push(index),
        }
    }
    Json(json!({ "streams": streams, "silentShards": silent }))
}

fn stream_json(shard: usize, snapshot: &StreamSnapshot) -> Value {
    let StreamSnapshot {
        assignment,
        publisher,
        live,
        frames_in,
        bytes_in,
        ring_bytes,
        ring_frames,
        held_bytes,
        viewers,
        viewer_count,
    } = snapshot;
    json!({
        "path": &*assignment.path,
        "namespace": &*assignment.namespace,
        "name": &*assignment.name,
        "uid": &*assignment.stream.uid,
        "epoch": assignment.stream.epoch,
        "shard": shard,
        "live": live,
        "framesIn": frames_in,
        "bytesIn": bytes_in,
        "ringBytes": ring_bytes,
        "ringFrames": ring_frames,
        "heldBytes": held_bytes,
        "publisher": publisher.as_ref().map(publisher_json),
        "viewerCount": viewer_count,
        "viewers": viewers.iter().map(viewer_json).collect::<Vec<_>>(),
    })
}

fn publisher_json(publisher: &PublisherInfo) -> Value {
    let PublisherInfo { remote, since_unix_ms, protocol, codecs } = publisher;
    json!({
        "remote": canonical(*remote).to_string(),
        "protocol": protocol,
        "sinceUnixMs": since_unix_ms,
        "codecs": codecs,
    })
}

fn viewer_json(viewer: &ViewerSnapshot) -> Value {
    let ViewerSnapshot { remote, protocol, since_unix_ms, bytes_out, behind, skips } = viewer;
    json!({
        "remote": canonical(*remote).to_string(),
        "protocol": protocol,
        "sinceUnixMs": since_unix_ms,
        "bytesOut": bytes_out,
        "framesBehind": behind,
        "skips": skips,
    })
}

/// For whom media is in memory, most first.
async fn budget(State(admin): State<Admin>) -> Json<Value> {
    let (mut owners, mut silent) = (Vec::new(), Vec::new());
    for (index, snapshot) in admin.snapshots().await.into_iter().enumerate() {
        match snapshot {
            Some(snapshot) => owners.extend(snapshot.streams),
            None => silent.push(index),
        }
    }
    let used = admin.budget.used();
    let named: u64 = owners.iter().map(|owner| owner.held_bytes).sum();
    owners.retain(|owner| owner.held_bytes > 0);
    owners.sort_by_key(|owner| std::cmp::Reverse(owner.held_bytes));
    let owner = |owner: &StreamSnapshot| {
        json!({
            "namespace": &*owner.assignment.namespace,
            "name": &*owner.assignment.name,
            "heldBytes": owner.held_bytes,
            "ringBytes": owner.ring_bytes,
            "viewerCount": owner.viewer_count,
        })
    };
    Json(json!({
        "maxBytes": admin.budget.bytes_max(),
        "usedBytes": used,
        "owners": owners.iter().take(BUDGET_OWNERS_TOLD_MAX).map(owner).collect::<Vec<_>>(),
        "ownerCount": owners.len(),
        // Held by viewers of streams that have ended, or of shards that are silent; those move while they are summed up.
        "otherBytes": used.saturating_sub(named),
        "silentShards": silent,
    }))
}

async fn ports(State(admin): State<Admin>) -> Json<Value> {
    let bound: Vec<_> = admin
        .ports
        .all()
        .into_iter()
        .map(|(port, protocol, stream)| {
            json!({ "port": port, "protocol": transport(protocol), "uid": &*stream.uid, "epoch": stream.epoch })
        })
        .collect();
    let found = admin.status.scan();
    let holders: Vec<_> = found
        .holders
        .iter()
        .map(|holder| {
            let scan::Socket { port, protocol, waits: _, uid, inode: _ } = holder.socket;
            json!({
                "port": port,
                "protocol": transport(protocol),
                "uid": uid,
                "process": holder.process,
                "show": scan::show(protocol, port),
            })
        })
        .collect();
    let stray: Vec<_> =
        found.stray.iter().map(|s| json!({ "port": s.port, "protocol": transport(s.protocol) })).collect();
    let range = |range: &std::ops::RangeInclusive<u16>| json!({ "start": range.start(), "end": range.end() });
    Json(json!({
        "bound": bound,
        "holders": holders,
        "stray": stray,
        "watched": admin.status.watched().iter().map(range).collect::<Vec<_>>(),
        "host": {
            "ephemeral": found.host.ephemeral.as_ref().map(range),
            "reserved": found.host.reserved.iter().map(range).collect::<Vec<_>>(),
        },
    }))
}

fn transport(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
    }
}

async fn metrics_page(State(admin): State<Admin>) -> Response {
    let snapshots = admin.snapshots().await;
    match metrics::text(&admin, &snapshots) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn healthz(State(admin): State<Admin>) -> Response {
    let known = admin.status.is_known();
    let ready = known && admin.ready.load(Ordering::Relaxed);
    let threads: Vec<_> = admin
        .pulses
        .iter()
        .map(|pulse| {
            json!({
                "name": pulse.thread().to_string(),
                "tickAgeMs": pulse.age().as_millis() as u64,
                "streams": pulse.streams(),
            })
        })
        .collect();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let sessions = admin.status.sessions.value();
    let body = json!({
        "ready": ready,
        "knownToOperator": known,
        "bootId": &*admin.boot_id,
        "operatorSessions": sessions,
        "threads": threads,
        "canary": admin.board.page(),
    });
    (status, Json(body)).into_response()
}

/// Ends who publishes or plays a stream.
async fn kick(
    State(admin): State<Admin>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Err(refusal) = pages::command(peer, &headers) {
        return refusal.into_response();
    }
    let kick: Kick = match serde_json::from_slice(&body) {
        Ok(kick) => kick,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    };
    let answers = admin.ask(|reply| ShardCommand::Kick(kick.clone(), reply)).await;
    let silent = answers.iter().enumerate().filter(|(_, answer)| answer.is_none()).map(|(index, _)| index);
    let silent: Vec<usize> = silent.collect();
    let kicked: Vec<_> = answers.into_iter().flatten().flatten().map(|kicked| kicked_json(&kicked)).collect();
    Json(json!({ "kicked": kicked, "silentShards": silent })).into_response()
}

fn kicked_json(kicked: &Kicked) -> Value {
    let Kicked { path, publisher, viewers } = kicked;
    json!({ "path": &**path, "publisher": publisher.as_ref().map(publisher_json), "viewers": viewers })
}

/// What is to be broken.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Breakage {
    kind: BreakageKind,
    /// The shard of this path; for a session, its stream.
    path: Option<String>,
    /// The shard of this number; 0 where no path says another.
    shard: Option<usize>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum BreakageKind {
    Block,
    Spin,
    Panic,
    PanicSession,
    /// The shard writes nothing to viewers, and does again.
    Mute,
    Unmute,
    /// Front accepts nobody at the public listener of RTMP, and does again.
    Deafen,
    Undeafen,
    /// The canary begins no round, and does again.
    Still,
    Unstill,
    /// The next lease of ports has a flaw.
    LeakPort,
    SharePort,
}

async fn fault(State(admin): State<Admin>, body: Bytes) -> Response {
    // Whatever its content type, so that `curl -d` will do.
    let Breakage { kind, path, shard } = match serde_json::from_slice(&body) {
        Ok(breakage) => breakage,
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    let by_path = path.as_deref().map(|path| shard_of(path, admin.shards.len()));
    let index = shard.or(by_path).unwrap_or(0);
    let fault = match (kind, path) {
        (BreakageKind::Block, _) => Fault::Block,
        (BreakageKind::Spin, _) => Fault::Spin,
        (BreakageKind::Panic, _) => Fault::Panic,
        (kind @ (BreakageKind::Deafen | BreakageKind::Undeafen), _) => {
            admin.deaf.send_replace(kind == BreakageKind::Deafen);
            return StatusCode::ACCEPTED.into_response();
        }
        (kind @ (BreakageKind::Still | BreakageKind::Unstill), _) => {
            admin.still.send_replace(kind == BreakageKind::Still);
            return StatusCode::ACCEPTED.into_response();
        }
        (BreakageKind::LeakPort, _) => {
            admin.ports.spoil_next(Flaw::Leaks);
            return StatusCode::ACCEPTED.into_response();
        }
        (BreakageKind::SharePort, _) => {
            admin.ports.spoil_next(Flaw::Shares);
            return StatusCode::ACCEPTED.into_response();
        }
        (BreakageKind::Mute, _) => Fault::Mute(true),
        (BreakageKind::Unmute, _) => Fault::Mute(false),
        (BreakageKind::PanicSession, Some(path)) => Fault::PanicSession(path),
        (BreakageKind::PanicSession, None) => {
            return (StatusCode::BAD_REQUEST, "path: which stream's session is to panic").into_response();
        }
    };
    let Some(shard) = admin.shards.get(index) else {
        let problem = format!("shard: there is no {index}, the last is {}", admin.shards.len() - 1);
        return (StatusCode::BAD_REQUEST, problem).into_response();
    };
    match shard.commands.try_send(ShardCommand::Fault(fault)) {
        Ok(()) => StatusCode::ACCEPTED.into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the shard takes no command").into_response(),
    }
}
