//! What the script acts on: the places of streams, the faults that were done, and the product on either ground.

mod alone;
mod cluster;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::judge::{Answer, Lease, Look};
use super::script::{Door, Fault, Loot};
use crate::http;
use crate::running::signal_pid;
pub(super) use alone::Alone;
pub(super) use cluster::Clustered;

/// Where a stream is published and played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) rtmp: SocketAddr,
    pub(super) http: SocketAddr,
    /// Where its camera sends.
    pub(super) rtp: Option<SocketAddr>,
}

/// The places of all streams by name, as statuses said at the last look.
#[derive(Default)]
pub(super) struct Places(Mutex<BTreeMap<String, Place>>);

impl Places {
    pub(super) fn of(&self, name: &str) -> Option<Place> {
        lock(&self.0).get(name).copied()
    }

    fn set(&self, name: &str, place: Option<Place>) {
        match place {
            Some(place) => lock(&self.0).insert(name.to_owned(), place),
            None => lock(&self.0).remove(name),
        };
    }
}

/// What the script does to the product's own processes: noted before it is done, so that whoever sees an effect finds its cause.
#[derive(Default)]
pub(super) struct Faults(Mutex<Known>);

#[derive(Default)]
struct Known {
    last: Option<Instant>,
    under_way: bool,
    count: u64,
    doomed: BTreeSet<u32>,
    /// Whoever has this name may end until all is back.
    outlawed: String,
}

impl Faults {
    /// Begins a fault, unless the last one is not yet over.
    pub(super) fn begin(&self) -> Result<(), String> {
        let mut known = lock(&self.0);
        if known.last.is_some() {
            return Err("the last fault is not yet over".into());
        }
        (known.last, known.under_way) = (Some(Instant::now()), true);
        known.count += 1;
        Ok(())
    }

    /// It has been put right.
    pub(super) fn end(&self) {
        lock(&self.0).under_way = false;
    }

    /// All is back; another may come.
    pub(super) fn forget(&self) {
        let mut known = lock(&self.0);
        if !known.under_way {
            known.last = None;
            known.outlawed.clear();
        }
    }

    /// How many there were.
    pub(super) fn count(&self) -> u64 {
        lock(&self.0).count
    }

    /// Notes a process that is to end.
    pub(super) fn doom(&self, pid: u32) {
        lock(&self.0).doomed.insert(pid);
    }

    /// The same of each process of a name, as often as it is started, until all is back.
    fn outlaw(&self, name: String) {
        lock(&self.0).outlawed = name;
    }

    pub(super) fn is_doomed(&self, pid: u32, name: &str) -> bool {
        let known = lock(&self.0);
        known.doomed.contains(&pid) || known.outlawed == name
    }

    /// Since when the last one is, and whether it is under way.
    pub(super) fn last(&self) -> Option<(Duration, bool)> {
        let known = lock(&self.0);
        known.last.map(|last| (last.elapsed(), known.under_way))
    }
}

pub(super) fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked with it had made its one change or not.
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The product on one of the grounds.
pub(super) trait Site: Sync {
    /// The numbers of all pools, those of the protected ones first.
    fn numbers(&self) -> RangeInclusive<u16>;

    /// Declares an object, or changes it.
    fn write(&self, name: &str, text: &str) -> Result<(), String>;

    /// Deletes a stream that may be there.
    fn remove(&self, name: &str) -> Result<(), String>;

    /// A public port, or the watchdog's.
    fn door(&self, door: Door, node: u8) -> Option<SocketAddr>;

    /// Keeps the places of streams as their statuses say, until `stop`.
    fn follow(&self, places: &Places, stop: &AtomicBool);

    /// Looks at all of it.
    fn look(&self) -> Look;

    /// Stops a worker for a moment that nobody may notice.
    fn freeze(&self, node: u8) -> Result<(), String>;

    /// Does a fault, and puts it right when its time is over.
    fn suffer(&self, fault: Fault, node: u8, lasts: Duration, faults: &Faults) -> Result<(), String>;

    /// Takes a number, if it is to be had.
    fn steal(&self, node: u8, port: u16, loot: Loot) -> Vec<OwnedFd>;

    /// What it has logged, and the last events that it shows.
    fn last_words(&self) -> (String, Vec<String>);
}

/// How long a page may take before there is no answer: longer than any bound on it.
const NO_ANSWER: Duration = Duration::from_secs(6);

/// Asks for a page, and notes how it was answered. Its body, if it is one of status 200.
fn page(look: &mut Look, name: &str, mortal: bool, to: SocketAddr, path: &str) -> Option<String> {
    let begun = Instant::now();
    let answer = http::get_within(NO_ANSWER, to, path);
    let status = answer.as_ref().map(|answer| answer.status).map_err(ToString::to_string);
    look.answers.push(Answer { page: name.to_owned(), mortal, took: begun.elapsed(), status });
    answer.ok().filter(|answer| answer.status == 200).map(|answer| answer.body)
}

/// Less than a suspicion takes, 750 ms.
const FROZEN: Duration = Duration::from_millis(400);

/// Stops a process for a moment.
fn freeze(pid: u32) {
    signal_pid(pid, Signal::STOP);
    // The moment itself; nothing is waited for.
    std::thread::sleep(FROZEN);
    signal_pid(pid, Signal::CONT);
}

/// What a worker's page `/ports` has as bound.
fn bound(node: &str, page: Option<&str>) -> Vec<Lease> {
    let page: Value = page.and_then(|page| serde_json::from_str(page).ok()).unwrap_or_default();
    let lease = |entry: &Value| {
        let port = entry["port"].as_u64().and_then(|port| u16::try_from(port).ok())?;
        Some(Lease { node: node.to_owned(), port, stream: entry["uid"].as_str()?.to_owned() })
    };
    page["bound"].as_array().into_iter().flatten().filter_map(lease).collect()
}

/// The events of a Kubernetes List, a line each.
fn events(list: &Value) -> Vec<String> {
    let told = |event: &Value| {
        let of = |field: &str| event[field].as_str().unwrap_or("").to_owned();
        format!("{} {}: {}", event["involvedObject"]["name"], of("reason"), of("message"))
    };
    list["items"].as_array().into_iter().flatten().map(told).collect()
}
