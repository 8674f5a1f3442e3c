//! `penstock operator`: the planner on a Kubernetes cluster, one of several replicas of which one leads.
//!
//! ```text
//!  watch.rs ─→ Event ─┐                               ┌─→ apply.rs ─→ API server
//!  leader.rs ─(turns)─┤ run.rs: observe, plan, act ───┤─→ events.rs
//!  sessions.rs ───────┘                               └─→ sessions.rs ─→ workers
//! ```
//!
//! Two threads: sessions have one of their own, all else the other. So TLS and gRPC of hundreds of workers that come at once keep no
//! plan waiting; and what lives as long as a session is allocated apart from what lives as long as a stream, for else the ones keep
//! pages of the others when these are gone: jemalloc gives a thread the arena that fewest have, so the sessions' thread is made first.

mod admission;
mod apply;
mod certificate;
pub(crate) mod client;
mod events;
mod leader;
mod objects;
pub(crate) mod peers;
mod probes;
mod watch;

pub(crate) use admission::Reviewer;

use std::{collections::BTreeSet, io, net::SocketAddr, process::ExitCode, sync::Arc, thread};

use futures_util::future::BoxFuture;
use operator_core::Config;
use tokio::{
    net::TcpListener,
    sync::{self, Semaphore},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use certificate::{Certificate, Pem};

use crate::{
    args::Operator,
    asks::Asks,
    clock::Clock,
    limits,
    metrics::Metrics,
    run::{self, Drivers},
    sessions::{Admission, Sessions},
    shutdown::Signals,
    telemetry,
    witnesses::Witnesses,
};

/// Runs until SIGTERM, or until a part of it ends.
pub(crate) fn run(args: Operator) -> ExitCode {
    let apart = Apart::start("sessions");
    telemetry::install(args.log_format, None);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (runtime, apart) = match (runtime, apart) {
        (Ok(runtime), Ok(apart)) => (runtime, apart),
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!("can't make a thread and its runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(async {
        match serve(args, apart).await {
            Ok(code) => code,
            Err(error) => {
                tracing::error!("penstock operator: {error}");
                ExitCode::FAILURE
            }
        }
    });
    runtime.shutdown_background();
    worker::log::flush();
    code
}

/// What can keep us from starting.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("{what}: {error}")]
    System { what: &'static str, error: io::Error },
    #[error("--{flag} {address}: {error}: choose another address")]
    Bind { flag: &'static str, address: SocketAddr, error: io::Error },
    #[error(transparent)]
    Certificate(#[from] certificate::Unusable),
    #[error("no API server is known here: {0}: it runs in a pod; the chart makes one")]
    Client(String),
}

async fn serve(args: Operator, apart: Apart) -> Result<ExitCode, StartError> {
    let certificate = Certificate {
        chain: args.tls_cert.clone(),
        key: args.tls_key.clone(),
        look: limits::CERTIFICATE_LOOK,
    };
    let pem = certificate.read()?;
    let session_port = bind("sessions", args.sessions).await?.into_std();
    let session_port = session_port.map_err(|error| StartError::System { what: "sessions", error })?;
    let probe_port = bind("probes", args.probes).await?;
    let signals = Signals::new().map_err(|error| StartError::System { what: "can't take signals", error })?;
    let client = client::calls().map_err(StartError::Client)?;
    let watches = client::watches().map_err(StartError::Client)?;

    let metrics = Metrics::new();
    let (event_sender, received) = sync::mpsc::channel(limits::EVENTS);
    let (asks, asked) = Asks::new();
    let (terms, terms_asked) = sync::mpsc::channel(1);
    let (turns, taken) = sync::mpsc::channel(1);
    let (synced, synced_seen) = sync::watch::channel(0);
    let shutdown = CancellationToken::new();

    // Its own, for connections stay with the thread that has opened them.
    let reviewing = client::calls().map_err(StartError::Client)?;
    let reviewer =
        Reviewer::new(reviewing, args.audience.clone(), &args.namespace, &args.workers_service_account);
    let (peers, peers_known) = sync::watch::channel(BTreeSet::new());
    let hearing = args.peers.is_some().then(|| peers::Hearing {
        asks: asks.clone(),
        peers: peers_known.clone(),
        port: args.probes.port(),
    });
    let (witnesses, sights) = Witnesses::new(peers_known, args.probes.port());
    let pods = Admission::Pods { reviewer: Arc::new(reviewer), sights };
    let sessions = Sessions::new(event_sender.clone(), pods, limits::CLUSTER_SESSIONS);
    let (emitter, waiting) =
        events::Emitter::new(metrics.clone(), args.pod_name.clone(), &args.namespace, &args.lease);
    let keeper = leader::Keeper {
        leases: kube::Api::namespaced(client.clone(), &args.namespace),
        name: args.lease.clone(),
        identity: format!("{}-{}", args.pod_uid, random()),
        turns,
        terms: terms_asked,
        events: event_sender.clone(),
        hearing: hearing.map(Arc::new),
        shutdown: shutdown.clone(),
    };
    let drivers = Drivers {
        replica: args.pod_name.clone(),
        objects: apply::Applier::new(client.clone(), terms, emitter),
        witnesses: Some(witnesses),
        sessions: sessions.clone(),
        metrics: metrics.clone(),
        clock: Clock::start(),
    };
    let config = Config { path_grants: args.grants(), ..Config::cluster() };
    let probes = probes::Probes {
        asks,
        metrics: metrics.clone(),
        sessions: sessions.clone(),
        synced: synced_seen,
        looks: Arc::new(Semaphore::new(limits::PEER_LOOKS)),
    };

    // These tasks live as long as the process. One that ends before is a defect, and ends us.
    let mut tasks = JoinSet::new();
    tasks.spawn(signals.watch(shutdown.clone()));
    tasks.spawn(run::run(config, received, asked, drivers));
    tasks.spawn(watch::run(watches, args.secret_namespaces(), taken, event_sender, synced));
    tasks.spawn(events::publish(client, waiting, metrics));
    let stop = CancellationToken::new();
    let served = apart.run(serve_sessions(sessions, session_port, (certificate, pem), stop.clone()));
    tasks.spawn(served.clone().cancelled_owned());
    tasks.spawn(probes::serve(probe_port, probes));
    if let (Some(host), Some(own)) = (args.peers, args.pod_ip) {
        tasks.spawn(peers::follow(host, args.probes.port(), own, peers));
    }
    let mut keeper = tokio::spawn(keeper.run());
    let code = tokio::select! {
        // It ends by the shutdown alone, once the Lease is given back.
        _ = &mut keeper => ExitCode::SUCCESS,
        ended = tasks.join_next() => {
            tracing::error!("a part of the operator has ended: {ended:?}");
            shutdown.cancel();
            // What it leads is better led by another at once.
            let _ = tokio::time::timeout(limits::API_CALL, keeper).await;
            ExitCode::FAILURE
        }
    };
    stop.cancel();
    // One that is stuck ends with the process.
    let _ = tokio::time::timeout(limits::API_CALL, served.cancelled()).await;
    Ok(code)
}

/// A thread with a runtime and an arena of its own, which waits for what it is to run.
struct Apart(sync::oneshot::Sender<BoxFuture<'static, ()>>);

impl Apart {
    /// Its arena is no other's if it is the second thread of the process.
    fn start(name: &str) -> io::Result<Self> {
        let (task, given) = sync::oneshot::channel::<BoxFuture<'static, ()>>();
        let (begin, begun) = std::sync::mpsc::sync_channel(1);
        let run = move || {
            // What a thread allocates first gives it its arena: that this is over is waited for.
            let made = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let (runtime, made) = match made {
                Ok(runtime) => (Some(runtime), Ok(())),
                Err(error) => (None, Err(error)),
            };
            let _ = begin.send(made);
            let Some(runtime) = runtime else { return };
            if let Ok(task) = runtime.block_on(given) {
                runtime.block_on(task);
            }
            runtime.shutdown_background();
        };
        thread::Builder::new().name(name.into()).spawn(run)?;
        begun.recv().map_err(io::Error::other)??;
        Ok(Self(task))
    }

    /// What is given back is cancelled when the thread has ended, be it by a panic.
    fn run(self, task: impl Future<Output = ()> + Send + 'static) -> CancellationToken {
        let over = CancellationToken::new();
        let ended = over.clone().drop_guard();
        let task = async move {
            let _at_the_end = ended;
            task.await;
        };
        // Without its thread the task is dropped, and so has ended.
        drop(self.0.send(Box::pin(task)));
        over
    }
}

/// Serves sessions until `stop`.
async fn serve_sessions(
    sessions: Sessions,
    port: std::net::TcpListener,
    (certificate, pem): (Certificate, Pem),
    stop: CancellationToken,
) {
    tokio::select! {
        served = certificate::serve(sessions, port, certificate, pem) => {
            if let Err(error) = served {
                tracing::error!("sessions: {error}");
            }
        }
        () = stop.cancelled() => {}
    }
}

async fn bind(flag: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|error| StartError::Bind { flag, address, error })
}

/// Two processes of one pod are told apart by it.
fn random() -> String {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
