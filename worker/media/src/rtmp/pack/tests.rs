//! The bytes of packed frames, and that they read back.

use bytes::Bytes;

use super::{CHUNK_SIZE, pack};
use crate::flv::hex::hex;
use crate::frame::{Codec, Frame, Kind};
use crate::rtmp::chunk::{Bounds, Reader};

fn frame(codec: Codec, bytes: usize) -> Frame {
    Frame { codec, kind: Kind::Key, dts_ms: 0, cts_ms: 0, payload: Bytes::from(vec![0x55; bytes]) }
}

#[test]
fn a_packed_frame_is_one_message_with_a_full_header() {
    assert_eq!(pack(&frame(Codec::Aac, 2), 0x0001_0203), hex("04 010203 000004 08 01000000 af01 5555"));
    assert_eq!(pack(&frame(Codec::H264, 1), 5), hex("06 000005 000006 09 01000000 1701000000 55"));
    assert_eq!(pack(&frame(Codec::H265, 1), 5), hex("06 000005 000006 09 01000000 93 68766331 55"));
}

#[test]
fn metadata_always_stands_at_time_0() {
    assert_eq!(pack(&frame(Codec::Script, 1), 5), hex("05 000000 000001 12 01000000 55"));
}

#[test]
fn the_timestamp_is_extended_from_where_24_bits_end() {
    assert_eq!(pack(&frame(Codec::Aac, 1), 0xff_fffe), hex("04 fffffe 000003 08 01000000 af01 55"));
    assert_eq!(pack(&frame(Codec::Aac, 1), 0xff_ffff), hex("04 ffffff 000003 08 01000000 00ffffff af01 55"));
    assert_eq!(pack(&frame(Codec::Aac, 1), u32::MAX), hex("04 ffffff 000003 08 01000000 ffffffff af01 55"));
}

#[test]
fn frames_of_every_size_around_the_chunk_size_read_back() {
    let chunk = CHUNK_SIZE as usize;
    let head = 2;
    for bytes in
        [0, 1, chunk - head - 1, chunk - head, chunk - head + 1, 2 * chunk - head, 3 * chunk, 1 << 20]
    {
        for timestamp in [0, 0xff_ffff, u32::MAX] {
            let packed = pack(&frame(Codec::Aac, bytes), timestamp);
            let mut reader = Reader::new(Bounds::MEDIA);
            reader.set_chunk_size(CHUNK_SIZE).unwrap();
            let mut input = packed.clone();
            let message = reader.read(&mut input).unwrap().expect("a whole message");
            assert_eq!((message.kind, message.message_stream, message.timestamp), (8, 1, timestamp));
            assert_eq!(message.payload.len(), head + bytes);
            assert!(input.is_empty(), "{} bytes are left over", input.len());
            let chunks = (head + bytes).div_ceil(chunk).max(1);
            let extended = if timestamp == 0 { 0 } else { 4 };
            assert_eq!(packed.len(), 12 + head + bytes + (chunks - 1) + chunks * extended);
        }
    }
}
