//! Each bound of the stream and its fan-out, with the sum that gave it. Bounds of one protocol stand beside its session.

use std::time::Duration;

/// A holder heard within this keeps its path under `onDuplicate: Reject`. Longer than any pause of a working encoder
/// (a frame at 1 picture a second, a TCP retransmission or two), shorter than a camera takes to boot after a power cut.
pub const HOLDER_HEARD: Duration = Duration::from_secs(2);

/// `latency: Normal` sends the first unsent byte after this at the latest: one picture at 30 a second.
pub const NORMAL_WINDOW: Duration = Duration::from_millis(33);

/// `latency: Bulk` sends each time this has passed.
pub const BULK_WINDOW: Duration = Duration::from_millis(350);

/// Bytes that the ring of one stream may hold: 12 s at 8 Mbit/s are 12 MB; a third more for peaks of a variable rate.
pub const RING_BYTES_MAX: u64 = 16 << 20;

/// How old a frame in the ring may grow while viewers still need it. 12 s are wanted at least; one second more, so that
/// eviction, which goes by whole frames, never eats into them.
pub const RING_AGE_MAX: Duration = Duration::from_secs(13);

/// Frames in one ring: 13 s of 120 pictures and 100 audio frames a second are 2 860. Bounds the bookkeeping that tiny
/// frames cost beyond their bytes.
pub const RING_FRAMES_MAX: usize = 4096;
