//! The folder of YAML files: which object is in which file, what an edit changes, what a broken edit leaves alone.

mod watch;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::PathBuf,
    time::{Instant, SystemTime},
};

use operator_core::Event;
use tokio::sync::mpsc;

pub(crate) use watch::Watch;

use crate::{
    clock::unix_ms,
    event_log::EventLog,
    limits,
    store::{Key, Object, Shared},
    yaml::{self, Mistake, in_words},
};

#[cfg(test)]
mod tests;

/// Something happened in the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A file of this name is there, was written, or is gone.
    File(String),
    /// Look at all of it again.
    Everything,
}

/// What is known of the folder.
pub(crate) struct Folder {
    dir: PathBuf,
    store: Shared,
    log: EventLog,
    files: BTreeMap<String, File>,
    /// The file that an object comes from.
    owners: BTreeMap<Key, String>,
    /// Objects that no file has any more, until they are taken away.
    leaving: BTreeMap<Key, Instant>,
}

#[derive(Default)]
struct File {
    stamp: Option<Stamp>,
    has: BTreeSet<Key>,
    /// Objects in it that another file has too.
    doubled: BTreeSet<Key>,
}

/// Tells one state of a file from another.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: SystemTime,
    bytes: u64,
}

impl Folder {
    pub(crate) fn new(dir: PathBuf, store: Shared, log: EventLog) -> Self {
        Self { dir, store, log, files: BTreeMap::new(), owners: BTreeMap::new(), leaving: BTreeMap::new() }
    }

    /// Follows the folder until nobody takes events any more.
    pub(crate) async fn follow(mut self, mut watch: Watch, events: mpsc::Sender<Event>) {
        loop {
            let found = match self.next_deadline() {
                Some(at) => tokio::select! {
                    change = watch.next() => self.change(change, Instant::now()),
                    () = tokio::time::sleep_until(at.into()) => self.expire(Instant::now()),
                },
                None => {
                    let change = watch.next().await;
                    self.change(change, Instant::now())
                }
            };
            for event in found {
                if events.send(event).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Takes note of a change.
    pub(crate) fn change(&mut self, change: Change, now: Instant) -> Vec<Event> {
        match change {
            Change::File(name) => self.file(&name, now),
            Change::Everything => self.scan(now),
        }
    }

    /// Reads what is new or changed, and takes note of what is gone. Secrets and pools come before the streams that need them.
    pub(crate) fn scan(&mut self, now: Instant) -> Vec<Event> {
        let names = match self.names() {
            Ok(names) => names,
            Err(error) => {
                tracing::warn!(dir = %self.dir.display(), "can't read the folder, all stays as it is: {error}");
                return Vec::new();
            }
        };
        let gone: Vec<String> = self.files.keys().filter(|name| !names.contains(*name)).cloned().collect();
        let mut events: Vec<Event> =
            gone.iter().chain(&names).flat_map(|name| self.file_if_changed(name, now)).collect();
        events.sort_by_key(|event| match event {
            Event::SecretSeen { .. } | Event::SecretGone { .. } => 0,
            Event::PoolSeen(_) | Event::PoolGone { .. } => 1,
            _ => 2,
        });
        events
    }

    /// When `expire` has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.leaving.values().min().copied()
    }

    /// Takes objects away that have been in no file for a while.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<Event> {
        let due: Vec<Key> =
            self.leaving.iter().filter(|(_, at)| **at <= now).map(|(key, _)| key.clone()).collect();
        let mut events = Vec::new();
        for key in &due {
            self.leaving.remove(key);
            events.extend(self.store.lock().remove(key));
            tracing::info!(object = %key, "taken away: no file has it");
        }
        // A second file with the same object was refused while the first was there.
        let heirs: BTreeSet<String> = self
            .files
            .iter()
            .filter(|(_, file)| due.iter().any(|key| file.doubled.contains(key)))
            .map(|(name, _)| name.clone())
            .collect();
        events.extend(heirs.iter().flat_map(|name| self.file(name, now)));
        events
    }

    fn names(&self) -> io::Result<BTreeSet<String>> {
        let mut names = BTreeSet::new();
        for entry in fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            match name.to_str() {
                Some(name) if is_ours(name) => names.insert(name.to_owned()),
                _ => continue,
            };
            if names.len() > limits::FILES {
                return Err(io::Error::other(format!("more than {} files", limits::FILES)));
            }
        }
        Ok(names)
    }

    fn file_if_changed(&mut self, name: &str, now: Instant) -> Vec<Event> {
        let stamp = fs::metadata(self.dir.join(name)).ok().and_then(|metadata| Stamp::of(&metadata).ok());
        match self.files.get(name) {
            Some(file) if stamp.is_some() && file.stamp == stamp => Vec::new(),
            _ => self.file(name, now),
        }
    }

    fn file(&mut self, name: &str, now: Instant) -> Vec<Event> {
        if !is_ours(name) {
            return Vec::new();
        }
        match read(&self.dir.join(name)) {
            Ok((text, stamp)) => {
                self.files.entry(name.to_owned()).or_default().stamp = Some(stamp);
                match yaml::documents(&text) {
                    Ok(documents) => self.apply(name, documents, stamp.modified, now),
                    Err(mistake) => {
                        self.report(name, &mistake.to_string());
                        Vec::new()
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Some(file) = self.files.remove(name) {
                    self.leave(file.has, now);
                }
                Vec::new()
            }
            Err(error) => {
                self.report(name, &format!("can't be read: {error}"));
                Vec::new()
            }
        }
    }

    fn apply(
        &mut self,
        name: &str,
        documents: Vec<Result<Object, Mistake>>,
        modified: SystemTime,
        now: Instant,
    ) -> Vec<Event> {
        let before = self.files.get(name).map(|file| file.has.clone()).unwrap_or_default();
        let (mut has, mut doubled, mut nameless) = (BTreeSet::new(), BTreeSet::new(), false);
        let mut events = Vec::new();
        for document in documents {
            let key = match &document {
                Ok(object) => Some(object.key()),
                Err(mistake) => mistake.key.clone(),
            };
            if let Some(key) = &key
                && let Some(other) = self.owners.get(key).filter(|owner| *owner != name).cloned()
            {
                self.report(
                    name,
                    &format!("{key}: is in {other} too, which counts: remove one of the two, or rename it"),
                );
                doubled.insert(key.clone());
                continue;
            }
            if let Some(key) = key.as_ref().filter(|key| has.contains(*key)) {
                self.report(
                    name,
                    &format!("{key}: is in this file twice, the first counts: remove one, or rename it"),
                );
                continue;
            }
            let outcome = document.and_then(|object| {
                let key = object.key();
                let put = self.store.lock().put(object, modified);
                put.map_err(|refusals| Mistake { key: Some(key), text: in_words(&refusals) })
            });
            match outcome {
                Ok(event) => {
                    events.extend(event);
                    has.extend(key);
                }
                Err(mistake) => {
                    let last_good = key.filter(|key| before.contains(key) || self.leaving.contains_key(key));
                    let stays = if last_good.is_some() { "; it stays as it was" } else { "" };
                    self.report(name, &format!("{mistake}{stays}"));
                    nameless |= mistake.key.is_none();
                    has.extend(last_good);
                }
            }
        }
        if nameless {
            // One of the objects before may be the one that can't be told by name now.
            has.extend(
                before.iter().filter(|key| self.owners.get(*key).is_some_and(|owner| owner == name)).cloned(),
            );
        }
        for key in &has {
            self.owners.insert(key.clone(), name.to_owned());
            self.leaving.remove(key);
        }
        self.leave(before.difference(&has).cloned(), now);
        let file = self.files.entry(name.to_owned()).or_default();
        (file.has, file.doubled) = (has, doubled);
        events
    }

    fn leave(&mut self, keys: impl IntoIterator<Item = Key>, now: Instant) {
        for key in keys {
            self.owners.remove(&key);
            self.leaving.insert(key, now + limits::VANISHED);
        }
    }

    fn report(&self, name: &str, text: &str) {
        let file = self.dir.join(name);
        tracing::warn!(file = %file.display(), "{text}");
        self.log.file(&file.display().to_string(), text, unix_ms(SystemTime::now()));
    }
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> io::Result<Self> {
        // A clock that was set back must not make all files look new: to the nanosecond, any other time is another file.
        Ok(Self { modified: metadata.modified()?, bytes: metadata.len() })
    }
}

/// YAML and JSON, which is YAML; hidden files are editors' own.
fn is_ours(name: &str) -> bool {
    !name.starts_with('.') && [".yaml", ".yml", ".json"].iter().any(|ending| name.ends_with(ending))
}

fn read(path: &std::path::Path) -> io::Result<(String, Stamp)> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no file: remove it, or give it another ending than .yaml"));
    }
    if metadata.len() > limits::FILE_BYTES {
        return Err(io::Error::other(format!("it is larger than {} bytes: split it", limits::FILE_BYTES)));
    }
    Ok((fs::read_to_string(path)?, Stamp::of(&metadata)?))
}
