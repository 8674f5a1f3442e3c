//! What an ingest took and what it dropped, by reason.

/// Why input was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dropped {
    /// A packet of an SSRC that may not send.
    WrongSsrc,
    /// A packet of somebody else while the holder is heard.
    NotHolder,
    /// A packet that came after it was given up.
    Late,
    /// A packet that had come already.
    Duplicate,
    /// A packet that never came: not an input, but what is missing from it.
    Lost,
    /// A packet, or a unit of the PS, that is not what its standard says.
    Malformed,
    /// Bytes that belong to nothing: before the first packet or pack, or between units.
    Noise,
    /// A picture or sound that lacks a part.
    Damaged,
    /// A picture before the first key frame.
    BeforeKey,
    /// A picture, sound or packet beyond a bound of `limits`.
    Overflow,
    /// A PES packet in a codec that is refused.
    UnsupportedCodec,
    /// A PES packet of a second video or audio stream.
    ExtraTrack,
}

/// How much was taken and dropped; all only rise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets of the holder.
    pub packets: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Frames handed out.
    pub frames: u64,
    dropped: [u64; Dropped::ALL.len()],
}

impl Dropped {
    /// All reasons, in the order in which metrics show them.
    pub const ALL: [Dropped; 12] = [
        Dropped::WrongSsrc,
        Dropped::NotHolder,
        Dropped::Late,
        Dropped::Duplicate,
        Dropped::Lost,
        Dropped::Malformed,
        Dropped::Noise,
        Dropped::Damaged,
        Dropped::BeforeKey,
        Dropped::Overflow,
        Dropped::UnsupportedCodec,
        Dropped::ExtraTrack,
    ];

    /// The metric's label.
    pub fn name(self) -> &'static str {
        match self {
            Dropped::WrongSsrc => "wrong_ssrc",
            Dropped::NotHolder => "not_holder",
            Dropped::Late => "late",
            Dropped::Duplicate => "duplicate",
            Dropped::Lost => "lost",
            Dropped::Malformed => "malformed",
            Dropped::Noise => "noise",
            Dropped::Damaged => "damaged",
            Dropped::BeforeKey => "before_key",
            Dropped::Overflow => "overflow",
            Dropped::UnsupportedCodec => "unsupported_codec",
            Dropped::ExtraTrack => "extra_track",
        }
    }
}

impl Counters {
    /// How many were dropped for this reason; [`Dropped::Noise`] counts bytes, the others what their names say.
    pub fn dropped(&self, reason: Dropped) -> u64 {
        self.dropped[reason as usize]
    }

    /// Counts `count` more.
    pub(crate) fn drop(&mut self, reason: Dropped, count: u64) {
        let slot = &mut self.dropped[reason as usize];
        *slot = slot.saturating_add(count);
    }
}

#[cfg(test)]
mod tests {
    use super::Dropped;

    #[test]
    fn the_list_of_reasons_is_in_the_order_of_their_numbers() {
        for (at, reason) in Dropped::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, at);
        }
    }
}
