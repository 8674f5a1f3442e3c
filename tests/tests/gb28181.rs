//! GB28181 media: PS in RTP over TCP passive and over UDP, played over RTMP and HTTP-FLV, with all that networks do to it.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread::JoinHandle;
use std::time::Duration;

use media::ps::MapPlace;
use tests::clips::{Clip, Pictures, Sound};
use tests::eventually::{ensure, eventually};
use tests::nal::{Media, Times, same_from_first_key};
use tests::player::{self, Viewer};
use tests::ports::Block;
use tests::ps_sender::{self, AudioChoice, Options, Sent, Transport, VideoChoice};
use tests::standalone::{SOON, Standalone, condition, over_rtp, pool};
use tests::tools::{ffmpeg9, need};

const SSRC: u32 = 200_000_001;
const SECONDS: u32 = 12;

fn clip(pictures: Pictures) -> Clip {
    Clip { pictures, sound: Sound::PcmA, seconds: SECONDS, gop_seconds: 2 }
}

struct Camera {
    standalone: Standalone,
    options: Options,
    clip: ps_sender::Clip,
    _ports: Block,
}

impl Camera {
    fn new(transport: Transport, pictures: Pictures) -> Camera {
        let ports = Block::take(20);
        let kind = match transport {
            Transport::Tcp => "TCPPassive",
            Transport::Udp => "UDP",
        };
        let cam = over_rtp(
            "cam",
            &format!("transport: {kind}, ssrc: \"{SSRC:010}\""),
            "  publish: {stallTimeout: 2s, resumeWindow: 1s}\n",
        );
        let standalone = Standalone::start(&[("pool.yaml", &pool(&ports.range())), ("cam.yaml", &cam)]);
        let stream = standalone.wait_ready("live/cam");
        let port = stream["status"]["ports"]["rtp"].as_u64().expect("a leased port is in the status");
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, u16::try_from(port).expect("a port")));
        let file = clip(pictures).file();
        let clip =
            ps_sender::read(&file, VideoChoice::Auto, AudioChoice::Auto).expect("ffmpeg reads its own");
        Camera { standalone, options: Options::new(file, to, transport, SSRC), clip, _ports: ports }
    }

    fn send(&self) -> JoinHandle<Result<Sent, String>> {
        let (options, clip) = (self.options.clone(), self.clip.clone());
        std::thread::spawn(move || ps_sender::send(&options, &clip))
    }

    /// Sends the clip while a viewer waits for it from the start, and compares.
    fn arrives(&self) {
        let viewer = Viewer::waiting(self.standalone.http, "/live/cam.flv");
        let sender = self.send();
        let viewer = viewer.join().expect("it plays");
        let sent = sender.join().expect("the sender does not panic");
        sent.expect("the clip is sent");
        viewer.wait_whole(&Media::of_camera(&self.clip), SOON);
    }
}

fn plays_over_both(transport: Transport, pictures: Pictures) {
    let camera = Camera::new(transport, pictures);
    let standalone = &camera.standalone;
    let program = match pictures {
        Pictures::H264 => need("ffmpeg"),
        Pictures::H265 => ffmpeg9(),
    };
    let file = standalone.folder.file("rtmp.flv");
    let mut over_rtmp = player::ffmpeg(&standalone.folder, &program, &standalone.rtmp_url("live/cam"), &file);
    camera.arrives();
    over_rtmp.wait_end(SOON);
    let played = Media::of_file(&file).expect("ffmpeg writes valid FLV");
    let same = same_from_first_key(&Media::of_camera(&camera.clip), &played, Times::Within(1));
    assert!(same.is_ok(), "over RTMP: {same:?}");
}

#[test]
fn h264_and_g711_over_tcp_passive() {
    plays_over_both(Transport::Tcp, Pictures::H264);
}

#[test]
fn h264_and_g711_over_udp() {
    plays_over_both(Transport::Udp, Pictures::H264);
}

#[test]
fn h265_and_g711_over_tcp_passive() {
    plays_over_both(Transport::Tcp, Pictures::H265);
}

#[test]
fn h265_and_g711_over_udp() {
    plays_over_both(Transport::Udp, Pictures::H265);
}

#[test]
fn tcp_in_pieces_of_one_byte_loses_nothing() {
    let mut camera = Camera::new(Transport::Tcp, Pictures::H264);
    camera.options.byte_wise = true;
    camera.arrives();
}

#[test]
fn udp_reordered_by_five_loses_nothing() {
    let mut camera = Camera::new(Transport::Udp, Pictures::H264);
    camera.options.reorder = 5;
    camera.arrives();
}

#[test]
fn both_clocks_come_round_and_nothing_is_lost() {
    for transport in [Transport::Tcp, Transport::Udp] {
        let mut camera = Camera::new(transport, Pictures::H264);
        // Four seconds before the wraps.
        camera.options.clock_offset_rtp = u32::MAX - 4 * 90_000;
        camera.options.clock_offset_ps = (1 << 33) - 4 * 90_000;
        camera.arrives();
    }
}

#[test]
fn a_wrong_ssrc_is_dropped_and_counted_and_the_right_one_plays_beside_it() {
    for transport in [Transport::Tcp, Transport::Udp] {
        let camera = Camera::new(transport, Pictures::H264);
        let mut stranger = camera.options.clone();
        stranger.ssrc += 1;
        let strangers_clip = camera.clip.clone();
        let strange = std::thread::spawn(move || ps_sender::send(&stranger, &strangers_clip));
        eventually("the stranger counted", SOON, || {
            let dropped = camera.standalone.metric("penstock_dropped_total", &["reason=\"WrongSsrc\""])?;
            ensure(dropped > 0.0, || format!("{dropped}"))
        });
        let stream = camera.standalone.object("/streams", "live/cam").expect("it is there");
        assert_ne!(condition(&stream, "Live"), "True", "a stranger is no publisher");
        camera.arrives();
        // Over TCP the stranger may have been hung up on: an error of its own.
        let _ = strange.join().expect("the sender does not panic");
    }
}

#[test]
fn noise_before_the_first_pack_and_a_late_map_are_borne() {
    for transport in [Transport::Tcp, Transport::Udp] {
        let mut camera = Camera::new(transport, Pictures::H264);
        camera.options.noise = 3000;
        let viewer = Viewer::waiting(camera.standalone.http, "/live/cam.flv");
        let sender = camera.send();
        let viewer = viewer.join().expect("it plays");
        viewer.wait_pictures(100, Duration::from_secs(20));
        drop(viewer);
        // The clip's end is of no interest.
        let _ = sender.join().expect("the sender does not panic");
    }
}

/// Each packet of a head is one more cut, and over TCP each is framed by itself.
#[test]
fn heads_cut_at_any_byte_over_tcp_lose_nothing() {
    let mut camera = Camera::new(Transport::Tcp, Pictures::H264);
    camera.options.cut_heads = true;
    camera.arrives();
}

#[test]
fn heads_cut_at_any_byte_over_udp_lose_nothing() {
    let mut camera = Camera::new(Transport::Udp, Pictures::H265);
    camera.options.cut_heads = true;
    camera.arrives();
}

#[test]
fn pictures_of_a_mebibyte_over_tcp_lose_nothing() {
    let mut camera = Camera::new(Transport::Tcp, Pictures::H264);
    swell(&mut camera.clip);
    camera.arrives();
}

/// 750 packets at once.
#[test]
fn pictures_of_a_mebibyte_over_udp_lose_nothing() {
    let mut camera = Camera::new(Transport::Udp, Pictures::H264);
    swell(&mut camera.clip);
    camera.options.reorder = 5;
    camera.arrives();
}

/// Makes each key picture 1 MiB, by one more slice.
fn swell(clip: &mut ps_sender::Clip) {
    const PICTURE_BYTES: usize = 1 << 20;
    let keys = clip.units.iter_mut().filter(|unit| unit.key && Some(unit.codec) == clip.video);
    for unit in keys {
        unit.bytes.extend_from_slice(&[0, 0, 0, 1, 0x65]);
        // A slice that does not begin at the first macroblock, so that it is no picture of its own.
        unit.bytes.resize(PICTURE_BYTES, 0x55);
    }
}

/// Leaves the pictures of six seconds.
fn only_pictures(clip: &mut ps_sender::Clip) {
    let video = clip.video;
    clip.units.retain(|unit| Some(unit.codec) == video && unit.dts < 6 * 90_000);
}

#[test]
fn a_track_that_the_map_announces_and_that_never_comes_is_waited_for_by_nobody() {
    for transport in [Transport::Tcp, Transport::Udp] {
        let mut camera = Camera::new(transport, Pictures::H264);
        only_pictures(&mut camera.clip);
        assert!(camera.clip.audio.is_some(), "the map has it");
        let viewer = Viewer::waiting(camera.standalone.http, "/live/cam.flv");
        let sender = camera.send();
        let viewer = viewer.join().expect("it plays");
        viewer.wait_pictures(1, Duration::from_secs(5));
        sender.join().expect("the sender does not panic").expect("the clip is sent");
        viewer.wait_whole(&Media::of_camera(&camera.clip), SOON);
        let header = viewer.media().header.expect("pictures came behind a header");
        assert!(header.video && !header.audio, "{header:?}");
    }
}

#[test]
fn a_map_that_comes_late_or_never_costs_no_picture() {
    for map in [MapPlace::Never, MapPlace::KeysAfter(2)] {
        let mut camera = Camera::new(Transport::Tcp, Pictures::H264);
        camera.options.map = map;
        only_pictures(&mut camera.clip);
        camera.clip.audio = None;
        camera.arrives();
    }
}
