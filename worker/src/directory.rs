//! The directory: path → stream, owner and policy, kept in memory so that known peers are served with no operator alive.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use media::policy::{PlayPolicy, PublishPolicy};
use tokio::sync::watch;

use crate::assignment::StreamRef;

/// All declared paths. Written by control, read by front once for each connection.
#[derive(Debug)]
pub struct Directory {
    inner: RwLock<Inner>,
    received: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Inner {
    version: u64,
    paths: Paths,
    /// A full directory of which more is to come.
    staged: Option<Paths>,
    /// As the last update had it.
    digest: Vec<u8>,
    /// Something of what was told since the last full directory is not in it as it was told.
    deviates: bool,
}

type Paths = HashMap<Arc<str>, Arc<Entry>>;

/// An update of the directory.
#[derive(Debug)]
pub struct Update<'a, S> {
    /// Rises with each change.
    pub version: u64,
    /// What is neither in it nor in the pieces that follow is gone.
    pub full: bool,
    /// More pieces of a full one follow. What was known before answers until the last of them is there.
    pub more: bool,
    /// New or changed.
    pub entries: Vec<(Arc<str>, Entry)>,
    /// Not declared any more.
    pub removed: &'a [S],
    /// What the operator calls all that it has told by now, in its own way; empty: nothing that could be compared.
    pub digest: Vec<u8>,
    /// An entry could not be read, and is not among `entries`.
    pub lacks: bool,
}

/// What is known of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The stream that has the path.
    pub stream: StreamRef,
    /// Who publishes it.
    pub owner: Owner,
    /// How publishers are treated.
    pub publish: PublishPolicy,
    /// How viewers are treated.
    pub play: PlayPolicy,
}

/// Who publishes a declared stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// This worker.
    Here,
    /// The worker of this name.
    Elsewhere(Arc<str>),
    /// Nobody at the moment.
    Nobody,
}

/// What a path turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// It is declared.
    Declared(Arc<Entry>),
    /// It is not.
    Undeclared,
    /// No directory was received since the process started: wait for [`Directory::received`], a little.
    Unknown,
}

impl Default for Directory {
    fn default() -> Self {
        Directory { inner: RwLock::default(), received: watch::Sender::new(false) }
    }
}

impl Directory {
    /// Applies an update. An older version than the one held is ignored, which the return value tells. Epochs only rise: a leader may
    /// know less than the one before, from a record that was restored from a backup, until workers have said what they have.
    pub fn apply<S: AsRef<str>>(&self, update: Update<'_, S>) -> Applied {
        let Update { version, full, more, mut entries, removed, digest, lacks } = update;
        let applied;
        {
            // A writer that panicked left whole entries behind, since each is inserted whole.
            let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
            if version < inner.version && !full {
                return Applied::TooOld;
            }
            inner.version = version;
            let mut outdated = Vec::new();
            for (path, entry) in &mut entries {
                let Some(known) = inner.paths.get(path) else { continue };
                if known.stream.uid == entry.stream.uid && known.stream.epoch > entry.stream.epoch {
                    outdated.push((known.stream.epoch, entry.stream.clone()));
                    (entry.stream, entry.owner) = (known.stream.clone(), known.owner.clone());
                }
            }
            inner.deviates &= !full;
            inner.deviates |= lacks || !outdated.is_empty();
            inner.digest = if inner.deviates { Vec::new() } else { digest };
            applied = if outdated.is_empty() { Applied::Yes } else { Applied::ButEpochs(outdated) };
            if full {
                inner.staged = Some(Paths::new());
            }
            let paths = match inner.staged.take() {
                Some(staged) => inner.staged.insert(staged),
                None => &mut inner.paths,
            };
            for path in removed {
                paths.remove(path.as_ref());
            }
            paths.extend(entries.into_iter().map(|(path, entry)| (path, Arc::new(entry))));
            if more {
                return applied;
            }
            if let Some(whole) = inner.staged.take() {
                inner.paths = whole;
            }
        }
        self.received.send_replace(true);
        applied
    }

    /// What is known of a path (without slashes at its ends).
    pub fn lookup(&self, path: &str) -> Lookup {
        let found = self.inner.read().unwrap_or_else(PoisonError::into_inner).paths.get(path).map(Arc::clone);
        match found {
            Some(entry) => Lookup::Declared(entry),
            None if self.is_received() => Lookup::Undeclared,
            None => Lookup::Unknown,
        }
    }

    /// Becomes true with the first update.
    pub fn received(&self) -> watch::Receiver<bool> {
        self.received.subscribe()
    }

    /// The highest version that was told, and what the operator calls that; empty where this is not all that was told.
    pub fn told(&self) -> (u64, Vec<u8>) {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let whole = inner.staged.is_none();
        (inner.version, if whole { inner.digest.clone() } else { Vec::new() })
    }

    /// Whether there has been an update.
    pub fn is_received(&self) -> bool {
        *self.received.borrow()
    }

    /// How many paths are declared.
    pub fn len(&self) -> usize {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).paths.len()
    }

    /// True where no path is declared.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What became of an update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It is in force.
    Yes,
    /// So it is, but for who has these streams, of which a higher epoch is known: rules are as told.
    ButEpochs(Vec<(u64, StreamRef)>),
    /// A newer one is held.
    TooOld,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proto::control::v1 as wire;

    use super::*;
    use crate::convert;

    fn entry(path: &str) -> (Arc<str>, Entry) {
        entry_at(path, 1)
    }

    fn entry_at(path: &str, epoch: u64) -> (Arc<str>, Entry) {
        let entry = wire::DirectoryEntry {
            path: path.to_owned(),
            stream: Some(wire::StreamRef { uid: path.to_owned(), epoch }),
            publish: Some(wire::PublishPolicy::default()),
            play: Some(wire::PlayPolicy::default()),
            ..wire::DirectoryEntry::default()
        };
        convert::directory_entry(entry, "w").unwrap()
    }

    fn update(version: u64, full: bool, more: bool, paths: &[&str]) -> Update<'static, &'static str> {
        let entries = paths.iter().map(|path| entry(path)).collect();
        let digest = if more { Vec::new() } else { paths.concat().into_bytes() };
        Update { version, full, more, entries, removed: &[], digest, lacks: false }
    }

    fn known(directory: &Directory, path: &str) -> bool {
        matches!(directory.lookup(path), Lookup::Declared(_))
    }

    #[test]
    fn nothing_is_undeclared_while_pieces_of_a_whole_one_come() {
        let directory = Directory::default();
        directory.apply(update(1, true, true, &["a"]));
        assert_eq!(directory.lookup("z"), Lookup::Unknown, "the first one is not whole yet");
        directory.apply(update(1, false, false, &["b"]));
        assert!(known(&directory, "a") && known(&directory, "b"));
        assert_eq!(directory.lookup("z"), Lookup::Undeclared);
        // Another leader's.
        directory.apply(update(1, true, true, &["b"]));
        assert!(known(&directory, "a") && known(&directory, "b"), "what was known answers");
        directory.apply(update(1, false, true, &["c"]));
        directory.apply(update(1, false, false, &["d"]));
        assert!(["b", "c", "d"].iter().all(|path| known(&directory, path)));
        assert_eq!(directory.lookup("a"), Lookup::Undeclared, "it is in none of the pieces");
        assert_eq!(directory.apply(update(0, false, false, &["e"])), Applied::TooOld);
    }

    #[test]
    fn what_it_has_has_a_name_only_while_it_is_just_what_was_told() {
        let directory = Directory::default();
        let told = |version, full, more, paths: &[&str]| {
            directory.apply(update(version, full, more, paths));
            directory.told()
        };
        let unnamed = |version| (version, Vec::new());
        assert_eq!(directory.told(), unnamed(0));
        assert_eq!(told(3, true, true, &["a"]), unnamed(3), "a piece is missing");
        assert_eq!(told(3, false, false, &["b"]), (3, b"b".to_vec()));
        assert_eq!(told(4, false, false, &["c"]), (4, b"c".to_vec()));
        assert_eq!(told(2, false, false, &["d"]), (4, b"c".to_vec()), "it is too old, and not in it");
        directory.apply(Update { lacks: true, ..update(5, false, false, &["e"]) });
        assert_eq!(directory.told(), unnamed(5), "an entry could not be read");
        assert_eq!(told(6, false, false, &["f"]), unnamed(6), "and is still missing");
        assert_eq!(told(7, true, false, &["g"]), (7, b"g".to_vec()));
        let (path, entry) = entry_at("h", 2);
        directory.apply(Update { entries: vec![(path, entry)], ..update(8, false, false, &[]) });
        assert_eq!(told(9, false, false, &["h"]), unnamed(9), "a lower epoch is not followed");
        assert_eq!(told(1, true, false, &["i"]), (1, b"i".to_vec()), "another leader's numbers");
    }

    #[test]
    fn a_lower_epoch_after_a_higher_one_changes_rules_only() {
        let directory = Directory::default();
        let told = |full, worker: &str, epoch, stall_ms| {
            let (path, mut entry) = entry_at("a", epoch);
            entry.owner = Owner::Elsewhere(worker.into());
            entry.publish.stall_timeout = Duration::from_millis(stall_ms);
            let entries = vec![(path, entry)];
            let digest = vec![7];
            let removed: &[&str] = &[];
            directory.apply(Update { version: 1, full, more: false, entries, removed, digest, lacks: false })
        };
        let followed = || {
            let Lookup::Declared(entry) = directory.lookup("a") else { panic!("it is declared") };
            (entry.owner.clone(), entry.stream.epoch, entry.publish.stall_timeout.as_millis())
        };
        assert_eq!(
            [told(true, "x", 2, 1), told(false, "x", 2, 2), told(false, "y", 3, 3)],
            [const { Applied::Yes }; 3]
        );
        for full in [false, true] {
            let Applied::ButEpochs(streams) = told(full, "x", 2, 4) else { panic!("it was 3") };
            assert_eq!((streams[0].0, streams[0].1.epoch), (3, 2));
            assert_eq!(followed(), (Owner::Elsewhere("y".into()), 3, 4));
        }
        assert_eq!(told(false, "x", 4, 5), Applied::Yes);
        assert_eq!(followed(), (Owner::Elsewhere("x".into()), 4, 5));
    }
}
