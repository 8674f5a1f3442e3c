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
    paths: HashMap<Arc<str>, Arc<Entry>>,
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
    /// Applies an update: with `full`, what is not among the entries is gone. An older version than the one held is
    /// ignored, which the return value tells.
    pub fn apply(
        &self,
        version: u64,
        full: bool,
        entries: Vec<(Arc<str>, Entry)>,
        removed: &[impl AsRef<str>],
    ) -> Applied {
        {
            // A writer that panicked left whole entries behind, since each is inserted whole.
            let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
            if version < inner.version && !full {
                return Applied::TooOld;
            }
            inner.version = version;
            if full {
                inner.paths.clear();
            }
            for path in removed {
                inner.paths.remove(path.as_ref());
            }
            inner.paths.extend(entries.into_iter().map(|(path, entry)| (path, Arc::new(entry))));
        }
        self.received.send_replace(true);
        Applied::Yes
    }

    /// What is known of a path (without slashes at its ends).
    pub fn lookup(&self, path: &str) -> Lookup {
        let found = self.inner.read().unwrap_or_else(PoisonError::into_inner).paths.get(path).map(Arc::clone);
        match found {
            Some(entry) => Lookup::Declared(entry),
            None if *self.received.borrow() => Lookup::Undeclared,
            None => Lookup::Unknown,
        }
    }

    /// Becomes true with the first update.
    pub fn received(&self) -> watch::Receiver<bool> {
        self.received.subscribe()
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It is in force.
    Yes,
    /// A newer one is held.
    TooOld,
}
