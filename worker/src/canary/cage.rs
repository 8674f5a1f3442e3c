//! What keeps canaries and users apart: the canaries' streams, and which connections are theirs.
//!
//! Two locks, each enough by itself. The paths hold a key that is random for each start of the process; and front takes them only
//! from sockets of this process, by their address, which nobody else can have as long as they are bound.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use media::budget::Budget;
use media::policy::{Access, Latency, OnDuplicate, PlayPolicy, PublishPolicy, SlowViewer};

use crate::assignment::{Assignment, StreamRef};
use crate::convert::canonical;
use crate::counters::Counters;
use crate::directory::{Entry, Owner};
use crate::limits::{CANARY_BUDGET_BYTES, CANARY_PATIENCE, CANARY_RESUME};
use crate::shard::shard_of;

/// The canaries' streams and connections, for front, the shards and the canary's thread. Clones share one.
#[derive(Clone, Debug, Default)]
pub struct Cage {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shards: Vec<Streams>,
    entries: BTreeMap<Arc<str>, Arc<Entry>>,
    guests: Mutex<BTreeSet<SocketAddr>>,
    /// What is counted of canaries, which nobody reads.
    counters: Arc<Counters>,
    budget: Budget,
}

/// The canaries' streams of one shard.
#[derive(Debug)]
struct Streams {
    /// Published and played by sessions that are kept.
    kept: Arc<Assignment>,
    /// Published and played anew by each visit.
    visited: Arc<Assignment>,
}

/// A socket of a canary, from before it connects until it closes.
#[derive(Debug)]
pub(super) struct Guest {
    cage: Cage,
    address: SocketAddr,
}

impl Default for Inner {
    fn default() -> Self {
        Inner {
            shards: vec![],
            entries: BTreeMap::new(),
            guests: Mutex::default(),
            counters: Arc::default(),
            budget: Budget::new(CANARY_BUDGET_BYTES),
        }
    }
}

impl Cage {
    /// Streams for so many shards, under paths that hold `key`, which must be random.
    pub fn new(key: [u8; 16], shards: usize, unix_ms: u64) -> Cage {
        let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        // A path's shard is what its hash says, so numbers are tried until each shard has its two.
        let mut numbers = 0u64..;
        let mut paths: Vec<Vec<Arc<str>>> = vec![vec![]; shards];
        while paths.iter().any(|paths| paths.len() < 2) {
            let path = format!("canary-{key}/{}", numbers.next().unwrap_or_default());
            let of_shard = &mut paths[shard_of(&path, shards)];
            if of_shard.len() < 2 {
                of_shard.push(path.into());
            }
        }
        let streams = paths.iter().enumerate().map(|(shard, paths)| Streams {
            kept: Arc::new(assignment(&paths[0], &format!("canary-{shard}"), unix_ms)),
            visited: Arc::new(assignment(&paths[1], &format!("canary-visit-{shard}"), unix_ms)),
        });
        let shards: Vec<Streams> = streams.collect();
        let all = shards.iter().flat_map(|streams| [&streams.kept, &streams.visited]);
        let entries = all.map(|assignment| (assignment.path.clone(), Arc::new(entry(assignment)))).collect();
        Cage { inner: Arc::new(Inner { shards, entries, ..Inner::default() }) }
    }

    /// How many shards have canaries.
    pub fn shards(&self) -> usize {
        self.inner.shards.len()
    }

    /// The canaries' streams of a shard.
    pub fn streams(&self, shard: usize) -> Vec<Arc<Assignment>> {
        let streams = self.inner.shards.get(shard);
        streams.map(|streams| vec![streams.kept.clone(), streams.visited.clone()]).unwrap_or_default()
    }

    /// Where their media is held: not in the users' budget, so that neither can use up the other's.
    pub fn budget(&self) -> &Budget {
        &self.inner.budget
    }

    /// Where they are counted.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.inner.counters
    }

    /// Whether a connection from this address is a canary's.
    pub fn is_ours(&self, remote: SocketAddr) -> bool {
        self.guests().contains(&canonical(remote))
    }

    /// What is known of a canary's path. Ask [`is_ours`](Self::is_ours) first.
    pub fn entry(&self, path: &str) -> Option<Arc<Entry>> {
        self.inner.entries.get(path).cloned()
    }

    pub(super) fn kept(&self, shard: usize) -> Arc<str> {
        self.inner.shards[shard].kept.path.clone()
    }

    pub(super) fn visited(&self, shard: usize) -> Arc<str> {
        self.inner.shards[shard].visited.path.clone()
    }

    /// Makes a socket that is bound to `address` known as a canary's.
    pub(super) fn admit(&self, address: SocketAddr) -> Guest {
        let address = canonical(address);
        self.guests().insert(address);
        Guest { cage: self.clone(), address }
    }

    fn guests(&self) -> std::sync::MutexGuard<'_, BTreeSet<SocketAddr>> {
        // Each step leaves it whole.
        self.inner.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.cage.guests().remove(&self.address);
    }
}

fn assignment(path: &Arc<str>, name: &str, unix_ms: u64) -> Assignment {
    Assignment {
        stream: StreamRef { uid: name.into(), epoch: 1 },
        path: path.clone(),
        namespace: "penstock".into(),
        name: name.into(),
        created_unix_ms: unix_ms,
        publish: PublishPolicy {
            // One that is being renewed waits for nobody.
            on_duplicate: OnDuplicate::Takeover,
            start_timeout: CANARY_PATIENCE,
            stall_timeout: CANARY_PATIENCE,
            resume_window: CANARY_RESUME,
            access: Access::default(),
            rtmp: true,
        },
        play: PlayPolicy {
            rtmp: true,
            http_flv: true,
            latency: Latency::Normal,
            slow_viewer: SlowViewer::Disconnect,
            start_timeout: CANARY_PATIENCE,
            access: Access::default(),
        },
        rtp: None,
    }
}

fn entry(assignment: &Assignment) -> Entry {
    let Assignment { stream, publish, play, .. } = assignment;
    Entry { stream: stream.clone(), owner: Owner::Here, publish: publish.clone(), play: play.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shard_has_two_streams_of_its_own_under_the_key() {
        for shards in [1, 2, 3, 64, 256] {
            let cage = Cage::new([0xab; 16], shards, 0);
            assert_eq!(cage.shards(), shards);
            for shard in 0..shards {
                let streams = cage.streams(shard);
                assert_eq!([&cage.kept(shard), &cage.visited(shard)], [&streams[0].path, &streams[1].path]);
                for stream in streams {
                    assert_eq!(shard_of(&stream.path, shards), shard);
                    assert!(stream.path.starts_with(&format!("canary-{}/", "ab".repeat(16))));
                    assert!(cage.entry(&stream.path).is_some());
                    assert!(!stream.to_string().contains("abab"), "what logs call it holds no key");
                }
            }
            assert_eq!(cage.streams(shards).len(), 0);
        }
    }

    #[test]
    fn a_connection_is_ours_as_long_as_its_guest_is_held() {
        let cage = Cage::new([1; 16], 1, 0);
        let address: SocketAddr = "127.0.0.1:40000".parse().unwrap();
        let guest = cage.admit(address);
        // As a dual-stack listener shows it.
        let mapped: SocketAddr = "[::ffff:127.0.0.1]:40000".parse().unwrap();
        assert!(cage.is_ours(address) && cage.is_ours(mapped));
        assert!(!cage.is_ours("127.0.0.1:40001".parse().unwrap()));
        assert!(!cage.is_ours("127.0.0.2:40000".parse().unwrap()));
        drop(guest);
        assert!(!cage.is_ours(address));
    }
}
