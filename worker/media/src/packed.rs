//! A frame as it goes on the wire: made once a stream, sent to each viewer, its payload never copied.
//!
//! RTMP messages and FLV tags share their body, so a packed frame is one payload with two sets of small heads around it:
//!
//! ```text
//! RTMP:  message header + body head │ payload … │ (chunk header │ payload …)*
//! FLV:   tag header + body head     │ payload                    │ PreviousTagSize
//! ```

use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::budget::{Budget, Permit};
use crate::flv;
use crate::frame::{Frame, Track};
use crate::limits::BODY_BYTES_MAX;
use crate::rtmp;
use crate::tracks::Tracks;

/// What a viewer's bytes look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    /// RTMP chunks of [`rtmp::CHUNK_SIZE`].
    Rtmp,
    /// FLV tags.
    Flv,
}

/// A frame with all that each wire form needs around it.
#[derive(Debug)]
pub struct Packed {
    /// What it is of.
    pub track: Track,
    /// Decoding time in stream time.
    pub dts_ms: i64,
    /// The same on the wire.
    pub timestamp: u32,
    /// When it came.
    pub at: Duration,
    /// Present where a viewer may begin: what it must know first.
    pub start: Option<Arc<Tracks>>,
    payload: Bytes,
    rtmp_head: Head,
    /// Before each further chunk.
    rtmp_next: Head,
    /// Payload bytes of the first chunk.
    rtmp_first: usize,
    rtmp_length: usize,
    flv_head: Head,
    flv_tail: [u8; 4],
    permit: Permit,
}

/// Why a frame could not be packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unpackable {
    /// Its length doesn't fit in 24 bits.
    #[error("a frame of {0} bytes is longer than RTMP and FLV can say")]
    TooLong(usize),
    /// The process's budget is used up.
    #[error("the byte budget is used up")]
    Budget,
}

/// Room for the longest head: basic header 1, message header 11, extended timestamp 4, body head 8.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    bytes: [u8; 24],
    length: u8,
}

impl Head {
    fn put(&mut self, bytes: &[u8]) {
        let begin = usize::from(self.length);
        self.bytes[begin..begin + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len() as u8;
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl Packed {
    /// Packs a frame that stands at `dts_ms` (`timestamp` on the wire); its own dts is not looked at.
    pub fn new(
        frame: Frame,
        dts_ms: i64,
        timestamp: u32,
        at: Duration,
        start: Option<Arc<Tracks>>,
        budget: &Budget,
    ) -> Result<Packed, Unpackable> {
        let body_head = flv::body_head(&frame);
        let body_head = body_head.as_slice();
        let body = body_head.len() + frame.payload.len();
        if body > BODY_BYTES_MAX {
            return Err(Unpackable::TooLong(body));
        }
        let permit =
            budget.take((frame.payload.len() + size_of::<Packed>()) as u64).ok_or(Unpackable::Budget)?;
        let track = frame.codec.track();
        let length = (body as u32).to_be_bytes();
        // The numbers are those of flv::pack_tag and rtmp::pack; a test holds the three together.
        let (kind, chunk_stream) = match track {
            Track::Audio => (8, 4),
            Track::Video => (9, 6),
            Track::Data => (18, 5),
        };

        let timestamp = track.wire_timestamp(timestamp);
        let mut flv_head = Head::default();
        let time = timestamp.to_be_bytes();
        flv_head.put(&[kind, length[1], length[2], length[3], time[1], time[2], time[3], time[0], 0, 0, 0]);
        flv_head.put(body_head);

        let mut rtmp_head = Head::default();
        let mut rtmp_next = Head::default();
        rtmp_next.put(&[0xc0 | chunk_stream]);
        let short = timestamp.min(0xff_ffff).to_be_bytes();
        rtmp_head.put(&[chunk_stream, short[1], short[2], short[3], length[1], length[2], length[3], kind]);
        rtmp_head.put(&1u32.to_le_bytes());
        if timestamp >= 0xff_ffff {
            rtmp_head.put(&time);
            rtmp_next.put(&time);
        }
        rtmp_head.put(body_head);

        let chunk = rtmp::CHUNK_SIZE as usize;
        let rtmp_first = frame.payload.len().min(chunk - body_head.len());
        let further = (frame.payload.len() - rtmp_first).div_ceil(chunk);
        let rtmp_length =
            rtmp_head.as_slice().len() + frame.payload.len() + further * rtmp_next.as_slice().len();
        let flv_tail = (body as u32 + 11).to_be_bytes();
        Ok(Packed {
            track,
            dts_ms,
            timestamp,
            at,
            start,
            payload: frame.payload,
            rtmp_head,
            rtmp_next,
            rtmp_first,
            rtmp_length,
            flv_head,
            flv_tail,
            permit,
        })
    }

    /// Bytes on the wire.
    pub fn len(&self, form: Form) -> usize {
        match form {
            Form::Rtmp => self.rtmp_length,
            Form::Flv => self.flv_head.as_slice().len() + self.payload.len() + self.flv_tail.len(),
        }
    }

    /// Bytes that it takes from the budget.
    pub fn cost(&self) -> u64 {
        self.permit.bytes()
    }

    /// Appends its pieces, without the first `skip` bytes.
    pub fn gather<'a>(&'a self, form: Form, mut skip: usize, out: &mut Vec<IoSlice<'a>>) {
        let mut put = |piece: &'a [u8]| {
            let cut = skip.min(piece.len());
            skip -= cut;
            if cut < piece.len() {
                out.push(IoSlice::new(&piece[cut..]));
            }
        };
        match form {
            Form::Flv => {
                put(self.flv_head.as_slice());
                put(&self.payload);
                put(&self.flv_tail);
            }
            Form::Rtmp => {
                let (first, rest) = self.payload.split_at(self.rtmp_first);
                put(self.rtmp_head.as_slice());
                put(first);
                for chunk in rest.chunks(rtmp::CHUNK_SIZE as usize) {
                    put(self.rtmp_next.as_slice());
                    put(chunk);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Codec, Kind, Sound};

    fn frame(codec: Codec, kind: Kind, cts_ms: i32, length: usize) -> Frame {
        let payload = (0..length).map(|n| (n * 7 % 251) as u8).collect::<Vec<_>>().into();
        Frame { codec, kind, dts_ms: 0, cts_ms, payload }
    }

    fn written(packed: &Packed, form: Form, skip: usize) -> Vec<u8> {
        let mut out = vec![];
        packed.gather(form, skip, &mut out);
        assert!(out.iter().all(|piece| !piece.is_empty()));
        out.iter().flat_map(|piece| piece.iter().copied()).collect()
    }

    #[test]
    fn pieces_are_the_bytes_that_the_protocols_packers_write() {
        let budget = Budget::new(u64::MAX);
        let sound = Sound { rate_hz: 8000, channels: 1 };
        let kinds = [
            (Codec::H264, Kind::Key, 80),
            (Codec::H264, Kind::Inter, -40),
            (Codec::H264, Kind::Config, 0),
            (Codec::H265, Kind::Key, 0),
            (Codec::H265, Kind::Inter, 80),
            (Codec::Aac, Kind::Key, 0),
            (Codec::PcmA(sound), Kind::Key, 0),
            (Codec::Script, Kind::Config, 0),
        ];
        for (codec, kind, cts) in kinds {
            for length in [0, 1, 300, 59_990, 59_991, 59_995, 60_000, 60_001, 130_000, 180_000] {
                for timestamp in [0, 40, 0xff_fffe, 0xff_ffff, 0x100_0000, u32::MAX] {
                    let frame = frame(codec, kind, cts, length);
                    let packed =
                        Packed::new(frame.clone(), 0, timestamp, Duration::ZERO, None, &budget).unwrap();
                    let case = format!("{codec:?} {kind:?} {length} {timestamp:#x}");
                    let rtmp = written(&packed, Form::Rtmp, 0);
                    assert!(rtmp == rtmp::pack(&frame, timestamp), "{case}");
                    assert_eq!(rtmp.len(), packed.len(Form::Rtmp), "{case}");
                    let tag = written(&packed, Form::Flv, 0);
                    assert!(tag == flv::pack_tag(&frame, timestamp), "{case}");
                    assert_eq!(tag.len(), packed.len(Form::Flv), "{case}");
                }
            }
        }
    }

    #[test]
    fn a_write_may_stop_at_any_byte() {
        let budget = Budget::new(u64::MAX);
        let packed =
            Packed::new(frame(Codec::H264, Kind::Key, 0, 60_100), 0, 0, Duration::ZERO, None, &budget)
                .unwrap();
        for form in [Form::Rtmp, Form::Flv] {
            let whole = written(&packed, form, 0);
            for skip in (0..40).chain(59_980..60_020).chain(whole.len() - 5..=whole.len()) {
                assert!(written(&packed, form, skip) == whole[skip..], "{form:?} {skip}");
            }
        }
    }

    #[test]
    fn frames_without_room_in_length_field_or_budget_are_refused() {
        let budget = Budget::new(1000);
        let long = frame(Codec::Aac, Kind::Key, 0, BODY_BYTES_MAX - 1);
        let pack =
            |frame| Packed::new(frame, 0, 0, Duration::ZERO, None, &budget).map(|packed| packed.cost());
        assert_eq!(pack(long), Err(Unpackable::TooLong(BODY_BYTES_MAX + 1)));
        assert_eq!(pack(frame(Codec::Aac, Kind::Key, 0, 1000)), Err(Unpackable::Budget));
        assert!(pack(frame(Codec::Aac, Kind::Key, 0, 100)).is_ok());
        assert_eq!(budget.used(), 0);
    }
}
