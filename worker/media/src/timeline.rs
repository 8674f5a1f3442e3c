//! Stream time: one clock a stream that never goes back, whatever its sources' clocks do.
//!
//! It is the wall clock since the stream's creationTimestamp, sampled when an epoch starts; from a source's first frame on it
//! takes the source's own steps, so that what players get is the source's timing plus one constant. Where that would go
//! back (a new source, a clock that was set) it is clamped upwards, track by track: encoders interleave tracks loosely, and
//! holding one track to the other's clock would bend timing that is right.

use std::time::Duration;

use crate::frame::{Frame, Track};
use crate::limits::{SOURCE_STEP_BACK_MAX, STREAM_TIME_LEAD};

/// The clock of one stream.
#[derive(Clone, Debug)]
pub struct Timeline {
    /// Stream time at `sampled_at`.
    origin_ms: i64,
    sampled_at: Duration,
    /// What the wire counts from; see [`wire`](Self::wire).
    wire_base_ms: i64,
    source: Source,
    /// The last dts given out, by track.
    last_ms: [Option<i64>; 3],
}

/// How the present source's clock maps to stream time.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// No media frame came of it yet.
    Unmapped,
    Mapped {
        offset_ms: i64,
        /// The offset before the source's clock was set back: tracks don't jump in the same instant.
        former_ms: Option<i64>,
    },
}

/// Where a frame stands in stream time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Decoding time in stream time.
    pub dts_ms: i64,
    /// Presentation time less decoding time.
    pub cts_ms: i32,
}

impl Timeline {
    /// The clock of a stream made at `created_unix_ms`, sampled at `now`, which is `now_unix_ms` on the wall.
    pub fn new(created_unix_ms: u64, now_unix_ms: u64, now: Duration) -> Self {
        // A wall clock behind the creator's must not make time negative, nor may a track that starts before the other.
        let age_ms = i64::try_from(now_unix_ms.saturating_sub(created_unix_ms)).unwrap_or(0);
        let origin_ms = age_ms.max(millis(STREAM_TIME_LEAD));
        // RTMP and FLV count 32 bits, and players that take them for signed know 31. Beginning below 2^30 leaves those 12
        // days and the others 37 before the count wraps, however old the stream is.
        let wire_base_ms = origin_ms & !((1 << 30) - 1);
        Timeline { origin_ms, sampled_at: now, wire_base_ms, source: Source::Unmapped, last_ms: [None; 3] }
    }

    /// Another source begins: its clock has nothing to do with the former one's.
    pub fn begin_source(&mut self) {
        self.source = Source::Unmapped;
    }

    /// Places a media frame.
    pub fn place(&mut self, frame: &Frame, now: Duration) -> Place {
        let track = frame.codec.track();
        let last = self.last_ms[index(track)];
        let wanted = match &mut self.source {
            Source::Unmapped => {
                let begin = self.next(now);
                self.source =
                    Source::Mapped { offset_ms: begin.saturating_sub(frame.dts_ms), former_ms: None };
                begin
            }
            Source::Mapped { offset_ms, former_ms } => {
                let wanted = frame.dts_ms.saturating_add(*offset_ms);
                let back_max = millis(SOURCE_STEP_BACK_MAX);
                let near = |at: i64| last.is_none_or(|last| (last - at).abs() <= back_max);
                let by_former = former_ms.map(|former| frame.dts_ms.saturating_add(former));
                if let Some(at) = by_former.filter(|&at| near(at) && !near(wanted)) {
                    at
                } else if last.is_some_and(|last| wanted < last - back_max) {
                    let begin = latest(&self.last_ms).map_or(0, |last| last + 1);
                    *former_ms = Some(*offset_ms);
                    *offset_ms = begin.saturating_sub(frame.dts_ms);
                    begin
                } else {
                    wanted
                }
            }
        };
        let dts_ms = last.map_or(wanted, |last| wanted.max(last)).max(0);
        self.last_ms[index(track)] = Some(dts_ms);
        // Decoding was put off, presentation stays where it was as long as it isn't before decoding.
        let late = dts_ms.saturating_sub(wanted).min(i64::from(frame.cts_ms.max(0)));
        Place { dts_ms, cts_ms: frame.cts_ms - i32::try_from(late).unwrap_or(0) }
    }

    /// Where something without a time of its own (a decoder configuration) stands if it comes at `now`: at the frame before it, or
    /// where the source's first frame will be.
    pub fn place_untimed(&self, now: Duration) -> i64 {
        match self.source {
            Source::Unmapped => self.next(now),
            Source::Mapped { .. } => latest(&self.last_ms).unwrap_or_else(|| self.next(now)),
        }
    }

    /// Stream time as RTMP and FLV write it: 32 bits of it, from a base that is constant for the stream's stay on this worker.
    pub fn wire(&self, dts_ms: i64) -> u32 {
        (dts_ms - self.wire_base_ms) as u32
    }

    fn next(&self, now: Duration) -> i64 {
        let clock = self.origin_ms + millis(now.saturating_sub(self.sampled_at));
        latest(&self.last_ms).map_or(clock, |last| clock.max(last + 1))
    }
}

fn latest(last_ms: &[Option<i64>; 3]) -> Option<i64> {
    last_ms.iter().copied().flatten().max()
}

fn index(track: Track) -> usize {
    match track {
        Track::Video => 0,
        Track::Audio => 1,
        Track::Data => 2,
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::frame::{Codec, Kind};

    /// Reads steps and returns what came out: `v100` a video frame at 100 ms, `v100+80` with a composition time, `a100` audio,
    /// `@5000` the clock stands at 5 s, `new` another source.
    fn run(created_ago_ms: u64, steps: &str) -> String {
        let mut now = Duration::ZERO;
        let mut line = Timeline::new(1_000_000_000_000 - created_ago_ms, 1_000_000_000_000, now);
        let mut out = vec![];
        for step in steps.split_whitespace() {
            let (kind, rest) = step.split_at(1);
            match kind {
                "n" => line.begin_source(),
                "@" => now = Duration::from_millis(rest.parse().unwrap()),
                _ => {
                    let (dts, cts) = rest.split_once('+').unwrap_or((rest, "0"));
                    let codec = if kind == "v" { Codec::H264 } else { Codec::Aac };
                    let frame = Frame {
                        codec,
                        kind: Kind::Key,
                        dts_ms: dts.parse().unwrap(),
                        cts_ms: cts.parse().unwrap(),
                        payload: Bytes::new(),
                    };
                    let place = line.place(&frame, now);
                    let cts = if cts == "0" { String::new() } else { format!("+{}", place.cts_ms) };
                    out.push(format!("{kind}{}{cts}", place.dts_ms));
                }
            }
        }
        out.join(" ")
    }

    #[test]
    fn stream_time_takes_the_sources_steps_and_never_goes_back() {
        let cases = [
            // the source's own steps plus one constant, from the wall clock since creation on
            (5_000, "v0+80 a0 a21 v40+40 a43", "v5000+80 a5000 a5021 v5040+40 a5043"),
            // an audio track that begins before the video, or is interleaved loosely, keeps its timing
            (5_000, "v80 a0 a21 v120 a43", "v5000 a4920 a4941 v5040 a4963"),
            // a stream made this instant has room for that, too
            (0, "v80 a0", "v1000 a920"),
            // the first frame is placed by the clock, however late it comes
            (5_000, "@2000 v0 v40", "v7000 v7040"),
            // another source goes on from the clock, or behind the last frame where the former ran ahead of the clock
            (5_000, "v0 v40 a50 new @5000 v900 v940", "v5000 v5040 a5050 v10000 v10040"),
            (5_000, "v0 v9000 a9010 new @5000 v0 a0 v40", "v5000 v14000 a14010 v14011 a14011 v14051"),
            // a small step back is clamped, presentation stays
            (5_000, "v0 v40 v20+80 v80", "v5000 v5040 v5040+60 v5080"),
            // a clock that was set back goes on without a gap, in both tracks, though they jump at different moments
            (
                5_000,
                "v90000 a90000 v90040 v0 a90021 v40 a0 a21",
                "v5000 a5000 v5040 v5041 a5021 v5081 a5041 a5062",
            ),
            // a step forward is the source's own
            (5_000, "v0 v60000", "v5000 v65000"),
        ];
        for (ago, steps, want) in cases {
            assert_eq!(run(ago, steps), want, "{steps}");
        }
    }

    #[test]
    fn the_wire_counts_from_below_2_pow_30() {
        let day = 86_400_000;
        for age in [0, day, 30 * day, 300 * day] {
            let line = Timeline::new(0, age, Duration::ZERO);
            let begin = line.place_untimed(Duration::ZERO);
            assert!(line.wire(begin) < 1 << 30, "{age}");
            assert_eq!(line.wire(begin + 40), line.wire(begin) + 40);
        }
    }
}
