//! How viewers join in the middle of a GOP, and what one that stops reading costs the others: nothing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use tests::census;
use tests::clips::{Clip, Pictures, Sound, as_flv, h264_aac};
use tests::eventually::{ensure, eventually};
use tests::flv::{self, TagKind, Video};
use tests::http;
use tests::nal::{Media, Times, same_run};
use tests::player::Viewer;
use tests::publisher::{self, Times as Sent};
use tests::rtmp::Connection;
use tests::standalone::{SOON, Standalone, condition, pushed};
use tests::synthetic::{Synthetic, configs};

#[test]
fn a_viewer_who_joins_within_a_gop_gets_the_newest_key_frame_first() {
    let standalone = Standalone::start(&[("cam.yaml", &pushed("cam", ""))]);
    standalone.wait_ready("live/cam");
    let clip = Clip { pictures: Pictures::H264, sound: Sound::Aac, seconds: 30, gop_seconds: 10 };
    let url = standalone.rtmp_url("live/cam");
    let _publisher = publisher::ffmpeg(&standalone.folder, clip, Sent::Once, &url);
    standalone.wait_live("live/cam");
    let first = Viewer::open(standalone.http, "/live/cam.flv");
    // 25 pictures a second: into the second GOP and well behind its key frame.
    let into_second_gop = 250 + 100;
    first.wait_pictures(into_second_gop, Duration::from_secs(40));
    let late = Viewer::open(standalone.http, "/live/cam.flv");
    late.wait_pictures(60, SOON);
    let tags = late.seen().tags;
    let video: Vec<&flv::Tag> =
        tags.iter().map(|(_, tag)| tag).filter(|tag| tag.kind == TagKind::Video).collect();
    assert!(matches!(flv::video(&video[0].body), Ok(Video::Config(..))), "the sequence header comes first");
    assert!(
        matches!(flv::video(&video[1].body), Ok(Video::Picture { key: true, .. })),
        "a key frame comes next"
    );
    let (seen, joined) = (first.media(), late.media());
    let keys: Vec<u64> = seen.video.iter().filter(|unit| unit.key).map(|unit| unit.hash).collect();
    assert_eq!(Some(&joined.video[0].hash), keys.last(), "it is the newest of {} key frames", keys.len());
    // Nothing is missing from there on: what both have seen is the same.
    let both = joined.video.len().min(100);
    first.wait_pictures(250 + both, Duration::from_secs(20));
    let shift = same_run("picture", &first.media().video, &joined.video[..both], None, Times::Exact);
    assert_eq!(shift, Ok(0), "two viewers of one stream see one clock");
}

#[test]
fn a_path_that_is_not_declared_is_refused_at_once_and_one_without_media_after_its_start_timeout() {
    let standalone = Standalone::start(&[("cam.yaml", &pushed("cam", "  play: {startTimeout: 1s}\n"))]);
    standalone.wait_ready("live/cam");
    for path in ["/live/nobody.flv", "/live/cam.flv"] {
        let (response, _, _) = http::open(standalone.http, path).expect("it answers");
        assert_eq!(response.status, 404, "{path}: {}", response.head);
    }
}

#[test]
fn http_flv_may_be_played_from_other_origins() {
    let standalone = Standalone::start(&[("cam.yaml", &pushed("cam", ""))]);
    standalone.wait_ready("live/cam");
    let url = standalone.rtmp_url("live/cam");
    let _publisher = publisher::ffmpeg(&standalone.folder, h264_aac(10), Sent::ForEver, &url);
    standalone.wait_live("live/cam");
    let (response, _, _) = http::open(standalone.http, "/live/cam.flv").expect("it answers");
    assert_eq!(http::header(&response.head, "access-control-allow-origin"), Some("*"), "{}", response.head);
    assert_eq!(http::header(&response.head, "content-type"), Some("video/x-flv"), "{}", response.head);
}

#[test]
fn a_viewer_that_stops_reading_costs_its_bound_and_nobody_notices() {
    let standalone = Standalone::start(&[("cam.yaml", &pushed("cam", ""))]);
    standalone.wait_ready("live/cam");
    let clip = h264_aac(30);
    let file = standalone.folder.file("original.flv");
    as_flv(clip, &file);
    let original = Media::of_file(&file).expect("ffmpeg writes valid FLV");
    let url = standalone.rtmp_url("live/cam");
    let publisher = publisher::ffmpeg(&standalone.folder, clip, Sent::Once, &url);
    standalone.wait_live("live/cam");
    let good = Viewer::open(standalone.http, "/live/cam.flv");
    good.wait_pictures(10, SOON);
    let before = census::rss_bytes(standalone.worker_pid());
    // They ask and never read.
    let deaf: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut socket = TcpStream::connect(standalone.http).expect("the listener accepts");
            write!(socket, "GET /live/cam.flv HTTP/1.1\r\nHost: x\r\n\r\n").expect("a request fits");
            socket
        })
        .collect();
    good.wait_pictures(original.video.len() - 100, Duration::from_secs(60));
    let after = census::rss_bytes(standalone.worker_pid());
    let media = good.media();
    let shift = same_run("picture", &original.video, &media.video, None, Times::Exact);
    assert!(shift.is_ok(), "{shift:?}");
    assert!(same_run("sound", &original.audio, &media.audio, shift.ok(), Times::Exact).is_ok());
    // The ring is there with and without them; they add cursors.
    let grown = after.saturating_sub(before);
    assert!(grown < 32 << 20, "the worker grew by {} MiB", grown >> 20);
    assert_eq!(condition(&standalone.object("/streams", "live/cam").expect("it is there"), "Live"), "True");
    drop((publisher, deaf));
}

#[test]
fn a_slow_viewer_skips_to_a_key_frame_or_is_ended_and_is_counted() {
    let files = [
        ("skip.yaml", pushed("skip", "")),
        ("end.yaml", pushed("end", "  play: {slowViewer: Disconnect}\n")),
    ];
    let standalone = Standalone::start(&[(files[0].0, &files[0].1), (files[1].0, &files[1].1)]);
    for (path, reason) in [("live/skip", "ViewerSkipped"), ("live/end", "ViewerSlow")] {
        standalone.wait_ready(path);
        let mut source = Connection::publish(standalone.rtmp, path);
        let mut stream = Synthetic::default();
        for frame in configs() {
            source.send(&frame, 0).expect("it is taken");
        }
        let first = stream.next_frame();
        source.send(&first, 0).expect("it is taken");
        let (response, _, mut slow) =
            http::open(standalone.http, &format!("/{path}.flv")).expect("it answers");
        assert_eq!(response.status, 200);
        // Two minutes of media at once are more than the ring and the buffers of both sockets hold.
        while stream.due() < Duration::from_secs(120) {
            let frame = stream.next_frame();
            source.send(&frame, frame.dts_ms as u32).expect("it is taken");
        }
        let label = format!("reason=\"{reason}\"");
        let mut some = vec![0; 256 * 1024];
        eventually(&format!("penstock_dropped_total {label}"), Duration::from_secs(30), || {
            // The viewer reads again, and one more frame has the server look at it.
            let read = slow.read(&mut some).map_err(|e| e.to_string())?;
            let frame = stream.next_frame();
            source.send(&frame, frame.dts_ms as u32).map_err(|e| e.to_string())?;
            let dropped = standalone.metric("penstock_dropped_total", &[&label])?;
            ensure(dropped > 0.0, || format!("{dropped}; the viewer read {read} bytes"))
        });
    }
}
