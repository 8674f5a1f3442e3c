//! A media plane in this process: front and shards on loopback, told what to publish without an operator.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use media::budget::Budget;
use media::policy::{Access, Latency, OnDuplicate, PlayPolicy, PublishPolicy, SlowViewer};
use tokio::sync::{mpsc, oneshot};
use worker::assignment::{Assignment, StreamRef};
use worker::canary::{self, Board, Cage};
use worker::clock::Clock;
use worker::directory::{Directory, Entry, Owner, Update};
use worker::front::{self, FrontHandle};
use worker::seats::Peers;
use worker::shard::{self, ShardCommand, ShardHandle, ShardReport, StreamSnapshot};

/// Front and shards. The threads live as long as the process.
pub(crate) struct Plane {
    pub rtmp: SocketAddr,
    pub http: SocketAddr,
    pub front: FrontHandle,
    pub shards: Vec<ShardHandle>,
    pub reports: mpsc::Receiver<ShardReport>,
    pub directory: Arc<Directory>,
    pub budget: Budget,
    #[allow(dead_code, reason = "most tests leave its canaries in")]
    pub canary: canary::Config,
    version: u64,
}

/// The defaults of the API.
pub(crate) fn publish_policy() -> PublishPolicy {
    PublishPolicy {
        on_duplicate: OnDuplicate::Reject,
        start_timeout: Duration::from_secs(10),
        stall_timeout: Duration::from_secs(10),
        resume_window: Duration::from_secs(15),
        access: Access::default(),
        rtmp: true,
    }
}

/// The defaults of the API.
pub(crate) fn play_policy() -> PlayPolicy {
    PlayPolicy {
        rtmp: true,
        http_flv: true,
        latency: Latency::Normal,
        slow_viewer: SlowViewer::SkipToKeyframe,
        start_timeout: Duration::from_secs(10),
        access: Access::default(),
    }
}

impl Plane {
    /// Starts one on ports of the kernel's choice, or on those given.
    pub(crate) fn start(shards: usize, rtmp: SocketAddr, http: SocketAddr) -> Plane {
        let clock = Clock::start();
        let budget = Budget::new(1 << 30);
        let (sender, reports) = mpsc::channel(1024);
        let cage = Cage::new([7; 16], shards, clock.unix_ms());
        let board = Arc::new(Board::new(clock, shards));
        let shards: Vec<ShardHandle> = (0..shards)
            .map(|index| {
                let (budget, reports, cage) = (budget.clone(), sender.clone(), cage.clone());
                let config = shard::Config { index, clock, budget, reports, cage };
                shard::spawn(config).expect("threads can be made").0
            })
            .collect();
        let directory = Arc::new(Directory::default());
        let rtmp = front::bind(rtmp).expect("the port is free");
        let http = front::bind(http).expect("the port is free");
        let (rtmp_at, http_at) = (rtmp.local_addr().unwrap(), http.local_addr().unwrap());
        let private = front::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("the kernel has a port");
        let private_at = private.local_addr().unwrap();
        let config = front::Config {
            rtmp,
            http,
            private,
            shared: None,
            cage: cage.clone(),
            directory: directory.clone(),
            shards: shards.clone(),
            peers: Peers::default(),
            clock,
        };
        let front = front::spawn(config).expect("threads can be made");
        Plane {
            rtmp: rtmp_at,
            http: http_at,
            front,
            shards,
            reports,
            directory,
            budget,
            canary: canary::Config {
                cage,
                board,
                clock,
                private: private_at,
                rtmp: rtmp_at,
                http: http_at,
                still: tokio::sync::watch::channel(false).1,
            },
            version: 0,
        }
    }

    /// Declares a stream and assigns it here.
    pub(crate) fn declare(&mut self, path: &str, publish: PublishPolicy, play: PlayPolicy) -> StreamRef {
        let stream = StreamRef { uid: format!("uid-of-{path}").into(), epoch: 1 };
        self.version += 1;
        let entry = Entry {
            stream: stream.clone(),
            owner: Owner::Here,
            publish: publish.clone(),
            play: play.clone(),
        };
        let entries = vec![(path.into(), entry)];
        let removed: &[&str] = &[];
        self.directory.apply(Update {
            version: self.version,
            full: false,
            more: false,
            entries,
            removed,
            digest: Vec::new(),
            lacks: false,
        });
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let assignment = Assignment {
            stream: stream.clone(),
            path: path.into(),
            namespace: "default".into(),
            name: path.into(),
            created_unix_ms: now.as_millis() as u64,
            publish,
            play,
            rtp: None,
        };
        self.command(path, ShardCommand::Assign { assignment: Arc::new(assignment), ingress: None });
        self.wait_report(|report| *report == ShardReport::Assigned(stream.clone()));
        stream
    }

    /// Tells the shard of a path.
    pub(crate) fn command(&self, path: &str, command: ShardCommand) {
        let shard = &self.shards[shard::shard_of(path, self.shards.len())];
        shard.commands.try_send(command).expect("the shard takes commands");
    }

    /// Waits for a report; others are passed over.
    pub(crate) fn wait_report(&mut self, wanted: impl Fn(&ShardReport) -> bool) -> ShardReport {
        let begin = Instant::now();
        loop {
            match self.reports.try_recv() {
                Ok(report) if wanted(&report) => return report,
                Ok(_) => {}
                Err(_) => {
                    assert!(begin.elapsed() < Duration::from_secs(30), "the report does not come");
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
        }
    }

    /// What a stream and its sessions are doing.
    pub(crate) fn snapshot(&self, path: &str) -> StreamSnapshot {
        let (sender, receiver) = oneshot::channel();
        self.command(path, ShardCommand::Snapshot(sender));
        let snapshot = receiver.blocking_recv().expect("the shard answers");
        let found = snapshot.streams.into_iter().find(|stream| &*stream.assignment.path == path);
        found.expect("the stream is assigned")
    }
}
