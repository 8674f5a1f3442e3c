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

/// On a cluster: 2000 workers, and the sessions before theirs for a moment.
pub(crate) const CLUSTER_SESSIONS: usize = 4096;

/// A worker beats each 250 ms. A session without a word this long is closed; the planner has long suspected it.
pub(crate) const SESSION_SILENCE: Duration = Duration::from_secs(10);

/// One message of a worker: an inventory of 60 000 ports of 64 bytes.
pub(crate) const MESSAGE_BYTES: usize = 4 << 20;

/// Bytes of a worker that wait to be read, and so the largest frame of HTTP/2: two of them, with their heads, fit into the 8 KiB that a
/// connection's buffer begins with, and it never grows. An inventory of 4 MiB takes a thousand round trips.
pub(crate) const SESSION_WINDOW: u32 = 4000;

/// Messages to a worker that wait together go out together, in frames of about this size: a TLS record is as large.
pub(crate) const FRAME_BYTES: usize = 16 << 10;

/// Frames to a worker that HTTP/2 holds and has not written: two that are written while two are made.
pub(crate) const FRAMES_WAITING: usize = 4;

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

/// One call of the API server that reads or writes one object (design §5). What takes longer counts as lost.
pub(crate) const API_CALL: Duration = Duration::from_secs(1);

/// Between two pings of a connection to the API server: one that died in silence is closed `API_CALL` after the next.
pub(crate) const API_PING: Duration = Duration::from_millis(500);

/// Between two attempts at the API server, and between two looks at the Lease.
pub(crate) const API_RETRY: Duration = Duration::from_millis(500);

/// Who has not seen a Lease change this long may take it.
pub(crate) const LEASE: Duration = Duration::from_secs(4);

/// A leader that has not renewed the Lease this long steps down: 1.5 s before another may lead.
pub(crate) const LEASE_RENEWED_WITHIN: Duration = Duration::from_millis(2500);

/// Objects in a page of a list: 1 MiB of 2 KiB each.
pub(crate) const LIST_PAGE: u32 = 500;

/// One such page, from an API server that is busy with the lists of others.
pub(crate) const LIST_CALL: Duration = Duration::from_secs(5);

/// A kind that the API server does not have, or does not show, is asked for again after this.
pub(crate) const KIND_RETRY: Duration = Duration::from_secs(60);

/// The API server ends a watch after this, and the next goes on: a connection that died in silence costs no more.
pub(crate) const WATCH_SECONDS: u32 = 60;

/// A watch that says nothing for this long, not even its end, is dead.
pub(crate) const WATCH_SILENCE: Duration = Duration::from_secs(75);

/// Streams that are read at once, not from a cache.
pub(crate) const READS_IN_FLIGHT: usize = 16;

/// Kubernetes Events that wait to be made, 1 KiB each: one for each of 4000 streams that fail over together.
pub(crate) const KUBE_EVENTS: usize = 4096;

/// An Event waits this long for writes that are under way. They move streams, and it only tells of it.
pub(crate) const EVENT_DELAY: Duration = Duration::from_secs(1);

/// Tokens of workers that the API server is asked about at once.
pub(crate) const REVIEWS_IN_FLIGHT: usize = 32;

/// The longest such token; those of Kubernetes have about 1 KiB.
pub(crate) const TOKEN_BYTES: usize = 8 << 10;

/// From a worker's first byte to the end of its TLS handshake.
pub(crate) const TLS_HANDSHAKE: Duration = Duration::from_secs(2);

/// Answers of witnesses that wait: of 31 about each of 128 workers that fall silent together.
pub(crate) const SIGHTS: usize = 4096;

/// Between two looks at who the other replicas are.
pub(crate) const PEERS_EVERY: Duration = Duration::from_secs(5);

/// One such look.
pub(crate) const PEERS_LOOK: Duration = Duration::from_secs(2);

/// Between two comparisons of how many workers each replica hears.
pub(crate) const HEARING_EVERY: Duration = Duration::from_millis(250);

/// A leader that hears fewer workers than another replica this long steps down (design §5).
pub(crate) const OUTHEARD: Duration = Duration::from_secs(1);

/// And does not take the Lease again for this long.
pub(crate) const STANDS_ASIDE: Duration = Duration::from_secs(30);

/// Looks at workers that other replicas ask for at once: each is a socket for 300 ms.
pub(crate) const PEER_LOOKS: usize = 64;

/// Between two looks whether the certificate was renewed, which happens weeks before it ends.
pub(crate) const CERTIFICATE_LOOK: Duration = Duration::from_secs(30);

/// How long `penstock doctor` watches the wall clock beside the monotonic one.
pub(crate) const CLOCK_LOOK: Duration = Duration::from_secs(1);

/// What a clock that is slewed moves in a second is 0.5 ms, and reading both takes less; a step that viewers see is longer.
pub(crate) const CLOCK_MOVED_MAX: Duration = Duration::from_millis(50);

/// How long systemd may take to say whether the clock is synchronised.
pub(crate) const CLOCK_ASK: Duration = Duration::from_secs(2);

/// Tracked connections, of those that may be, from which on it is near the edge: a storm of viewers is a fifth of the table.
pub(crate) const CONNTRACK_PERCENT_MAX: u64 = 80;

/// Descriptors of a worker besides connections and media ports: listeners, sessions with replicas, epoll of each shard, pipes, files
/// of `/proc` while it scans.
pub(crate) const WORKER_FILES_OWN: u64 = 512;

/// Threads of both processes besides a worker's shards: front, control, watchdog, the allocator's, and those that scan the host.
pub(crate) const WORKER_THREADS_OWN: u64 = 32;
