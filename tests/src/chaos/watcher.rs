//! Looks at the product from outside all the time, and has the judge say what it means.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Ground;
use super::judge::{Judge, Look, Process, Sight, Violation};
use super::protected::Protected;
use super::world::{Faults, Site, lock};
use crate::census;

/// Between two looks.
const LOOK_EACH: Duration = Duration::from_millis(200);
/// How long a late wake excuses what is late.
const LATE_FOR: Duration = Duration::from_secs(5);
/// The watcher's own sleeper asks to be woken after this.
const PULSE: Duration = Duration::from_millis(10);

/// What the watcher and others tell each other.
#[derive(Default)]
pub(super) struct Watch {
    /// Nothing is judged before.
    pub(super) armed: AtomicBool,
    pub(super) stop: AtomicBool,
    found: Mutex<Found>,
    /// Microseconds that the machine was late at worst since the last look.
    late: AtomicU64,
}

#[derive(Default)]
struct Found {
    violation: Option<Violation>,
    looks: u64,
    last: Look,
    worst: Worst,
}

/// The worst that was seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Worst {
    pub(super) looks: u64,
    pub(super) answer: (String, Duration),
    pub(super) silence: Duration,
    pub(super) rss: u64,
    pub(super) late: Duration,
    pub(super) back: Duration,
}

impl Watch {
    /// What was found broken.
    pub(super) fn violation(&self) -> Option<Violation> {
        lock(&self.found).violation.clone()
    }

    pub(super) fn worst(&self) -> Worst {
        lock(&self.found).worst.clone()
    }

    /// The last look, and how many there were.
    pub(super) fn last<T>(&self, of: impl FnOnce(&Look) -> T) -> (u64, T) {
        let found = lock(&self.found);
        (found.looks, of(&found.last))
    }

    /// Sleeps and is woken, to see how late this machine is, until `stop`.
    pub(super) fn pulse(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            let asked = Instant::now();
            std::thread::sleep(PULSE);
            let late = asked.elapsed().saturating_sub(PULSE);
            self.late.fetch_max(late.as_micros() as u64, Ordering::Relaxed);
        }
    }

    /// Looks until `stop`, or until something is broken.
    pub(super) fn run(&self, ground: Ground, site: &dyn Site, faults: &Faults, protected: &Protected) {
        let (begun, mut judge) = (Instant::now(), Judge::new(ground));
        let (mut late, mut processes) = (VecDeque::new(), BTreeMap::new());
        while !self.stop.load(Ordering::Relaxed) {
            let look = site.look();
            let died = died(&mut processes, &look.processes, faults);
            late.push_back((Instant::now(), Duration::from_micros(self.late.swap(0, Ordering::Relaxed))));
            while late.front().is_some_and(|(at, _): &(Instant, _)| at.elapsed() > LATE_FOR) {
                late.pop_front();
            }
            let armed = self.armed.load(Ordering::Relaxed);
            let sight = Sight {
                look,
                // Before the fault is asked for: what it costs comes behind it.
                protected: protected.take(),
                died,
                fault: faults.last(),
                late: late.iter().map(|(_, late)| *late).max().unwrap_or_default(),
            };
            let judged = if armed { judge.judge(begun.elapsed(), &sight) } else { Ok(()) };
            if sight.fault.is_some() && judge.content() {
                faults.forget();
            }
            let mut found = lock(&self.found);
            found.looks += 1;
            if armed {
                found.worst.note(&sight, &judge);
            }
            found.last = sight.look;
            if let Err(violation) = judged {
                found.violation = Some(violation);
                return;
            }
            drop(found);
            // A watcher keeps its own clock; nothing is waited for here.
            std::thread::sleep(LOOK_EACH);
        }
    }
}

/// Processes of earlier looks that run no more though nobody has ended them. `known` has those that are there.
fn died(known: &mut BTreeMap<u32, String>, now: &[Process], faults: &Faults) -> Vec<String> {
    known.extend(now.iter().map(|process| (process.pid, process.name.clone())));
    let gone: Vec<u32> = known.keys().copied().filter(|pid| !census::runs(*pid)).collect();
    let gone = gone.into_iter().filter_map(|pid| Some((pid, known.remove(&pid)?)));
    gone.filter(|(pid, name)| !faults.is_doomed(*pid, name))
        .map(|(pid, name)| format!("{name}, {pid}"))
        .collect()
}

impl Worst {
    fn note(&mut self, sight: &Sight, judge: &Judge) {
        self.looks += 1;
        self.late = self.late.max(sight.late);
        self.back = judge.worst_back;
        self.rss = sight.look.processes.iter().map(|it| it.rss).fold(self.rss, u64::max);
        if !judge.content() {
            return;
        }
        for answer in &sight.look.answers {
            if answer.took > self.answer.1 {
                self.answer = (answer.page.clone(), answer.took);
            }
        }
        self.silence = sight.protected.iter().map(|it| it.silent).fold(self.silence, Duration::max);
    }
}
