//! H.264 and H.265: from Annex B byte streams to the length-prefixed form of ISO/IEC 14496-15 that frames carry.
//!
//! Only what packaging needs is read of a bitstream: kinds of NAL units, ids of parameter sets, and the few fields of an
//! SPS that a decoder configuration record repeats. Nothing here panics on any bytes.

mod bits;
mod h264;
mod h265;
mod nal;
mod packager;
mod sets;

#[cfg(test)]
mod tests;

pub(crate) use nal::start_code;
pub use nal::{Class, classify, nals, starts_picture};
pub use packager::{Packaged, Packager};
pub use sets::ParameterSets;

use crate::frame;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Codec {
    /// ITU-T H.264.
    H264,
    /// ITU-T H.265.
    H265,
}

impl Codec {
    /// The codec of frames.
    pub fn of_frames(self) -> frame::Codec {
        match self {
            Codec::H264 => frame::Codec::H264,
            Codec::H265 => frame::Codec::H265,
        }
    }

    /// Tells the codec by the head of a parameter set, or `None` when this NAL unit is not surely one.
    ///
    /// The two can't be mistaken for each other: an H.265 VPS or SPS of the base layer begins `40 01` or `42 01`, which in
    /// H.264 would be unit types that no profile in use has; an H.264 SPS begins 27, 47 or 67, which in H.265 would be a
    /// layer above 31.
    pub fn of_parameter_set(nal: &[u8]) -> Option<Codec> {
        let (&first, &second) = (nal.first()?, nal.get(1)?);
        if matches!(first, 0x40 | 0x42) && second == 0x01 {
            return Some(Codec::H265);
        }
        // profile_idc as of H.264 Annex A, G and H.
        let profile = matches!(second, 44 | 66 | 77 | 83 | 86 | 88 | 100 | 110 | 118 | 122 | 128 | 144 | 244);
        (matches!(first, 0x27 | 0x47 | 0x67) && profile).then_some(Codec::H264)
    }
}
