//! What packaging reads of an H.265 bitstream (ITU-T H.265 §7.3).

use super::bits::Bits;

/// The fields of an SPS that an HEVCDecoderConfigurationRecord repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sps {
    pub(super) id: u32,
    /// general_profile_space to general_level_idc: the 12 bytes as they stand.
    pub(super) profile_tier_level: [u8; 12],
    pub(super) chroma_format: u8,
    /// bit_depth_luma_minus8, bit_depth_chroma_minus8.
    pub(super) depths: [u8; 2],
    pub(super) temporal_layers: u8,
    pub(super) temporal_nesting: bool,
}

/// seq_parameter_set_rbsp(), as far as it is wanted.
pub(super) fn sps(nal: &[u8]) -> Option<Sps> {
    let mut bits = Bits::new(nal.get(2..)?);
    bits.skip(4)?;
    let sub_layers = bits.bits(3).filter(|&layers| layers <= 6)?;
    let temporal_nesting = bits.bit()? == 1;
    let mut profile_tier_level = [0; 12];
    for byte in &mut profile_tier_level {
        *byte = bits.bits(8)? as u8;
    }
    skip_sub_layers(&mut bits, sub_layers)?;
    let id = bits.ue().filter(|&id| id < 16)?;
    let chroma = bits.ue().filter(|&idc| idc <= 3)?;
    if chroma == 3 {
        bits.skip(1)?;
    }
    bits.ue()?;
    bits.ue()?;
    if bits.bit()? == 1 {
        for _ in 0..4 {
            bits.ue()?;
        }
    }
    let luma_depth = bits.ue().filter(|&depth| depth <= 8)?;
    let chroma_depth = bits.ue().filter(|&depth| depth <= 8)?;
    Some(Sps {
        id,
        profile_tier_level,
        chroma_format: chroma as u8,
        // Three bits each in the record.
        depths: [luma_depth.min(7) as u8, chroma_depth.min(7) as u8],
        temporal_layers: sub_layers as u8 + 1,
        temporal_nesting,
    })
}

/// The sub-layer part of profile_tier_level().
fn skip_sub_layers(bits: &mut Bits<'_>, count: u32) -> Option<()> {
    if count == 0 {
        return Some(());
    }
    let mut sizes = 0;
    for layer in 0..8 {
        let profile = bits.bit()?;
        let level = bits.bit()?;
        if layer < count {
            sizes += 88 * profile + 8 * level;
        }
    }
    bits.skip(sizes)
}

/// vps_video_parameter_set_id.
pub(super) fn vps_id(nal: &[u8]) -> Option<u32> {
    Bits::new(nal.get(2..)?).bits(4)
}

/// pps_pic_parameter_set_id.
pub(super) fn pps_id(nal: &[u8]) -> Option<u32> {
    Bits::new(nal.get(2..)?).ue().filter(|&id| id < 64)
}
