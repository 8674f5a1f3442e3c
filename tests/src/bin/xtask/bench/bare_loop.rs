//! The least that any server must do: one thread, one `send` a viewer and picture, nothing else.
//!
//! It speaks just enough HTTP-FLV for the same viewers to watch it, and is a process of its own, so that its CPU time is
//! counted like that of the others.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;

use media::frame::{Codec, Frame, Kind};
use tests::synthetic::{Synthetic, configs};

/// More viewers than a run has.
const VIEWERS_MAX: usize = 4096;

/// Serves the synthetic stream on `address` until it is killed.
pub(crate) fn serve(address: &str) -> Result<(), String> {
    let address: SocketAddr = address.parse().map_err(|e| format!("{address}: {e}"))?;
    let listener = TcpListener::bind(address).map_err(|e| format!("{address}: {e}"))?;
    let (sender, receiver) = sync_channel(VIEWERS_MAX);
    std::thread::spawn(move || {
        for viewer in listener.incoming().flatten().filter_map(|socket| welcome(socket).ok()) {
            if sender.send(viewer).is_err() {
                return;
            }
        }
    });
    send(&receiver);
    Ok(())
}

struct Viewer {
    socket: TcpStream,
    /// What the socket did not take.
    rest: Vec<u8>,
}

fn welcome(mut socket: TcpStream) -> io::Result<Viewer> {
    let mut request = [0; 1024];
    // The request comes in one piece from our own viewers.
    let _ = socket.read(&mut request)?;
    socket.set_nodelay(true)?;
    let mut head =
        b"HTTP/1.1 200 OK\r\nContent-Type: video/x-flv\r\n\r\nFLV\x01\x05\0\0\0\x09\0\0\0\0".to_vec();
    configs().iter().for_each(|config| tag(config, &mut head));
    socket.write_all(&head)?;
    socket.set_nonblocking(true)?;
    Ok(Viewer { socket, rest: Vec::new() })
}

fn send(newcomers: &Receiver<Viewer>) {
    let mut viewers: Vec<Viewer> = Vec::new();
    let (mut stream, begun) = (Synthetic::default(), Instant::now());
    let mut bytes = Vec::new();
    loop {
        std::thread::sleep(stream.due().saturating_sub(begun.elapsed()));
        let frame = stream.next_frame();
        tag(&frame, &mut bytes);
        if frame.codec == Codec::H264 {
            viewers.extend(newcomers.try_iter());
            viewers.retain_mut(|viewer| viewer.write(&bytes).is_ok());
            bytes.clear();
        }
    }
}

impl Viewer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.rest.is_empty() {
            let n = taken(self.socket.write(&self.rest))?;
            self.rest.drain(..n);
        }
        let n = if self.rest.is_empty() { taken(self.socket.write(bytes))? } else { 0 };
        self.rest.extend_from_slice(&bytes[n..]);
        Ok(())
    }
}

fn taken(written: io::Result<usize>) -> io::Result<usize> {
    match written {
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(0),
        other => other,
    }
}

fn tag(frame: &Frame, to: &mut Vec<u8>) {
    let (kind, head): (u8, &[u8]) = match (frame.codec, frame.kind) {
        (Codec::H264, Kind::Config) => (9, &[0x17, 0, 0, 0, 0]),
        (Codec::H264, Kind::Key) => (9, &[0x17, 1, 0, 0, 0]),
        (Codec::H264, Kind::Inter) => (9, &[0x27, 1, 0, 0, 0]),
        (Codec::Aac, Kind::Config) => (8, &[0xaf, 0]),
        (codec, _) => {
            debug_assert_eq!(codec, Codec::Aac, "the synthetic stream has no other");
            (8, &[0xaf, 1])
        }
    };
    let size = (head.len() + frame.payload.len()) as u32;
    let time = (frame.dts_ms as u32).to_be_bytes();
    to.push(kind);
    to.extend_from_slice(&size.to_be_bytes()[1..]);
    to.extend_from_slice(&[time[1], time[2], time[3], time[0], 0, 0, 0]);
    to.extend_from_slice(head);
    to.extend_from_slice(&frame.payload);
    to.extend_from_slice(&(size + 11).to_be_bytes());
}
