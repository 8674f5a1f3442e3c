//! The directory: path to owner, sent to every worker in versions, so that they serve with no operator alive.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::action::{Command, Directory, DirectoryEntry, Encoded};
use crate::claim::{Claim, ClaimPhase};
use crate::event::Now;
use crate::ids::{NodeName, Path, StreamRef, Uid};
use crate::limits;
use crate::node::Informed;
use crate::reason::Reason;
use crate::spec::Source;
use crate::state::State;
use crate::timers::Timer;

/// All of it in pieces, made once for all workers that come together.
#[derive(Default)]
pub(super) struct Whole {
    /// Of the directory that they are of; absent: there are none.
    version: Option<u64>,
    pieces: Vec<Arc<Directory>>,
}

/// A message without entries, with its term, sequence and version, weighs at most this much.
const EMPTY_BYTES: usize = 64;

/// Parts of `all` in their order, each for one message: of [`limits::DIRECTORY_BYTES`] at most, but for one that is too large by
/// itself. Of nothing there are none.
fn cut<T>(all: &[T], bytes: impl Fn(&T) -> usize) -> impl Iterator<Item = &[T]> {
    let mut message = EMPTY_BYTES + all.first().map_or(0, &bytes);
    all.chunk_by(move |_, next| {
        let next = bytes(next);
        let fits = message + next <= limits::DIRECTORY_BYTES;
        message = next + if fits { message } else { EMPTY_BYTES };
        fits
    })
}

impl Directory {
    fn new(version: u64, full: bool, entries: Vec<DirectoryEntry>) -> Self {
        let encoded = Encoded::default();
        Self { version, full, entries, removed: Vec::new(), more: false, digest: None, encoded }
    }
}

impl State {
    /// Sends what changed: to all workers when their time has come, until then to the owners alone, who serve by it.
    pub(super) fn update_directory(&mut self, now: Now) {
        if self.timers.is_set(&Timer::Directory) {
            self.tell_owners();
            return;
        }
        let told = self.spread_directory();
        let pause = self.config.directory_pause.saturating_mul(u32::try_from(told).unwrap_or(u32::MAX));
        if pause > Duration::ZERO {
            self.timers.set(Timer::Directory, now.mono + pause);
        }
    }

    fn tell_owners(&mut self) {
        let mut owners: BTreeMap<NodeName, Vec<DirectoryEntry>> = BTreeMap::new();
        for path in std::mem::take(&mut self.dirty.paths) {
            let entry = self.directory_entry(&path);
            if entry.as_ref() == self.directory.get(&path) && !self.dirty.unspread.contains(&path) {
                continue;
            }
            self.dirty.unspread.insert(path);
            let Some(entry) = entry.filter(|entry| entry.worker.is_some()) else { continue };
            let Some(claim) = self.claims.get(&entry.stream) else { continue };
            if self.has_directory(&claim.node) {
                owners.entry(claim.node.clone()).or_default().push(entry);
            }
        }
        for (name, entries) in owners {
            self.directory_version += 1;
            for entries in cut(&entries, DirectoryEntry::bytes_max) {
                let update = Directory::new(self.directory_version, false, entries.to_vec());
                self.command(&name, Command::Directory(Arc::new(update)));
            }
        }
    }

    /// Whether the worker of a node has all but what changed.
    fn has_directory(&self, name: &NodeName) -> bool {
        let session = self.worker(name).and_then(|worker| worker.session.as_ref());
        session.is_some_and(|session| session.directory == Informed::Whole)
    }

    /// Sends what changed to every worker that has the rest. Says how many there are.
    fn spread_directory(&mut self) -> usize {
        // An owner may have been told of what is as it was by now.
        let unspread = std::mem::take(&mut self.dirty.unspread);
        let mut paths = std::mem::take(&mut self.dirty.paths);
        paths.extend(unspread.iter().cloned());
        let changes: Vec<(Path, Option<DirectoryEntry>)> = paths
            .into_iter()
            .map(|path| (self.directory_entry(&path), path))
            .filter(|(entry, path)| self.directory.get(path) != entry.as_ref() || unspread.contains(path))
            .map(|(entry, path)| (path, entry))
            .collect();
        if changes.is_empty() {
            return 0;
        }
        let informed: Vec<NodeName> =
            self.sessions.values().filter(|name| self.has_directory(name)).cloned().collect();
        self.directory_version += 1;
        let bytes = |(path, entry): &(Path, Option<DirectoryEntry>)| match entry {
            Some(entry) => entry.bytes_max(),
            // With its key and its length.
            None => 3 + path.as_str().len(),
        };
        for (path, entry) in &changes {
            let former = match entry {
                Some(entry) => self.directory.insert(path.clone(), entry.clone()),
                None => self.directory.remove(path),
            };
            former.iter().for_each(|former| self.directory_digest.remove(former));
            entry.iter().for_each(|entry| self.directory_digest.add(entry));
        }
        let mut parts = cut(&changes, bytes).peekable();
        while let Some(changes) = parts.next() {
            let (mut entries, mut removed) = (Vec::new(), Vec::new());
            for (path, entry) in changes {
                match entry {
                    Some(entry) => entries.push(entry.clone()),
                    None => removed.push(path.clone()),
                }
            }
            let digest = parts.peek().is_none().then_some(self.directory_digest);
            let update =
                Directory { removed, digest, ..Directory::new(self.directory_version, false, entries) };
            let update = Arc::new(update);
            for name in &informed {
                self.command(name, Command::Directory(update.clone()));
            }
        }
        informed.len()
    }

    /// Sends all of it to a worker that has something else, and says so to one that has just this.
    pub(super) fn send_directory(&mut self, name: &NodeName, whole: &mut Whole) {
        let Some(session) = self.session_mut(name) else { return };
        let Informed::Has(known) = session.directory else { return };
        // What all others have by now is what this one gets: nothing is looked up again.
        self.spread_directory();
        if let Some(session) = self.session_mut(name) {
            session.directory = Informed::Whole;
        }
        if let Some(known) = known.filter(|known| known.digest == self.directory_digest) {
            // The leader who told it may have come further in numbers. From here on ours count, and what is still under way from an
            // earlier session does not.
            self.directory_version = self.directory_version.max(known.version);
            let digest = Some(known.digest);
            let same = Directory { digest, ..Directory::new(self.directory_version, false, Vec::new()) };
            self.command(name, Command::Directory(Arc::new(same)));
            return;
        }
        if whole.version != Some(self.directory_version) {
            *whole = self.whole_directory();
        }
        for piece in &whole.pieces {
            self.command(name, Command::Directory(piece.clone()));
        }
    }

    fn whole_directory(&self) -> Whole {
        let version = self.directory_version;
        let entries: Vec<&DirectoryEntry> = self.directory.values().collect();
        let mut pieces: Vec<&[&DirectoryEntry]> = cut(&entries, |entry| entry.bytes_max()).collect();
        if pieces.is_empty() {
            // It is one piece, too.
            pieces.push(&[]);
        }
        let last = pieces.len() - 1;
        let pieces = pieces.into_iter().enumerate().map(|(index, piece)| {
            let entries = piece.iter().copied().cloned().collect();
            let more = index < last;
            let digest = (!more).then_some(self.directory_digest);
            Arc::new(Directory { more, digest, ..Directory::new(version, index == 0, entries) })
        });
        Whole { version: Some(version), pieces: pieces.collect() }
    }

    /// The claim that a stream leaves a draining worker by, while that worker serves it and the next claim is not on record. Nobody
    /// was told of a later one.
    fn drained_from(&self, path: &Path, uid: &Uid) -> Option<&Claim> {
        let serves =
            |claim: &&Claim| claim.phase == ClaimPhase::Revoking(Reason::Drained) && claim.told.is_none();
        let former = self.claims_of(uid).map(|(_, claim)| claim).rfind(serves)?;
        let told = self.directory.get(path).map(|entry| &entry.stream);
        told.is_none_or(|told| *told == former.stream).then_some(former)
    }

    /// What a path leads to; absent: it is not declared.
    fn directory_entry(&self, path: &Path) -> Option<DirectoryEntry> {
        let uid = self.winner(path)?;
        let stream = self.streams.get(uid)?;
        let spec = stream.spec.as_ref()?;
        let (publish_tokens, play_tokens) = self.tokens_of(stream)?;
        let current = StreamRef::new(uid.clone(), stream.claim.unwrap_or(stream.epoch));
        let owner = self.claims.get(&current).filter(|claim| claim.is_written());
        let owner = owner.or_else(|| self.drained_from(path, uid));
        let key = owner.map_or(current, |claim| claim.stream.clone());
        let worker = owner.map(|claim| claim.worker.clone());
        Some(DirectoryEntry {
            path: path.clone(),
            stream: key,
            worker,
            push: match &spec.source {
                Source::Push { protocols } => protocols.clone(),
                Source::Rtp(_) => Vec::new(),
            },
            publish: spec.publish.clone(),
            publish_tokens,
            play: spec.play.clone(),
            play_tokens,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_as_large_as_they_may_be_and_no_larger() {
        let max = limits::DIRECTORY_BYTES - EMPTY_BYTES;
        for (sizes, cuts) in [
            (&[][..], &[][..]),
            (&[1], &[1]),
            (&[max], &[1]),
            (&[max - 1, 1], &[2]),
            (&[max, 1], &[1, 1]),
            (&[1, max, 1], &[1, 1, 1]),
            (&[max + 1, max + 1], &[1, 1]),
            (&[max / 2; 5], &[2, 2, 1]),
            (&[1, max - 1, max - 2, 1, 1, 1], &[2, 3, 1]),
        ] {
            let pieces: Vec<&[usize]> = cut(sizes, |size| *size).collect();
            assert_eq!(pieces.iter().map(|piece| piece.len()).collect::<Vec<_>>(), cuts, "{sizes:?}");
            assert_eq!(pieces.concat(), sizes);
        }
    }
}
