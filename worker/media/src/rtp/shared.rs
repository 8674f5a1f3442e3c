//! Whose a packet is where many streams share a port: its SSRC says so, before anything of the stream is known.
//!
//! Nothing is kept of a datagram, nor of a connection once it has shown an SSRC that nobody knows.

use bytes::{BufMut, Bytes, BytesMut};

use super::limits::OPENING_BYTES_MAX;
use super::packet::{HEAD_BYTES, Packet, is_rtcp};
use super::rfc4571::{Deframer, frame};
use crate::dropped::Counters;
use crate::ps::{PACK_BYTES, is_pack_header};

/// The SSRC that a datagram is of: the sender's, of RTP as of RTCP on the same port (RFC 5761). Absent: it is neither.
pub fn ssrc_of(datagram: &[u8]) -> Option<u32> {
    let (at, least) = if is_rtcp(datagram) { (4, 8) } else { (8, HEAD_BYTES) };
    let is_rtp = datagram.len() >= least && datagram[0] >> 6 == 2;
    let ssrc = datagram.get(at..at + 4).filter(|_| is_rtp)?;
    Some(u32::from_be_bytes(ssrc.try_into().expect("four bytes are asked for")))
}

/// A connection that is nobody's yet.
#[derive(Debug)]
pub struct Opening {
    deframer: Deframer,
    taken: usize,
}

/// What the bytes of a connection said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// Nothing so far.
    Undecided,
    /// It is of this stream: a valid PS pack begins in the first of these framed packets.
    Stream {
        /// Whose it is.
        ssrc: u32,
        /// All bytes from that packet on.
        bytes: Bytes,
    },
    /// It sends packets of an SSRC that nobody has.
    Unknown {
        /// Which.
        ssrc: u32,
    },
    /// It sent [`OPENING_BYTES_MAX`] bytes without such a packet.
    Noise,
}

impl Default for Opening {
    fn default() -> Self {
        // Any SSRC may come, so the first packet is believed on other evidence.
        Opening { deframer: Deframer::new(None), taken: 0 }
    }
}

impl Opening {
    /// Takes bytes, in pieces of any size. Anything but [`Opened::Undecided`] is the last word.
    pub fn receive(&mut self, bytes: &[u8], knows: impl Fn(u32) -> bool) -> Opened {
        self.taken += bytes.len();
        self.deframer.push(bytes);
        // What precedes the first packet is counted by the stream that it turns out to be of, and by nobody where there is none.
        let mut counters = Counters::default();
        while let Some(bytes) = self.deframer.poll(&mut counters) {
            let Ok(packet) = Packet::parse(&bytes) else { continue };
            if is_rtcp(&bytes) {
                continue;
            }
            let ssrc = packet.ssrc;
            if !knows(ssrc) {
                return Opened::Unknown { ssrc };
            }
            if packet.payload.windows(PACK_BYTES).any(is_pack_header) {
                return Opened::Stream { ssrc, bytes: self.all_from(&bytes) };
            }
        }
        if self.taken >= OPENING_BYTES_MAX { Opened::Noise } else { Opened::Undecided }
    }

    /// Bytes that are held: a cut packet at most, and what was read with it.
    pub fn held(&self) -> usize {
        self.deframer.held()
    }

    /// The packet and all behind it, as they came.
    fn all_from(&mut self, packet: &[u8]) -> Bytes {
        let rest = std::mem::replace(&mut self.deframer, Deframer::new(None)).into_rest();
        let mut bytes = BytesMut::with_capacity(2 + packet.len() + rest.len());
        bytes.put(frame(packet));
        bytes.put(rest);
        bytes.freeze()
    }
}

#[cfg(test)]
#[path = "shared/tests.rs"]
mod tests;
