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

/// How far a source's clock may step back and only be clamped. Reordered or jittery sources stay below; a clock that was set goes
/// beyond, and clamping it would freeze the stream for that long, so it is mapped anew.
pub const SOURCE_STEP_BACK_MAX: Duration = Duration::from_secs(1);

/// The least stream time that an epoch begins with, so that a track which starts before the other has room below.
pub const STREAM_TIME_LEAD: Duration = Duration::from_secs(1);

/// How long viewers wait for a second track of which nothing was heard, once pictures are there: the FLV header must say at once
/// which tracks come. Audio beside video is never further apart than this in live sources.
pub const SECOND_TRACK_WAIT: Duration = Duration::from_millis(300);

/// The same where only sound is there: a camera's sound may be ahead of its first key frame by about this much.
pub const PICTURES_WAIT: Duration = Duration::from_secs(1);

/// The largest body of a frame on the wire: RTMP and FLV write its length in 24 bits.
pub const BODY_BYTES_MAX: usize = 0xff_ffff;

/// Bytes gathered into one write to a viewer. What a key frame of 8 Mbit/s takes; a viewer that is behind gets several writes in
/// turn with the others.
pub const WRITE_BYTES_MAX: usize = 256 << 10;

/// Pieces gathered into one write: the kernel takes 1 024 (IOV_MAX); beyond this many it is the bytes that cost.
pub const WRITE_PIECES_MAX: usize = 256;

/// Payloads up to this are copied before they are held: they are slices of the 8 to 64 KiB that they were read with, would hold all of
/// it, and be counted in the budget as their own length only. From half of 64 KiB on a slice holds at most twice what it counts. A copy
/// of this size takes some 3 µs, half of one send.
pub const COPIED_BYTES_MAX: usize = 32 << 10;
