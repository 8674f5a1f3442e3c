//! Packets in a connection: two bytes of length before each (RFC 4571), or the four of RTSP's interleaving (RFC 2326 §10.12),
//! which some cameras send on a bare connection too.
//!
//! The first packet is believed only on evidence, since anything may precede it: the SSRC that is expected, a PS pack as its
//! payload, or a next packet that stands where its length says and follows it.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes, BytesMut};

use super::limits::{DEFRAME_GUESSES_MAX, DEFRAME_SWEEP_BYTES};
use super::packet::{HEAD_BYTES, is_rtcp};
use crate::dropped::{Counters, Dropped};

/// Takes a connection's bytes apart.
#[derive(Debug)]
pub struct Deframer {
    ssrc: Option<u32>,
    buffer: BytesMut,
    state: State,
    /// Where in the search the next look is taken, from the front of the buffer.
    looked: usize,
    /// Bytes looked at since the front was last dropped.
    unswept: usize,
    /// What may be packets, by where they end.
    guesses: BTreeMap<usize, Guess>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A packet is looked for.
    Searching,
    /// The next byte begins a packet.
    InStep,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Guess {
    begin: usize,
    ssrc: u32,
    sequence: u16,
}

/// Bytes of a packet that are looked at in the search: its head, and a start code as payload.
const LOOK_BYTES: usize = HEAD_BYTES + 4;
/// The bytes before a packet: those of RTSP's interleaving are more.
const PREFIX_BYTES_MAX: usize = 4;
/// The shortest RTCP packet that says something.
const RTCP_BYTES_MIN: usize = 8;

impl Deframer {
    /// A deframer; `ssrc` is that of the sender, where it is known.
    pub fn new(ssrc: Option<u32>) -> Deframer {
        Deframer {
            ssrc,
            buffer: BytesMut::new(),
            state: State::Searching,
            looked: 0,
            unswept: 0,
            guesses: BTreeMap::new(),
        }
    }

    /// Takes bytes, in pieces of any size. Poll before the next.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole packet, RTP or RTCP.
    pub fn poll(&mut self, counters: &mut Counters) -> Option<Bytes> {
        loop {
            match self.state {
                State::Searching => {
                    if !self.search(counters) {
                        return None;
                    }
                }
                State::InStep => match self.step() {
                    Step::Short => return None,
                    Step::Empty => {}
                    Step::Packet(bytes) => return Some(bytes),
                    Step::Lost => {
                        counters.drop(Dropped::Malformed, 1);
                        self.state = State::Searching;
                        (self.looked, self.unswept, self.guesses) = (0, 0, BTreeMap::new());
                    }
                },
            }
        }
    }

    /// Bytes that are held.
    pub fn held(&self) -> usize {
        self.buffer.len()
    }

    /// What was pushed behind the packets that were polled.
    pub fn into_rest(self) -> Bytes {
        self.buffer.freeze()
    }

    fn step(&mut self) -> Step {
        let Some(&first) = self.buffer.first() else { return Step::Short };
        // `$` and a channel; as a length it would be 9216 bytes and more, which is told by what follows.
        let prefix = if first == b'$' && self.is_packet_at(4) != Some(false) { 4 } else { 2 };
        let Some(length) = self.length_before(prefix) else { return Step::Short };
        if length == 0 {
            self.buffer.advance(prefix);
            return Step::Empty;
        }
        match self.is_packet_at(prefix) {
            None => Step::Short,
            Some(false) => Step::Lost,
            Some(true) if self.buffer.len() < prefix + length => Step::Short,
            Some(true) => {
                self.buffer.advance(prefix);
                Step::Packet(self.buffer.split_to(length).freeze())
            }
        }
    }

    /// Whether a packet begins at `at` with its length before it; `None` while there are too few bytes to say.
    fn is_packet_at(&self, at: usize) -> Option<bool> {
        let length = self.length_before(at)?;
        let head = self.buffer.get(at..at + 2.min(length))?;
        let least = if is_rtcp(head) { RTCP_BYTES_MIN } else { HEAD_BYTES };
        Some(length >= least && head.first().is_some_and(|flags| flags >> 6 == 2))
    }

    fn length_before(&self, at: usize) -> Option<usize> {
        let bytes = self.buffer.get(at - 2..at)?;
        Some(usize::from(u16::from_be_bytes([bytes[0], bytes[1]])))
    }

    /// Looks for the first packet; true once the buffer begins with it.
    fn search(&mut self, counters: &mut Counters) -> bool {
        self.looked = self.looked.max(2);
        while let Some(look) = self.buffer.get(self.looked..self.looked + LOOK_BYTES) {
            let at = self.looked;
            let (flags, kind) = (look[0], look[1]);
            let length = self.length_before(at).unwrap_or(0);
            // Version 2, no contributing sources, a dynamic payload type.
            if flags & 0xcf == 0x80 && kind & 0x7f >= 96 && length >= HEAD_BYTES {
                let sequence = u16::from_be_bytes([look[2], look[3]]);
                let ssrc = u32::from_be_bytes([look[8], look[9], look[10], look[11]]);
                let is_pack = look[HEAD_BYTES..] == [0, 0, 1, 0xba];
                let before = self.guess_before(at, ssrc, sequence);
                if before.is_some() || is_pack || self.ssrc == Some(ssrc) {
                    self.begin(before.unwrap_or(at), counters);
                    return true;
                }
                if self.guesses.len() >= DEFRAME_GUESSES_MAX {
                    self.forget_older_half();
                }
                self.guesses.insert(at + length, Guess { begin: at, ssrc, sequence });
            }
            self.looked += 1;
            self.forget_unfollowed();
            self.unswept += 1;
            if self.unswept == DEFRAME_SWEEP_BYTES {
                self.sweep(counters);
            }
        }
        false
    }

    /// The packet that ends where the prefix of the one at `at` begins, and that it follows.
    fn guess_before(&self, at: usize, ssrc: u32, sequence: u16) -> Option<usize> {
        [2, 4].into_iter().find_map(|prefix| {
            let guess = self.guesses.get(&at.checked_sub(prefix)?)?;
            (guess.ssrc == ssrc && guess.sequence.wrapping_add(1) == sequence).then_some(guess.begin)
        })
    }

    /// Drops what stands before the packet at `at`.
    fn begin(&mut self, at: usize, counters: &mut Counters) {
        let is_interleaved = at >= 4 && self.buffer[at - 4] == b'$';
        let noise = at - if is_interleaved { 4 } else { 2 };
        self.buffer.advance(noise);
        counters.drop(Dropped::Noise, noise as u64);
        self.state = State::InStep;
        self.guesses.clear();
    }

    /// Forgets what ended so far back that no packet can follow it any more. This and the next depend on where the search is,
    /// never on how many bytes came at once.
    fn forget_unfollowed(&mut self) {
        while let Some((&end, _)) = self.guesses.first_key_value()
            && end + PREFIX_BYTES_MAX < self.looked
        {
            self.guesses.pop_first();
        }
    }

    /// A full list is noise: the newer half is as good as all.
    fn forget_older_half(&mut self) {
        let mut begins: Vec<usize> = self.guesses.values().map(|guess| guess.begin).collect();
        begins.sort_unstable();
        let middle = begins[begins.len() / 2];
        self.guesses.retain(|_, guess| guess.begin >= middle);
    }

    /// Drops the bytes that no packet can begin with any more.
    fn sweep(&mut self, counters: &mut Counters) {
        self.unswept = 0;
        let begins = self.guesses.values().map(|guess| guess.begin);
        let first = begins.min().unwrap_or(self.looked).min(self.looked);
        let surplus = first.saturating_sub(PREFIX_BYTES_MAX).min(self.buffer.len());
        if surplus == 0 {
            return;
        }
        self.buffer.advance(surplus);
        counters.drop(Dropped::Noise, surplus as u64);
        self.looked -= surplus;
        let guesses = std::mem::take(&mut self.guesses).into_iter();
        self.guesses = guesses
            .map(|(end, guess)| (end - surplus, Guess { begin: guess.begin - surplus, ..guess }))
            .collect();
    }
}

enum Step {
    Short,
    /// A keep-alive of no bytes.
    Empty,
    Packet(Bytes),
    Lost,
}

/// Puts the length before a packet, for senders. Packets are at most 65 535 bytes long.
pub fn frame(packet: &[u8]) -> Bytes {
    debug_assert!(packet.len() <= usize::from(u16::MAX), "a packet has at most 65 535 bytes");
    let mut bytes = Vec::with_capacity(2 + packet.len());
    bytes.extend_from_slice(&(packet.len() as u16).to_be_bytes());
    bytes.extend_from_slice(packet);
    bytes.into()
}

#[cfg(test)]
#[path = "rfc4571/tests.rs"]
mod tests;
