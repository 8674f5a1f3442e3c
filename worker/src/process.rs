//! The process: its threads and sockets, from the first bind to the exit code.
//!
//! ```text
//!  front ── accepts ──→ shard-0 … shard-N      control ⇄ operators, admin
//!    └────────── pulses ──────────┴──────────────┘ → watchdog, which owns the health port
//!    canary, which publishes and plays, ── rounds ──→ ┘
//! ```

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use media::budget::Budget;
use proto::control::v1::{Capability, Hello};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;

use crate::admin::{self, Admin};
use crate::args::{Args, SESSION_TOKEN_ENV};
use crate::canary::{self, Board, Cage};
use crate::clock::Clock;
use crate::control::operators::{Credentials, Operator, Token};
use crate::control::{self, Ending, Parts, Status};
use crate::directory::Directory;
use crate::front;
use crate::health::HealthPort;
use crate::limits::{BUDGET_BYTES_MIN, DESCRIPTORS, REPORTS_MAX};
use crate::listeners::BoundPorts;
use crate::log;
use crate::node_lock;
use crate::pulse::{Pulse, Thread, uptime_ms};
use crate::routes::Routes;
use crate::rtp::RtpStats;
use crate::seats::Peers;
use crate::shard;
use crate::shared_port::SharedPort;
use crate::targets::{Cluster, Targets};
use crate::watchdog::{FINDINGS_MAX, Watchdog};

/// What keeps a worker from starting.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// A public or own listener.
    #[error("{flag} {address}: cannot listen; choose another address, or see who has it: ss -ltnp 'sport = :{}'", address.port())]
    Listen {
        /// The flag that names it.
        flag: &'static str,
        /// Where.
        address: SocketAddr,
        /// The operating system's words.
        source: io::Error,
    },
    /// A thread or a runtime.
    #[error("cannot start a thread")]
    Thread(#[from] io::Error),
    /// An argument.
    #[error("{0}")]
    Argument(String),
}

/// See `crate::run`.
pub(crate) fn run(args: Args) -> ExitCode {
    // Uptime counts from here.
    uptime_ms();
    hook_panics();
    match start(args) {
        Ok(code) => {
            log::flush();
            code
        }
        Err(error) => {
            let cause =
                std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            tracing::error!("worker cannot start: {error}{cause}");
            log::flush();
            ExitCode::FAILURE
        }
    }
}

fn start(args: Args) -> Result<ExitCode, StartError> {
    // Before anything is listened on: ports belong to the worker that has the node.
    let _lock = args.node_lock.then(node_lock::wait).transpose()?;
    // First of all, so that peers which come while the rest starts wait in the backlog.
    let rtmp = listen("--rtmp", args.rtmp)?;
    let http = listen("--http", args.http)?;
    let routes = Routes::default();
    let bind_shared = |address| SharedPort::bind(address, routes.clone());
    let shared = args.rtp_shared.map(|address| bound("--rtp-shared", address, bind_shared)).transpose()?;
    let shared_port = shared.as_ref().map(SharedPort::port);
    if args.supervised {
        exit_with_parent()?;
    }
    raise_descriptor_limit();

    let credentials = Arc::new(credentials(&args));
    let operator = |url: &String| Operator::new(url, credentials.clone()).map_err(StartError::Argument);
    let operators = args.operator.iter().map(operator).collect::<Result<Vec<_>, _>>()?;

    let (clock, budget, directory) =
        (Clock::start(), Budget::new(budget_bytes()), Arc::new(Directory::default()));
    let (reports, reported) = mpsc::channel(REPORTS_MAX);
    let shard_count = shard_count(&args);
    let cage = Cage::new(random()?, shard_count, clock.unix_ms());
    let board = Arc::new(Board::new(clock, shard_count));
    let shards = (0..shard_count)
        .map(|index| {
            let (budget, reports, cage) = (budget.clone(), reports.clone(), cage.clone());
            shard::spawn(shard::Config { index, clock, budget, reports, cage }).map(|(handle, _)| handle)
        })
        .collect::<io::Result<Vec<_>>>()?;

    let health = bound("--health", args.health, HealthPort::bind)?;
    let admin_listener = bound("--admin", args.admin, admin::bind)?;
    let metrics_listener =
        args.metrics.map(|address| bound("--metrics", address, admin::bind)).transpose()?;
    let health_port = health.address().map_or(0, |address| address.port());
    let admin_port = port_of(&admin_listener);
    let metrics_port = metrics_listener.as_ref().map(port_of);
    // Any port, after those that somebody has chosen.
    let private = front::bind((Ipv4Addr::LOCALHOST, 0).into())?;
    let (rtmp_port, http_port, private_port) = (port_of(&rtmp), port_of(&http), port_of(&private));
    let peers = Peers::new(args.connections_per_address, args.handshakes_per_address);
    let still = watch::Sender::new(false);
    let canary = canary::Config {
        cage: cage.clone(),
        board: board.clone(),
        clock,
        private: private.local_addr()?,
        rtmp: rtmp.local_addr()?,
        http: http.local_addr()?,
        still: still.subscribe(),
    };
    let front = front::spawn(front::Config {
        rtmp,
        http,
        private,
        shared,
        cage,
        directory: directory.clone(),
        shards: shards.clone(),
        peers: peers.clone(),
        clock,
    })?;
    let boot_id: Arc<str> = boot_id().into();

    let (findings, found) = mpsc::channel(FINDINGS_MAX);
    let control_pulse = Pulse::new(Thread::Control);
    let (ready, ending) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
    let status = Arc::new(Status::default());
    let pulses: Vec<_> = shards.iter().map(|shard| shard.pulse.clone()).collect();
    let pulses = [vec![front.pulse.clone(), control_pulse.clone()], pulses].concat();
    Watchdog {
        pulses: pulses.clone(),
        port: health,
        boot_id: boot_id.clone(),
        findings,
        board: board.clone(),
        clock,
        control: status.clone(),
        ready: ready.clone(),
        ending: ending.clone(),
    }
    .start()?;
    canary::spawn(canary)?;

    let (ports, rtp) = (BoundPorts::default(), RtpStats::default());
    let hello = Hello {
        worker: args.name.clone(),
        node: args.node.clone(),
        pod_uid: args.pod_uid.clone(),
        boot_id: boot_id.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        addresses: args.advertise.iter().map(IpAddr::to_string).collect(),
        listener_ports: [rtmp_port, http_port, admin_port, health_port, private_port]
            .into_iter()
            .chain(metrics_port)
            .chain(shared_port)
            .map(u32::from)
            .collect(),
        term: 0,
        rtmp_port: rtmp_port.into(),
        http_port: http_port.into(),
        health_port: health_port.into(),
        admin_port: admin_port.into(),
        epoch: 0,
        template: args.template.clone(),
        rtp_shared_port: shared_port.unwrap_or_default().into(),
        capabilities: vec![Capability::ChangeLeases.into(), Capability::ClusterNetworks.into()],
    };
    tracing::info!(
        worker = args.name,
        pid = std::process::id(),
        node = args.node,
        boot_id = &*boot_id,
        rtmp_port,
        http_port,
        admin_port,
        rtp_shared_port = shared_port,
        "worker is up"
    );
    let admin = Admin {
        boot_id,
        shards: shards.clone(),
        front: front.counters.clone(),
        pulses,
        ports: ports.clone(),
        rtp: rtp.clone(),
        routes: routes.clone(),
        status: status.clone(),
        budget,
        board,
        deaf: front.deaf.clone(),
        still,
        ready,
        test_hooks: args.test_hooks,
    };
    let pulse = control_pulse.clone();
    let proc = PathBuf::from("/proc");
    let targets =
        Targets { allowed: args.allow_targets, denied: args.deny_targets, cluster: Cluster::default() };
    let parts = Parts {
        operators,
        hello,
        shards,
        directory,
        ports,
        routes,
        rtp,
        targets,
        connections: peers.connections,
        proc,
        clock,
        pulse,
        status,
        ending,
    };
    let drain = if args.supervised { Duration::ZERO } else { Duration::from_secs(args.drain_deadline) };

    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    // The main thread is control's.
    runtime.block_on(LocalSet::new().run_until(async {
        let (stopper, stop) = watch::channel(Ending::No);
        tokio::task::spawn_local(control_pulse.beat());
        if let Some(listener) = metrics_listener {
            tokio::task::spawn_local(admin::serve_metrics(listener, admin.clone()));
        }
        tokio::task::spawn_local(admin::serve(admin_listener, admin));
        tokio::task::spawn_local(stop_on_signal(stopper, drain, args.supervised));
        control::run(parts, reported, found, stop).await;
    }));
    // Control's blocking jobs are only looks at the host.
    runtime.shutdown_timeout(Duration::ZERO);
    tracing::info!("worker ends");
    Ok(ExitCode::SUCCESS)
}

fn credentials(args: &Args) -> Credentials {
    let given = || std::env::var(SESSION_TOKEN_ENV).ok().map(Token::Given);
    Credentials {
        token: args.token_file.clone().map(Token::File).or_else(given),
        authority: args.operator_ca.clone(),
    }
}

fn listen(flag: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    bound(flag, address, front::bind)
}

fn bound<T>(
    flag: &'static str,
    address: SocketAddr,
    bind: impl FnOnce(SocketAddr) -> io::Result<T>,
) -> Result<T, StartError> {
    bind(address).map_err(|source| StartError::Listen { flag, address, source })
}

fn port_of(listener: &TcpListener) -> u16 {
    listener.local_addr().map_or(0, |address| address.port())
}

fn shard_count(args: &Args) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    args.shards.map_or(cores, usize::from)
}

/// Half of the memory that this process may have; the rest is for sockets, sessions and the allocator.
fn budget_bytes() -> u64 {
    let cgroup =
        std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    let host = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let kib = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        kib.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib << 10)
    });
    let memory = [cgroup, host].into_iter().flatten().min().unwrap_or_default();
    (memory / 2).max(BUDGET_BYTES_MIN)
}

/// From the kernel.
fn random() -> io::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    match getrandom::fill(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(error) => Err(io::Error::other(format!("no random bytes from the kernel: {error}"))),
    }
}

/// Random for each start of the process.
fn boot_id() -> String {
    let bytes = random().unwrap_or_else(|_| {
        // No two processes of a node start in the same nanosecond under the same number.
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let mut bytes = [0; 16];
        bytes[..12].copy_from_slice(&now.as_nanos().to_be_bytes()[4..]);
        bytes[12..].copy_from_slice(&std::process::id().to_be_bytes());
        bytes
    });
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Ends the process with its parent, whose death ends the pipe on standard input. A thread of its own, so that it works while
/// the runtimes hang.
fn exit_with_parent() -> io::Result<()> {
    let wait = || {
        let mut buffer = [0; 64];
        let mut stdin = io::stdin().lock();
        loop {
            match stdin.read(&mut buffer) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        std::process::exit(0);
    };
    std::thread::Builder::new().name(String::from("parent")).spawn(wait).map(drop)
}

/// Each viewer and publisher is a descriptor, and the usual soft limit is 1024.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // What the host allows is taken whole, within reason: a process that wants more has lost count.
    let wanted = maximum.unwrap_or(DESCRIPTORS).min(DESCRIPTORS);
    if current.is_none_or(|current| current >= wanted) {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }) {
        tracing::warn!(%error, "cannot raise the limit of open files; it is {current:?}");
    }
}

/// Panics go to the log with their place; what they end is decided where they are caught.
fn hook_panics() {
    static IS_WRITTEN: AtomicBool = AtomicBool::new(false);
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let what = panic.payload_as_str().unwrap_or("no text");
        let name = thread.name().unwrap_or("unnamed");
        tracing::error!(thread = name, place, what, "panic");
        // Names of functions are looked up when it is written, which takes longer than a shard may be away. One at a time: whoever
        // can make sessions panic must not make threads.
        if IS_WRITTEN.swap(true, Ordering::Relaxed) {
            return;
        }
        let trace = std::backtrace::Backtrace::force_capture();
        let name = name.to_owned();
        let write = move || {
            tracing::error!(thread = name, "backtrace of the panic\n{trace}");
            IS_WRITTEN.store(false, Ordering::Relaxed);
        };
        if std::thread::Builder::new().name(String::from("backtrace")).spawn(write).is_err() {
            IS_WRITTEN.store(false, Ordering::Relaxed);
        }
    }));
}

/// SIGTERM ends the worker once its streams are served elsewhere, a second one at once. So does SIGINT; under a supervisor the
/// terminal's SIGINT is the supervisor's to answer.
async fn stop_on_signal(stop: watch::Sender<Ending>, drain: Duration, supervised: bool) {
    let signals = || Ok::<_, io::Error>((signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?));
    let (mut terminate, mut interrupt) = match signals() {
        Ok(signals) => signals,
        Err(error) => return tracing::error!(%error, "signals are not handled; end the worker with SIGKILL"),
    };
    loop {
        tokio::select! {
            _ = terminate.recv() => {
                if drain.is_zero() || *stop.borrow() != Ending::No {
                    break;
                }
                tracing::info!(?drain, "worker was told to end, and does so when its streams are served elsewhere");
                stop.send_replace(Ending::Drain(drain));
            }
            _ = interrupt.recv() => if !supervised { break },
        }
    }
    tracing::info!("worker was told to end");
    stop.send_replace(Ending::Now);
}
