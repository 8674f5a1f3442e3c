//! Each bound of the worker's I/O, with the sum that gave it. Those of streams and protocols stand in media.

use std::time::Duration;

/// Connections whose stream isn't known yet, in total. Each is a task, a session and a read buffer: about 12 KiB, 48 MiB together.
pub const HANDSHAKES_MAX: usize = 4096;

/// The same from one address (an IPv6 /64). Five hundred viewers behind one address may come in one moment when a stream starts.
pub const HANDSHAKES_PER_ADDRESS_MAX: usize = 1024;

/// Connections that the kernel keeps until they are accepted; it cuts this to net.core.somaxconn.
pub const BACKLOG: i32 = 4096;

/// From accept to the end of the request's head: as long as RTMP has to say what it wants.
pub const HTTP_HEAD_DEADLINE: Duration = Duration::from_secs(10);

/// How long a peer may take to read a refusal.
pub const REFUSAL_DEADLINE: Duration = Duration::from_secs(2);

/// How long a request waits for the first directory after the process started: a session with the operator is up in
/// milliseconds, and a leader elected in 4 s answers those who come again.
pub const DIRECTORY_WAIT: Duration = Duration::from_secs(2);

/// How long a publisher waits for the assignment that the directory already speaks of: the two travel together.
pub const ASSIGN_WAIT: Duration = Duration::from_secs(2);

/// Connections that wait for the assignment of their stream, a shard.
pub const UNASSIGNED_MAX: usize = 1024;

/// From a device that was not connected to, or was of no use, to the next attempt: at first, then doubled.
pub const DIAL_BACKOFF_MIN: Duration = Duration::from_millis(250);

/// At most, a quarter more or less. A thousand devices that are off cost a hundred connects a second, and one that is switched on
/// plays within 12.5 s.
pub const DIAL_BACKOFF_MAX: Duration = Duration::from_secs(10);

/// How long a device may take to accept: the kernel asks at 0, 1 and 3 s.
pub const DIAL_DEADLINE: Duration = Duration::from_secs(5);

/// How long a name may take to be looked up, its turn waited for.
pub const LOOKUP_DEADLINE: Duration = Duration::from_secs(3);

/// Names that are looked up at one time, in the process: each is a thread until the resolver gives up, whoever waits. At 20 ms
/// each that is 400 a second.
pub const LOOKUPS_MAX: usize = 8;

/// Addresses of a name that are tried in turn.
pub const ADDRESSES_MAX: usize = 16;

/// Commands on their way to a shard. After a restart of control all streams of a shard come at once.
pub const COMMANDS_MAX: usize = 4096;

/// Connections on their way to a shard. It takes thousands a second; one that lets this many wait is stuck.
pub const ARRIVALS_MAX: usize = 1024;

/// Bytes that a read from a publisher takes at most, and the size of its buffer: 64 KiB is 65 ms of 8 Mbit/s.
pub const READ_BYTES_MAX: usize = 64 * 1024;

/// The buffer that a publisher's reads begin with, and stay with while it fills less.
pub const READ_BYTES_MIN: usize = 8 * 1024;

/// Reads from one publisher before others get their turn.
pub const READS_PER_TURN: usize = 8;

/// Viewers that are flushed before other tasks get their turn: at 6 µs a send, 1.5 ms.
pub const WRITES_PER_TURN: usize = 256;

/// Writes to one viewer before others get their turn: at 256 KiB each, 1 MiB. One that is level needs a single one.
pub const WRITES_PER_VIEWER: usize = 4;

/// Viewers with news of their own (they came, spoke, or are writable again) that are served before other tasks get their turn: at
/// worst 32 MiB are copied meanwhile, some 10 ms.
pub const READY_PER_TURN: usize = 32;

/// How often a shard looks at deadlines.
pub const SWEEP: Duration = Duration::from_millis(100);

/// Viewers are many and their deadlines are long: every fifth sweep looks at them.
pub const SWEEPS_PER_VIEWER_CHECK: u32 = 5;

/// A viewer whose socket takes nothing this long is dead or gone: longer than a train's tunnel, shorter than patience.
pub const STUCK_MAX: Duration = Duration::from_secs(30);

/// How long a viewer may take to read its last words.
pub const CLOSING_MAX: Duration = Duration::from_secs(2);

/// How long a drain waits for last words to be written.
pub const DRAIN_MAX: Duration = Duration::from_secs(1);

/// Bytes that a viewer's socket may hold unsent (TCP_NOTSENT_LOWAT): what a viewer that stops reading costs in the kernel. What is
/// in flight comes on top, as much as the path takes.
pub const UNSENT_BYTES_MAX: u32 = 256 * 1024;

/// Reports of all shards on their way to control. What finds no room waits in its shard, merged by stream and kind.
pub const REPORTS_MAX: usize = 4096;

/// Descriptors asked for where the host allows them: viewers, publishers and media ports of one node.
pub const DESCRIPTORS: u64 = 1 << 20;

/// Media bytes of the process where its memory is not known, and never less: 16 rings that are full.
pub const BUDGET_BYTES_MIN: u64 = 256 << 20;

/// The admin pages ask each shard who is there; one that hangs is left out.
pub const SNAPSHOT_DEADLINE: Duration = Duration::from_millis(500);

/// Streams that have series of their own on `/metrics`. Five series each, and 200 bytes a series: 5 MB a scrape.
pub const STREAM_SERIES_MAX: usize = 5000;

/// Connections to a port of pages at one time.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;

/// How long a peer may take to say which page it wants.
pub const PAGE_HEAD: Duration = Duration::from_secs(2);

/// How long it may take to read it: 32 MiB over a line of 20 Mbit/s.
pub const PAGE_ANSWER: Duration = Duration::from_secs(15);

/// The head of such a request: 64 connections hold 1 MiB of them.
pub const PAGE_HEAD_BYTES: usize = 16 * 1024;

/// From an accept that failed to the next: out of descriptors, trying at once would spin.
pub const ACCEPT_RETRY: Duration = Duration::from_millis(50);
