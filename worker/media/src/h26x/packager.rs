//! Access units in Annex B, packaged as frames carry them.

use bytes::{BufMut, Bytes};

use super::sets::Illegible;
use super::{Class, Codec, ParameterSets, classify, h264, nals};
use crate::frame::Kind;

/// Packages the access units of one track: parameter sets go into configuration records, pictures behind their lengths.
#[derive(Clone, Debug)]
pub struct Packager {
    codec: Codec,
    sets: ParameterSets,
    record: Option<Bytes>,
}

/// What an access unit held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packaged {
    /// The decoder configuration record, where it is not that of the access unit before.
    pub config: Option<Bytes>,
    /// The picture: [`Kind::Key`] or [`Kind::Inter`], and its NAL units behind 4 bytes of length each, without parameter
    /// sets, delimiters and filler.
    pub picture: Option<(Kind, Bytes)>,
    /// Whether all parameter sets were legible.
    pub sets: Result<(), Illegible>,
}

impl Packager {
    /// A packager that has no parameter set yet.
    pub fn new(codec: Codec) -> Packager {
        Packager { codec, sets: ParameterSets::default(), record: None }
    }

    /// What it packages.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// True once there is a configuration record.
    pub fn is_configured(&self) -> bool {
        self.record.is_some()
    }

    /// Packages one access unit, given as a byte stream.
    pub fn package(&mut self, access_unit: &[u8]) -> Packaged {
        let classes = || {
            nals(access_unit).filter_map(|nal| {
                // Too short a unit to be classed carries nothing.
                classify(self.codec, nal).map(|class| (class, nal))
            })
        };
        let mut sets = Ok(());
        let mut changed = false;
        if classes().any(|(class, _)| class == Class::ParameterSet) {
            sets = self.sets.take(self.codec, nals(access_unit));
            changed = true;
        }
        let picture = self.picture(access_unit);
        let config = if changed { self.sets.record(self.codec) } else { None };
        let config = config.filter(|record| self.record.as_ref() != Some(record));
        if config.is_some() {
            self.record.clone_from(&config);
        }
        Packaged { config, picture, sets }
    }

    fn picture(&self, access_unit: &[u8]) -> Option<(Kind, Bytes)> {
        let mut payload = Vec::with_capacity(access_unit.len() + 16);
        let (mut slices, mut key, mut recovery, mut intra) = (false, false, false, true);
        for nal in nals(access_unit) {
            match classify(self.codec, nal) {
                Some(Class::FirstSlice | Class::Slice) => {
                    slices = true;
                    key |= is_key(self.codec, nal);
                    intra &= self.codec == Codec::H264 && h264::is_intra_slice(nal);
                }
                Some(Class::Prefix) => recovery |= is_recovery_point(self.codec, nal),
                Some(Class::Suffix) if is_filler(self.codec, nal) => continue,
                Some(Class::Suffix) => {}
                Some(Class::Delimiter | Class::ParameterSet | Class::Foreign) | None => continue,
            }
            // An access unit is bounded far below 4 GiB.
            payload.put_u32(nal.len() as u32);
            payload.extend_from_slice(nal);
        }
        // What was left out, filler above all, may have been most of it: a frame is counted by its length.
        payload.shrink_to_fit();
        let kind = if key || (recovery && intra) { Kind::Key } else { Kind::Inter };
        slices.then(|| (kind, payload.into()))
    }
}

/// IDR, or any IRAP picture.
fn is_key(codec: Codec, slice: &[u8]) -> bool {
    match codec {
        Codec::H264 => slice[0] & 0x1f == 5,
        Codec::H265 => matches!(slice[0] >> 1, 16..=23),
    }
}

/// Some cameras never send an IDR after the first: their intra pictures carry a recovery point.
fn is_recovery_point(codec: Codec, nal: &[u8]) -> bool {
    match codec {
        Codec::H264 => nal[0] & 0x1f == 6 && h264::is_recovery_point(nal),
        Codec::H265 => false,
    }
}

fn is_filler(codec: Codec, nal: &[u8]) -> bool {
    match codec {
        Codec::H264 => nal[0] & 0x1f == 12,
        Codec::H265 => nal[0] >> 1 == 38,
    }
}
