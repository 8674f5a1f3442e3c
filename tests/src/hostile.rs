//! What hostile RTMP clients say behind a proper handshake: values nested without end, and sizes that nobody means.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Bytes of C1, S1, C2 and S2 (RTMP 1.0 §5.2).
const HANDSHAKE_BYTES: usize = 1536;
/// As chunks are before anybody says another size.
const CHUNK_BYTES: usize = 128;

/// C0 and C1.
pub fn hello() -> Vec<u8> {
    let mut hello = vec![0; 1 + HANDSHAKE_BYTES];
    hello[0] = 3;
    hello
}

/// A connection behind the handshake, whose reads and writes end after `patience`.
pub fn shaken(to: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
    let mut socket = TcpStream::connect_timeout(&to, patience)?;
    socket.set_read_timeout(Some(patience))?;
    socket.set_write_timeout(Some(patience))?;
    socket.write_all(&hello())?;
    let mut answer = vec![0; 1 + 2 * HANDSHAKE_BYTES];
    socket.read_exact(&mut answer)?;
    socket.write_all(&answer[1..=HANDSHAKE_BYTES])?;
    Ok(socket)
}

/// The head of a message of chunk stream 3 (RTMP 1.0 §5.3.1) that claims a length.
fn head(message_type: u8, length: u32) -> Vec<u8> {
    let mut bytes = vec![3, 0, 0, 0];
    bytes.extend_from_slice(&length.to_be_bytes()[1..]);
    bytes.extend_from_slice(&[message_type, 0, 0, 0, 0]);
    bytes
}

/// The command `connect` with a value behind it that another value is in, and so on, so deep.
pub fn nested(value: &[u8], depth: usize) -> Vec<u8> {
    let mut body = vec![2, 0, 7];
    body.extend_from_slice(b"connect");
    body.push(0);
    body.extend_from_slice(&1.0_f64.to_be_bytes());
    body.extend(value.repeat(depth));
    let mut bytes = head(20, body.len() as u32);
    for (nth, chunk) in body.chunks(CHUNK_BYTES).enumerate() {
        if nth > 0 {
            bytes.push(0xc3);
        }
        bytes.extend_from_slice(chunk);
    }
    bytes
}

/// Values for [`nested`]: an object, an array, and an array and a string that claim 2^32 of what does not come.
pub const VALUES: [&[u8]; 4] = [
    &[3, 0, 1, b'a'],
    &[10, 0, 0, 0, 1],
    &[8, 0xff, 0xff, 0xff, 0xff, 0, 1, b'a'],
    &[12, 0xff, 0xff, 0xff, 0xff],
];

/// Chunks of 2 GiB from here on, and a message of 16 MiB in one of them, of which some bytes come.
pub fn giant(message_type: u8) -> Vec<u8> {
    let mut bytes = head(1, 4);
    bytes.extend_from_slice(&0x7fff_ffff_u32.to_be_bytes());
    bytes.extend(head(message_type, 0x00ff_ffff));
    bytes.extend([0; 60_000]);
    bytes
}
