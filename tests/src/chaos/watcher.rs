//! Looks at the product from outside, all the time: admin pages, health, metrics, `/proc`, and frames that came.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Plant;
use super::assaults::Assaults;
use super::judge::{Answer, Expected, Judge, Sight, Violation};
use super::protected::Control;
use crate::{census, http};

/// Between two rounds; a round is seven pages.
const ROUND_EACH: Duration = Duration::from_millis(100);
/// How long a late wake excuses what is late.
const LATE_FOR: Duration = Duration::from_secs(5);
/// A machine that wakes nobody for so long stood still: publishers stalled with it, and what that costs is excused as a kill is.
const STOOD_STILL: Duration = Duration::from_secs(2);
/// Frames that each protected viewer gets before all is said to be back: a second of them.
const BACK_FRAMES: u64 = 70;
/// And how fresh the last of them is.
const BACK_SILENCE: Duration = Duration::from_millis(500);
/// The watcher's own sleeper asks to be woken after this.
const PULSE: Duration = Duration::from_millis(10);

/// What is looked at.
pub(super) struct Watched {
    pub(super) parent: u32,
    pub(super) admin: SocketAddr,
    pub(super) health: SocketAddr,
    /// The pool's numbers at most.
    pub(super) numbers: RangeInclusive<u16>,
    pub(super) controls: Arc<Vec<Control>>,
    pub(super) assaults: Arc<Assaults>,
    pub(super) plant: Option<Plant>,
}

/// The worst that was seen while nothing excused it.
#[derive(Clone, Debug, Default)]
pub(super) struct Worst {
    pub(super) rounds: u64,
    pub(super) answers: BTreeMap<&'static str, Duration>,
    pub(super) gap: Duration,
    pub(super) rss: [u64; 2],
    pub(super) late: Duration,
    pub(super) back: Duration,
    pub(super) standstills: u64,
}

/// The watcher's thread, until it is dropped.
pub(super) struct Watcher {
    found: Arc<Mutex<Found>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone, Default)]
struct Found {
    violation: Option<Violation>,
    worst: Worst,
}

impl Watcher {
    /// Begins to look. The worker is there.
    pub(super) fn start(watched: Watched) -> Watcher {
        let (found, stop) = (Arc::<Mutex<Found>>::default(), Arc::<AtomicBool>::default());
        let (tell, stopped) = (found.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut rounds = Rounds::new(watched);
            while !stopped.load(Ordering::Relaxed) {
                let judged = rounds.round();
                let mut found = tell.lock().unwrap_or_else(PoisonError::into_inner);
                found.worst = rounds.worst.clone();
                if let Err(violation) = judged {
                    found.violation = Some(violation);
                    return;
                }
                drop(found);
                // A watcher keeps its own clock; nothing is waited for here.
                std::thread::sleep(ROUND_EACH);
            }
        });
        Watcher { found, stop, thread: Some(thread) }
    }

    /// What was found broken.
    pub(super) fn violation(&self) -> Option<Violation> {
        assert!(
            self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
                || self.found().violation.is_some(),
            "the watcher is gone, and has found nothing"
        );
        self.found().violation
    }

    /// The worst so far.
    pub(super) fn worst(&self) -> Worst {
        self.found().worst
    }

    fn found(&self) -> Found {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            eprintln!("chaos: the watcher panicked");
        }
    }
}

/// What a round knows of those before.
struct Rounds {
    watched: Watched,
    begun: Instant,
    judge: Judge,
    pulse: Pulse,
    late: VecDeque<(Instant, Duration)>,
    worker: Option<u32>,
    kills: usize,
    mending: Option<Mending>,
    worst: Worst,
}

/// Something excuses what the worker does.
struct Mending {
    since: Instant,
    /// Frames of each viewer when the new worker was first seen.
    frames: Option<Vec<u64>>,
}

impl Rounds {
    fn new(watched: Watched) -> Rounds {
        let worker = worker_of(watched.parent);
        Rounds {
            watched,
            begun: Instant::now(),
            judge: Judge::default(),
            pulse: Pulse::start(),
            late: VecDeque::new(),
            worker,
            kills: 0,
            mending: None,
            worst: Worst::default(),
        }
    }

    fn round(&mut self) -> Result<(), Violation> {
        let mut sight = Sight { parent: census::runs(self.watched.parent), ..Sight::default() };
        self.ask(&mut sight);
        let worker = worker_of(self.watched.parent);
        sight.sockets =
            worker.map(|pid| census::held_by(pid, self.watched.numbers.clone())).unwrap_or_default();
        sight.rss = [Some(self.watched.parent), worker].map(|pid| pid.map_or(0, census::rss_bytes));
        sight.protected = self.watched.controls.iter().map(Control::take).collect();
        sight.late = self.late();
        // After all that was seen: what is done to the worker is noted before it is done.
        sight.worker = worker.map(|pid| (pid, self.expected(pid)));
        self.excuse(worker, &mut sight);
        sight.mending = self.mending.as_ref().map(|mending| mending.since.elapsed());
        self.note(&sight);
        self.judge.judge(self.begun.elapsed(), &sight)
    }

    /// Asks for all pages.
    fn ask(&self, sight: &mut Sight) {
        let Watched { admin, health, .. } = self.watched;
        let mut page = |page, to, path, by_worker| {
            let begun = Instant::now();
            let answer = http::get(to, path);
            let stopped = self.watched.assaults.stopped(begun, Instant::now());
            let took = begun.elapsed().saturating_sub(stopped);
            let status = answer.as_ref().map(|answer| answer.status).map_err(ToString::to_string);
            sight.answers.push(Answer { page, by_worker, took, status });
            answer.ok().filter(|answer| answer.status == 200).map(|answer| answer.body)
        };
        let json = |body: Option<String>| body.and_then(|body| serde_json::from_str::<Value>(&body).ok());
        page("health", health, "/healthz", true);
        let pools = json(page("/pools", admin, "/pools", false));
        let mut streams = json(page("/streams", admin, "/streams", false));
        let ports = json(page("/ports", admin, "/ports", true));
        page("/sessions", admin, "/sessions", true);
        let metrics = page("/metrics", admin, "/metrics", true).unwrap_or_default();
        if let (Some(Plant::DoubleLease), Some(streams)) = (self.watched.plant, &mut streams) {
            lease_twice(streams);
        }
        sight.audit = metric(&metrics, "penstock_operator_invariant_violations_total");
        sight.panics = metric(&metrics, "penstock_session_panics_total");
        (sight.pools, sight.streams, sight.ports) = (pools, streams, ports);
    }

    /// Whether there is a reason for this worker.
    fn expected(&mut self, pid: u32) -> Expected {
        let before = self.worker.replace(pid);
        match before {
            Some(before) if before != pid && !self.watched.assaults.killed(before) => Expected::No,
            Some(_) | None => Expected::Yes,
        }
    }

    fn late(&mut self) -> Duration {
        let now = Instant::now();
        self.late.push_back((now, self.pulse.take()));
        while self.late.front().is_some_and(|(at, _)| now.duration_since(*at) > LATE_FOR) {
            self.late.pop_front();
        }
        self.late.iter().map(|(_, late)| *late).max().unwrap_or_default()
    }

    /// Begins and ends the time in which the worker is excused.
    fn excuse(&mut self, worker: Option<u32>, sight: &mut Sight) {
        let frames = || self.watched.controls.iter().map(Control::frames).collect::<Vec<_>>();
        let (kills, last) = self.watched.assaults.kills();
        if let Some(since) = last.filter(|_| kills > self.kills) {
            self.kills = kills;
            self.mending = Some(Mending { since, frames: None });
        } else if self.late.back().is_some_and(|(_, late)| *late > STOOD_STILL) {
            self.worst.standstills += 1;
            self.mending = Some(Mending { since: Instant::now(), frames: Some(frames()) });
        }
        let Some(mending) = &mut self.mending else { return };
        let Some(before) = &mending.frames else {
            if worker.is_some_and(|pid| !self.watched.assaults.killed(pid)) {
                mending.frames = Some(frames());
            }
            return;
        };
        let plays = frames().iter().zip(before).all(|(now, before)| *now >= before + BACK_FRAMES)
            && sight.protected.iter().all(|protected| protected.silent < BACK_SILENCE);
        let answers = sight.answers.iter().all(|answer| answer.status == Ok(200));
        if plays && answers {
            self.worst.back = self.worst.back.max(mending.since.elapsed());
            self.mending = None;
            // What was missed is excused; what is missed from here on is not.
            for (control, protected) in self.watched.controls.iter().zip(&mut sight.protected) {
                control.take();
                control.calm();
                protected.complaints.clear();
            }
        }
    }

    /// Remembers the worst.
    fn note(&mut self, sight: &Sight) {
        let worst = &mut self.worst;
        worst.rounds += 1;
        worst.late = worst.late.max(sight.late);
        for (worst, now) in worst.rss.iter_mut().zip(sight.rss) {
            *worst = now.max(*worst);
        }
        if sight.mending.is_some() {
            return;
        }
        for answer in &sight.answers {
            let worst = worst.answers.entry(answer.page).or_default();
            *worst = answer.took.max(*worst);
        }
        for control in self.watched.controls.iter() {
            worst.gap = worst.gap.max(control.worst());
        }
    }
}

/// The worker process, while it runs.
pub(super) fn worker_of(parent: u32) -> Option<u32> {
    census::children(parent).into_iter().find(|pid| census::runs(*pid))
}

/// The sum of the series of a metric.
fn metric(page: &str, name: &str) -> f64 {
    let series = page.lines().filter_map(|line| line.rsplit_once(' '));
    let of = series.filter(|(series, _)| series.split('{').next() == Some(name));
    of.filter_map(|(_, value)| value.parse::<f64>().ok()).sum()
}

/// The planted double lease: the first stream with a port has a twin. Nothing in the product can be told to lease a number twice
/// without telling it not to look, so it is the watcher's own sight that is doctored.
fn lease_twice(streams: &mut Value) {
    let Some(items) = streams["items"].as_array_mut() else { return };
    let leased = items.iter().find(|stream| stream["status"]["ports"]["rtp"].is_u64());
    if let Some(mut twin) = leased.cloned() {
        twin["metadata"]["name"] = "twin".into();
        items.push(twin);
    }
}

/// Sleeps and is woken, to see how late this machine is.
struct Pulse {
    worst: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Pulse {
    fn start() -> Pulse {
        let (worst, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (tell, stopped) = (worst.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let asked = Instant::now();
                std::thread::sleep(PULSE);
                let late = asked.elapsed().saturating_sub(PULSE);
                tell.fetch_max(late.as_micros() as u64, Ordering::Relaxed);
            }
        });
        Pulse { worst, stop, thread: Some(thread) }
    }

    /// The worst since the last call.
    fn take(&self) -> Duration {
        Duration::from_micros(self.worst.swap(0, Ordering::Relaxed))
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // It has nothing that could panic.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
