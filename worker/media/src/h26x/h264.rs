//! What packaging reads of an H.264 bitstream (ITU-T H.264 §7.3).

use super::bits::Bits;

/// The fields of an SPS that an AVCDecoderConfigurationRecord repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sps {
    pub(super) id: u32,
    pub(super) profile: u8,
    pub(super) compatibility: u8,
    pub(super) level: u8,
    /// chroma_format_idc, bit_depth_luma_minus8, bit_depth_chroma_minus8: there from the High profile on.
    pub(super) high: Option<[u8; 3]>,
}

/// seq_parameter_set_data(), as far as it is wanted.
pub(super) fn sps(nal: &[u8]) -> Option<Sps> {
    let mut bits = Bits::new(nal.get(1..)?);
    let profile = bits.bits(8)? as u8;
    let compatibility = bits.bits(8)? as u8;
    let level = bits.bits(8)? as u8;
    let id = bits.ue().filter(|&id| id < 32)?;
    let high = match profile {
        66 | 77 | 88 => None,
        _ => {
            let chroma = bits.ue().filter(|&idc| idc <= 3)?;
            if chroma == 3 {
                bits.skip(1)?;
            }
            let luma_depth = bits.ue().filter(|&depth| depth <= 6)?;
            let chroma_depth = bits.ue().filter(|&depth| depth <= 6)?;
            Some([chroma as u8, luma_depth as u8, chroma_depth as u8])
        }
    };
    Some(Sps { id, profile, compatibility, level, high })
}

/// pic_parameter_set_id.
pub(super) fn pps_id(nal: &[u8]) -> Option<u32> {
    Bits::new(nal.get(1..)?).ue().filter(|&id| id < 256)
}

/// True of a slice that is intra-coded, by its slice_type.
pub(super) fn is_intra_slice(nal: &[u8]) -> bool {
    let kind = || {
        let mut bits = Bits::new(nal.get(1..)?);
        bits.ue()?;
        bits.ue()
    };
    matches!(kind(), Some(2 | 4 | 7 | 9))
}

/// True of an SEI with a recovery point of this very picture (§D.2.8): decoding may begin here though it is no IDR.
pub(super) fn is_recovery_point(nal: &[u8]) -> bool {
    let Some(body) = nal.get(1..) else { return false };
    let mut at = 0;
    // Payload types and sizes are runs of 0xff and a last byte. Emulation prevention may stand between; a recovery point is
    // the first message of its SEI in practice, where there is none yet.
    while body.len() - at > 2 {
        let (Some(kind), Some(size)) = (field(body, &mut at), field(body, &mut at)) else { return false };
        if kind == 6 {
            return body.get(at..).and_then(|payload| Bits::new(payload).ue()) == Some(0);
        }
        at = match at.checked_add(size) {
            Some(next) if next < body.len() => next,
            _ => return false,
        };
    }
    false
}

fn field(body: &[u8], at: &mut usize) -> Option<usize> {
    let mut value = 0usize;
    loop {
        let byte = *body.get(*at)?;
        *at += 1;
        value += usize::from(byte);
        if byte != 0xff {
            return Some(value);
        }
    }
}
