//! Strangers at the public ports and at health: garbage, bombs, claims of sizes, slowness, and hundreds that connect and vanish.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::{Life, PATIENCE, connect, reset};
use crate::chaos::script::{Attack, Door, Random};

/// C1, S1, C2 and S2 of RTMP's handshake.
const HANDSHAKE_BYTES: usize = 1536;
/// What a Set Chunk Size of ours claims, so that a whole message is one chunk.
const CHUNK_BYTES: u32 = 65_536;
/// Objects inside each other.
const NESTED: usize = 10_000;
/// Of a head that does not end.
const FLOOD_BYTES: usize = 1 << 20;
/// Addresses of this host that strangers come from.
const SOURCES: u16 = 8;
/// Bytes of garbage that come at once.
const GARBAGE_BYTES: usize = 4096;
const GARBAGE_EACH: Duration = Duration::from_millis(50);

/// Some clients attack until their life is over.
pub(in crate::chaos) fn assail(
    door: Door,
    to: SocketAddr,
    attack: Attack,
    clients: u16,
    mut random: Random,
    life: &Life,
) {
    // Being hung up on is what they deserve.
    let _ = match attack {
        Attack::Garbage => garbage(open(to, clients), &mut random, life),
        Attack::GarbageInside => {
            let inside =
                open(to, clients).into_iter().filter_map(|socket| shake_hands(socket, &mut random).ok());
            let inside = inside.collect();
            garbage(inside, &mut random, life)
        }
        Attack::AmfBomb => messages(to, clients, &bombs(), &mut random, life),
        Attack::GiantChunks => messages(to, clients, &giants(), &mut random, life),
        Attack::HeaderFlood => flood(open(to, clients), life),
        Attack::SlowLoris => drip(door, open(to, clients), life),
        Attack::Vanish => vanish(to, clients, life),
    };
}

fn open(to: SocketAddr, clients: u16) -> Vec<TcpStream> {
    (0..clients).map_while(|_| connect(to).ok()).collect()
}

fn garbage(mut sockets: Vec<TcpStream>, random: &mut Random, life: &Life) -> io::Result<()> {
    while !life.over() && !sockets.is_empty() {
        sockets.retain_mut(|socket| socket.write_all(&random.bytes(GARBAGE_BYTES)).is_ok());
        life.idle(GARBAGE_EACH);
    }
    Ok(())
}

/// RTMP's handshake, as its specification has it.
fn shake_hands(mut socket: TcpStream, random: &mut Random) -> io::Result<TcpStream> {
    let mut c0_c1 = vec![3, 0, 0, 0, 0, 0, 0, 0, 0];
    c0_c1.extend(random.bytes(HANDSHAKE_BYTES - 8));
    socket.write_all(&c0_c1)?;
    let mut answer = vec![0; 1 + 2 * HANDSHAKE_BYTES];
    socket.read_exact(&mut answer)?;
    socket.write_all(&answer[1..=HANDSHAKE_BYTES])?;
    Ok(socket)
}

/// Each client sends one of these behind its handshake, and stays.
fn messages(
    to: SocketAddr,
    clients: u16,
    bytes: &[Vec<u8>],
    random: &mut Random,
    life: &Life,
) -> io::Result<()> {
    let mut inside = Vec::new();
    for (socket, bytes) in open(to, clients).into_iter().zip(bytes.iter().cycle()) {
        let mut socket = shake_hands(socket, random)?;
        socket.write_all(bytes)?;
        inside.push(socket);
    }
    life.sit_out();
    Ok(())
}

/// A chunk of type 0 with a message of this type, whose head claims this length.
fn chunk(message_type: u8, length: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![3, 0, 0, 0];
    bytes.extend(&length.to_be_bytes()[1..]);
    bytes.extend([message_type, 0, 0, 0, 0]);
    bytes.extend(body);
    bytes
}

fn whole(message_type: u8, body: &[u8]) -> Vec<u8> {
    chunk(message_type, body.len() as u32, body)
}

/// Type 1: Set Chunk Size.
fn chunk_size(bytes: u32) -> Vec<u8> {
    whole(1, &bytes.to_be_bytes())
}

/// Commands (type 20) in AMF0: objects inside each other, then arrays that claim more than there is, then a string that does.
fn bombs() -> [Vec<u8>; 4] {
    let connect = [&[2, 0, 7][..], b"connect", &[0; 9]].concat();
    let nested = [&connect[..], &[3, 0, 1, b'a'].repeat(NESTED)].concat();
    let ecma = [&connect[..], &[8, 0xff, 0xff, 0xff, 0xff], &[0, 1, b'a']].concat();
    let strict = [&connect[..], &[10, 0xff, 0xff, 0xff, 0xff].repeat(NESTED)].concat();
    let long = [&connect[..], &[12, 0xff, 0xff, 0xff, 0xff], b"a"].concat();
    [nested, ecma, strict, long].map(|command| [chunk_size(CHUNK_BYTES), whole(20, &command)].concat())
}

/// Chunk sizes of 2 GiB, and messages of 16 MiB of which some bytes come: a command, a picture, an aggregate.
fn giants() -> [Vec<u8>; 3] {
    [20, 9, 22].map(|kind| [chunk_size(0x7fff_ffff), chunk(kind, 0x00ff_ffff, &[0; 60_000])].concat())
}

fn flood(mut sockets: Vec<TcpStream>, life: &Life) -> io::Result<()> {
    let line = [&b"X-Flood: "[..], &[b'a'; 1000], b"\r\n"].concat();
    for socket in &mut sockets {
        socket.write_all(b"GET /live/pushed0.flv HTTP/1.1\r\n")?;
    }
    for _ in 0..FLOOD_BYTES / line.len() {
        sockets.retain_mut(|socket| socket.write_all(&line).is_ok());
        if life.over() || sockets.is_empty() {
            return Ok(());
        }
    }
    life.sit_out();
    Ok(())
}

/// The beginning of what is right, a byte a second.
fn drip(door: Door, mut sockets: Vec<TcpStream>, life: &Life) -> io::Result<()> {
    let words: &[u8] = match door {
        Door::Rtmp => &[3, 0, 0, 0, 0, 0, 0, 0, 0],
        Door::Http | Door::Health => b"GET /healthz HTTP/1.1\r\n",
    };
    for byte in words {
        if life.over() {
            break;
        }
        sockets.retain_mut(|socket| socket.write_all(&[*byte]).is_ok());
        life.idle(Duration::from_secs(1));
    }
    life.sit_out();
    Ok(())
}

fn vanish(to: SocketAddr, clients: u16, life: &Life) -> io::Result<()> {
    for client in 0..clients {
        if life.over() {
            break;
        }
        let source = Ipv4Addr::new(127, 0, 0, 2 + (client % SOURCES) as u8);
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((source, 0)).into())?;
        // A full backlog is theirs, too.
        if socket.connect_timeout(&to.into(), PATIENCE).is_ok() {
            reset(&socket)?;
        }
    }
    Ok(())
}
