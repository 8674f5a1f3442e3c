//! What each thread shows the watchdog: that it ticks, and what it is doing. Nobody waits for anybody here.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use crate::assignment::Assignment;

/// Between two ticks of a thread, and between two looks of the watchdog (design §5).
pub const TICK: Duration = Duration::from_millis(100);

/// Which thread a pulse belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Thread {
    /// Accepts publishers and players until their stream is known.
    Front,
    /// Owns streams, with its number from 0.
    Shard(u16),
    /// The operator's sessions, admin, metrics and the host scan.
    Control,
}

impl std::fmt::Display for Thread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Thread::Front => write!(f, "front"),
            Thread::Shard(n) => write!(f, "shard-{n}"),
            Thread::Control => write!(f, "control"),
        }
    }
}

/// One thread's pulse, shared between that thread and the watchdog.
#[derive(Debug)]
pub struct Pulse {
    thread: Thread,
    /// Kernel thread id; 0 until the thread runs.
    tid: AtomicI32,
    /// Milliseconds of `uptime_ms` at the last tick.
    ticked_ms: AtomicU64,
    streams: AtomicUsize,
    ended: AtomicBool,
    doing: Mutex<Doing>,
}

/// What a thread is busy with, for the state dump.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doing {
    /// "idle", or the step: "ingress", "egress", …
    pub what: &'static str,
    /// The stream that is being worked on, where it is one.
    pub of: Option<Arc<Assignment>>,
}

impl Pulse {
    /// A pulse that counts as ticked at this moment, so that a thread has time to come up.
    pub fn new(thread: Thread) -> Arc<Pulse> {
        Arc::new(Pulse {
            thread,
            tid: AtomicI32::new(0),
            ticked_ms: AtomicU64::new(uptime_ms()),
            streams: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
            doing: Mutex::new(Doing { what: "starting", of: None }),
        })
    }

    /// Ticks for ever; the first thing that a thread's runtime spawns. Call it on the thread that the pulse is of.
    pub async fn beat(self: Arc<Self>) {
        self.tid.store(rustix::thread::gettid().as_raw_nonzero().get(), Ordering::Relaxed);
        self.idle();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.tick();
        }
    }

    /// Shows that the thread's loop goes round.
    pub fn tick(&self) {
        self.ticked_ms.store(uptime_ms(), Ordering::Relaxed);
    }

    /// Notes what the thread begins; cheap enough for each wake of a session, not meant for each packet.
    pub fn doing(&self, what: &'static str, of: &Arc<Assignment>) {
        self.note(Doing { what, of: Some(of.clone()) });
    }

    /// The same for what is of no stream, or of many.
    pub fn busy(&self, what: &'static str) {
        self.note(Doing { what, of: None });
    }

    /// Notes that the thread waits for work.
    pub fn idle(&self) {
        self.note(Doing { what: "idle", of: None });
    }

    fn note(&self, doing: Doing) {
        // Only the watchdog's short look competes for this lock; a note missed is not worth a wait.
        if let Ok(mut slot) = self.doing.try_lock() {
            *slot = doing;
        }
    }

    /// What the thread said last; `None` in the instant in which it is saying it.
    pub fn last_doing(&self) -> Option<Doing> {
        self.doing.try_lock().ok().map(|doing| doing.clone())
    }

    /// How many streams the thread owns at the moment.
    pub fn set_streams(&self, streams: usize) {
        self.streams.store(streams, Ordering::Relaxed);
    }

    /// See `set_streams`.
    pub fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    /// The thread is gone (it panicked or returned) and will never tick again.
    pub fn set_ended(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    /// See `set_ended`.
    pub fn ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Which thread this is of.
    pub fn thread(&self) -> Thread {
        self.thread
    }

    /// Kernel thread id, once the thread runs.
    pub fn tid(&self) -> Option<i32> {
        match self.tid.load(Ordering::Relaxed) {
            0 => None,
            tid => Some(tid),
        }
    }

    /// Time since the last tick.
    pub fn age(&self) -> Duration {
        Duration::from_millis(uptime_ms().saturating_sub(self.ticked_ms.load(Ordering::Relaxed)))
    }
}

/// Milliseconds since the first call in this process, on the monotonic clock.
pub fn uptime_ms() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_millis() as u64
}
