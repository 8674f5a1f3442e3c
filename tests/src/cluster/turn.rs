//! Whose turn it is: names and addresses are fixed, so there is one cluster at a time on a machine, and what a run that was
//! killed has left is taken down by the next.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::daemons::Daemons;
use super::{Parts, network, take_down};
use crate::eventually::within;

/// Of the machine, not of a cache folder. The kernel lets go of the lock when its holder dies, however it does.
const FILE: &str = "/run/penstock-cluster";

/// How long a test of another run may have its cluster.
const OTHERS: Duration = Duration::from_secs(400);

/// The right to have a cluster, as long as it lives.
pub(super) struct Turn {
    file: File,
}

/// What the file says: the state folder of the latest cluster, and whether it was to stay when its maker ended.
struct Latest {
    state: PathBuf,
    kept: bool,
}

impl Turn {
    /// Waits for the cluster of another run, and takes away what one has left that was killed.
    pub(super) fn take(state: &Path) -> Result<Turn, String> {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(FILE);
        let mut turn = Turn { file: file.map_err(|e| format!("{FILE}: {e}"))? };
        within(OTHERS, || {
            turn.file.try_lock().map_err(|_| "a test of another run has a cluster")?;
            if latest().is_some_and(|latest| latest.kept && runs(&latest.state)) {
                let _ = turn.file.unlock();
                return Err("a cluster is kept; `cargo xtask cluster down` ends it");
            }
            Ok(())
        })
        .map_err(|last| format!("waited {OTHERS:?} for this machine's one cluster: {last}"))?;
        if network::is_up() {
            let left = latest().map_or_else(|| state.to_owned(), |latest| latest.state);
            eprintln!("taking down what a run has left that was killed: {}", left.display());
            take_down(&Parts::at(left)?, 9)?;
        }
        turn.note(state, false)?;
        Ok(turn)
    }

    /// The cluster stays when this process ends.
    pub(super) fn keep(&mut self, state: &Path) -> Result<(), String> {
        self.note(state, true)
    }

    fn note(&mut self, state: &Path, kept: bool) -> Result<(), String> {
        let word = if kept { "kept" } else { "held" };
        let mut write = || {
            self.file.set_len(0)?;
            self.file.rewind()?;
            write!(self.file, "{word} {}", state.display())
        };
        write().map_err(|e| format!("{FILE}: {e}"))
    }
}

/// The state folder of the latest cluster on this machine.
pub(super) fn state() -> Option<PathBuf> {
    latest().map(|latest| latest.state)
}

fn latest() -> Option<Latest> {
    let mut text = String::new();
    File::open(FILE).and_then(|mut file| file.read_to_string(&mut text)).ok()?;
    let (word, state) = text.split_once(' ')?;
    let state = PathBuf::from(state);
    // A cache folder may be gone since.
    fs::metadata(&state).ok()?;
    Some(Latest { state, kept: word == "kept" })
}

fn runs(state: &Path) -> bool {
    Daemons::new(state).is_ok_and(|daemons| daemons.pid("etcd").is_some())
}
