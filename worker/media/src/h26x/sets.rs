//! Parameter sets of a track, and the decoder configuration record made of them (ISO/IEC 14496-15 §5.3.3, §8.3.3).

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes};

use super::{Codec, h264, h265};

/// How long a parameter set may be. With all scaling lists and VUI an SPS has some 600 bytes; PPS of many tiles fewer.
const SET_BYTES_MAX: usize = 4096;
/// How many VPS, SPS and PPS each are kept: encoders send 1 to 3. 3 · 16 · 4096 = 192 KiB a track at most.
const SETS_MAX: usize = 16;

/// The parameter sets that are in force.
#[derive(Clone, Debug, Default)]
pub struct ParameterSets {
    vps: BTreeMap<u32, Bytes>,
    sps: BTreeMap<u32, Bytes>,
    pps: BTreeMap<u32, Bytes>,
}

impl ParameterSets {
    /// Takes the sets among the NAL units of one access unit; others are passed over. `Err` says that a set is not legible or
    /// beyond the bounds; the legible ones are taken all the same.
    pub fn take<'a>(&mut self, codec: Codec, nals: impl Iterator<Item = &'a [u8]>) -> Result<(), Illegible> {
        let mut fresh = ParameterSets::default();
        let mut result = Ok(());
        for nal in nals {
            result = result.and(fresh.take_one(codec, nal));
        }
        // New sequences come with all their pictures' sets: an older PPS would be read with a wrong SPS.
        let sequence = fresh.sps.iter().any(|(id, nal)| self.sps.get(id).is_some_and(|old| old != nal));
        if sequence && !fresh.pps.is_empty() {
            self.pps.clear();
        }
        result
            .and(merge(&mut self.vps, fresh.vps))
            .and(merge(&mut self.sps, fresh.sps))
            .and(merge(&mut self.pps, fresh.pps))
    }

    fn take_one(&mut self, codec: Codec, nal: &[u8]) -> Result<(), Illegible> {
        let first = nal.first().copied().unwrap_or(0);
        let (map, id) = match codec {
            Codec::H264 => match first & 0x1f {
                7 => (&mut self.sps, h264::sps(nal).map(|sps| sps.id)),
                8 => (&mut self.pps, h264::pps_id(nal)),
                _ => return Ok(()),
            },
            Codec::H265 => match first >> 1 {
                32 => (&mut self.vps, h265::vps_id(nal)),
                33 => (&mut self.sps, h265::sps(nal).map(|sps| sps.id)),
                34 => (&mut self.pps, h265::pps_id(nal)),
                _ => return Ok(()),
            },
        };
        let id = id.filter(|_| nal.len() <= SET_BYTES_MAX).ok_or(Illegible)?;
        if map.len() >= SETS_MAX && !map.contains_key(&id) {
            return Err(Illegible);
        }
        map.insert(id, Bytes::copy_from_slice(nal));
        Ok(())
    }

    /// The AVCDecoderConfigurationRecord or HEVCDecoderConfigurationRecord, once there is a set of each kind.
    pub fn record(&self, codec: Codec) -> Option<Bytes> {
        match codec {
            Codec::H264 => self.avc_record(),
            Codec::H265 => self.hevc_record(),
        }
    }

    fn avc_record(&self) -> Option<Bytes> {
        let sps = h264::sps(self.sps.values().next()?)?;
        if self.pps.is_empty() {
            return None;
        }
        // Lengths of NAL units are 4 bytes wide.
        let mut record = vec![1, sps.profile, sps.compatibility, sps.level, 0xfc | 3];
        record.put_u8(0xe0 | self.sps.len() as u8);
        put_sets(&mut record, &self.sps);
        record.put_u8(self.pps.len() as u8);
        put_sets(&mut record, &self.pps);
        if let Some([chroma, luma_depth, chroma_depth]) = sps.high {
            record.extend_from_slice(&[0xfc | chroma, 0xf8 | luma_depth, 0xf8 | chroma_depth, 0]);
        }
        Some(record.into())
    }

    fn hevc_record(&self) -> Option<Bytes> {
        let sps = h265::sps(self.sps.values().next()?)?;
        if self.vps.is_empty() || self.pps.is_empty() {
            return None;
        }
        let mut record = vec![1];
        record.extend_from_slice(&sps.profile_tier_level);
        // No minimal spatial segmentation, no statement on parallel decoding.
        record.extend_from_slice(&[0xf0, 0, 0xfc]);
        record.extend_from_slice(&[0xfc | sps.chroma_format, 0xf8 | sps.depths[0], 0xf8 | sps.depths[1]]);
        // No statement on the frame rate.
        record.put_u16(0);
        record.put_u8(sps.temporal_layers << 3 | u8::from(sps.temporal_nesting) << 2 | 3);
        record.put_u8(3);
        for (kind, sets) in [(32, &self.vps), (33, &self.sps), (34, &self.pps)] {
            // array_completeness: none is left in the pictures.
            record.put_u8(0x80 | kind);
            record.put_u16(sets.len() as u16);
            put_sets(&mut record, sets);
        }
        Some(record.into())
    }
}

/// A parameter set that can't be read or is beyond the bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a parameter set is not legible, or there are too many")]
pub struct Illegible;

fn merge(into: &mut BTreeMap<u32, Bytes>, fresh: BTreeMap<u32, Bytes>) -> Result<(), Illegible> {
    let mut result = Ok(());
    for (id, nal) in fresh {
        if into.len() < SETS_MAX || into.contains_key(&id) {
            into.insert(id, nal);
        } else {
            result = Err(Illegible);
        }
    }
    result
}

fn put_sets(record: &mut Vec<u8>, sets: &BTreeMap<u32, Bytes>) {
    for nal in sets.values() {
        // At most SET_BYTES_MAX long, which fits.
        record.put_u16(nal.len() as u16);
        record.extend_from_slice(nal);
    }
}
