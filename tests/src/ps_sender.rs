//! A GB28181 camera: sends a clip as PS in RTP over UDP or TCP, at its own pace, with all that cameras and networks do to it.
//! `cargo xtask ps-send`, and the tests.

mod clip;
mod link;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use media::ps::{MapPlace, Muxer, Program};
use media::rtp::packet::Packet;
use media::rtp::packetizer::Packetizer;
use media::rtp::rtcp;

pub use clip::{AudioChoice, Clip, Unit, VideoChoice, read};
use link::Link;

/// What [`main`] takes, for its caller's help.
pub const USAGE: &str = "\
usage: cargo xtask ps-send CLIP HOST:PORT --tcp|--udp --ssrc N [OPTIONS]

  CLIP                     any file that ffmpeg reads; H.264, H.265, AAC and G.711 are sent as they are
  --ssrc N                 the stream's SSRC, ten digits as GB/T 28181 writes it
  --video auto|h264|h265|none      what the pictures are sent as (auto: as they are, else h264)
  --audio auto|aac|pcma|pcmu|none  what the sound is sent as (auto: as it is, else pcma)
  --loss PERCENT           lose so many of the packets (UDP)
  --reorder N              send each packet up to N places late (UDP)
  --byte-wise              write each byte by itself (TCP)
  --listen                 wait at HOST:PORT to be connected to, as devices of TCP active do (TCP)
  --clock-offset-rtp X     added to the RTP times, in 90 kHz; near 2^32 they come round
  --clock-offset-ps X      added to the PS times, in 90 kHz; near 2^33 they come round
  --rate FACTOR            pace: 1 is the clip's own, 2 twice as fast, 0 as fast as it goes
  --loop N                 send the clip so many times, its clock going on (default 1; 0 for ever)
  --seconds N              stop after so many seconds of the clip
  --map keys|never|after:N     program stream maps at each key frame, never, or from the N-th on
  --pes BYTES              cut PES packets of video so small; 0 states no length
  --payload BYTES          RTP payloads of at most so many bytes (default 1400)
  --cut-heads              cut what stands before and at the head of each picture and sound into packets of a few bytes
  --noise BYTES            send so much noise first
  --bye                    end with an RTCP BYE
  --seed N                 of loss, order and noise (default 1)
";

/// How the clip is sent.
#[derive(Clone, Debug)]
pub struct Options {
    /// The file.
    pub clip: PathBuf,
    /// The stream's RTP port.
    pub to: SocketAddr,
    /// Its transport.
    pub transport: Transport,
    /// Its SSRC.
    pub ssrc: u32,
    /// What the pictures are sent as.
    pub video: VideoChoice,
    /// What the sound is sent as.
    pub audio: AudioChoice,
    /// Percent of packets lost.
    pub loss: f64,
    /// Places that a packet may be late.
    pub reorder: usize,
    /// Each byte is a write of its own.
    pub byte_wise: bool,
    /// The receiver connects to `to`.
    pub listen: bool,
    /// Added to RTP times, in 90 kHz.
    pub clock_offset_rtp: u32,
    /// Added to PS times, in 90 kHz.
    pub clock_offset_ps: i64,
    /// 1 is the clip's own pace, 0 none at all.
    pub rate: f64,
    /// How often the clip is sent; 0 is for ever.
    pub rounds: u32,
    /// Where it ends, in seconds of the clip's clock.
    pub seconds: Option<f64>,
    /// Where program stream maps stand.
    pub map: MapPlace,
    /// Payload of a PES packet of video at most; `None` states no length.
    pub pes_bytes: Option<u16>,
    /// Payload of a packet at most.
    pub payload_bytes: usize,
    /// The heads of packs are cut into packets of a few bytes, at other places each time.
    pub cut_heads: bool,
    /// Bytes of noise before the first packet.
    pub noise: usize,
    /// An RTCP BYE ends it.
    pub bye: bool,
    /// Of all that is random.
    pub seed: u64,
}

/// How packets travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// To a port of TCP passive, framed by RFC 4571.
    Tcp,
    /// Datagrams.
    Udp,
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Access units.
    pub units: u64,
    /// Packets that left.
    pub packets: u64,
    /// Packets that were lost on purpose.
    pub lost: u64,
}

impl Options {
    /// A clip as it is, at its own pace, once, over a faultless network.
    pub fn new(clip: PathBuf, to: SocketAddr, transport: Transport, ssrc: u32) -> Options {
        Options {
            clip,
            to,
            transport,
            ssrc,
            video: VideoChoice::Auto,
            audio: AudioChoice::Auto,
            loss: 0.0,
            reorder: 0,
            byte_wise: false,
            listen: false,
            clock_offset_rtp: 0,
            clock_offset_ps: 0,
            rate: 1.0,
            rounds: 1,
            seconds: None,
            map: MapPlace::Keys,
            pes_bytes: Some(65_000),
            payload_bytes: 1400,
            cut_heads: false,
            noise: 0,
            bye: false,
            seed: 1,
        }
    }

    /// Reads the words of a command line.
    pub fn parse(words: &[&str]) -> Result<Options, String> {
        let [clip, to, rest @ ..] = words else {
            return Err(format!("a clip and HOST:PORT are missing\n\n{USAGE}"));
        };
        let to = std::net::ToSocketAddrs::to_socket_addrs(to)
            .map_err(|e| format!("{to}: not HOST:PORT: {e}"))?
            .next()
            .ok_or_else(|| format!("{to}: has no address"))?;
        let mut options = Options::new(PathBuf::from(clip), to, Transport::Tcp, 0);
        let (mut transport, mut ssrc) = (None, None);
        let mut rest = rest.iter().copied();
        while let Some(name) = rest.next() {
            match name {
                "--tcp" => transport = Some(Transport::Tcp),
                "--udp" => transport = Some(Transport::Udp),
                "--byte-wise" => options.byte_wise = true,
                "--listen" => options.listen = true,
                "--cut-heads" => options.cut_heads = true,
                "--bye" => options.bye = true,
                _ => {
                    let value = rest
                        .next()
                        .ok_or_else(|| format!("{name}: needs a value, or is unknown\n\n{USAGE}"))?;
                    if name == "--ssrc" {
                        ssrc = Some(number(name, value)?);
                    } else {
                        options.set(name, value)?;
                    }
                }
            }
        }
        options.transport = transport.ok_or("--tcp or --udp is missing")?;
        options.ssrc = ssrc.ok_or("--ssrc N is missing")?;
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "--video" => self.video = VideoChoice::parse(value)?,
            "--audio" => self.audio = AudioChoice::parse(value)?,
            "--loss" => self.loss = number(name, value)?,
            "--reorder" => self.reorder = number(name, value)?,
            "--clock-offset-rtp" => self.clock_offset_rtp = number(name, value)?,
            "--clock-offset-ps" => self.clock_offset_ps = number(name, value)?,
            "--rate" => self.rate = number(name, value)?,
            "--loop" => self.rounds = number(name, value)?,
            "--seconds" => self.seconds = Some(number(name, value)?),
            "--map" => {
                self.map = match value.strip_prefix("after:") {
                    Some(count) => MapPlace::KeysAfter(number(name, count)?),
                    None if value == "keys" => MapPlace::Keys,
                    None if value == "never" => MapPlace::Never,
                    None => return Err(format!("--map {value}: is keys, never or after:N")),
                }
            }
            "--pes" => self.pes_bytes = Some(number(name, value)?).filter(|&bytes: &u16| bytes > 0),
            "--payload" => self.payload_bytes = number(name, value)?,
            "--noise" => self.noise = number(name, value)?,
            "--seed" => self.seed = number(name, value)?,
            _ => return Err(format!("{name}: unknown\n\n{USAGE}")),
        }
        Ok(())
    }
}

fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{name} {value}: is no number that fits"))
}

/// `cargo xtask ps-send`: the words behind it.
pub fn main(words: &[&str]) -> Result<(), String> {
    let options = Options::parse(words)?;
    let clip = read(&options.clip, options.video, options.audio)?;
    let about = format!(
        "{} pictures ({}), {} sounds ({}), {:.1} s",
        clip.units.iter().filter(|unit| Some(unit.codec) == clip.video).count(),
        clip.video.map_or("none", media::frame::Codec::name),
        clip.units.iter().filter(|unit| Some(unit.codec) == clip.audio).count(),
        clip.audio.map_or("none", media::frame::Codec::name),
        clip.length as f64 / 90_000.0,
    );
    let out = &mut std::io::stderr();
    let _ = writeln!(out, "ps-send: {about} to {:?} {}", options.transport, options.to);
    let sent = send(&options, &clip)?;
    let _ =
        writeln!(out, "ps-send: {} access units, {} packets, {} lost", sent.units, sent.packets, sent.lost);
    Ok(())
}

/// Sends a clip to its end; an error is the network's.
pub fn send(options: &Options, clip: &Clip) -> Result<Sent, String> {
    let mut link = Link::open(options)?;
    let sent = send_over(&mut link, options, clip, || true)?;
    link.close();
    Ok(sent)
}

/// Sends for as long as `goes` says so, and is gone without a word.
pub fn send_while(options: &Options, clip: &Clip, goes: impl Fn() -> bool) -> Result<Sent, String> {
    send_over(&mut Link::open(options)?, options, clip, goes)
}

/// The same on a connection that the receiver has opened.
pub fn send_on(connection: TcpStream, options: &Options, clip: &Clip) -> Result<Sent, String> {
    let mut link = Link::on(connection, options)?;
    let sent = send_over(&mut link, options, clip, || true)?;
    link.close();
    Ok(sent)
}

/// The same, and falls silent: whoever has the connection too keeps it open.
pub fn send_some(connection: TcpStream, options: &Options, clip: &Clip) -> Result<Sent, String> {
    send_over(&mut Link::on(connection, options)?, options, clip, || true)
}

fn send_over(
    link: &mut Link,
    options: &Options,
    clip: &Clip,
    goes: impl Fn() -> bool,
) -> Result<Sent, String> {
    let mut mux = Mux::new(options, clip);
    let first = clip.units.first().map_or(0, |unit| unit.dts);
    let end = options.seconds.map(|seconds| (seconds * 90_000.0) as i64);
    let begun = Instant::now();
    let mut sent = Sent::default();
    let mut round = 0;
    link.noise(options.noise)?;
    'rounds: while options.rounds == 0 || round < options.rounds {
        let base = i64::from(round) * clip.length;
        for unit in &clip.units {
            let due = base + unit.dts - first;
            if end.is_some_and(|end| due >= end) || !goes() {
                break 'rounds;
            }
            pace(begun, due, options.rate);
            for packet in mux.packets(options, unit, base) {
                link.send(packet)?;
            }
            sent.units += 1;
        }
        round += 1;
    }
    link.flush()?;
    if options.bye {
        link.rtcp(&rtcp::goodbye(options.ssrc))?;
    }
    (sent.packets, sent.lost) = (link.sent, link.lost);
    Ok(sent)
}

/// The packets of a clip that is sent once, without pace or network.
pub fn packets(options: &Options, clip: &Clip) -> Vec<Bytes> {
    let mut mux = Mux::new(options, clip);
    clip.units.iter().flat_map(|unit| mux.packets(options, unit, 0)).collect()
}

/// Pack header, system header, map and the first PES header are together shorter than this.
const HEADS_BYTES: usize = 120;
/// The largest piece that heads are cut into.
const HEAD_PIECE_BYTES_MAX: usize = 13;

/// Access units to PS packs, and these to RTP packets.
struct Mux {
    muxer: Muxer,
    packetizer: Packetizer,
    packs: usize,
}

impl Mux {
    fn new(options: &Options, clip: &Clip) -> Mux {
        let program =
            Program { video: clip.video, audio: clip.audio, map: options.map, pes_bytes: options.pes_bytes };
        let packetizer = Packetizer::new(options.ssrc, 65_000, options.payload_bytes);
        Mux { muxer: Muxer::new(program), packetizer, packs: 0 }
    }

    fn packets(&mut self, options: &Options, unit: &Unit, base: i64) -> Vec<Bytes> {
        let pack = self.muxer.pack(&media::ps::Unit {
            codec: unit.codec,
            key: unit.key,
            pts: base + unit.pts + options.clock_offset_ps,
            dts: base + unit.dts + options.clock_offset_ps,
            bytes: &unit.bytes,
        });
        let timestamp = ((base + unit.dts) as u32).wrapping_add(options.clock_offset_rtp);
        let rest = if options.cut_heads { HEADS_BYTES.min(pack.len() - 1) } else { 0 };
        let piece = 1 + self.packs % HEAD_PIECE_BYTES_MAX;
        self.packs += 1;
        let heads = pack[..rest].chunks(piece).flat_map(|piece| {
            // The marker is the last packet's alone.
            let cut = self.packetizer.packets(piece.to_vec(), timestamp);
            cut.into_iter().map(|packet| Packet { marker: false, ..packet })
        });
        let mut packets: Vec<Packet> = heads.collect();
        packets.extend(self.packetizer.packets(pack[rest..].to_vec(), timestamp));
        packets.into_iter().map(|packet| packet.to_bytes()).collect()
    }
}

/// Waits until an access unit is due.
fn pace(begun: Instant, due: i64, rate: f64) {
    if rate > 0.0 {
        let at = Duration::from_secs_f64(due.max(0) as f64 / 90_000.0 / rate);
        if let Some(wait) = at.checked_sub(begun.elapsed()) {
            std::thread::sleep(wait);
        }
    }
}

#[cfg(test)]
mod tests;
