//! Programs of others that take numbers of the pool.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};

use super::Life;
use crate::chaos::script::Loot;

/// Holds a number until its life is over, if it is to be had.
pub(in crate::chaos) fn steal(port: u16, loot: Loot, life: &Life) {
    let tcp = || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).ok();
    let udp = || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).ok();
    let _held = match loot {
        Loot::Tcp => (tcp(), None),
        Loot::Udp => (None, udp()),
        Loot::Both => (tcp(), udp()),
    };
    life.sit_out();
}
