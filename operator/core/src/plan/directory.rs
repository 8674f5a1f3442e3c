//! The directory: path to owner, sent to every worker in versions, so that they serve with no operator alive.

use std::sync::Arc;

use crate::action::{Command, Directory, DirectoryEntry};
use crate::ids::{Epoch, NodeName, Path, StreamRef};
use crate::limits;
use crate::spec::Source;
use crate::state::State;

impl State {
    /// Sends what changed to every worker that has the rest.
    pub(super) fn update_directory(&mut self) {
        if self.dirty.paths.is_empty() {
            return;
        }
        let changes: Vec<(Path, Option<DirectoryEntry>)> = std::mem::take(&mut self.dirty.paths)
            .into_iter()
            .map(|path| (self.directory_entry(&path), path))
            .filter(|(entry, path)| self.directory.get(path) != entry.as_ref())
            .map(|(entry, path)| (path, entry))
            .collect();
        if changes.is_empty() {
            return;
        }
        let informed: Vec<NodeName> = self
            .sessions
            .values()
            .filter(|name| {
                let session = self.worker(name).and_then(|worker| worker.session.as_ref());
                session.is_some_and(|session| session.directory)
            })
            .cloned()
            .collect();
        self.directory_version += 1;
        for changes in changes.chunks(limits::DIRECTORY_ENTRIES_MAX) {
            let (mut entries, mut removed) = (Vec::new(), Vec::new());
            for (path, entry) in changes {
                match entry {
                    Some(entry) => {
                        self.directory.insert(path.clone(), entry.clone());
                        entries.push(entry.clone());
                    }
                    None => {
                        self.directory.remove(path);
                        removed.push(path.clone());
                    }
                }
            }
            let update =
                Arc::new(Directory { version: self.directory_version, full: false, entries, removed });
            for name in &informed {
                self.command(name, Command::Directory(update.clone()));
            }
        }
    }

    /// Sends all of it to a worker that has nothing of it.
    pub(super) fn send_directory(&mut self, name: &NodeName) {
        if self.session_mut(name).is_none_or(|session| session.directory) {
            return;
        }
        // What all others have by now is what this one gets: nothing is looked up again.
        self.update_directory();
        if let Some(session) = self.session_mut(name) {
            session.directory = true;
        }
        let version = self.directory_version;
        let mut entries = self.directory.values().cloned();
        let mut pieces: Vec<Vec<DirectoryEntry>> = Vec::new();
        loop {
            let piece: Vec<_> = entries.by_ref().take(limits::DIRECTORY_ENTRIES_MAX).collect();
            if piece.is_empty() && !pieces.is_empty() {
                break;
            }
            pieces.push(piece);
        }
        for (index, entries) in pieces.into_iter().enumerate() {
            let update = Directory { version, full: index == 0, entries, removed: Vec::new() };
            self.command(name, Command::Directory(Arc::new(update)));
        }
    }

    /// What a path leads to; absent: it is not declared.
    fn directory_entry(&self, path: &Path) -> Option<DirectoryEntry> {
        let uid = self.winner(path)?;
        let stream = self.streams.get(uid)?;
        let spec = stream.spec.as_ref()?;
        let (publish_tokens, play_tokens) = self.tokens_of(stream)?;
        let key = StreamRef::new(uid.clone(), stream.claim.unwrap_or(Epoch(stream.epoch.0)));
        let owner = self.claims.get(&key).filter(|claim| claim.is_written());
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
