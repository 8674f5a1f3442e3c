//! `penstock standalone DIR`: the planner, fed by a folder, and one worker process of the same binary.
//!
//! Speed of start is a promise, so the worker is started before anything else is made ready here; it listens at once and dials us
//! when it can.

use std::{
    ffi::OsString,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    process::ExitCode,
    time::Instant,
};

use operator_core::{
    Config, Event,
    event::{Listed, NodeObject},
    ids::{NodeName, Term},
};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    admin::{self, Pages},
    args::Standalone,
    asks::Asks,
    clock::Clock,
    event_log::EventLog,
    folder::{Folder, Watch},
    limits,
    metrics::Metrics,
    run::{self, Drivers},
    sessions::{Admission, Sessions},
    shutdown::Signals,
    store::{self, Local},
    supervisor::{self, End, Launch},
    table::Screen,
    telemetry,
    worker_pages::WorkerPages,
    yaml::sha256,
};

/// The one node of standalone.
const NODE: &str = "local";

/// Runs until Ctrl-C or SIGTERM.
pub(crate) fn run(args: Standalone) -> ExitCode {
    match start(args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("penstock standalone: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What can keep us from starting.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("{dir}: {error}: give the folder that holds your YAML files")]
    Folder { dir: String, error: io::Error },
    #[error("--{flag} {address}: {error}: free it, or choose another address")]
    Bind { flag: &'static str, address: SocketAddr, error: io::Error },
    #[error("{what}: {error}")]
    System { what: &'static str, error: io::Error },
}

/// What is bound and made before the worker is started.
struct Ready {
    admin: TcpListener,
    sessions: TcpListener,
    token: String,
    own_ports: Vec<u16>,
}

fn start(args: Standalone) -> Result<ExitCode, StartError> {
    let ready = prepare(&args)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| StartError::System { what: "can't make a runtime", error })?;
    let code = runtime.block_on(serve(args, ready));
    // What still runs holds nothing that needs an end.
    runtime.shutdown_background();
    code
}

fn prepare(args: &Standalone) -> Result<Ready, StartError> {
    let folder = |error| StartError::Folder { dir: args.dir.display().to_string(), error };
    if !args.dir.metadata().map_err(folder)?.is_dir() {
        return Err(folder(io::ErrorKind::NotADirectory.into()));
    }
    let admin = bind("admin", args.admin)?;
    let sessions = bind("sessions", (Ipv4Addr::LOCALHOST, 0).into())?;
    let mut token = [0; 32];
    getrandom::fill(&mut token).expect("the operating system gives random bytes");
    let own_ports =
        [&admin, &sessions].iter().filter_map(|it| it.local_addr().ok()).map(|it| it.port()).collect();
    Ok(Ready { admin, sessions, token: token.iter().map(|byte| format!("{byte:02x}")).collect(), own_ports })
}

fn bind(flag: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    let listener = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listener.map_err(|error| StartError::Bind { flag, address, error })
}

async fn serve(args: Standalone, ready: Ready) -> Result<ExitCode, StartError> {
    let system = |what| move |error| StartError::System { what, error };
    let screen = Screen::of_terminal().filter(|_| matches!(args.log_format, worker::args::LogFormat::Text));
    let launch = Launch {
        arguments: worker_arguments(&args, &ready)
            .map_err(system("can't list the addresses of this machine"))?,
        shards: args
            .shards
            .map(usize::from)
            .or_else(|| std::thread::available_parallelism().ok().map(usize::from))
            .unwrap_or(1),
        token: ready.token.clone(),
        screen: screen.clone(),
    };
    let worker = launch.start().map_err(system("can't start the worker"))?;

    telemetry::install(args.log_format, screen.as_ref());
    let signals = Signals::new().map_err(system("can't take signals"))?;
    let (events, received) = mpsc::channel(limits::EVENTS);
    let (store, log, metrics) = (store::Shared::default(), EventLog::default(), Metrics::new());
    let (pages_at, pages) = watch::channel(None);
    let sessions = Sessions::new(
        events.clone(),
        Admission::Local {
            token: sha256(ready.token.as_bytes()),
            own_ports: ready.own_ports,
            pages: pages_at.clone(),
        },
        limits::SESSIONS,
    );
    let shutdown = CancellationToken::new();

    // These tasks live as long as the process. One that ends before is a defect, and ends us.
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(signals.watch(shutdown.clone()));
    let listener = tokio::net::TcpListener::from_std(ready.sessions).map_err(system("sessions"))?;
    tasks.spawn(serve_sessions(sessions.clone(), listener));
    let drivers = Drivers {
        replica: "standalone".to_owned(),
        objects: Local { store: store.clone(), log: log.clone() },
        // The one worker's supervisor knows of its end.
        witnesses: None,
        sessions: sessions.clone(),
        metrics: metrics.clone(),
        clock: Clock::start(),
    };
    let (asks, asked) = Asks::new();
    tasks.spawn(run::run(Config::standalone(), received, asked, drivers));
    let watch = Watch::new(&args.dir).map_err(system("can't watch the folder"))?;
    let folder = Folder::new(args.dir.clone(), store.clone(), log.clone());
    tasks.spawn(feed(folder, watch, store.clone(), sessions.clone(), events));
    let listener = tokio::net::TcpListener::from_std(ready.admin).map_err(system("admin"))?;
    let pages = Pages {
        store: store.clone(),
        log,
        metrics: metrics.clone(),
        sessions: sessions.clone(),
        worker: WorkerPages::new(pages),
        asks,
        test_hooks: args.test_hooks,
    };
    tasks.spawn(admin::serve(listener, pages));
    if let Some(screen) = screen {
        tasks.spawn(screen.follow(store));
    }

    let greeted = move || sessions.ever_greeted();
    let gone = move || {
        pages_at.send_replace(None);
    };
    let supervised = supervisor::supervise(launch, worker, greeted, gone, metrics, shutdown.clone());
    tokio::pin!(supervised);
    tokio::select! {
        end = &mut supervised => Ok(match end {
            End::Asked => ExitCode::SUCCESS,
            End::NeverStarted => ExitCode::FAILURE,
        }),
        ended = tasks.join_next() => {
            tracing::error!("a part of the operator has ended: {ended:?}");
            shutdown.cancel();
            supervised.await;
            Ok(ExitCode::FAILURE)
        }
    }
}

async fn serve_sessions(sessions: Sessions, listener: tokio::net::TcpListener) {
    if let Err(error) = sessions.serve(listener, None).await {
        tracing::error!("sessions with workers: {error}");
    }
}

/// Makes this process the leader, tells what there is, and follows the folder.
async fn feed(
    mut folder: Folder,
    watch: Watch,
    store: store::Shared,
    sessions: Sessions,
    events: mpsc::Sender<Event>,
) {
    let name = NodeName::from(NODE);
    let node = NodeObject {
        name: name.clone(),
        labels: Default::default(),
        ready: true,
        unschedulable: false,
        addresses: Vec::new(),
        own: Vec::new(),
        pods: Vec::new(),
    };
    let nodes = Event::Listed(Listed::Nodes { names: [name].into() });
    let services = Event::Listed(Listed::ServiceCidrs { names: None });
    for event in [Event::Lead { floor: Term(0) }, Event::NodeSeen(node), nodes, services] {
        if events.send(event).await.is_err() {
            return;
        }
    }
    // The worker is here in a moment. Before that there is nobody to give a stream to, and no sense in saying so of each.
    let _ = timeout(limits::FIRST_INVENTORY, sessions.first_inventory()).await;
    let mut objects = folder.scan(Instant::now());
    objects.extend(store.lock().lists());
    for event in objects {
        if events.send(event).await.is_err() {
            return;
        }
    }
    folder.follow(watch, events).await;
}

fn worker_arguments(args: &Standalone, ready: &Ready) -> io::Result<Vec<OsString>> {
    let operator = format!("http://{}", ready.sessions.local_addr()?);
    let mut arguments: Vec<OsString> = vec!["--supervised".into()];
    let mut add = |flag: &str, value: String| arguments.extend([flag.into(), value.into()]);
    add("--operator", operator);
    add("--name", NODE.to_owned());
    add("--node", NODE.to_owned());
    add("--rtmp", args.rtmp.to_string());
    add("--http", args.http.to_string());
    add("--health", args.health.to_string());
    if let Some(shared) = args.rtp_shared {
        add("--rtp-shared", shared.to_string());
    }
    for address in advertised(args)? {
        add("--advertise", address.to_string());
    }
    // Whoever writes into the folder has this machine.
    for everywhere in ["0.0.0.0/0", "::/0"] {
        add("--allow-targets", everywhere.to_owned());
    }
    add("--connections-per-address", args.connections_per_address.to_string());
    add("--handshakes-per-address", args.handshakes_per_address.to_string());
    if let Some(shards) = args.shards {
        add("--shards", shards.to_string());
    }
    let format = match args.log_format {
        worker::args::LogFormat::Text => "text",
        worker::args::LogFormat::Json => "json",
    };
    add("--log-format", format.to_owned());
    if args.test_hooks {
        arguments.push("--test-hooks".into());
    }
    Ok(arguments)
}

/// Where publishers and players are told to go: where they are listened for, if that is one address.
fn advertised(args: &Standalone) -> io::Result<Vec<IpAddr>> {
    let (rtmp, http) = (args.rtmp.ip(), args.http.ip());
    Ok(match &args.advertise[..] {
        [] if rtmp == http && !rtmp.is_unspecified() => vec![rtmp],
        [] => vec![first_address()?],
        given => given.to_vec(),
    })
}

/// The first address that is not loopback, an IPv4 one if there is any; loopback where there is no other.
fn first_address() -> io::Result<IpAddr> {
    let mut addresses: Vec<IpAddr> = if_addrs::get_if_addrs()?
        .into_iter()
        .filter(|interface| !interface.is_loopback() && !interface.is_link_local())
        .map(|interface| interface.ip())
        .collect();
    addresses.sort_by_key(IpAddr::is_ipv6);
    Ok(addresses.first().copied().unwrap_or(Ipv4Addr::LOCALHOST.into()))
}
