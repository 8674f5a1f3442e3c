//! The handshake (RTMP 1.0 §5.2) on either side.
//!
//! The plain form is spoken. A client that offers the digest form of Flash Player 9 is answered in the plain one: version 0 in S1
//! says so, and ffmpeg, librtmp and GStreamer go on from there.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::Error;

/// Bytes of each of C1, S1, C2 and S2.
const SIZE: usize = 1536;
const VERSION: u8 = 3;

/// Which side of the connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Server,
    Client,
}

/// One side's handshake. The server speaks when it has C0 and C1, the client at once.
#[derive(Debug)]
pub struct Handshake {
    side: Side,
    own: OwnPacket,
    received: BytesMut,
    peer_acknowledged: usize,
}

/// The random part of our C1 or S1 comes from a seed, so that a test's bytes are the same on each run.
#[derive(Debug)]
struct OwnPacket {
    seed: u64,
}

/// What came of more bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// All input is taken; more is needed.
    NeedMore,
    /// The handshake is over; what is left in the input are chunks.
    Done,
}

impl Handshake {
    /// The server's side.
    pub fn server(seed: u64) -> Self {
        Handshake {
            side: Side::Server,
            own: OwnPacket { seed },
            received: BytesMut::new(),
            peer_acknowledged: 0,
        }
    }

    /// The client's side, and its C0 and C1.
    pub fn client(seed: u64) -> (Self, Bytes) {
        let own = OwnPacket { seed };
        let mut hello = BytesMut::with_capacity(1 + SIZE);
        hello.put_u8(VERSION);
        own.put(&mut hello);
        let side = Handshake { side: Side::Client, own, received: BytesMut::new(), peer_acknowledged: 0 };
        (side, hello.freeze())
    }

    /// Takes bytes from the front of `input`, and hands out what is to be sent for them.
    pub fn receive(&mut self, input: &mut Bytes) -> Result<(Progress, Option<Bytes>), Error> {
        let mut answer = None;
        let missing = 1 + SIZE - self.received.len();
        if missing > 0 {
            let taken = input.split_to(input.len().min(missing));
            self.received.extend_from_slice(&taken);
            if let Some(&version) = self.received.first()
                && version != VERSION
            {
                return Err(Error::HandshakeVersion { version });
            }
            if self.received.len() <= SIZE {
                return Ok((Progress::NeedMore, None));
            }
            answer = Some(self.answer());
        }
        // C2 or S2 repeats what we sent. Nothing depends on it, and some clients get it wrong.
        let skipped = input.len().min(SIZE - self.peer_acknowledged);
        input.advance(skipped);
        self.peer_acknowledged += skipped;
        let progress = if self.peer_acknowledged == SIZE { Progress::Done } else { Progress::NeedMore };
        Ok((progress, answer))
    }

    /// S0, S1 and S2, or C2. The last packet of either side repeats the peer's first.
    fn answer(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(1 + 2 * SIZE);
        match self.side {
            Side::Server => {
                out.put_u8(VERSION);
                self.own.put(&mut out);
            }
            Side::Client => {}
        }
        out.put_slice(&self.received[1..]);
        out.freeze()
    }
}

impl OwnPacket {
    /// Time 0, version 0 ("plain"), then filler (splitmix64).
    fn put(&self, out: &mut BytesMut) {
        out.put_u64(0);
        let mut state = self.seed;
        for _ in 0..(SIZE - 8) / 8 {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = state;
            mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            out.put_u64(mixed ^ mixed >> 31);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{Handshake, Progress};
    use crate::rtmp::Error;

    /// Feeds pieces; what came out, and how much of the last piece was left.
    fn feed(side: &mut Handshake, bytes: &[u8], size: usize) -> (Vec<u8>, Progress, usize) {
        let (mut out, mut progress, mut left) = (Vec::new(), Progress::NeedMore, 0);
        for piece in bytes.chunks(size) {
            let mut piece = Bytes::copy_from_slice(piece);
            let (now, answer) = side.receive(&mut piece).unwrap();
            out.extend(answer.iter().flatten());
            (progress, left) = (now, piece.len());
        }
        (out, progress, left)
    }

    #[test]
    fn both_sides_end_with_each_others_packets_repeated() {
        for size in [1, 7, 1536, 1537, 5000] {
            let mut server = Handshake::server(1);
            let (mut client, hello) = Handshake::client(2);
            let (answer, progress, _) = feed(&mut server, &hello, size);
            assert_eq!((answer.len(), progress), (1 + 2 * 1536, Progress::NeedMore));
            assert_eq!(answer[0], 3);
            assert_eq!(answer[5..9], [0; 4], "version 0 says that the plain form is spoken");
            assert_eq!(answer[1537..], hello[1..]);
            let (last, progress, _) = feed(&mut client, &answer, size);
            assert_eq!((last.as_slice(), progress), (&answer[1..1537], Progress::Done));
            let with_chunk = [last, vec![2; 3]].concat();
            let (nothing, progress, left) = feed(&mut server, &with_chunk, with_chunk.len());
            assert_eq!((nothing, progress, left), (vec![], Progress::Done, 3));
        }
    }

    #[test]
    fn another_protocol_is_refused_at_its_first_byte() {
        let error = Handshake::server(1).receive(&mut Bytes::from_static(b"G")).unwrap_err();
        assert_eq!(error, Error::HandshakeVersion { version: b'G' });
    }
}
