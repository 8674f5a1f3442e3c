//! Packs into packets, for the sender of tour and tests.

use bytes::Bytes;

use super::packet::Packet;

/// Numbers the packets of one source.
#[derive(Clone, Debug)]
pub struct Packetizer {
    ssrc: u32,
    sequence: u16,
    payload_bytes: usize,
}

/// The payload type that GB/T 28181 annex C gives to PS.
pub const PAYLOAD_TYPE_PS: u8 = 96;

impl Packetizer {
    /// A packetizer whose first packet has this sequence number. Payloads are at most `payload_bytes` long, and at least 1.
    pub fn new(ssrc: u32, sequence: u16, payload_bytes: usize) -> Packetizer {
        Packetizer { ssrc, sequence, payload_bytes: payload_bytes.max(1) }
    }

    /// The packets of one pack; the last has the marker bit.
    pub fn packets(&mut self, pack: Vec<u8>, timestamp: u32) -> Vec<Packet> {
        let pack = Bytes::from(pack);
        let starts = (0..pack.len()).step_by(self.payload_bytes);
        starts
            .map(|start| {
                let end = pack.len().min(start + self.payload_bytes);
                let sequence = self.sequence;
                self.sequence = sequence.wrapping_add(1);
                Packet {
                    marker: end == pack.len(),
                    payload_type: PAYLOAD_TYPE_PS,
                    sequence,
                    timestamp,
                    ssrc: self.ssrc,
                    payload: pack.slice(start..end),
                }
            })
            .collect()
    }
}
