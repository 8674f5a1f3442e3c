//! Cameras that send PS over RTP to a leased port, and what else comes there.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use media::rtp::rfc4571;

use super::{Life, connect, reset};
use crate::chaos::script::{Camera, Random};
use crate::ps_sender::{self, Clip, Options, Transport};

/// Seconds that are sent byte by byte: a key picture is some 20 000 writes.
const BYTE_WISE_SECONDS: f64 = 0.3;
/// Connections of one that vanishes.
const VANISHES: usize = 20;
/// Noise that comes at once.
const NOISE_BYTES: usize = 1300;
const NOISE_EACH: Duration = Duration::from_millis(20);

/// Where a camera sends, and as whom.
#[derive(Clone, Copy, Debug)]
pub(in crate::chaos) struct Target {
    pub(in crate::chaos) to: SocketAddr,
    pub(in crate::chaos) transport: Transport,
    pub(in crate::chaos) ssrc: u32,
}

/// Sends until its life is over.
pub(in crate::chaos) fn send(target: Target, camera: Camera, clip: &Clip, random: Random, life: &Life) {
    // An error is the network's, or the port is another's by now.
    let _ = try_send(target, camera, clip, random, life);
}

fn try_send(target: Target, camera: Camera, clip: &Clip, random: Random, life: &Life) -> io::Result<()> {
    let Target { to, transport, ssrc } = target;
    let seconds = life.end.saturating_duration_since(std::time::Instant::now()).as_secs_f64();
    let options = Options {
        rounds: 0,
        seconds: Some(seconds),
        // Of UDP alone: order is as networks have it.
        reorder: 2,
        ..Options::new(PathBuf::new(), to, transport, ssrc)
    };
    match camera {
        Camera::Good => clip_to_its_end(&options, clip),
        Camera::WrongSsrc => clip_to_its_end(&Options { ssrc: ssrc + 1_000_000, ..options }, clip),
        Camera::ByteWise => {
            clip_to_its_end(&Options { byte_wise: true, seconds: Some(BYTE_WISE_SECONDS), ..options }, clip)
        }
        Camera::Noise => noise(target, random, life),
        Camera::Vanish => vanish(target, life),
        Camera::HalfOpen => half_open(target, clip, life),
    }
}

fn clip_to_its_end(options: &Options, clip: &Clip) -> io::Result<()> {
    ps_sender::send(options, clip).map(drop).map_err(io::Error::other)
}

fn noise(target: Target, mut random: Random, life: &Life) -> io::Result<()> {
    let mut write = writer(target)?;
    while !life.over() {
        write(&random.bytes(NOISE_BYTES))?;
        life.idle(NOISE_EACH);
    }
    Ok(())
}

fn vanish(target: Target, life: &Life) -> io::Result<()> {
    for _ in 0..VANISHES {
        if life.over() {
            break;
        }
        match target.transport {
            Transport::Tcp => reset(&connect(target.to)?)?,
            Transport::Udp => {
                udp()?.send_to(&[], target.to)?;
            }
        }
    }
    Ok(())
}

fn half_open(target: Target, clip: &Clip, life: &Life) -> io::Result<()> {
    let options = Options::new(PathBuf::new(), target.to, target.transport, target.ssrc);
    let packets = ps_sender::packets(&options, clip);
    let mut write = writer(target)?;
    let (whole, cut) = (packets.first(), packets.get(1));
    for (packet, to) in [(whole, usize::MAX), (cut, 100)] {
        let packet = packet.ok_or(io::ErrorKind::InvalidData)?;
        match target.transport {
            Transport::Tcp => {
                let framed = rfc4571::frame(packet);
                write(&framed[..framed.len().min(to)])?;
            }
            Transport::Udp => write(&packet[..packet.len().min(to)])?,
        }
    }
    life.sit_out();
    Ok(())
}

/// Sends bytes over either transport.
fn writer(target: Target) -> io::Result<Box<dyn FnMut(&[u8]) -> io::Result<()>>> {
    Ok(match target.transport {
        Transport::Tcp => {
            let mut socket = connect(target.to)?;
            Box::new(move |bytes: &[u8]| socket.write_all(bytes))
        }
        Transport::Udp => {
            let socket = udp()?;
            Box::new(move |bytes: &[u8]| socket.send_to(bytes, target.to).map(drop))
        }
    })
}

fn udp() -> io::Result<UdpSocket> {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
}
