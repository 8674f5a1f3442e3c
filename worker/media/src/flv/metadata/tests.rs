//! What is left of metadata, and what a stream's tracks make of it.

use bytes::BytesMut;

use super::{METADATA_BYTES_MAX, for_tracks, sanitise};
use crate::frame::{Codec, Sound};
use crate::rtmp::amf0::{Reader, Value, Writer};

fn claims(fill: impl FnOnce(&mut Writer)) -> BytesMut {
    let mut out = Writer::new();
    out.string("@setDataFrame").string("onMetaData").ecma_array(99, fill);
    out.finish()
}

fn text(payload: &[u8]) -> String {
    let mut reader = Reader::new(payload);
    assert_eq!(reader.value(), Ok(Value::String("onMetaData".to_owned())));
    let properties = reader.value().unwrap();
    assert!(reader.is_empty());
    let shown = properties.properties().iter().map(|(name, value)| match value {
        Value::Number(number) => format!("{name}={number}"),
        Value::Boolean(boolean) => format!("{name}={boolean}"),
        Value::String(text) => format!("{name}={text}"),
        other => format!("{name}={other:?}"),
    });
    shown.collect::<Vec<_>>().join(" ")
}

#[test]
fn plain_values_are_kept_and_what_is_true_of_files_is_not() {
    let body = claims(|out| {
        out.name("duration").number(60.0).name("width").number(1280.0).name("stereo").boolean(true);
        out.name("encoder").string("obs").name("width").number(1.0).name("").number(1.0);
        out.name("keyframes").object(|out| _ = out.name("times").strings(&[]));
        out.name("title").string(&"x".repeat(257)).name("nothing").null();
    });
    assert_eq!(text(&sanitise(&body).unwrap()), "width=1280 stereo=true encoder=obs");
}

#[test]
fn other_data_messages_and_broken_ones_are_none() {
    let message = |name: &str| {
        let mut out = Writer::new();
        out.string(name).object(|_| {});
        out.finish()
    };
    assert!(sanitise(&message("onMetaData")).is_some());
    assert!(sanitise(&message("onTextData")).is_none());
    assert!(sanitise(&message("@setDataFrame")).is_none());
    assert!(sanitise(b"").is_none());
    assert!(sanitise(b"\x02\x00\x0aonMetaData").is_none());
    assert!(sanitise(b"\x02\x00\x0aonMetaData\x00\0\0\0\0\0\0\0\0").is_none());
    assert!(
        sanitise(&[b"\x02\x00\x0aonMetaData".to_vec(), b"\x0a\0\0\0\x01".repeat(10_000)].concat()).is_none()
    );
}

#[test]
fn metadata_has_a_bound() {
    let body = claims(|out| {
        for n in 0..400 {
            out.name(&format!("{n:030}")).number(0.0);
        }
    });
    let kept = sanitise(&body).unwrap();
    assert!(kept.len() > METADATA_BYTES_MAX / 2 && kept.len() < METADATA_BYTES_MAX + 64, "{}", kept.len());
    let many = claims(|out| (0..13_000).for_each(|_| _ = out.name("a").boolean(true)));
    assert_eq!(text(&sanitise(&many).unwrap()), "a=true");
}

/// facts/clients.md 5: players wait for tracks that metadata claims.
#[test]
fn no_claim_is_left_of_a_track_that_is_not_there() {
    let body = claims(|out| {
        out.name("width").number(640.0).name("videocodecid").number(12.0).name("hasVideo").boolean(true);
        out.name("audiosamplerate")
            .number(48_000.0)
            .name("audiocodecid")
            .number(10.0)
            .name("encoder")
            .string("x");
    });
    let sane = sanitise(&body).unwrap();
    let mp3 = |rate_hz| Codec::Mp3(Sound { rate_hz, channels: 1 });
    let g711 = Sound { rate_hz: 8_000, channels: 1 };
    for (video, audio, expected) in [
        (None, None, "encoder=x"),
        (Some(Codec::H264), None, "videocodecid=7 width=640 encoder=x"),
        (Some(Codec::H265), None, "videocodecid=1752589105 width=640 encoder=x"),
        (None, Some(Codec::Aac), "audiocodecid=10 audiosamplerate=48000 encoder=x"),
        (None, Some(mp3(8_000)), "audiocodecid=14 audiosamplerate=48000 encoder=x"),
        (None, Some(mp3(44_100)), "audiocodecid=2 audiosamplerate=48000 encoder=x"),
        (None, Some(Codec::PcmA(g711)), "audiocodecid=7 audiosamplerate=48000 encoder=x"),
        (
            Some(Codec::Script),
            Some(Codec::PcmU(g711)),
            "audiocodecid=8 width=640 audiosamplerate=48000 encoder=x",
        ),
    ] {
        assert_eq!(text(&for_tracks(&sane, video, audio)), expected);
    }
    assert_eq!(text(&for_tracks(&[], Some(Codec::H264), None)), "videocodecid=7");
}
