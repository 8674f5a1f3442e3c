//! Chunk streams as peers send them: rightly, oddly and with bad intent.

use std::fmt::Write;

use bytes::Bytes;

use super::{Bounds, Reader};
use crate::flv::hex::hex;
use crate::rtmp::Error;

const SMALL: Bounds = Bounds { message_bytes: 300, partial_bytes: 400, chunk_streams: 3 };

/// Reads the pieces and tells what came out, a line a message.
fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> String {
    let mut reader = Reader::new(SMALL);
    let mut out = String::new();
    for piece in pieces {
        let mut input = Bytes::copy_from_slice(piece);
        loop {
            match reader.read(&mut input) {
                Ok(Some(message)) => {
                    let (id, kind, stream, timestamp) =
                        (message.chunk_stream, message.kind, message.message_stream, message.timestamp);
                    let body = &message.payload;
                    let shown = &body[..body.len().min(4)];
                    writeln!(
                        out,
                        "{id}: type {kind} stream {stream} at {timestamp}, {} bytes {shown:02x?}",
                        body.len()
                    )
                    .unwrap();
                }
                Ok(None) => break,
                Err(error) => {
                    writeln!(out, "error: {error}").unwrap();
                    return out;
                }
            }
        }
        assert!(reader.held() <= SMALL.partial_bytes);
    }
    out
}

/// The lines are the same, however the bytes are cut.
fn check(bytes: &str, expected: &[&str]) {
    let bytes = hex(bytes);
    let expected = expected.iter().map(|line| format!("{line}\n")).collect::<String>();
    assert_eq!(read(std::iter::once(bytes.as_slice())), expected, "in one read");
    for size in 1..bytes.len() {
        assert_eq!(read(bytes.chunks(size)), expected, "in reads of {size}");
    }
}

#[test]
fn each_form_of_header_takes_from_the_last_what_it_leaves_out() {
    check(
        "04 000064 000002 08 01000000 aabb \
         44 000014 000003 09 010203 \
         84 00000a 040506 \
         c4 070809",
        &[
            "4: type 8 stream 1 at 100, 2 bytes [aa, bb]",
            "4: type 9 stream 1 at 120, 3 bytes [01, 02, 03]",
            "4: type 9 stream 1 at 130, 3 bytes [04, 05, 06]",
            "4: type 9 stream 1 at 140, 3 bytes [07, 08, 09]",
        ],
    );
}

#[test]
fn format_3_after_format_0_steps_by_its_timestamp() {
    check(
        "04 000007 000001 08 01000000 aa c4 bb",
        &["4: type 8 stream 1 at 7, 1 bytes [aa]", "4: type 8 stream 1 at 14, 1 bytes [bb]"],
    );
}

/// facts/crates.md §3: two crates panic on this, and it is what the standard calls for.
#[test]
fn an_audio_message_may_stand_between_the_chunks_of_a_picture() {
    let (first, second) = ("11".repeat(128), "22".repeat(72));
    check(
        &format!(
            "06 000000 0000c8 09 01000000 {first} 04 000000 00000a 08 01000000 000102030405060708ff c6 {second}"
        ),
        &[
            "4: type 8 stream 1 at 0, 10 bytes [00, 01, 02, 03]",
            "6: type 9 stream 1 at 0, 200 bytes [11, 11, 11, 11]",
        ],
    );
}

#[test]
fn chunk_stream_ids_have_one_two_or_three_bytes() {
    check(
        "3f 000000 000001 08 00000000 01 \
         00 00 000000 000001 08 00000000 02 c0 00 03 \
         01 ffff 000000 000001 08 00000000 04",
        &[
            "63: type 8 stream 0 at 0, 1 bytes [01]",
            "64: type 8 stream 0 at 0, 1 bytes [02]",
            "64: type 8 stream 0 at 0, 1 bytes [03]",
            "65599: type 8 stream 0 at 0, 1 bytes [04]",
        ],
    );
}

#[test]
fn an_extended_timestamp_is_repeated_in_each_chunk() {
    let (first, second) = ("11".repeat(128), "22".repeat(2));
    check(
        &format!(
            "06 ffffff 000082 09 01000000 01020304 {first} c6 01020304 {second} 86 000001 {first} c6 {second}"
        ),
        &[
            "6: type 9 stream 1 at 16909060, 130 bytes [11, 11, 11, 11]",
            "6: type 9 stream 1 at 16909061, 130 bytes [11, 11, 11, 11]",
        ],
    );
}

#[test]
fn a_peer_that_does_not_repeat_the_extended_timestamp_is_understood() {
    let (first, second) = ("11".repeat(128), "22".repeat(2));
    check(
        &format!("06 ffffff 000082 09 01000000 01020304 {first} c6 {second} 04 000000 000001 08 01000000 aa"),
        &[
            "6: type 9 stream 1 at 16909060, 130 bytes [11, 11, 11, 11]",
            "4: type 8 stream 1 at 0, 1 bytes [aa]",
        ],
    );
}

#[test]
fn timestamps_wrap_at_32_bits() {
    check(
        "04 ffffff 000001 08 01000000 fffffff0 aa 84 000020 bb 84 ffffff ffffffff cc",
        &[
            "4: type 8 stream 1 at 4294967280, 1 bytes [aa]",
            "4: type 8 stream 1 at 16, 1 bytes [bb]",
            "4: type 8 stream 1 at 15, 1 bytes [cc]",
        ],
    );
}

#[test]
fn a_message_may_be_empty() {
    check("04 000000 000000 08 01000000 c4", &["4: type 8 stream 1 at 0, 0 bytes []"; 2]);
}

#[test]
fn a_full_header_in_the_middle_of_a_message_continues_it_or_begins_another_by_its_length() {
    let (first, second) = ("11".repeat(128), "22".repeat(2));
    check(
        &format!("06 000000 000082 09 01000000 {first} 46 000005 000082 09 {second}"),
        &["6: type 9 stream 1 at 0, 130 bytes [11, 11, 11, 11]"],
    );
    check(
        &format!("06 000000 000082 09 01000000 {first} 46 000005 000002 09 {second}"),
        &["6: type 9 stream 1 at 5, 2 bytes [22, 22]"],
    );
}

#[test]
fn what_leans_on_nothing_is_an_error() {
    check("c4 00", &["error: chunk stream 4: its first chunk has a header of format 3 instead of 0"]);
    check("45 00", &["error: chunk stream 5: its first chunk has a header of format 1 instead of 0"]);
}

#[test]
fn a_peer_cannot_make_the_reader_hold_more_than_its_bounds() {
    check(
        "04 000000 00012d 08 01000000",
        &["error: message of 301 bytes on chunk stream 4: the most is 300"],
    );
    let begun = "11".repeat(128);
    check(
        &format!(
            "04 000000 00012c 08 01000000 {begun} 05 000000 00012c 08 01000000 {begun} c4 {begun} c5 {begun}"
        ),
        &["error: half-received messages would hold 600 bytes: the most is 400"],
    );
    let one = |id: u8| format!("{id:02x} 000000 000001 08 01000000 aa");
    check(
        &[4, 5, 6, 7].map(one).join(" "),
        &[
            "4: type 8 stream 1 at 0, 1 bytes [aa]",
            "5: type 8 stream 1 at 0, 1 bytes [aa]",
            "6: type 8 stream 1 at 0, 1 bytes [aa]",
            "error: chunk stream 7: more than 3 chunk streams in use",
        ],
    );
}

#[test]
fn memory_follows_what_came_and_not_what_was_announced() {
    let mut reader = Reader::new(Bounds::MEDIA);
    reader.set_chunk_size(0x7fff_ffff).unwrap();
    let mut input = Bytes::from(hex("04 000000 7fffff 09 01000000 aabb"));
    assert_eq!(reader.read(&mut input), Ok(None));
    assert!(reader.held() <= 4096, "{} bytes are held for 2", reader.held());
}

#[test]
fn a_message_that_lies_whole_in_the_input_is_not_copied() {
    let mut input = Bytes::from(hex("04 000000 000003 08 01000000 aabbcc"));
    let place = input[12..].as_ptr();
    let message = Reader::new(SMALL).read(&mut input).unwrap().unwrap();
    assert_eq!(message.payload.as_ptr(), place);
}

#[test]
fn an_aborted_message_is_forgotten() {
    let mut reader = Reader::new(SMALL);
    let mut input = Bytes::from(hex(&format!("06 000000 000082 09 01000000 {}", "11".repeat(128))));
    assert_eq!(reader.read(&mut input), Ok(None));
    assert!(reader.held() > 0);
    reader.abort(6);
    reader.abort(7);
    assert_eq!(reader.held(), 0);
    let mut input = Bytes::from(hex("06 000000 000001 09 01000000 aa"));
    assert_eq!(reader.read(&mut input).unwrap().unwrap().payload, hex("aa"));
}

#[test]
fn a_chunk_size_has_bounds_at_both_ends() {
    let mut reader = Reader::new(SMALL);
    for size in [0, 1, 63, 0x8000_0000, u32::MAX] {
        assert_eq!(reader.set_chunk_size(size), Err(Error::ChunkSize { size }));
    }
    for size in [64, 128, 60_000, 0x7fff_ffff] {
        assert_eq!(reader.set_chunk_size(size), Ok(()));
    }
}
