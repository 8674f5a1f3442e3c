//! Encoders that come back: each publishes its stream where the status says, and when it is ended goes at once where it says then.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use crate::failover::{Watch, target};
use crate::load::stream;
use crate::rtmp::Connection;

/// How long an encoder looks for the next place of its stream before it says that there is none.
const LIMIT: Duration = Duration::from_secs(60);

/// One a stream, until they are dropped.
pub struct Encoders {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Default)]
struct State {
    /// Where each stream is published to, by the epoch that says so.
    places: BTreeMap<String, (u64, SocketAddr, String)>,
    publishing: usize,
    absences: Vec<(String, Duration)>,
    failures: Vec<String>,
}

impl Encoders {
    /// Begins to publish all streams of these names.
    pub fn start(cluster: &Cluster, names: impl IntoIterator<Item = String>) -> Result<Encoders, String> {
        let shared = Arc::new(Shared::default());
        let watch = Watch::start(cluster)?;
        let follower = shared.clone();
        let mut threads = vec![std::thread::spawn(move || follow(watch, &follower))];
        for name in names {
            let shared = shared.clone();
            threads.push(std::thread::spawn(move || shared.publish(&name)));
        }
        Ok(Encoders { shared, threads })
    }

    /// How many publish at the moment; what has gone wrong with any.
    pub fn publishing(&self) -> Result<usize, String> {
        let state = self.shared.state();
        match state.failures.first() {
            Some(failure) => Err(failure.clone()),
            None => Ok(state.publishing),
        }
    }

    /// From the end of a publish to the next one's acceptance, of all streams since the last call.
    pub fn take_absences(&self) -> Vec<(String, Duration)> {
        std::mem::take(&mut self.shared.state().absences)
    }
}

impl Drop for Encoders {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.news.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Takes note of each place until the encoders stop, or there is no API server any more.
fn follow(mut watch: Watch, shared: &Shared) {
    while !shared.stop.load(Ordering::Relaxed) {
        let line = match watch.next(Instant::now() + Duration::from_millis(200)) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => continue,
            // A test has taken the API server away. An encoder that has to go elsewhere after that says that it finds no place.
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let words: Vec<&str> = line.split(' ').collect();
        let [name, epoch, _node, "Ready" | "Live", url] = words[..] else { continue };
        let (Ok(epoch), Ok((to, path))) = (epoch.parse(), target(url)) else { continue };
        shared.state().places.insert(name.to_owned(), (epoch, to, path));
        shared.news.notify_all();
    }
}

impl Shared {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, name: &str) {
        let (mut last, mut ended) = (0, None);
        while !self.stop.load(Ordering::Relaxed) {
            let Some((epoch, to, path)) = self.place_after(name, last) else {
                if !self.stop.load(Ordering::Relaxed) {
                    self.state().failures.push(format!("{name} is nowhere after epoch {last}"));
                }
                return;
            };
            last = epoch;
            let connection = match Connection::try_publish(to, &path) {
                Ok(connection) => connection,
                Err(e) => return self.state().failures.push(format!("{name} at epoch {epoch}: {e}")),
            };
            {
                let mut state = self.state();
                state.publishing += 1;
                state.absences.extend(ended.map(|at: Instant| (name.to_owned(), at.elapsed())));
            }
            // That it is ended is what this is about.
            let _ = stream(connection, &self.stop);
            ended = Some(Instant::now());
            self.state().publishing -= 1;
        }
    }

    /// Waits for a place of a later epoch.
    fn place_after(&self, name: &str, epoch: u64) -> Option<(u64, SocketAddr, String)> {
        let wanted = |state: &mut State| {
            let later = state.places.get(name).is_some_and(|(at, ..)| *at > epoch);
            !later && !self.stop.load(Ordering::Relaxed)
        };
        let (state, _) =
            self.news.wait_timeout_while(self.state(), LIMIT, wanted).unwrap_or_else(PoisonError::into_inner);
        state.places.get(name).filter(|(at, ..)| *at > epoch).cloned()
    }
}
