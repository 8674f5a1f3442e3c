//! Viewers that come in tens and leave, and one that never reads.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use media::rtmp::{ClientEvent, Role};

use super::{Life, PATIENCE, connect};
use crate::load::Protocol;
use crate::rtmp::Connection;

/// Between two reads; 16 KiB each time are above the stream's rate.
const READ_EACH: Duration = Duration::from_millis(20);

/// Some viewers watch until their life is over. Then they are gone without a word, as players are.
pub(in crate::chaos) fn watch(protocol: Protocol, to: SocketAddr, path: &str, viewers: u8, life: &Life) {
    match protocol {
        Protocol::Rtmp => {
            let viewers = (0..viewers).map_while(|_| Connection::open(Role::Count, to, path).ok());
            read(viewers.collect(), life, Connection::poll);
        }
        Protocol::HttpFlv => {
            let viewers = (0..viewers).map_while(|_| ask(to, path).ok());
            read(viewers.collect(), life, drain);
        }
    }
}

fn read<V>(mut viewers: Vec<V>, life: &Life, mut read: impl FnMut(&mut V) -> io::Result<()>) {
    while !life.over() && !viewers.is_empty() {
        viewers.retain_mut(|viewer| read(viewer).is_ok());
        life.idle(READ_EACH);
    }
}

/// One asks, and does not read what comes.
pub(in crate::chaos) fn never_read(protocol: Protocol, to: SocketAddr, path: &str, life: &Life) {
    match protocol {
        Protocol::Rtmp => {
            let Ok(mut viewer) = Connection::open(Role::Play, to, path) else { return };
            // Up to the answer to its play; a refusal ends it.
            let started = viewer.wait(PATIENCE, |event| matches!(event, ClientEvent::Started).then_some(()));
            if started.is_ok() {
                life.sit_out();
            }
        }
        Protocol::HttpFlv => {
            let Ok(_viewer) = ask(to, path) else { return };
            life.sit_out();
        }
    }
}

fn ask(to: SocketAddr, path: &str) -> io::Result<TcpStream> {
    let mut socket = connect(to)?;
    socket.write_all(format!("GET /{path}.flv HTTP/1.1\r\nHost: {to}\r\n\r\n").as_bytes())?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn drain(socket: &mut TcpStream) -> io::Result<()> {
    let mut buffer = [0; 64 * 1024];
    match socket.read(&mut buffer) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(_) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(e) => Err(e),
    }
}
