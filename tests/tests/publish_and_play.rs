//! What is published is what is played: real clients on both sides, each picture and each time compared.

use std::path::PathBuf;
use std::time::Duration;

use tests::clips::{self, Clip, Pictures, Sound};
use tests::nal::{Media, Times, same_from_first_key};
use tests::player::{self, Viewer};
use tests::publisher;
use tests::running::Running;
use tests::standalone::{Standalone, pushed};
use tests::tools::{ffmpeg9, need};

const SECONDS: u32 = 60;
/// The clip's length, and slack for a busy machine.
const CLIP_LIMIT: Duration = Duration::from_secs(120);
const END_LIMIT: Duration = Duration::from_secs(20);
/// Players end soon after the publisher, and properly, so that their files are whole.
const SHORT_RESUME: &str = "  publish: {resumeWindow: 1s}\n";

/// Starts a player and says which file it writes.
type Player = fn(&Standalone) -> (Running, PathBuf);

/// Publishes once by `publish`, lets all `players` and an own HTTP-FLV viewer see it to its end, and compares each with
/// `original`.
fn published_is_played(
    standalone: &Standalone,
    original: &Media,
    publish: impl FnOnce(&str) -> Running,
    players: &[Player],
) {
    standalone.wait_ready("live/cam");
    let mut publisher = publish(&standalone.rtmp_url("live/cam"));
    standalone.wait_live("live/cam");
    let viewer = Viewer::open(standalone.http, "/live/cam.flv");
    let mut playing: Vec<(Running, PathBuf)> = players.iter().map(|player| player(standalone)).collect();
    publisher.wait_success(CLIP_LIMIT);
    for (player, file) in &mut playing {
        player.wait_end(END_LIMIT);
        same(original, &Media::of_file(file), &file.display().to_string());
    }
    viewer.wait_end(END_LIMIT);
    same(original, &Ok(viewer.media()), "the own HTTP-FLV viewer");
}

#[track_caller]
fn same(original: &Media, played: &Result<Media, String>, who: &str) {
    let played = played.as_ref().unwrap_or_else(|e| panic!("{who}: {e}"));
    // A player that got hardly anything would have little to compare.
    assert!(played.video.len() * 10 >= original.video.len() * 8, "{who}: {} pictures", played.video.len());
    if let Err(wrong) = same_from_first_key(original, played, Times::Exact) {
        panic!("{who}: {wrong}");
    }
}

fn of_clip(standalone: &Standalone, clip: Clip) -> Media {
    let file = standalone.folder.file("original.flv");
    clips::as_flv(clip, &file);
    Media::of_file(&file).expect("ffmpeg writes valid FLV")
}

fn ffmpeg_over_rtmp(standalone: &Standalone) -> (Running, PathBuf) {
    let to = standalone.folder.file("ffmpeg-rtmp.flv");
    (player::ffmpeg(&standalone.folder, &need("ffmpeg"), &standalone.rtmp_url("live/cam"), &to), to)
}

fn ffmpeg_over_http(standalone: &Standalone) -> (Running, PathBuf) {
    let to = standalone.folder.file("ffmpeg-http.flv");
    (player::ffmpeg(&standalone.folder, &need("ffmpeg"), &standalone.flv_url("live/cam"), &to), to)
}

fn ffmpeg9_over_rtmp(standalone: &Standalone) -> (Running, PathBuf) {
    let to = standalone.folder.file("ffmpeg9-rtmp.flv");
    (player::ffmpeg(&standalone.folder, &ffmpeg9(), &standalone.rtmp_url("live/cam"), &to), to)
}

fn ffmpeg9_over_http(standalone: &Standalone) -> (Running, PathBuf) {
    let to = standalone.folder.file("ffmpeg9-http.flv");
    (player::ffmpeg(&standalone.folder, &ffmpeg9(), &standalone.flv_url("live/cam"), &to), to)
}

fn gstreamer_over_rtmp(standalone: &Standalone) -> (Running, PathBuf) {
    let to = standalone.folder.file("gst-rtmp.flv");
    (player::gstreamer(&standalone.folder, &standalone.rtmp_url("live/cam"), &to), to)
}

fn rtmpdump(standalone: &Standalone) -> (Running, PathBuf) {
    let to = standalone.folder.file("rtmpdump.flv");
    (player::rtmpdump(&standalone.folder, &standalone.rtmp_url("live/cam"), &to), to)
}

#[test]
fn h264_and_aac_from_ffmpeg_reach_ffmpeg_gstreamer_and_librtmp() {
    let standalone = Standalone::start(&[("cam.yaml", &pushed("cam", SHORT_RESUME))]);
    let clip = clips::h264_aac(SECONDS);
    let original = of_clip(&standalone, clip);
    published_is_played(
        &standalone,
        &original,
        |url| publisher::ffmpeg(&standalone.folder, clip, publisher::Times::Once, url),
        &[ffmpeg_over_rtmp, ffmpeg_over_http, gstreamer_over_rtmp, rtmpdump],
    );
}

#[test]
fn h264_and_aac_from_gstreamer_reach_gstreamer_and_ffmpeg() {
    let standalone = Standalone::start(&[("cam.yaml", &pushed("cam", SHORT_RESUME))]);
    let (source, file) = (standalone.folder.file("source.flv"), standalone.folder.file("original.flv"));
    clips::as_flv(clips::h264_aac(SECONDS), &source);
    publisher::gstreamer_file(&standalone.folder, &source, &file);
    let original = Media::of_file(&file).expect("GStreamer writes valid FLV");
    published_is_played(
        &standalone,
        &original,
        |url| publisher::gstreamer(&standalone.folder, &source, url),
        &[gstreamer_over_rtmp, ffmpeg_over_rtmp, ffmpeg_over_http],
    );
}

#[test]
fn hevc_and_aac_travel_as_enhanced_rtmp() {
    let standalone = Standalone::start(&[("cam.yaml", &pushed("cam", SHORT_RESUME))]);
    let clip = Clip { pictures: Pictures::H265, sound: Sound::Aac, seconds: SECONDS, gop_seconds: 2 };
    let original = of_clip(&standalone, clip);
    published_is_played(
        &standalone,
        &original,
        |url| publisher::ffmpeg(&standalone.folder, clip, publisher::Times::Once, url),
        &[ffmpeg9_over_rtmp, ffmpeg9_over_http],
    );
}

#[test]
fn h264_and_g711_travel_over_rtmp() {
    let standalone = Standalone::start(&[("cam.yaml", &pushed("cam", SHORT_RESUME))]);
    let clip = Clip { pictures: Pictures::H264, sound: Sound::PcmA, seconds: 10, gop_seconds: 2 };
    let original = of_clip(&standalone, clip);
    published_is_played(
        &standalone,
        &original,
        |url| publisher::ffmpeg(&standalone.folder, clip, publisher::Times::Once, url),
        &[ffmpeg_over_rtmp],
    );
}

#[test]
fn a_stream_without_sound_starts_at_once_and_announces_none() {
    let standalone = Standalone::start(&[("cam.yaml", &pushed("cam", SHORT_RESUME))]);
    let clip = Clip { pictures: Pictures::H264, sound: Sound::None, seconds: 10, gop_seconds: 2 };
    let original = of_clip(&standalone, clip);
    standalone.wait_ready("live/cam");
    let mut publisher =
        publisher::ffmpeg(&standalone.folder, clip, publisher::Times::Once, &standalone.rtmp_url("live/cam"));
    let viewer = Viewer::open(standalone.http, "/live/cam.flv");
    viewer.wait_pictures(1, Duration::from_secs(5));
    publisher.wait_success(CLIP_LIMIT);
    viewer.wait_end(END_LIMIT);
    let played = viewer.media();
    let header = played.header.expect("pictures came behind a header");
    assert!(header.video && !header.audio, "{header:?}");
    same(&original, &Ok(played), "the own HTTP-FLV viewer");
}
