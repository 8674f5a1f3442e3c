//! The bounds of a program stream, each with its arithmetic.

use std::time::Duration;

/// One access unit. An intra picture of 4K at the best quality has some 2 MiB; a megapixel camera's 1 MiB must pass.
pub const ACCESS_UNIT_BYTES_MAX: usize = 4 << 20;

/// One program stream map. The standard's own bound on its length is 1018 (§2.5.4.2), behind 6 bytes of head.
pub const MAP_BYTES_MAX: usize = 6 + 1018;

/// Streams in a map that are kept: 16 video and 32 audio numbers exist.
pub const MAP_STREAMS_MAX: usize = 48;

/// One PES packet of sound: its length has 16 bits.
pub const SOUND_BYTES_MAX: usize = 65_536;

/// Payload that is looked through at once. Each picture that ends in it moves what is behind, so the work for a byte is
/// bounded by this and not by the 65 535 that a packet in a connection may have. A datagram's payload fits.
pub const STEP_BYTES: usize = 2048;

/// How long a whole picture waits for a sign that it is whole, when nothing more comes. Longer than the pause between
/// pictures of a camera at 4 a second, shorter than what a person calls late.
pub const PICTURE_WAIT: Duration = Duration::from_millis(300);

/// What a demultiplexer holds at most: an access unit as it came and once more packaged, a sound with the cut one before it, a
/// header; each in a buffer that may have doubled as it grew.
pub const DEMUX_BYTES_MAX: usize =
    2 * (2 * (ACCESS_UNIT_BYTES_MAX + STEP_BYTES) + 2 * SOUND_BYTES_MAX + MAP_BYTES_MAX);
