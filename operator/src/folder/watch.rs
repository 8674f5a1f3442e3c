//! Changes of the folder as the kernel tells them (inotify), and a new watch when the folder itself was replaced.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use inotify::{EventMask, EventOwned, EventStream, Inotify, WatchMask};
use tokio_stream::StreamExt as _;

use super::Change;
use crate::limits;

/// A watch on one folder.
pub(crate) struct Watch {
    dir: PathBuf,
    /// Absent while the folder is not there.
    events: Option<EventStream<Vec<u8>>>,
}

impl Watch {
    /// Begins to watch. Changes from here on are told; read the folder afterwards.
    pub(crate) fn new(dir: &Path) -> io::Result<Self> {
        Ok(Self { dir: dir.to_owned(), events: Some(open(dir)?) })
    }

    /// The next change. May be dropped and asked again.
    pub(crate) async fn next(&mut self) -> Change {
        loop {
            let Some(events) = &mut self.events else {
                tokio::time::sleep(limits::FOLDER_RETRY).await;
                if let Ok(events) = open(&self.dir) {
                    tracing::info!(dir = %self.dir.display(), "the folder is back");
                    self.events = Some(events);
                    return Change::Everything;
                }
                continue;
            };
            let lost = match events.next().await {
                Some(Ok(event)) => match meaning(&self.dir, &event) {
                    Meaning::Change(change) => return change,
                    Meaning::Nothing => continue,
                    Meaning::Lost => "it is gone".to_owned(),
                },
                Some(Err(error)) => error.to_string(),
                None => "the watch ended".to_owned(),
            };
            tracing::warn!(dir = %self.dir.display(), "can't watch the folder, all stays as it is until it is back: {lost}");
            self.events = None;
        }
    }
}

fn open(dir: &Path) -> io::Result<EventStream<Vec<u8>>> {
    let inotify = Inotify::init()?;
    // Not MODIFY: a file counts when its writer has closed it, not half written.
    let wanted = WatchMask::CREATE
        | WatchMask::CLOSE_WRITE
        | WatchMask::MOVED_FROM
        | WatchMask::MOVED_TO
        | WatchMask::DELETE
        | WatchMask::DELETE_SELF
        | WatchMask::MOVE_SELF
        | WatchMask::ONLYDIR;
    inotify.watches().add(dir, wanted)?;
    inotify.into_event_stream(vec![0; limits::INOTIFY_BYTES])
}

enum Meaning {
    Change(Change),
    Nothing,
    /// The folder itself is gone.
    Lost,
}

fn meaning(dir: &Path, event: &EventOwned) -> Meaning {
    if event.mask.contains(EventMask::Q_OVERFLOW) {
        return Meaning::Change(Change::Everything);
    }
    if event.mask.intersects(EventMask::DELETE_SELF | EventMask::MOVE_SELF | EventMask::IGNORED) {
        return Meaning::Lost;
    }
    let Some(name) = event.name.as_deref().and_then(|name| name.to_str()) else { return Meaning::Nothing };
    // The link by which Kubernetes swaps all files of a mounted ConfigMap at once.
    if name == "..data" {
        return Meaning::Change(Change::Everything);
    }
    // A new plain file is told again when it is closed. A link to a file that is whole already is not.
    if event.mask.contains(EventMask::CREATE) && !is_link(&dir.join(name)) {
        return Meaning::Nothing;
    }
    Meaning::Change(Change::File(name.to_owned()))
}

fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink() || metadata.nlink() > 1)
}
