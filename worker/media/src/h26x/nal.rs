//! NAL units of a byte stream (H.264 and H.265 Annex B), and what their types mean for access units.

use super::Codec;

/// What a NAL unit is to the access unit that it stands in (H.264 §7.4.1.2.3, H.265 §7.4.2.4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Access unit delimiter.
    Delimiter,
    /// VPS, SPS or PPS.
    ParameterSet,
    /// SEI and others that stand before the picture that they belong to.
    Prefix,
    /// The first slice of a picture.
    FirstSlice,
    /// A further slice.
    Slice,
    /// Filler, ends of sequence, suffix SEI: belongs to the picture before.
    Suffix,
    /// No NAL unit: its forbidden bit is set.
    Foreign,
}

/// The class of a NAL unit by its first three bytes; `None` while there are too few to say.
pub fn classify(codec: Codec, nal: &[u8]) -> Option<Class> {
    let first = *nal.first()?;
    if first & 0x80 != 0 {
        return Some(Class::Foreign);
    }
    match codec {
        Codec::H264 => match first & 0x1f {
            // first_mb_in_slice is ue(v): 0 is a lone 1 bit.
            1 | 2 | 5 => Some(if nal.get(1)? & 0x80 != 0 { Class::FirstSlice } else { Class::Slice }),
            3 | 4 | 19 | 20 | 21 => Some(Class::Slice),
            7 | 8 | 13 | 15 => Some(Class::ParameterSet),
            9 => Some(Class::Delimiter),
            10..=12 => Some(Class::Suffix),
            _ => Some(Class::Prefix),
        },
        Codec::H265 => match first >> 1 {
            // first_slice_segment_in_pic_flag
            0..=31 => Some(if nal.get(2)? & 0x80 != 0 { Class::FirstSlice } else { Class::Slice }),
            32..=34 => Some(Class::ParameterSet),
            35 => Some(Class::Delimiter),
            36..=38 | 40 | 45..=47 | 56..=63 => Some(Class::Suffix),
            _ => Some(Class::Prefix),
        },
    }
}

/// True of units that may not stand behind the slices of a picture: what follows is the next one.
pub fn starts_picture(class: Class) -> bool {
    match class {
        Class::Delimiter | Class::ParameterSet | Class::Prefix | Class::FirstSlice => true,
        Class::Slice | Class::Suffix | Class::Foreign => false,
    }
}

/// Where the next `00 00 01` stands in `bytes`, from `from` on.
pub(crate) fn start_code(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(&third) = bytes.get(at + 2) {
        match third {
            // Most bytes are above 1: three places are ruled out at once.
            2.. => at += 3,
            1 if bytes[at] == 0 && bytes[at + 1] == 0 => return Some(at),
            1 => at += 3,
            0 => at += 1,
        }
    }
    None
}

/// The NAL units of a byte stream, without start codes and trailing zeros. Bytes before the first start code are left out.
pub fn nals(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut next = start_code(bytes, 0);
    std::iter::from_fn(move || {
        let begin = next? + 3;
        next = start_code(bytes, begin);
        Some(&bytes[begin..next.unwrap_or(bytes.len())])
    })
    .map(|nal| {
        let zeros = nal.iter().rev().take_while(|&&byte| byte == 0).count();
        &nal[..nal.len() - zeros]
    })
    .filter(|nal| !nal.is_empty())
}
