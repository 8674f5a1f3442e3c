//! Bodies of audio and video messages, and what they say; and that what is carried is written again.

use bytes::Bytes;

use super::{CONFIG_BYTES_MAX, Error, Parsed, parse_audio, parse_video};
use crate::flv::body;
use crate::flv::hex::hex;

fn text(parsed: Result<Parsed, super::Error>) -> String {
    match parsed {
        Ok(Parsed::Frame(frame)) => {
            format!("{:?} {:?} cts {} {:02x?}", frame.codec, frame.kind, frame.cts_ms, &frame.payload[..])
        }
        Ok(other) => format!("{other:?}"),
        Err(error) => format!("error: {error}"),
    }
}

fn check_video(bytes: &str, expected: &str) {
    assert_eq!(text(parse_video(Bytes::from(hex(bytes)))), expected, "{bytes}");
}

fn check_audio(bytes: &str, expected: &str) {
    assert_eq!(text(parse_audio(Bytes::from(hex(bytes)))), expected, "{bytes}");
}

#[test]
fn classic_video_is_h264_and_the_old_form_of_h265() {
    check_video("17 00 000000 0164", "H264 Config cts 0 [01, 64]");
    check_video("17 01 000050 aa", "H264 Key cts 80 [aa]");
    check_video("27 01 ffffd8 aa", "H264 Inter cts -40 [aa]");
    check_video("37 01 000000 aa", "H264 Inter cts 0 [aa]");
    check_video("47 01 000000 aa", "H264 Key cts 0 [aa]");
    check_video("1c 00 000000 01", "H265 Config cts 0 [01]");
    check_video("2c 01 000028 aa", "H265 Inter cts 40 [aa]");
}

#[test]
fn enhanced_video_is_avc1_and_hvc1() {
    check_video("90 68766331 01", "H265 Config cts 0 [01]");
    check_video("91 68766331 000050 aa", "H265 Key cts 80 [aa]");
    check_video("a3 68766331 aa", "H265 Inter cts 0 [aa]");
    check_video("90 61766331 01", "H264 Config cts 0 [01]");
    check_video("a1 61766331 ffffff aa", "H264 Inter cts -1 [aa]");
}

#[test]
fn a_configuration_has_a_bound() {
    for head in ["17 00 000000", "90 68766331"] {
        let of = |length: usize| Bytes::from([hex(head), vec![1; length]].concat());
        assert!(matches!(parse_video(of(CONFIG_BYTES_MAX)), Ok(Parsed::Frame(_))), "{head}");
        let error = "error: a decoder configuration of 65537 bytes: the most is 65536";
        assert_eq!(text(parse_video(of(CONFIG_BYTES_MAX + 1))), error, "{head}");
    }
    for head in ["af 00", "90 6d703461"] {
        let of = |length: usize| Bytes::from([hex(head), vec![1; length]].concat());
        assert!(matches!(parse_audio(of(CONFIG_BYTES_MAX)), Ok(Parsed::Frame(_))), "{head}");
        assert!(matches!(parse_audio(of(CONFIG_BYTES_MAX + 1)), Err(Error::Configuration { .. })), "{head}");
    }
}

#[test]
fn what_players_have_no_use_for_is_nothing() {
    for bytes in
        ["17 02 000000", "57 00", "92 68766331", "94 68766331 02", "d4 68766331", "d0 00", "95 68766331 47"]
    {
        check_video(bytes, "Nothing");
    }
    for bytes in ["af 02 00", "92 6d703461", "94 6d703461 01", "90 2e6d7033"] {
        check_audio(bytes, "Nothing");
    }
    for bytes in ["", "17 01 000000", "93 68766331"] {
        check_video(bytes, "Empty");
    }
    for bytes in ["", "af 01", "2f", "91 2e6d7033 ff", "91 2e6d7033 00fb9000", "91 2e6d7033 ffeb9000"] {
        check_audio(bytes, "Empty");
    }
}

#[test]
fn mod_ex_is_read_over() {
    check_video("97 02 000001 03 68766331 aa", "H265 Key cts 0 [aa]");
    check_video("97 00 00 07 00 00 03 68766331 aa", "H265 Key cts 0 [aa]");
    check_video(&format!("97 ff 0100 {} 03 68766331 aa", "00".repeat(257)), "H265 Key cts 0 [aa]");
    check_audio("97 02 000001 01 6d703461 aa", "Aac Key cts 0 [aa]");
    check_video("97 02 0000", "error: video tag of 4 bytes ends inside its header");
    check_audio("97 ff ff", "error: audio tag of 3 bytes ends inside its header");
}

#[test]
fn tracks_of_multitrack_are_named_as_such() {
    check_video("96 00 68766331 01 aa", "Multitrack");
    check_audio("95 00 4f707573 01 aa", "Multitrack");
}

#[test]
fn audio_is_aac_mp3_and_g711() {
    check_audio("af 00 1210", "Aac Config cts 0 [12, 10]");
    check_audio("af 01 21", "Aac Key cts 0 [21]");
    check_audio("90 6d703461 1210", "Aac Config cts 0 [12, 10]");
    check_audio("91 6d703461 21", "Aac Key cts 0 [21]");
    check_audio("2f fb", "Mp3(Sound { rate_hz: 44100, channels: 2 }) Key cts 0 [fb]");
    check_audio("26 fb", "Mp3(Sound { rate_hz: 11025, channels: 1 }) Key cts 0 [fb]");
    check_audio("e2 fb", "Mp3(Sound { rate_hz: 8000, channels: 1 }) Key cts 0 [fb]");
    check_audio(
        "91 2e6d7033 fffb94c4",
        "Mp3(Sound { rate_hz: 48000, channels: 1 }) Key cts 0 [ff, fb, 94, c4]",
    );
    check_audio(
        "91 2e6d7033 fff39000",
        "Mp3(Sound { rate_hz: 22050, channels: 2 }) Key cts 0 [ff, f3, 90, 00]",
    );
    check_audio(
        "91 2e6d7033 ffe39800",
        "Mp3(Sound { rate_hz: 8000, channels: 2 }) Key cts 0 [ff, e3, 98, 00]",
    );
    check_audio("72 d5", "PcmA(Sound { rate_hz: 8000, channels: 1 }) Key cts 0 [d5]");
    check_audio("8f ff", "PcmU(Sound { rate_hz: 8000, channels: 2 }) Key cts 0 [ff]");
}

#[test]
fn other_codecs_are_refused_by_name() {
    for (bytes, codec) in [
        ("12 00", "Sorenson H.263"),
        ("13 00", "Screen Video"),
        ("14 00", "On2 VP6"),
        ("1d 00", "AV1 (codec id 13)"),
        ("1f 00", "id 15"),
        ("90 61763031", "av01"),
        ("91 76703039", "vp09"),
        ("90 00ff0a41", r"\x00\xff\nA"),
    ] {
        check_video(bytes, &format!("error: video codec {codec} is not carried: send H.264 or H.265"));
    }
    for (bytes, codec) in [
        ("3f 00", "linear PCM"),
        ("1f 00", "ADPCM"),
        ("5f 00", "Nellymoser"),
        ("b2 00", "Speex"),
        ("d2 00", "Opus (format 13)"),
        ("ff 00", "format 15"),
        ("90 4f707573", "Opus"),
        ("91 664c6143", "fLaC"),
        ("91 61632d33", "ac-3"),
    ] {
        check_audio(bytes, &format!("error: audio codec {codec} is not carried: send AAC, MP3 or G.711"));
    }
}

#[test]
fn a_header_that_ends_early_is_an_error() {
    for bytes in ["17", "17 01 0000", "90 6876", "91 68766331 0000", "97"] {
        let length = hex(bytes).len();
        check_video(bytes, &format!("error: video tag of {length} bytes ends inside its header"));
    }
    for bytes in ["af", "90 6d70"] {
        let length = hex(bytes).len();
        check_audio(bytes, &format!("error: audio tag of {length} bytes ends inside its header"));
    }
}

#[test]
fn what_was_read_is_written_in_the_form_that_players_know() {
    let written = |parsed: Result<Parsed, super::Error>| match parsed {
        Ok(Parsed::Frame(frame)) => body(&frame),
        other => panic!("{other:?} is no frame"),
    };
    for (came, leaves) in [
        ("17 00 000000 01", "17 00 000000 01"),
        ("27 01 ffffd8 aa", "27 01 ffffd8 aa"),
        ("90 61766331 01", "17 00 000000 01"),
        ("a1 61766331 000001 aa", "27 01 000001 aa"),
        // HEVC never leaves as codec id 12.
        ("1c 00 000000 01", "90 68766331 01"),
        ("1c 01 000000 aa", "93 68766331 aa"),
        ("2c 01 000028 aa", "a1 68766331 000028 aa"),
        ("91 68766331 ffffd8 aa", "91 68766331 ffffd8 aa"),
    ] {
        assert_eq!(written(parse_video(Bytes::from(hex(came)))), hex(leaves), "{came}");
    }
    for (came, leaves) in [
        ("af 00 12", "af 00 12"),
        ("90 6d703461 12", "af 00 12"),
        ("91 6d703461 21", "af 01 21"),
        ("26 fb", "26 fb"),
        ("e3 fb", "e3 fb"),
        ("91 2e6d7033 fffb94c4", "2e fffb94c4"),
        ("7f d5", "73 d5"),
        ("82 ff", "82 ff"),
    ] {
        assert_eq!(written(parse_audio(Bytes::from(hex(came)))), hex(leaves), "{came}");
    }
}
