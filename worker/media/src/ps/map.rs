//! The program stream map: which codec is behind which stream id (ISO/IEC 13818-1 §2.5.4, GB/T 28181 annex C).

use std::collections::BTreeMap;

use super::limits::MAP_STREAMS_MAX;

/// stream_type by elementary_stream_id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Map {
    types: BTreeMap<u8, u8>,
}

/// What a stream_type says of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stated {
    /// No map, or a number that says nothing: the data tells.
    Nothing,
    /// H.264 or H.265: which of them is told by the parameter sets, which can't be wrong.
    Pictures,
    /// AAC in ADTS.
    Aac,
    /// G.711 A-law.
    PcmA,
    /// G.711 µ-law.
    PcmU,
    /// A codec that penstock does not carry.
    Refused(&'static str),
}

impl Map {
    /// Reads a whole map unit. Whatever its inner lengths claim, nothing beyond it is read.
    pub(super) fn parse(unit: &[u8]) -> Option<Map> {
        // 6 bytes of head, 2 of flags, length of the program's descriptors.
        let body = unit.get(8..)?;
        let (info, rest) = counted(body)?;
        debug_assert!(info.len() <= body.len());
        let (mut streams, _) = counted(rest).unwrap_or_else(|| {
            // A length that reaches beyond the unit is cut to it, less the CRC.
            let streams = rest.get(2..).unwrap_or_default();
            (&streams[..streams.len().saturating_sub(4)], &[])
        });
        let mut types = BTreeMap::new();
        while let [kind, id, rest @ ..] = streams {
            if types.len() >= MAP_STREAMS_MAX {
                break;
            }
            types.insert(*id, *kind);
            let Some((_, next)) = counted(rest) else { break };
            streams = next;
        }
        // The CRC is not checked: many cameras send a constant.
        Some(Map { types })
    }

    /// The bare stream_type.
    pub(super) fn type_of(&self, id: u8) -> Option<u8> {
        self.types.get(&id).copied()
    }

    /// What the map says of a stream.
    pub(super) fn stated(&self, id: u8) -> Stated {
        let Some(kind) = self.types.get(&id) else { return Stated::Nothing };
        match kind {
            0x0f => Stated::Aac,
            0x1b | 0x24 => Stated::Pictures,
            0x90 => Stated::PcmA,
            0x91 => Stated::PcmU,
            0x01 | 0x02 => Stated::Refused("MPEG-2 video"),
            0x03 | 0x04 => Stated::Refused("MPEG audio"),
            0x10 => Stated::Refused("MPEG-4 video"),
            0x11 => Stated::Refused("AAC in LATM"),
            0x42 => Stated::Refused("AVS video"),
            0x80 => Stated::Refused("SVAC video"),
            0x81 => Stated::Refused("AC-3"),
            0x92 => Stated::Refused("G.722.1"),
            0x93 => Stated::Refused("G.723.1"),
            0x99 => Stated::Refused("G.729"),
            0x9b => Stated::Refused("SVAC audio"),
            _ => Stated::Nothing,
        }
    }
}

/// The bytes that a 16-bit length counts, and those behind them.
fn counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}
