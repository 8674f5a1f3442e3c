//! What the data path counts, one set a shard: plain atomics that metrics and admin read from other threads.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters and gauges of one shard (front has a set too). Written by its thread.
#[derive(Debug, Default)]
pub struct Counters {
    /// Frames taken from publishers.
    pub frames_in: Count,
    /// Bytes read from publishers' sockets.
    pub bytes_in: Count,
    /// Bytes written to viewers' sockets.
    pub bytes_out: Count,
    /// Writes to viewers' sockets.
    pub sends: Count,
    /// Connections accepted (front only).
    pub accepted: Count,
    /// Sessions ended by a panic of their own.
    pub session_panics: Count,
    /// Gauge: viewers, waiting ones too.
    pub viewers: Count,
    /// Gauge: publishers.
    pub publishers: Count,
    /// Gauge: streams assigned.
    pub streams: Count,
    dropped: [Count; DropReason::ALL.len()],
}

/// One number, counted by one thread.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Replaces (gauges).
    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    /// Reads.
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Why something was dropped: the label of `penstock_dropped_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// A slow viewer skipped to a key frame.
    ViewerSkipped,
    /// A slow viewer was ended by policy, or because it took nothing for too long.
    ViewerSlow,
    /// A frame found no room in the process's budget.
    Budget,
    /// A picture that leans on one that never came.
    Undecodable,
    /// A frame longer than the wire forms can say.
    FrameTooLong,
    /// Media of a kind that is not carried.
    NotCarried,
    /// A connection over the limits that hold for all together.
    ConnectionLimit,
    /// A connection from an address that has as many as one may have.
    AddressLimit,
    /// A peer that broke its protocol.
    Protocol,
    /// A peer that let a deadline pass.
    Deadline,
    /// A peer without the right address or token.
    Denied,
    /// A connection handed to a shard whose queue was full.
    ShardBusy,
    /// A datagram of the shared port whose stream has too many waiting.
    QueueFull,
    /// A report that a newer one of the same stream replaced.
    ReportMerged,
}

impl DropReason {
    /// All of them.
    pub const ALL: [DropReason; 14] = [
        DropReason::ViewerSkipped,
        DropReason::ViewerSlow,
        DropReason::Budget,
        DropReason::Undecodable,
        DropReason::FrameTooLong,
        DropReason::NotCarried,
        DropReason::ConnectionLimit,
        DropReason::AddressLimit,
        DropReason::Protocol,
        DropReason::Deadline,
        DropReason::Denied,
        DropReason::ShardBusy,
        DropReason::QueueFull,
        DropReason::ReportMerged,
    ];

    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            DropReason::ViewerSkipped => "ViewerSkipped",
            DropReason::ViewerSlow => "ViewerSlow",
            DropReason::Budget => "Budget",
            DropReason::Undecodable => "Undecodable",
            DropReason::FrameTooLong => "FrameTooLong",
            DropReason::NotCarried => "NotCarried",
            DropReason::ConnectionLimit => "ConnectionLimit",
            DropReason::AddressLimit => "AddressLimit",
            DropReason::Protocol => "Protocol",
            DropReason::Deadline => "Deadline",
            DropReason::Denied => "Denied",
            DropReason::ShardBusy => "ShardBusy",
            DropReason::QueueFull => "QueueFull",
            DropReason::ReportMerged => "ReportMerged",
        }
    }
}

impl Counters {
    /// Counts something dropped.
    pub fn drop_one(&self, reason: DropReason) {
        self.dropped[reason as usize].add(1);
    }

    /// How often something was dropped for this reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize].value()
    }
}
