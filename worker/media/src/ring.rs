//! The ring of one stream: packed frames in order, bounded by bytes, age and number, and no longer than viewers need.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::limits::{RING_AGE_MAX, RING_BYTES_MAX, RING_FRAMES_MAX};
use crate::packed::Packed;

/// Packed frames, each under a sequence number that only rises.
#[derive(Debug)]
pub struct Ring {
    bounds: Bounds,
    frames: VecDeque<Arc<Packed>>,
    /// Sequence number of the oldest frame held, or of the next one to come.
    base: u64,
    bytes: u64,
    /// Where a new viewer begins: the newest key frame, or the newest sound where there are no pictures.
    newest_start: Option<u64>,
}

/// How much a ring may hold.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes, heads included.
    pub bytes_max: u64,
    /// Age of the oldest frame, unless a new viewer would begin at it.
    pub age_max: Duration,
    /// Frames.
    pub frames_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds { bytes_max: RING_BYTES_MAX, age_max: RING_AGE_MAX, frames_max: RING_FRAMES_MAX }
    }
}

impl Ring {
    /// An empty ring.
    pub fn new(bounds: Bounds) -> Self {
        Ring { bounds, frames: VecDeque::new(), base: 0, bytes: 0, newest_start: None }
    }

    /// Appends a frame and lets go of the oldest ones, as the bounds want it.
    pub fn push(&mut self, packed: Packed, now: Duration) {
        let seq = self.end();
        if packed.start.is_some() {
            self.newest_start = Some(seq);
        }
        self.bytes += packed.cost();
        self.frames.push_back(Arc::new(packed));
        while self.bytes > self.bounds.bytes_max || self.frames.len() > self.bounds.frames_max {
            self.pop();
        }
        while self.newest_start.is_some_and(|start| self.base < start)
            && self.frames.front().is_some_and(|oldest| oldest.at + self.bounds.age_max < now)
        {
            self.pop();
        }
    }

    /// Lets go of what nobody needs: what is older than both the newest start and `needed`, the frame that the slowest viewer wants next.
    pub fn trim(&mut self, needed: u64) {
        let Some(start) = self.newest_start else { return };
        while self.base < start.min(needed) {
            self.pop();
        }
        // A burst is not to be paid for for ever.
        if self.frames.capacity() > 64 && self.frames.capacity() / 4 > self.frames.len() {
            self.frames.shrink_to(self.frames.len() * 2);
        }
    }

    /// Lets go of the oldest half of the bytes: the process's budget is used up.
    pub fn halve(&mut self) {
        let target = self.bytes / 2;
        while self.bytes > target {
            self.pop();
        }
    }

    /// Lets go of everything. Sequence numbers go on.
    pub fn clear(&mut self) {
        self.base = self.end();
        self.frames = VecDeque::new();
        self.bytes = 0;
        self.newest_start = None;
    }

    /// New viewers wait for the next start.
    pub fn close_start(&mut self) {
        self.newest_start = None;
    }

    /// Where a new viewer begins.
    pub fn newest_start(&self) -> Option<u64> {
        self.newest_start
    }

    /// The frame of this number, if it is held.
    pub fn frame(&self, seq: u64) -> Option<&Arc<Packed>> {
        self.frames.get(usize::try_from(seq.checked_sub(self.base)?).ok()?)
    }

    /// Frames from this number on.
    pub fn from(&self, seq: u64) -> impl Iterator<Item = &Arc<Packed>> {
        let begin = usize::try_from(seq.saturating_sub(self.base)).unwrap_or(usize::MAX);
        self.frames.range(begin.min(self.frames.len())..)
    }

    /// Number of the oldest frame held, or of the next one to come.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Number of the next frame to come.
    pub fn end(&self) -> u64 {
        self.base + self.frames.len() as u64
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Frames held.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// True where no frame is held.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    fn pop(&mut self) {
        let Some(oldest) = self.frames.pop_front() else { return };
        self.bytes -= oldest.cost();
        if self.newest_start == Some(self.base) {
            self.newest_start = None;
        }
        self.base += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;
    use crate::frame::{Codec, Frame, Kind};
    use crate::tracks::Tracks;

    /// Each step is a letter and a number: `k5` a key frame at 5 s, `i5` another, `t5` trim to frame 5, `h` halve, `c` clear. Frames cost 1 000 bytes.
    fn run(bounds: Bounds, steps: &str) -> String {
        let budget = Budget::new(u64::MAX);
        let mut ring = Ring::new(bounds);
        for step in steps.split_whitespace() {
            let (kind, number) = step.split_at(1);
            match kind {
                "k" | "i" => {
                    let now = Duration::from_secs(number.parse().unwrap());
                    let frame = Frame {
                        codec: Codec::H264,
                        kind: Kind::Key,
                        dts_ms: 0,
                        cts_ms: 0,
                        payload: vec![0; 1000 - size_of::<Packed>()].into(),
                    };
                    let start = (kind == "k").then(|| Arc::new(Tracks::default()));
                    ring.push(Packed::new(frame, 0, 0, now, start, &budget).unwrap(), now);
                }
                "t" => ring.trim(number.parse().unwrap()),
                "h" => ring.halve(),
                _ => ring.clear(),
            }
            assert_eq!(ring.bytes(), budget.used());
            assert_eq!(ring.bytes(), ring.len() as u64 * 1000);
        }
        format!("{}..{} start {:?}", ring.base(), ring.end(), ring.newest_start())
    }

    #[test]
    fn a_ring_holds_no_more_than_its_bounds_and_no_less_than_the_newest_gop() {
        let bounds = Bounds { bytes_max: 5000, age_max: Duration::from_secs(10), frames_max: 100 };
        let few = Bounds { frames_max: 2, ..bounds };
        let cases = [
            (bounds, "k1 i2 i3", "0..3 start Some(0)"),
            // by bytes, the newest start too when its GOP is longer than the ring
            (bounds, "k1 i2 k3 i4 i5 i6", "1..6 start Some(2)"),
            (bounds, "k1 i2 i3 i4 i5 i6", "1..6 start None"),
            (few, "k1 i2 k3", "1..3 start Some(2)"),
            // by age, but not the newest start
            (bounds, "k1 i2 k3 i13", "2..4 start Some(2)"),
            (bounds, "k1 i2 i20", "0..3 start Some(0)"),
            // by need: back to the slowest viewer, and never beyond the newest start
            (bounds, "k1 i2 k3 i4 t1", "1..4 start Some(2)"),
            (bounds, "k1 i2 k3 i4 t9", "2..4 start Some(2)"),
            (bounds, "i1 i2 t9", "0..2 start None"),
            (bounds, "k1 i2 i3 i4 h", "2..4 start None"),
            (bounds, "k1 i2 c k3", "2..3 start Some(2)"),
        ];
        for (bounds, steps, want) in cases {
            assert_eq!(run(bounds, steps), want, "{steps}");
        }
    }

    #[test]
    fn the_default_holds_12_s_at_8_mbit_s() {
        let bounds = Bounds::default();
        let frames = 12 * (60 + 50);
        assert!(12 * 8_000_000 / 8 + frames * size_of::<Packed>() as u64 <= bounds.bytes_max);
        assert!(frames as usize <= bounds.frames_max && bounds.age_max >= Duration::from_secs(12));
    }
}
