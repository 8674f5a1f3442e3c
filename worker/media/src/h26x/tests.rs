//! Byte streams and parameter sets, as data.

use crate::frame::Kind;
use crate::h26x::{Class, Codec, Packager, classify, nals};
use crate::ps::tests::camera::{H264_RECORD, H264_SETS, H265_RECORD, H265_SETS, Random, unhex};

fn stream<'a>(units: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    units.into_iter().flat_map(|nal| [&[0, 0, 1], nal].concat()).collect()
}

#[test]
fn nal_units_are_cut_at_start_codes_of_three_and_four_bytes() {
    let check = |bytes: &[u8], expected: &[&[u8]]| assert_eq!(nals(bytes).collect::<Vec<_>>(), expected);
    check(&[], &[]);
    check(&[0, 0, 1], &[]);
    check(&[9, 9, 0, 0, 1, 7], &[&[7]]);
    check(&[0, 0, 0, 1, 7, 0, 0, 0, 1, 8, 0, 0, 1, 9], &[&[7], &[8], &[9]]);
    check(&[0, 0, 1, 7, 1, 0, 1, 0, 0, 2, 0, 0, 0, 0], &[&[7, 1, 0, 1, 0, 0, 2]]);
    check(&[0, 0, 1, 0, 0, 1, 5], &[&[5]]);
}

#[test]
fn records_are_those_that_ffmpeg_makes() {
    for (codec, sets, record) in
        [(Codec::H264, &H264_SETS[..], H264_RECORD), (Codec::H265, &H265_SETS[..], H265_RECORD)]
    {
        let sets: Vec<Vec<u8>> = sets.iter().map(|set| unhex(set)).collect();
        assert_eq!(Codec::of_parameter_set(&sets[0]), Some(codec));
        let mut packager = Packager::new(codec);
        let packaged = packager.package(&stream(sets.iter().map(Vec::as_slice)));
        assert_eq!(packaged.config.expect("a record"), unhex(record));
        assert_eq!(packaged.picture, None);
        let again = packager.package(&stream(sets.iter().map(Vec::as_slice)));
        assert_eq!(again.config, None, "the same sets are no change");
    }
}

#[test]
fn a_record_waits_for_each_kind_of_set() {
    for (codec, sets) in [(Codec::H264, &H264_SETS[..]), (Codec::H265, &H265_SETS[..])] {
        for missing in 0..sets.len() {
            let some: Vec<Vec<u8>> =
                (0..sets.len()).filter(|&n| n != missing).map(|n| unhex(sets[n])).collect();
            let packaged = Packager::new(codec).package(&stream(some.iter().map(Vec::as_slice)));
            assert_eq!(packaged.config, None);
        }
    }
}

#[test]
fn classes_are_told_by_the_first_bytes() {
    use Class::{Delimiter, FirstSlice, Foreign, ParameterSet, Prefix, Slice, Suffix};
    for (codec, nal, class) in [
        (Codec::H264, &[0x65, 0x88][..], Some(FirstSlice)),
        (Codec::H264, &[0x41, 0x9a], Some(FirstSlice)),
        (Codec::H264, &[0x41, 0x3a], Some(Slice)),
        (Codec::H264, &[0x41], None),
        (Codec::H264, &[0x67], Some(ParameterSet)),
        (Codec::H264, &[0x06], Some(Prefix)),
        (Codec::H264, &[0x09], Some(Delimiter)),
        (Codec::H264, &[0x0c], Some(Suffix)),
        (Codec::H264, &[0xba], Some(Foreign)),
        (Codec::H265, &[0x26, 0x01, 0x80], Some(FirstSlice)),
        (Codec::H265, &[0x02, 0x01, 0x40], Some(Slice)),
        (Codec::H265, &[0x02, 0x01], None),
        (Codec::H265, &[0x40, 0x01], Some(ParameterSet)),
        (Codec::H265, &[0x46, 0x01], Some(Delimiter)),
        (Codec::H265, &[0x4e, 0x01], Some(Prefix)),
        (Codec::H265, &[0x50, 0x01], Some(Suffix)),
        (Codec::H265, &[0xe0], Some(Foreign)),
        (Codec::H265, &[], None),
    ] {
        assert_eq!(classify(codec, nal), class, "{codec:?} {nal:02x?}");
    }
}

#[test]
fn key_frames_are_idr_irap_and_intra_pictures_with_a_recovery_point() {
    let recovery: &[u8] = &[0x06, 0x06, 0x01, 0xc4, 0x80];
    // slice_type 7 (I) and 5 (P), behind first_mb_in_slice 0.
    let (intra, inter): (&[u8], &[u8]) = (&[0x41, 0b1000_1000, 0x80], &[0x41, 0b1001_1010, 0x80]);
    for (codec, units, kind) in [
        (Codec::H264, vec![&[0x65, 0x88, 0x80][..]], Kind::Key),
        (Codec::H264, vec![intra], Kind::Inter),
        (Codec::H264, vec![recovery, intra], Kind::Key),
        (Codec::H264, vec![recovery, inter], Kind::Inter),
        (Codec::H264, vec![&[0x06, 0x05, 0x02, 7, 7, 0x06, 0x01, 0xc4, 0x80], intra], Kind::Key),
        (Codec::H264, vec![&[0x06, 0x05, 0xff, 0xff, 0x02, 7, 7], intra], Kind::Inter),
        (Codec::H265, vec![&[0x26, 0x01, 0x80, 1]], Kind::Key),
        (Codec::H265, vec![&[0x2a, 0x01, 0x80, 1]], Kind::Key),
        (Codec::H265, vec![&[0x02, 0x01, 0x80, 1]], Kind::Inter),
    ] {
        let packaged = Packager::new(codec).package(&stream(units.iter().copied()));
        assert_eq!(packaged.picture.expect("a picture").0, kind, "{codec:?} {units:02x?}");
    }
}

#[test]
fn pictures_leave_out_what_has_its_own_place() {
    let units: [&[u8]; 6] = [
        &[9, 0xf0],
        &unhex(H264_SETS[0]),
        &unhex(H264_SETS[1]),
        &[6, 5, 1, 7, 0x80],
        &[0x65, 0x88, 1],
        &[12, 0xff],
    ];
    let packaged = Packager::new(Codec::H264).package(&stream(units));
    let (_, payload) = packaged.picture.expect("a picture");
    assert_eq!(payload[..], [0, 0, 0, 5, 6, 5, 1, 7, 0x80, 0, 0, 0, 3, 0x65, 0x88, 1]);
}

#[test]
fn a_picture_takes_no_more_room_than_its_length() {
    // Filler, and NAL units so short that their lengths take more than their start codes did.
    let filler = [&[12u8][..], &[0xff; 100_000]].concat();
    let stuffed = stream([&[0x65, 0x88, 1][..], &filler]);
    let tiny = [0, 0, 1, 0x65].repeat(10_000);
    for bytes in [stuffed, [&stream([&[0x65, 0x88, 1][..]])[..], &tiny].concat()] {
        let (_, payload) = Packager::new(Codec::H264).package(&bytes).picture.expect("a picture");
        let length = payload.len();
        assert_eq!(Vec::from(payload).capacity(), length);
    }
}

#[test]
fn sets_that_are_cut_or_too_many_are_told_and_bear_no_record() {
    for (codec, sets) in [(Codec::H264, &H264_SETS[..]), (Codec::H265, &H265_SETS[..])] {
        for set in sets {
            let set = unhex(set);
            for length in 1..4.min(set.len()) {
                let packaged = Packager::new(codec).package(&stream([&set[..length]]));
                assert_eq!(packaged.config, None);
            }
        }
    }
    let mut packager = Packager::new(Codec::H264);
    let many: Vec<Vec<u8>> = (0..40u8).map(|id| vec![0x68, 0x04 | id >> 4, id << 4 | 8]).collect();
    assert!(packager.package(&stream(many.iter().map(Vec::as_slice))).sets.is_err());
    let long = [&[0x67, 100, 0, 30, 0xff][..], &[7; 5000]].concat();
    assert!(packager.package(&stream([&long[..]])).sets.is_err());
}

#[test]
fn no_bytes_make_it_panic() {
    for seed in 0..500 {
        let mut random = Random(seed);
        for codec in [Codec::H264, Codec::H265] {
            let heads = [0x67, 0x68, 0x65, 0x06, 0x40, 0x42, 0x44, 0x26, 0x4e];
            let units: Vec<Vec<u8>> = (0..8)
                .map(|_| {
                    let length = random.below(60);
                    let mut nal = vec![heads[random.below(heads.len())], 1];
                    nal.extend(random.bytes(length).iter().map(|byte| if byte % 3 == 0 { 0 } else { *byte }));
                    nal
                })
                .collect();
            Packager::new(codec).package(&stream(units.iter().map(Vec::as_slice)));
        }
    }
}
