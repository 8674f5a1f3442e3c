//! Port numbers for a test, which no other test of this machine takes at the same time.
//!
//! Asking the kernel for port 0 gives an ephemeral number, and any outgoing connection may take it a moment later. So
//! numbers come from below the ephemeral range, and each is held by an abstract Unix socket of its name, which the
//! kernel releases when the test ends, however it ends.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::ops::RangeInclusive;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use crate::census;

/// Below NodePorts (30000) and the ephemeral ports (32768), above what Debian's services use.
const FROM: u16 = 10_240;
const TO: u16 = 29_999;

/// A block of neighbouring numbers that is ours until it is dropped.
pub struct Block {
    first: u16,
    len: u16,
    _locks: Vec<UnixListener>,
}

impl Block {
    /// Takes `len` neighbouring numbers, the first one even, each free in TCP and UDP at this moment.
    ///
    /// # Panics
    /// When there is no such block.
    pub fn take(len: u16) -> Block {
        // Processes begin at different places, so that they seldom meet.
        let span = u32::from(TO - FROM);
        let begin = std::process::id().wrapping_mul(2_654_435_761) % span;
        let mut offset = begin & !1;
        let mut tried = 0;
        while tried < span {
            let first = FROM + offset as u16;
            if u32::from(first) + u32::from(len) > u32::from(TO) {
                tried += span - offset;
                offset = 0;
                continue;
            }
            match Block::at(first, len) {
                Ok(block) => return block,
                Err(free) => {
                    let step = (u32::from(free) + 2) & !1;
                    offset += step;
                    tried += step;
                }
            }
        }
        panic!("no {len} free neighbouring ports between {FROM} and {TO}");
    }

    /// Just these, or how many of them could be had.
    fn at(first: u16, len: u16) -> Result<Block, u16> {
        let locks: Vec<UnixListener> = (first..first + len).map_while(lock).collect();
        let free = locks.len() as u16;
        // A connection that is being closed lets others listen on its number, and is still somebody's.
        match free == len && census::held(first..=first + len - 1).is_empty() {
            true => Ok(Block { first, len, _locks: locks }),
            false => Err(free),
        }
    }

    /// The numbers.
    pub fn range(&self) -> RangeInclusive<u16> {
        self.first..=self.first + self.len - 1
    }

    /// The first number.
    pub fn first(&self) -> u16 {
        self.first
    }

    /// The last number.
    pub fn last(&self) -> u16 {
        self.first + self.len - 1
    }
}

fn lock(port: u16) -> Option<UnixListener> {
    let name = SocketAddr::from_abstract_name(format!("penstock-test-port-{port}")).ok()?;
    let lock = UnixListener::bind_addr(&name).ok()?;
    let _tcp = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).ok()?;
    let _udp = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).ok()?;
    Some(lock)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::Block;

    #[test]
    fn two_blocks_never_share_a_number() {
        let (one, other) = (Block::take(10), Block::take(10));
        assert!(one.range().all(|port| !other.range().contains(&port)));
        assert_eq!(one.first() % 2, 0);
    }

    #[test]
    fn a_number_with_a_connection_of_before_is_not_free() {
        // One that no other test takes.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let _here = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let _there = listener.accept().unwrap();
        drop(listener);
        assert!(Block::at(port, 1).is_err());
    }
}
