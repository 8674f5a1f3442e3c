//! The publisher policy: second publishers, silent ones, killed ones, and what viewers see of it.

use std::time::Duration;

use media::rtmp::{ClientEvent, Role};
use tests::clips::h264_aac;
use tests::load::{Source, publish_some};
use tests::player::Viewer;
use tests::publisher::{self, Times};
use tests::rtmp::Connection;
use tests::standalone::{SOON, Standalone, condition, pushed};

/// A publisher is "heard" for 2 s after its last byte.
const HEARD: Duration = Duration::from_secs(2);

/// The answer to a publish: accepted, or the code of the refusal.
fn answer(connection: &mut Connection) -> Result<(), String> {
    let answer = connection.wait(SOON, |event| match event {
        ClientEvent::Started => Some(Ok(())),
        ClientEvent::Status { code, .. } => Some(Err(code)),
        _ => None,
    });
    answer.unwrap_or_else(|e| Err(e.to_string()))
}

fn second_publisher(standalone: &Standalone) -> Result<Connection, String> {
    let mut second =
        Connection::open(Role::Publish, standalone.rtmp, "live/cam").map_err(|e| e.to_string())?;
    answer(&mut second).map(|()| second)
}

/// Publishes a few pictures and falls silent.
fn publish_a_little(standalone: &Standalone) -> Connection {
    publish_some(standalone.rtmp, "live/cam", Duration::from_millis(400))
}

#[test]
fn reject_answers_bad_name_while_the_first_is_heard() {
    let standalone = Standalone::start(&[("cam.yaml", &pushed("cam", ""))]);
    standalone.wait_ready("live/cam");
    let first = Source::start(standalone.rtmp, "live/cam");
    standalone.wait_live("live/cam");
    let refusal = second_publisher(&standalone).map(|_| "accepted");
    assert_eq!(refusal, Err("NetStream.Publish.BadName".to_owned()));
    assert!(first.runs());
    assert_eq!(condition(&standalone.object("/streams", "live/cam").expect("it is there"), "Live"), "True");
}

#[test]
fn one_silent_for_two_seconds_is_taken_over_from() {
    let standalone = Standalone::start(&[("cam.yaml", &pushed("cam", "  publish: {stallTimeout: 60s}\n"))]);
    standalone.wait_ready("live/cam");
    let mut first = publish_a_little(&standalone);
    let begun = std::time::Instant::now();
    let second =
        tests::eventually::eventually("a newcomer to be taken", SOON, || second_publisher(&standalone));
    assert!(begun.elapsed() + Duration::from_millis(100) >= HEARD, "taken after {:?}", begun.elapsed());
    first.wait_close(SOON).expect("the silent one is ended");
    drop(second);
}

#[test]
fn takeover_ends_the_first() {
    let standalone =
        Standalone::start(&[("cam.yaml", &pushed("cam", "  publish: {onDuplicate: Takeover}\n"))]);
    standalone.wait_ready("live/cam");
    let mut first = publish_a_little(&standalone);
    let viewer = Viewer::open(standalone.http, "/live/cam.flv");
    viewer.wait_pictures(1, SOON);
    let _second = Source::start(standalone.rtmp, "live/cam");
    first.wait_close(SOON).expect("the first is ended");
    viewer.wait_pictures(60, SOON);
    dts_rises(&viewer);
    assert!(viewer.plays());
}

#[test]
fn killed_and_back_after_five_seconds_keeps_viewers_and_dts_rises() {
    let standalone = Standalone::start(&[("cam.yaml", &pushed("cam", ""))]);
    standalone.wait_ready("live/cam");
    let url = standalone.rtmp_url("live/cam");
    let mut publisher = publisher::ffmpeg(&standalone.folder, h264_aac(10), Times::ForEver, &url);
    standalone.wait_live("live/cam");
    let over_http = Viewer::open(standalone.http, "/live/cam.flv");
    let mut over_rtmp =
        Connection::open(Role::Play, standalone.rtmp, "live/cam").expect("the listener accepts");
    let (mut frames, mut dts) = (0, Vec::new());
    let mut see = |event| {
        if let ClientEvent::Frame(frame) = event {
            frames += 1;
            dts.push((frame.codec.track(), frame.dts_ms));
        }
        (frames >= 100).then(|| frames = 0)
    };
    over_rtmp.wait(SOON, &mut see).expect("it plays");
    over_http.wait_pictures(50, SOON);
    publisher.kill();
    standalone.wait_stream("live/cam", "without a publisher", SOON, |stream| {
        stream["status"]["publisher"].is_null()
    });
    over_http.wait_silence(Duration::from_secs(5), SOON);
    let before = over_http.media().video.len();
    let _publisher = publisher::ffmpeg(&standalone.folder, h264_aac(10), Times::ForEver, &url);
    over_http.wait_pictures(before + 50, SOON);
    over_rtmp.wait(SOON, &mut see).expect("the socket stays, and it plays on");
    assert!(over_http.plays());
    dts_rises(&over_http);
    for track in [media::frame::Track::Video, media::frame::Track::Audio] {
        let of_track: Vec<i64> = dts.iter().filter(|(of, _)| *of == track).map(|(_, dts)| *dts).collect();
        assert!(of_track.is_sorted(), "dts goes back over RTMP: {of_track:?}");
    }
}

#[test]
fn a_silent_publisher_is_ended_at_its_stall_timeout_and_the_path_is_free() {
    let standalone = Standalone::start(&[(
        "cam.yaml",
        &pushed("cam", "  publish: {stallTimeout: 3s, resumeWindow: 1s}\n"),
    )]);
    standalone.wait_ready("live/cam");
    let mut silent = publish_a_little(&standalone);
    let viewer = Viewer::open(standalone.http, "/live/cam.flv");
    silent.wait_close(SOON).expect("it is ended");
    viewer.wait_end(SOON);
    second_publisher(&standalone).expect("the path is free");
}

#[test]
fn a_publisher_that_never_begins_is_ended_at_its_start_timeout() {
    let standalone = Standalone::start(&[("cam.yaml", &pushed("cam", "  publish: {startTimeout: 1s}\n"))]);
    standalone.wait_ready("live/cam");
    let mut mute = Connection::publish(standalone.rtmp, "live/cam");
    mute.wait_close(SOON).expect("it is ended");
    second_publisher(&standalone).expect("the path is free");
}

#[test]
fn tokens_and_networks_keep_strangers_out() {
    let secret = "apiVersion: v1
kind: Secret
metadata: {name: keys, namespace: live}
type: media.penstock.dev/token
stringData:
  token: |
    one
    two
";
    let cam =
        pushed("cam", "  publish: {tokenSecretRef: {name: keys}}\n  play: {tokenSecretRef: {name: keys}}\n");
    let far =
        pushed("far", "  publish: {allowedCIDRs: [192.0.2.0/24]}\n  play: {allowedCIDRs: [192.0.2.0/24]}\n");
    let standalone = Standalone::start(&[("keys.yaml", secret), ("cam.yaml", &cam), ("far.yaml", &far)]);
    standalone.wait_ready("live/cam");
    standalone.wait_ready("live/far");
    let publish = |path: &str| {
        let mut connection =
            Connection::open(Role::Publish, standalone.rtmp, path).expect("the listener accepts");
        answer(&mut connection).map(|()| connection)
    };
    for path in ["live/cam", "live/cam?token=three", "live/far"] {
        assert!(publish(path).is_err(), "{path} must be refused");
    }
    let _publisher = publish("live/cam?token=two").expect("a valid token is taken");
    let status = |path: &str| tests::http::open(standalone.http, path).expect("it answers").0.status;
    assert!(matches!(status("/live/cam.flv"), 401 | 403));
    assert!(matches!(status("/live/far.flv"), 401 | 403));
    let log = standalone.log();
    assert!(!log.contains("three") && !log.contains("two"), "a token is in the log:\n{log}");
}

#[track_caller]
fn dts_rises(viewer: &Viewer) {
    let media = viewer.media();
    for (what, units) in [("pictures", &media.video), ("sounds", &media.audio)] {
        assert!(units.is_sorted_by_key(|unit| unit.dts_ms), "dts of {what} goes back");
    }
}
