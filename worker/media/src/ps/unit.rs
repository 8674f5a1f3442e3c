//! Units of a program stream: start codes and the headers behind them.

use super::limits::MAP_BYTES_MAX;

/// What the first bytes of a unit say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// Not enough bytes to say; so many are needed to go on.
    Short(usize),
    /// No unit begins here.
    None,
    /// A unit of another standard or with a broken header. Its start code is surely one.
    Broken,
    /// MPEG-1 system stream, which has other headers.
    Mpeg1,
    /// A pack header of so many bytes (§2.5.3.3).
    Pack { bytes: usize },
    /// A program stream map of so many bytes (§2.5.4.1).
    Map { bytes: usize },
    /// A unit without interest: so many bytes of header, then `body` to be skipped.
    Skip { bytes: usize, body: usize },
    /// The head of a PES packet (§2.4.3.6).
    Pes(Pes),
}

/// The head of a PES packet of audio or video.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pes {
    pub(super) id: u8,
    /// Length of the head.
    pub(super) bytes: usize,
    /// Length of the payload; `None` is an unstated one.
    pub(super) payload: Option<usize>,
    pub(super) pts: Option<u64>,
    pub(super) dts: Option<u64>,
}

/// Bytes of a pack header without stuffing.
pub const PACK_BYTES: usize = 14;
/// The lowest stream id of the system layer: MPEG_program_end_code.
const SYSTEM_IDS: std::ops::RangeInclusive<u8> = 0xb9..=0xff;

/// True where a PS pack header begins, with all the marker bits that its clock has (§2.5.3.3). Wants 14 bytes.
pub fn is_pack_header(bytes: &[u8]) -> bool {
    let Some(head) = bytes.get(..PACK_BYTES) else { return false };
    head[..4] == [0, 0, 1, 0xba]
        && head[4] & 0xc4 == 0x44
        && head[6] & 0x04 != 0
        && head[8] & 0x04 != 0
        && head[9] & 0x01 != 0
}

/// True of bytes that begin a unit.
pub(super) fn is_start(bytes: &[u8]) -> bool {
    matches!(bytes, [0, 0, 1, id, ..] if SYSTEM_IDS.contains(id))
}

/// Reads the head of the unit that `bytes` begin with. Lengths are not believed here, only reported.
pub(super) fn head(bytes: &[u8]) -> Head {
    let Some(&[zero, nil, one, id]) = bytes.first_chunk::<4>() else {
        return if b"\0\0\x01".starts_with(&bytes[..bytes.len().min(3)]) {
            Head::Short(4)
        } else {
            Head::None
        };
    };
    if [zero, nil, one] != [0, 0, 1] {
        return Head::None;
    }
    match id {
        0xb9 => Head::Skip { bytes: 4, body: 0 },
        0xba => pack(bytes),
        0xbc => map(bytes),
        0xc0..=0xef => pes(id, bytes),
        0xbb | 0xbd..=0xbf | 0xf0..=0xff => match length(bytes) {
            Some(body) => Head::Skip { bytes: 6, body },
            None => Head::Short(6),
        },
        0..=0xb8 => Head::None,
    }
}

fn pack(bytes: &[u8]) -> Head {
    let Some(&first) = bytes.get(4) else { return Head::Short(PACK_BYTES) };
    if first & 0xf0 == 0x20 {
        return Head::Mpeg1;
    }
    // The other marker bits are looked at where an unknown sender is to be believed: is_pack_header.
    if first & 0xc0 != 0x40 {
        return Head::Broken;
    }
    match bytes.get(13) {
        Some(last) => {
            let all = PACK_BYTES + usize::from(last & 7);
            if bytes.len() < all { Head::Short(all) } else { Head::Pack { bytes: all } }
        }
        None => Head::Short(PACK_BYTES),
    }
}

fn map(bytes: &[u8]) -> Head {
    match length(bytes).map(|length| 6 + length) {
        None => Head::Short(6),
        Some(all) if all > MAP_BYTES_MAX => Head::Broken,
        Some(all) if bytes.len() < all => Head::Short(all),
        Some(all) => Head::Map { bytes: all },
    }
}

fn pes(id: u8, bytes: &[u8]) -> Head {
    if bytes.get(6).is_some_and(|flags| flags & 0xc0 != 0x80) {
        return Head::Broken;
    }
    let Some(&more) = bytes.get(8) else { return Head::Short(9) };
    let all = 9 + usize::from(more);
    let payload = match length(bytes).unwrap_or(0) {
        0 => None,
        length => match (length + 6).checked_sub(all) {
            Some(payload) => Some(payload),
            None => return Head::Broken,
        },
    };
    if bytes.len() < all {
        return Head::Short(all);
    }
    // PTS_DTS_flags, and room for what they promise.
    let fields = &bytes[9..all];
    let (pts, dts) = match (bytes[7] >> 6, fields.len()) {
        (3, 10..) => (Some(timestamp(&fields[..5])), Some(timestamp(&fields[5..10]))),
        (2 | 3, 5..) => (Some(timestamp(&fields[..5])), None),
        _ => (None, None),
    };
    Head::Pes(Pes { id, bytes: all, payload, pts, dts })
}

fn length(bytes: &[u8]) -> Option<usize> {
    Some(usize::from(u16::from_be_bytes([*bytes.get(4)?, *bytes.get(5)?])))
}

/// The 33 bits of a PTS or DTS. Cameras get the marker bits between them wrong; they are not looked at.
fn timestamp(field: &[u8]) -> u64 {
    let [a, b, c, d, e] = [field[0], field[1], field[2], field[3], field[4]].map(u64::from);
    (a >> 1 & 7) << 30 | b << 22 | (c >> 1) << 15 | d << 7 | e >> 1
}
