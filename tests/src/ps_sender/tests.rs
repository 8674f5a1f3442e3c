//! A clip that ffmpeg made, sent over real sockets, comes out of the receiver as it is.

use std::io::Read;
use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use media::frame::{Codec, Frame, Kind};
use media::h26x::nals;
use media::ps::MapPlace;
use media::rtp::{Config, Event, Receiver, Rtcp, SsrcPolicy};

use super::{AudioChoice, Clip, Options, Transport, VideoChoice, read, send};
use crate::clips;

const SSRC: u32 = 200_000_001;

fn receiver() -> Receiver {
    Receiver::new(Config { ssrc: Some(SSRC), policy: SsrcPolicy::Enforce, rtcp: Rtcp::Off }, Duration::ZERO)
}

fn frames(receiver: &mut Receiver) -> Vec<Frame> {
    std::iter::from_fn(|| receiver.poll_event())
        .filter_map(|event| if let Event::Frame(frame) = event { Some(frame) } else { None })
        .collect()
}

/// Sends to a socket of ours and returns what the receiver made of it.
fn play(clip: &Clip, transport: Transport, change: impl Fn(&mut Options)) -> (Vec<Frame>, Receiver) {
    let mut receiver = receiver();
    let mut options = Options::new(PathBuf::new(), ([127, 0, 0, 1], 0).into(), transport, SSRC);
    options.rate = 0.0;
    change(&mut options);
    let begun = Instant::now();
    match transport {
        Transport::Tcp => {
            let listener = TcpListener::bind(options.to).expect("a port");
            options.to = listener.local_addr().expect("bound");
            std::thread::scope(|scope| {
                let sender = scope.spawn(|| send(&options, clip));
                let (mut stream, from) = listener.accept().expect("the sender connects");
                stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
                let id = receiver.connect(from, begun.elapsed());
                let mut buffer = vec![0; 65_536];
                loop {
                    match stream.read(&mut buffer).expect("the sender sends") {
                        0 => break,
                        count => receiver.receive_stream(id, &buffer[..count], begun.elapsed()),
                    }
                }
                receiver.disconnect(id, begun.elapsed());
                sender.join().expect("no panic").expect("all is sent");
            });
        }
        Transport::Udp => {
            let socket = UdpSocket::bind(options.to).expect("a port");
            options.to = socket.local_addr().expect("bound");
            // The RTCP port's goodbye is not awaited: the sender's end is.
            std::thread::scope(|scope| {
                let sender = scope.spawn(|| send(&options, clip));
                let mut buffer = vec![0; 65_536];
                socket.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
                loop {
                    match socket.recv_from(&mut buffer) {
                        Ok((count, from)) => {
                            let datagram = Bytes::copy_from_slice(&buffer[..count]);
                            receiver.receive_datagram(from, datagram, begun.elapsed());
                        }
                        Err(_) if sender.is_finished() => break,
                        Err(_) => {}
                    }
                }
                sender.join().expect("no panic").expect("all is sent");
            });
            receiver.timeout(begun.elapsed() + Duration::from_secs(1));
            receiver.timeout(begun.elapsed() + Duration::from_secs(2));
        }
    }
    let got = frames(&mut receiver);
    (got, receiver)
}

/// The slices of a length-prefixed picture.
fn slices(codec: Codec, payload: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = payload;
    let mut all = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (nal, after) = after.split_at(u32::from_be_bytes(*length) as usize);
        all.push(nal.to_vec());
        rest = after;
    }
    all.retain(|nal| is_slice(codec, nal));
    all
}

fn is_slice(codec: Codec, nal: &[u8]) -> bool {
    if codec == Codec::H264 { matches!(nal[0] & 0x1f, 1..=5) } else { nal[0] >> 1 < 32 }
}

/// Every picture and sound of the clip is there, bit by bit, with its times.
#[track_caller]
fn assert_played(clip: &Clip, frames: &[Frame], what: &str) {
    for codec in [clip.video, clip.audio].into_iter().flatten() {
        let sent: Vec<_> = clip.units.iter().filter(|unit| unit.codec == codec).collect();
        let got: Vec<_> =
            frames.iter().filter(|frame| frame.codec == codec && frame.kind != Kind::Config).collect();
        assert_eq!(got.len(), sent.len(), "{what}: frames of {codec:?}");
        let ms = |time: i64| (time + 45).div_euclid(90);
        let shift = got[0].dts_ms - ms(sent[0].dts);
        for (sent, got) in sent.iter().zip(&got) {
            // An offset of the clock need not be whole milliseconds.
            assert!((got.dts_ms - ms(sent.dts) - shift).abs() <= 1, "{what}: {} at {}", got.dts_ms, sent.dts);
            assert!((i64::from(got.cts_ms) - (sent.pts - sent.dts) / 90).abs() <= 1, "{what}");
            match codec {
                Codec::H264 | Codec::H265 => {
                    let nals: Vec<Vec<u8>> =
                        nals(&sent.bytes).filter(|nal| is_slice(codec, nal)).map(<[u8]>::to_vec).collect();
                    assert!(slices(codec, &got.payload) == nals, "{what}: a picture at {}", got.dts_ms);
                    assert_eq!(got.kind == Kind::Key, sent.key, "{what}");
                }
                Codec::Aac => assert!(got.payload == sent.bytes[7..], "{what}"),
                Codec::PcmA(_) | Codec::PcmU(_) => assert!(got.payload == sent.bytes, "{what}"),
                Codec::Mp3(_) | Codec::Script => panic!("{what}: {codec:?}"),
            }
        }
    }
}

fn clip(pictures: clips::Pictures, audio: AudioChoice) -> Clip {
    let file = clips::Clip { pictures, sound: clips::Sound::Aac, seconds: 4, gop_seconds: 2 }.file();
    read(&file, VideoChoice::Auto, audio).expect("ffmpeg reads its own clip")
}

#[test]
fn h264_and_aac_arrive_over_tcp_in_single_bytes_behind_noise() {
    let clip = clip(clips::Pictures::H264, AudioChoice::Auto);
    assert!(clip.units.iter().any(|unit| unit.pts > unit.dts), "the clip has B-frames");
    let (frames, _) = play(&clip, Transport::Tcp, |options| {
        (options.byte_wise, options.noise) = (true, 500);
        options.map = MapPlace::Never;
    });
    assert_played(&clip, &frames, "TCP");
}

#[test]
fn h265_and_g711_arrive_over_udp_out_of_order_while_both_clocks_come_round() {
    for audio in [AudioChoice::PcmA, AudioChoice::PcmU] {
        let clip = clip(clips::Pictures::H265, audio);
        let (frames, receiver) = play(&clip, Transport::Udp, |options| {
            // Ten times the clip's pace: no more at once than a socket's buffer holds.
            (options.rate, options.reorder) = (10.0, 5);
            options.clock_offset_rtp = u32::MAX - 90_000;
            options.clock_offset_ps = (1 << 33) - 90_000;
        });
        assert_played(&clip, &frames, "UDP");
        assert_eq!(receiver.counters().dropped(media::rtp::Dropped::Lost), 0);
    }
}

#[test]
fn losses_are_as_many_as_asked_for_and_break_nothing_else() {
    let clip = clip(clips::Pictures::H264, AudioChoice::None);
    let (frames, receiver) =
        play(&clip, Transport::Udp, |options| (options.rate, options.loss) = (20.0, 3.0));
    let lost = receiver.counters().dropped(media::rtp::Dropped::Lost);
    assert!(lost > 0, "three in a hundred");
    let sent: Vec<Vec<Vec<u8>>> = clip
        .units
        .iter()
        .map(|unit| nals(&unit.bytes).filter(|nal| is_slice(unit.codec, nal)).map(<[u8]>::to_vec).collect())
        .collect();
    for frame in frames.iter().filter(|frame| frame.kind != Kind::Config) {
        assert!(sent.contains(&slices(frame.codec, &frame.payload)), "half a picture at {}", frame.dts_ms);
    }
}

#[test]
fn options_are_read_and_mistakes_are_named() {
    let words =
        |line: &str| -> Result<Options, String> { Options::parse(&line.split(' ').collect::<Vec<_>>()) };
    let options = words(
        "a.mp4 127.0.0.1:20000 --udp --ssrc 0200000001 --loss 1.5 --reorder 5 --map after:2 --pes 0 --bye",
    )
    .expect("legal");
    assert_eq!((options.transport, options.ssrc, options.reorder), (Transport::Udp, SSRC, 5));
    assert_eq!((options.map, options.pes_bytes, options.bye), (MapPlace::KeysAfter(2), None, true));
    for (line, message) in [
        ("a.mp4", "a clip and HOST:PORT are missing"),
        ("a.mp4 127.0.0.1:1 --ssrc 1", "--tcp or --udp is missing"),
        ("a.mp4 127.0.0.1:1 --tcp", "--ssrc N is missing"),
        ("a.mp4 127.0.0.1:1 --tcp --ssrc x", "--ssrc x: is no number that fits"),
        ("a.mp4 127.0.0.1:1 --tcp --ssrc", "--ssrc: needs a value"),
        ("a.mp4 127.0.0.1:1 --tcp --ssrc 1 --sound no", "--sound: unknown"),
        ("a.mp4 127.0.0.1:1 --tcp --ssrc 1 --map x", "--map x: is keys, never or after:N"),
    ] {
        let error = words(line).expect_err(line);
        assert!(error.starts_with(message), "{error}");
    }
}
