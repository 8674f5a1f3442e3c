//! Each bound of the worker's I/O, with the sum that gave it. Those of streams and protocols stand in media.

use std::time::Duration;

/// Connections whose stream isn't known yet, in total. Each is a task, a session and a read buffer: about 12 KiB, 48 MiB together.
pub const HANDSHAKES_MAX: usize = 4096;

/// The same from one address (an IPv6 /64) where `--handshakes-per-address` says nothing else. Five hundred viewers behind one address
/// may come in one moment when a stream starts.
pub const HANDSHAKES_PER_ADDRESS: u32 = 1024;

/// Connections of all kinds to all public listeners, leased rtp ports among them: no more than the descriptors asked for.
pub const CONNECTIONS_MAX: usize = DESCRIPTORS as usize;

/// The same from one address (an IPv6 /64) where `--connections-per-address` says nothing else: all viewers of a company behind one
/// address, and of a host with a million descriptors less than a hundredth. At a viewer's 256 KiB unsent in the kernel that is 2 GiB.
pub const CONNECTIONS_PER_ADDRESS: u32 = 8192;

/// Of an address that is at its limit it is said again after this long at the soonest.
pub const CROWD_SAID_AGAIN: Duration = Duration::from_secs(60);

/// Addresses of which that is said within this time: as many lines, and no more where somebody has a /32 of IPv6 to come from.
pub const ADDRESSES_SAID_MAX: usize = 64;

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

/// What keeps a device from sending is said anew each time it changes to what was not said yet, and else after this long. One that fails
/// now so and now so, as one with two addresses, would have each attempt written into the stream's status.
pub const DIAL_SAID_AGAIN: Duration = Duration::from_secs(300);

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

/// Connections to the shared rtp port that are nobody's yet. Devices behind one address may all come at once, as after a power cut.
pub const OPENINGS_MAX: usize = 2048;

/// The same from one address (an IPv6 /64).
pub const OPENINGS_PER_ADDRESS_MAX: usize = 1024;

/// Bytes of all of them that are held: a cut packet each, of 1.5 KiB as a rule and 64 KiB at most. One whose bytes find no room is
/// closed.
pub const OPENINGS_BYTES_MAX: u64 = 16 << 20;

/// How long one may take to its first pack: as long as a candidate of a leased port.
pub const OPENING_DEADLINE: Duration = Duration::from_secs(10);

/// What is read from one at once: the cut packet and as much of the next as a network carries together.
pub const OPENING_READ_BYTES: usize = 16 * 1024;

/// What waits for a stream of the shared port, datagrams and connections: two pictures of 1 MiB, 750 packets each, and more.
pub const QUEUED_MAX: usize = 2048;

/// Bytes of datagrams that wait for a stream: as many packets of an Ethernet's size.
pub const QUEUED_BYTES_MAX: u64 = 3 << 20;

/// What a connection weighs among them at least: 48 may wait, and four become candidates.
pub const QUEUED_CONNECTION_BYTES: usize = 64 << 10;

/// The same of all streams: twenty of them stuck, and a picture for each of a thousand others.
pub const QUEUED_TOTAL_BYTES_MAX: u64 = 128 << 20;

/// Datagrams of the shared port in a row before front's other tasks get their turn: 0.1 to 0.2 ms.
pub const DATAGRAMS_PER_TURN: usize = 64;

/// Asked of the kernel for the datagrams of all streams on one port; it gives at most `net.core.rmem_max` without a word. Key pictures of
/// 1 MiB that eight devices send at once, at about 2 KiB for each of their packets.
pub const SHARED_DATAGRAM_BUFFER: usize = 16 << 20;

/// Who sends what nobody has is said again after this long at the soonest.
pub const UNKNOWN_SAID_AGAIN: Duration = Duration::from_secs(60);

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

/// Streams that `/budget` names, those that hold most: 150 bytes each.
pub const BUDGET_OWNERS_TOLD_MAX: usize = 50;

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

/// Media that has come to a second lease for so long is there for good (design §4).
pub const ARRIVED_AFTER: Duration = Duration::from_secs(2);

/// From one round of a canary to the next (design §5).
pub const CANARY_EACH: Duration = Duration::from_secs(1);

/// A picture's way through sessions that are there: three wakes of threads, of up to `CANARY_TICK_MAX` each where a machine is as slow as
/// one that still counts, and as much again. Seen are 0.2 ms.
pub const CANARY_ECHO_MAX: Duration = Duration::from_secs(2);

/// From connecting to the first picture: twenty wakes of front, shard and canary, of 150 ms each. Seen are 2 ms.
pub const CANARY_OPEN_MAX: Duration = Duration::from_secs(3);

/// Rounds missed in a row until a canary fails. One may meet a hiccup of anything; three take 9 s at most, so with the second up to the
/// first of them a media path that is dead is known within 10 s, and those of a public listener within 12 s.
pub const CANARY_MISSES_MAX: u32 = 3;

/// A missed round counts where no tick of front or a shard was later than this: two were left out, which a machine with a CPU to give
/// doesn't.
pub const CANARY_TICK_MAX: Duration = Duration::from_millis(300);

/// And where the watchdog, which wakes each 100 ms, was not later than this.
pub const CANARY_WAKE_MAX: Duration = Duration::from_millis(150);

/// Without the end of a round for this long, the canary's own thread is gone: a round takes 4 s with the wait for it at most.
pub const CANARY_SILENT_MAX: Duration = Duration::from_secs(10);

/// Rounds after which kept sessions are made anew. Those cost twenty times a picture, so this adds a third to what those of a shard cost.
pub const CANARY_RENEW: u32 = 64;

/// Of how many visits of a shard by RTMP one publishes too: who connects goes the same way until it says what it wants, so that others
/// only play, which costs half.
pub const CANARY_PUBLISH: u32 = 8;

/// How long a canary's publisher may be silent, and its player wait: longer than a process that is stopped and goes on should be.
pub const CANARY_PATIENCE: Duration = Duration::from_secs(30);

/// How long a visited stream keeps its last picture: it is of no use to the next visit.
pub const CANARY_RESUME: Duration = Duration::from_secs(1);

/// Media of all canaries: two streams a shard, each with the pictures and sounds of two seconds, packed, 2 KiB together: 1 MiB for 256
/// shards. Four times that, since it is not what is to be found out.
pub const CANARY_BUDGET_BYTES: u64 = 4 << 20;

/// What a visit by HTTP reads until its picture has come: head, FLV header and two frames are under 1 KiB.
pub const CANARY_ANSWER_BYTES_MAX: usize = 16 * 1024;

/// Canaries that a health page names, 100 bytes each; witnesses read 64 KiB of a page, of which threads may take 25.
pub const CANARIES_TOLD_MAX: usize = 8;
