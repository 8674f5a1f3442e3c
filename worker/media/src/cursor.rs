//! A viewer's place in the ring: what it gets next, and what it has got of it.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;

use bytes::{Buf, Bytes};

use crate::limits::{WRITE_BYTES_MAX, WRITE_PIECES_MAX};
use crate::packed::{Form, Packed};
use crate::ring::Ring;

/// A viewer's place. Between two frames it is a number; inside of one it holds that frame, which the ring may let go meanwhile.
///
/// What is sent next is, in this order: the rest of the frame that was cut, words of the session (they may stand between frames
/// only), the ring's frames from `seq` on.
#[derive(Debug, Default)]
pub struct Cursor {
    seq: u64,
    cut: Option<(Arc<Packed>, usize)>,
    words: VecDeque<Bytes>,
}

/// Whether a cursor's next frame is in the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has got all there is.
    Level,
    /// Frames or words wait for it.
    Behind,
    /// The ring has let go of its next frame.
    Fallen,
}

impl Cursor {
    /// A cursor whose next frame is `seq`.
    pub fn new(seq: u64) -> Self {
        Cursor { seq, ..Cursor::default() }
    }

    /// Number of the next whole frame.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Goes on at another frame.
    pub fn jump(&mut self, seq: u64) {
        self.seq = seq;
    }

    /// Appends words of the session.
    pub fn say(&mut self, words: Bytes) {
        if !words.is_empty() {
            self.words.push_back(words);
        }
    }

    /// True where neither words nor the rest of a frame wait: the cursor is its number alone.
    pub fn is_plain(&self) -> bool {
        self.cut.is_none() && self.words.is_empty()
    }

    /// Whether there is something for it, or nothing any more.
    pub fn standing(&self, ring: &Ring) -> Standing {
        if self.seq < ring.base() {
            Standing::Fallen
        } else if self.seq < ring.end() || !self.is_plain() {
            Standing::Behind
        } else {
            Standing::Level
        }
    }

    /// Puts the pieces of one write into `out`, as many as one write may take, and returns their bytes. A fallen cursor gets what
    /// it held itself, nothing of the ring.
    pub fn gather<'a>(&'a self, ring: &'a Ring, form: Form, out: &mut Vec<IoSlice<'a>>) -> usize {
        out.clear();
        let mut bytes = 0;
        if let Some((packed, offset)) = &self.cut {
            packed.gather(form, *offset, out);
            bytes += packed.len(form) - offset;
        }
        for words in &self.words {
            if out.len() >= WRITE_PIECES_MAX {
                return bytes;
            }
            out.push(IoSlice::new(words));
            bytes += words.len();
        }
        if self.seq >= ring.base() {
            bytes += gather_from(ring, self.seq, form, bytes, out).bytes;
        }
        bytes
    }

    /// Moves on by what was written.
    pub fn advance(&mut self, ring: &Ring, form: Form, mut written: usize) {
        if let Some((packed, offset)) = &mut self.cut {
            let left = packed.len(form) - *offset;
            if written < left {
                *offset += written;
                return;
            }
            written -= left;
            self.cut = None;
        }
        while let Some(words) = self.words.front_mut() {
            if written < words.len() {
                words.advance(written);
                return;
            }
            written -= words.len();
            self.words.pop_front();
        }
        if self.words.capacity() > 0 {
            // Words are rare, viewers are many.
            self.words = VecDeque::new();
        }
        while written > 0 {
            let packed = ring.frame(self.seq).expect("no more is written than was gathered from this ring");
            let length = packed.len(form);
            self.seq += 1;
            if written < length {
                self.cut = Some((packed.clone(), written));
                return;
            }
            written -= length;
        }
    }
}

/// What was gathered of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gathered {
    /// Their bytes.
    pub bytes: usize,
    /// The frame after the last one gathered.
    pub end: u64,
}

/// Appends whole frames from `seq` on, as many as one write may take that has `before` bytes already. All viewers that want this frame
/// next in this form share the pieces.
pub fn gather_from<'a>(
    ring: &'a Ring,
    seq: u64,
    form: Form,
    before: usize,
    out: &mut Vec<IoSlice<'a>>,
) -> Gathered {
    let mut gathered = Gathered { bytes: 0, end: seq };
    for packed in ring.from(seq) {
        if before + gathered.bytes >= WRITE_BYTES_MAX || out.len() >= WRITE_PIECES_MAX {
            break;
        }
        packed.gather(form, 0, out);
        gathered.bytes += packed.len(form);
        gathered.end += 1;
    }
    gathered
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::budget::Budget;
    use crate::frame::{Codec, Frame, Kind};
    use crate::ring::Bounds;

    fn ring(budget: &Budget, frames: &[usize]) -> Ring {
        let mut ring = Ring::new(Bounds { bytes_max: 1 << 20, ..Bounds::default() });
        frames.iter().for_each(|&length| push(&mut ring, budget, length));
        ring
    }

    fn push(ring: &mut Ring, budget: &Budget, length: usize) {
        let seq = ring.end();
        let payload = vec![seq as u8; length].into();
        let frame = Frame { codec: Codec::H264, kind: Kind::Inter, dts_ms: 0, cts_ms: 0, payload };
        ring.push(Packed::new(frame, 0, seq as u32, Duration::ZERO, None, budget).unwrap(), Duration::ZERO);
    }

    fn all(cursor: &Cursor, ring: &Ring, form: Form) -> Vec<u8> {
        let mut pieces = vec![];
        let bytes = cursor.gather(ring, form, &mut pieces);
        let all: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
        assert_eq!(all.len(), bytes);
        all
    }

    #[test]
    fn writes_cut_anywhere_give_the_same_bytes_and_words_stand_between_frames() {
        let budget = Budget::new(u64::MAX);
        let ring = ring(&budget, &[10, 100, 0, 50]);
        for form in [Form::Rtmp, Form::Flv] {
            let whole = all(&Cursor::new(0), &ring, form);
            let first = ring.frame(0).unwrap().len(form);
            for step in 1..whole.len() {
                let mut cursor = Cursor::new(0);
                let mut got = vec![];
                let mut said = false;
                while cursor.standing(&ring) == Standing::Behind {
                    let next = all(&cursor, &ring, form);
                    let written = step.min(next.len());
                    got.extend_from_slice(&next[..written]);
                    cursor.advance(&ring, form, written);
                    if !said && got.len() < first {
                        said = true;
                        cursor.say(Bytes::from_static(b"WORDS"));
                    }
                }
                let mut want = whole.clone();
                if said {
                    want.splice(first..first, *b"WORDS");
                }
                assert!(got == want, "{form:?} in steps of {step}");
                assert!(cursor.is_plain());
            }
        }
    }

    #[test]
    fn one_that_fell_out_inside_a_frame_still_gets_its_rest_and_the_budget_knows() {
        let budget = Budget::new(u64::MAX);
        let mut ring = ring(&budget, &[100, 100]);
        let mut cursor = Cursor::new(0);
        let whole = all(&cursor, &ring, Form::Flv);
        cursor.advance(&ring, Form::Flv, 30);
        ring.clear();
        push(&mut ring, &budget, 10);
        assert_eq!(cursor.standing(&ring), Standing::Fallen);
        let length = whole.len() / 2;
        assert!(all(&cursor, &ring, Form::Flv) == whole[30..length]);
        assert!(budget.used() > ring.bytes());
        cursor.advance(&ring, Form::Flv, length - 30);
        assert!(cursor.is_plain() && all(&cursor, &ring, Form::Flv).is_empty());
        assert_eq!(budget.used(), ring.bytes());
        cursor.jump(ring.base());
        assert_eq!(cursor.standing(&ring), Standing::Behind);
    }

    #[test]
    fn one_write_is_bounded() {
        let budget = Budget::new(u64::MAX);
        let many = ring(&budget, &[1; 1000]);
        let mut pieces = vec![];
        let mut cursor = Cursor::new(0);
        cursor.gather(&many, Form::Flv, &mut pieces);
        assert!(pieces.len() < 1024, "{}", pieces.len());
        let big = ring(&budget, &[100_000; 8]);
        assert!(cursor.gather(&big, Form::Rtmp, &mut pieces) < WRITE_BYTES_MAX + 100_100);
        (0..5000).for_each(|_| cursor.say(Bytes::from_static(b"x")));
        let mut pieces = vec![];
        assert_eq!(cursor.gather(&big, Form::Rtmp, &mut pieces), WRITE_PIECES_MAX);
    }
}
