//! MPEG-2 Program Streams (ISO/IEC 13818-1 §2.5) as GB/T 28181 annex C has cameras send them: demultiplexer and multiplexer.
//!
//! ```text
//!  RTP payloads ─ Demux: unit ─┬─ pack, system header, map ─ clock, codecs
//!                              ├─ PES of video ─ video: access units ─ h26x ─┐
//!                              └─ PES of audio ─ audio: ADTS, G.711 ─────────┴─→ Output
//! ```
//!
//! Cameras don't keep to the standards, so nothing is believed twice: codecs are told by the data where it can tell them, the
//! map names what is refused; a length is followed only as far as the data agrees; a marker bit or a pack ends a picture only
//! where it has been seen to.

mod audio;
mod demux;
mod g711;
pub mod limits;
mod map;
mod mux;
mod unit;
mod video;

#[cfg(test)]
pub(crate) mod tests;

pub use demux::{Demux, Output};
pub use mux::{MapPlace, Muxer, Program, Unit};
pub use unit::{PACK_BYTES, is_pack_header};

/// Times of an access unit in 90 kHz.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) pts: i64,
    pub(crate) dts: i64,
}

impl Stamp {
    /// Decoding time in milliseconds, and what presentation adds to it.
    pub(crate) fn to_ms(self) -> (i64, i32) {
        // Rounded to the nearest, each for itself, so that neither drifts.
        let ms = |ticks: i64| ticks.saturating_add(45).div_euclid(90);
        let dts = ms(self.dts);
        (dts, i32::try_from(ms(self.pts) - dts).unwrap_or(0))
    }
}
