//! Every bound of the parent process, with the sum that gave it.

use std::time::Duration;

/// Events on their way to the planner. A full queue holds back whoever sends, the folder or a worker's session; the planner takes
/// them in batches and needs well under a millisecond each.
pub(crate) const EVENTS: usize = 1024;

/// Events that one plan answers at most: enough to share its cost, few enough that a claim never waits long.
pub(crate) const EVENTS_A_PLAN: usize = 256;

/// The shortest wait for a deadline of the planner.
pub(crate) const TICK_MIN: Duration = Duration::from_millis(1);

/// How often all invariants are looked at in production.
pub(crate) const AUDIT_EVERY: Duration = Duration::from_secs(10);

/// Questions for the planner's loop that wait: one a page under way.
pub(crate) const ASKS: usize = 16;

/// How long a page waits for the planner's answer before it goes without.
pub(crate) const ASK: Duration = Duration::from_secs(1);

/// Commands that wait for one worker. A worker that comes back is told all of its streams at once: 50 000 streams, and room for
/// what happens meanwhile. One that takes none of them until this is full is not alive, and its session is closed.
pub(crate) const COMMANDS_A_SESSION: usize = 65_536;

/// Sessions at once; standalone has one worker, and the one before it may linger for a moment.
pub(crate) const SESSIONS: usize = 8;

/// A worker beats each 250 ms. A session without a word this long is closed; the planner has long suspected it.
pub(crate) const SESSION_SILENCE: Duration = Duration::from_secs(10);

/// One message of a worker: an inventory of 60 000 ports of 64 bytes.
pub(crate) const MESSAGE_BYTES: usize = 4 << 20;

/// A file of the folder: the 1024 documents that the YAML reader takes, of 2 KiB.
pub(crate) const FILE_BYTES: u64 = 2 << 20;

/// Files of the folder.
pub(crate) const FILES: usize = 100_000;

/// Changes of the folder read at once; each is 16 bytes and a name of up to 256.
pub(crate) const INOTIFY_BYTES: usize = 16 << 10;

/// An object that vanished and is back within this time was edited: many editors delete and write again.
pub(crate) const VANISHED: Duration = Duration::from_secs(1);

/// How often a watched folder that vanished is looked for.
pub(crate) const FOLDER_RETRY: Duration = Duration::from_secs(1);

/// Kubernetes Events kept to be shown, 300 bytes each.
pub(crate) const SHOWN_EVENTS: usize = 1000;

/// A worker that was asked to end is killed after this, so that Ctrl-C takes less than a second in all.
pub(crate) const WORKER_END: Duration = Duration::from_millis(700);

/// At the start the streams wait this long for the worker's inventory; then they are told that there is no worker.
pub(crate) const FIRST_INVENTORY: Duration = Duration::from_secs(1);

/// A worker that ended by itself is started again at once; one that ends within this time of its start waits longer each time.
pub(crate) const WORKER_STEADY: Duration = Duration::from_secs(5);

/// The longest wait between two starts of a worker.
pub(crate) const WORKER_BACKOFF_MAX: Duration = Duration::from_secs(2);

/// One admin page of the worker.
pub(crate) const WORKER_PAGE: Duration = Duration::from_secs(2);

/// What such a page may weigh: 100 000 sessions of 300 bytes.
pub(crate) const WORKER_PAGE_BYTES: usize = 32 << 20;

/// A body sent to the admin port.
pub(crate) const REQUEST_BYTES: usize = 64 << 10;

/// How often the table on a terminal is drawn again.
pub(crate) const TABLE_EVERY: Duration = Duration::from_millis(500);

/// Rows of that table; more are summed up in a line.
pub(crate) const TABLE_ROWS: usize = 40;
