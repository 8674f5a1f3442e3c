//! The canary: tiny real media that this process publishes and plays through its own listeners each second (design §5).
//!
//! ```text
//! canary thread ─ publish ─▶ front ─▶ shard ─ fan-out ─▶ canary thread       a round
//!       └─ what rounds came to ─▶ Board ─▶ watchdog: Judge ─▶ health port, metrics
//! ```
//!
//! A process may tick on every thread and move nothing. Each shard has a canary on a private listener, whose sessions are kept and
//! take one picture a second; one visit a second more comes by a public listener, from the connect on, to each shard in turn, and plays
//! that picture, or at times what it has published itself. All go the way of users' media, and none is seen by users: not in metrics,
//! pages, reports, limits or the budget.

mod board;
mod cage;
mod clip;
mod peer;
mod round;
mod turns;
pub mod verdict;

use std::cell::Cell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::clock::Clock;
use crate::limits::{CANARY_EACH, CANARY_RENEW};
pub use board::{Board, Last, Outcome, Round, Step, Steps};
pub use cage::Cage;
use round::{Pair, Way};
use turns::{Turn, Turns};

/// One of the canaries: whose media it is proof of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Canary {
    /// The shard that its streams are on.
    pub shard: usize,
    /// The listener that it comes by.
    pub listener: Listener,
}

/// By which listener media comes and goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Listener {
    /// The canary's own, on loopback: published and played by sessions that are kept.
    Private,
    /// The public one of RTMP: played anew each time, and at times published.
    Rtmp,
    /// The public one of HTTP: played anew each time.
    Http,
}

impl Listener {
    /// All of them.
    pub const ALL: [Listener; 3] = [Listener::Private, Listener::Rtmp, Listener::Http];

    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Listener::Private => "private",
            Listener::Rtmp => "rtmp",
            Listener::Http => "http",
        }
    }
}

/// What the canary's thread is made with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its streams, and who front and shards know it by.
    pub cage: Cage,
    /// Where it notes what rounds came to.
    pub board: Arc<Board>,
    /// The process's clock.
    pub clock: Clock,
    /// Where front listens for it alone.
    pub private: SocketAddr,
    /// Where front listens to RTMP.
    pub rtmp: SocketAddr,
    /// Where front listens to HTTP.
    pub http: SocketAddr,
    /// Whether it begins no round (`test_hooks`).
    pub still: watch::Receiver<bool>,
}

/// Starts the canary's thread. It runs as long as the process.
pub fn spawn(config: Config) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    std::thread::Builder::new().name("canary".into()).spawn(move || {
        runtime.block_on(LocalSet::new().run_until(async move {
            let shards = config.cage.shards();
            let canaries = Rc::new(Canaries {
                cage: config.cage,
                board: config.board,
                clock: config.clock,
                doors: [config.private, config.rtmp, config.http].map(reached),
                last: vec![Cell::new(None); shards],
                still: config.still,
            });
            let start = Instant::now();
            let mut tasks = JoinSet::new();
            for shard in 0..shards {
                tasks.spawn_local(canaries.clone().keep(shard, each_second(start)));
            }
            // Between the others' rounds, so that neither waits for the other.
            tasks.spawn_local(canaries.visit(each_second(start + CANARY_EACH / 2)));
            // None of them ends by itself. Without the thread there are no more rounds, which the verdict tells.
            if let Some(Err(error)) = tasks.join_next().await
                && let Ok(panic) = error.try_into_panic()
            {
                std::panic::resume_unwind(panic);
            }
        }));
    })
}

/// What all canaries share.
struct Canaries {
    cage: Cage,
    board: Arc<Board>,
    clock: Clock,
    /// Where each listener is reached.
    doors: [SocketAddr; 3],
    /// The last picture that came by each shard's kept sessions; none while there are no such sessions.
    last: Vec<Cell<Option<u64>>>,
    still: watch::Receiver<bool>,
}

impl Canaries {
    /// A shard's canary on the private listener.
    async fn keep(self: Rc<Self>, shard: usize, mut seconds: Interval) {
        let canary = Canary { shard, listener: Listener::Private };
        let path = self.cage.kept(shard);
        let mut pair: Option<Pair> = None;
        // Not all shards' at once.
        let mut rounds = shard as u32;
        loop {
            self.next(&mut seconds).await;
            rounds = rounds.wrapping_add(1);
            let began = self.clock.now();
            // What front and shard do with those who come is to be seen too, not only what they do with those they have. The new pair
            // takes over from the old one, which is held until then: so the process never has fewer descriptors than at rest.
            let kept = pair.take_if(|_| !rounds.is_multiple_of(CANARY_RENEW));
            let done = match kept {
                Some(kept) => kept.echo(self.clock).await,
                None => self.open(canary, &path).await,
            };
            self.last[shard].set(done.as_ref().ok().map(|(pair, _)| pair.number()));
            let outcome;
            (pair, outcome) = match done {
                Ok((opened, latency)) => (Some(opened), Outcome::Passed(latency)),
                Err(outcome) => (None, outcome),
            };
            self.board.note(canary, began, self.clock.now(), outcome);
        }
    }

    /// The visits through the public listeners, one after the other.
    async fn visit(self: Rc<Self>, mut seconds: Interval) {
        let mut turns = Turns::new(self.cage.shards());
        loop {
            self.next(&mut seconds).await;
            let Some(turn) = turns.take() else { return };
            let began = self.clock.now();
            let outcome = match self.visit_one(turn).await {
                Ok(latency) => Outcome::Passed(latency),
                Err(outcome) => outcome,
            };
            turns.give_back(turn, outcome);
            self.board.note(turn.canary, began, self.clock.now(), outcome);
        }
    }

    /// Waits for the next round's second.
    async fn next(&self, seconds: &mut Interval) {
        loop {
            seconds.tick().await;
            if !*self.still.borrow() {
                return;
            }
        }
    }

    async fn visit_one(&self, turn: Turn) -> Result<Duration, Outcome> {
        let shard = turn.canary.shard;
        match self.last[shard].get() {
            Some(number) if !turn.publishes() => {
                round::watch(self.way(turn.canary, &self.cage.kept(shard)), number).await
            }
            // Where nothing is kept, what is wrong may be there and not here.
            Some(_) | None => {
                let (_pair, latency) = self.open(turn.canary, &self.cage.visited(shard)).await?;
                Ok(latency)
            }
        }
    }

    async fn open(&self, canary: Canary, path: &str) -> Result<(Pair, Duration), Outcome> {
        // That of HTTP takes no publishers.
        let by = if canary.listener == Listener::Http { Listener::Private } else { canary.listener };
        Pair::open(self.way(canary, path), self.door(by)).await
    }

    fn way<'a>(&'a self, canary: Canary, path: &'a str) -> Way<'a> {
        let play = (canary.listener, self.door(canary.listener));
        Way { cage: &self.cage, clock: self.clock, path, play }
    }

    fn door(&self, listener: Listener) -> SocketAddr {
        self.doors[listener as usize]
    }
}

fn each_second(start: Instant) -> Interval {
    let mut seconds = interval_at(start, CANARY_EACH);
    seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
    seconds
}

/// Where a listener is reached from this host. One on all addresses takes IPv4, also where it is IPv6's.
fn reached(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() { (Ipv4Addr::LOCALHOST, address.port()).into() } else { address }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_all_addresses_is_reached_by_loopback() {
        for (bound, to) in [
            ("0.0.0.0:1935", "127.0.0.1:1935"),
            ("[::]:1935", "127.0.0.1:1935"),
            ("10.0.0.1:1935", "10.0.0.1:1935"),
            ("[::1]:1935", "[::1]:1935"),
        ] {
            assert_eq!(reached(bound.parse().unwrap()), to.parse().unwrap(), "{bound}");
        }
    }
}
