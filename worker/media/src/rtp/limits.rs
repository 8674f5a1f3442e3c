//! The bounds of an RTP receiver, each with its arithmetic.

use std::time::Duration;

/// Packets that wait for one before them. A picture of 1 MiB is 750 packets of 1400 bytes at once, and may come behind a lost one:
/// two such pictures and more.
pub const REORDER_PACKETS_MAX: usize = 2048;
/// Bytes of them: as many packets of an Ethernet's size.
pub const REORDER_BYTES_MAX: usize = REORDER_PACKETS_MAX * 1500;
/// How long a packet is waited for. Nobody sends it again, so it is only late: five packets behind at 25 packets a second, the
/// rate of a sound alone, are 200 ms.
pub const REORDER_WAIT: Duration = Duration::from_millis(250);
/// Packets that begin a stream of datagrams are put in order before the first is used: more than network paths mix.
pub const SETTLE_PACKETS: usize = 16;
/// A step ahead of more numbers is no loss (RFC 3550 A.1, MAX_DROPOUT).
pub const AHEAD_MAX: i64 = 3000;
/// A step back of more numbers is no late packet (RFC 3550 A.1, MAX_MISORDER).
pub const BACK_MAX: i64 = 100;
/// So many packets one behind another, far from the others, are a sender that began anew.
pub const RESTART_PACKETS: usize = 4;
/// Numbers of lost packets that are remembered, to tell late ones from repeated ones.
pub const LOST_MAX: i64 = 4096;

/// Connections that wait beside the holder (design §7); senders of datagrams likewise.
pub const CANDIDATES_MAX: usize = 4;
/// Packets of a candidate that are kept, so that it is heard from its first pack on: what an unordered path mixes.
pub const CANDIDATE_PACKETS_MAX: usize = 32;
/// Bytes of them: two packets of the greatest size that TCP framing has, and 4 · 128 KiB for all candidates.
pub const CANDIDATE_BYTES_MAX: usize = 128 << 10;
/// A holder that was silent so long may be taken over from (design §7).
pub const HOLDER_SILENCE: Duration = Duration::from_secs(1);
/// How long a connection may be open without a valid pack.
pub const CANDIDATE_WAIT: Duration = Duration::from_secs(10);
/// Stragglers behind a goodbye are not a new sender for so long.
pub const BYE_WAIT: Duration = Duration::from_secs(1);

/// Bytes of a connection that are looked through for the first packet: one of the greatest size behind its prefix of 4, the
/// prefix and head of the next, and what is looked at before the front is dropped.
pub const DEFRAME_BYTES_MAX: usize = 4 + 65_535 + 4 + 16 + DEFRAME_SWEEP_BYTES;
/// Bytes looked at before those that can't be of a packet are dropped: few beside what is held, many beside what that costs, a
/// look at each guess.
pub const DEFRAME_SWEEP_BYTES: usize = 1024;
/// Possible packets among them that are remembered until their end is seen.
pub const DEFRAME_GUESSES_MAX: usize = 256;

/// Bytes of a connection to a shared port that are looked through for the first pack of a known SSRC: four of the greatest pictures
/// that a device sends, since one that begins in the middle of a picture has the next pack behind it.
pub const OPENING_BYTES_MAX: usize = 4 << 20;

/// Mean time between receiver reports (RFC 3550 §6.2).
pub const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// What a receiver holds at most beside its demultiplexer: reordering, candidates, and a cut packet of five connections.
pub const RECEIVER_BYTES_MAX: usize =
    REORDER_BYTES_MAX + CANDIDATES_MAX * CANDIDATE_BYTES_MAX + (CANDIDATES_MAX + 1) * DEFRAME_BYTES_MAX;
