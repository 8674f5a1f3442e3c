//! Two ends: what the muxer makes, cut in all ways, comes out of the demultiplexer as it went in.

pub(crate) mod camera;
mod cuts;

use std::time::Duration;

use camera::{G711, Random, Scene, Shot, by_track, expected, packs};

use super::limits::{ACCESS_UNIT_BYTES_MAX, PICTURE_WAIT};
use super::{Demux, MapPlace, Output};
use crate::dropped::{Counters, Dropped};
use crate::frame::{Codec, Frame, Kind};

/// How a pack is cut into RTP payloads.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// As senders do.
    Mtu,
    /// Each byte for itself.
    Bytes,
    /// Anywhere, by a seed.
    Anywhere(u64),
}

/// Which packets carry a marker bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Marker {
    Last,
    Never,
    Always,
}

struct Run {
    demux: Demux,
    counters: Counters,
    frames: Vec<Frame>,
    refused: Vec<&'static str>,
}

impl Run {
    fn new() -> Run {
        Run { demux: Demux::new(), counters: Counters::default(), frames: Vec::new(), refused: Vec::new() }
    }

    fn push(&mut self, payload: &[u8], rtp: i64, marker: bool) {
        self.demux.push(payload, rtp, marker, Duration::ZERO, &mut self.counters);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.demux.poll() {
            match output {
                Output::Frame(frame) => self.frames.push(frame),
                Output::Refused(name) => self.refused.push(name),
            }
        }
    }

    fn play(&mut self, packs: &[(i64, Vec<u8>)], cut: Cut, marker: Marker) {
        for (dts, pack) in packs {
            let pieces = cut.pieces(pack);
            for (n, piece) in pieces.iter().enumerate() {
                let marked = match marker {
                    Marker::Last => n + 1 == pieces.len(),
                    Marker::Never => false,
                    Marker::Always => true,
                };
                self.push(piece, *dts, marked);
            }
        }
    }

    fn finish(mut self) -> Run {
        self.demux.finish(&mut self.counters);
        self.drain();
        self
    }

    fn dropped(&self) -> Vec<(Dropped, u64)> {
        let count = |&reason: &Dropped| (reason, self.counters.dropped(reason));
        Dropped::ALL.iter().map(count).filter(|&(_, count)| count > 0).collect()
    }
}

impl Cut {
    fn pieces(self, bytes: &[u8]) -> Vec<&[u8]> {
        match self {
            Cut::Mtu => bytes.chunks(1400).collect(),
            Cut::Bytes => bytes.chunks(1).collect(),
            Cut::Anywhere(seed) => {
                let mut random = Random(seed);
                let mut rest = bytes;
                let mut pieces = Vec::new();
                while !rest.is_empty() {
                    let (piece, after) = rest.split_at((1 + random.below(40)).min(rest.len()));
                    pieces.push(piece);
                    rest = after;
                }
                pieces
            }
        }
    }
}

#[track_caller]
fn assert_frames(got: Vec<Frame>, expected: Vec<Frame>, what: &str) {
    let [got, expected] = [by_track(got), by_track(expected)];
    for (got, expected) in got.iter().zip(&expected) {
        let brief = |frames: &[Frame]| -> Vec<String> {
            let line = |f: &Frame| {
                format!("{:?} {:?} {} {} {}", f.codec, f.kind, f.dts_ms, f.cts_ms, f.payload.len())
            };
            frames.iter().map(line).collect()
        };
        assert_eq!(brief(got), brief(expected), "{what}");
        assert!(got == expected, "{what}: payloads differ");
    }
}

/// Plays a scene in all cuts and with all markers: every frame comes out, and nothing is counted as dropped.
#[track_caller]
fn check(name: &str, scene: Scene) {
    let shots = scene.shoot();
    let packs = packs(&scene, &shots);
    for cut in [Cut::Mtu, Cut::Bytes, Cut::Anywhere(7), Cut::Anywhere(8)] {
        for marker in [Marker::Last, Marker::Never, Marker::Always] {
            let mut run = Run::new();
            run.play(&packs, cut, marker);
            let run = run.finish();
            let what = format!("{name}, {cut:?}, {marker:?}");
            assert_frames(run.frames.clone(), expected(&shots), &what);
            assert_eq!(run.dropped(), [], "{what}");
            assert_eq!(run.refused, [""; 0], "{what}");
        }
    }
}

#[test]
fn every_frame_comes_through_however_the_packs_are_cut() {
    let plain = Scene::PLAIN;
    check("H.264 and G.711 A", plain);
    check("H.265 and G.711 µ", Scene { video: Some(Codec::H265), audio: Some(Codec::PcmU(G711)), ..plain });
    check("H.264 and AAC", Scene { audio: Some(Codec::Aac), ..plain });
    check("B-frames", Scene { b_frames: true, ..plain });
    check("B-frames, H.265", Scene { b_frames: true, video: Some(Codec::H265), ..plain });
    check("slices", Scene { slices: 4, ..plain });
    check("pictures alone", Scene { audio: None, ..plain });
    check("sound alone, G.711", Scene { video: None, ..plain });
    check("sound alone, AAC", Scene { video: None, audio: Some(Codec::Aac), ..plain });
}

#[test]
fn every_frame_comes_through_however_pes_packets_are_cut() {
    for pes_bytes in [None, Some(5000), Some(1000), Some(333)] {
        for slices in [1, 3] {
            check(
                &format!("PES of {pes_bytes:?}, {slices} slices"),
                Scene { pes_bytes, slices, ..Scene::PLAIN },
            );
        }
    }
    check("a picture of 300 KB", Scene { key_bytes: 300_000, pictures: 12, ..Scene::PLAIN });
}

#[test]
fn a_stream_without_a_map_is_told_by_its_data() {
    for map in [MapPlace::Never, MapPlace::KeysAfter(1)] {
        for video in [None, Some(Codec::H264), Some(Codec::H265)] {
            for audio in [Codec::Aac, Codec::PcmA(G711), Codec::PcmU(G711)] {
                let scene = Scene { map, video, audio: Some(audio), ..Scene::PLAIN };
                check(&format!("{map:?}, {video:?}, {audio:?}"), scene);
            }
        }
    }
}

#[test]
fn the_clock_runs_on_where_33_bits_end() {
    for b_frames in [false, true] {
        let start = (1 << 33) - 5 * 3600;
        check("wrap", Scene { start, b_frames, ..Scene::PLAIN });
    }
    check("any beginning", Scene { start: 0x1_2345_6789, ..Scene::PLAIN });
}

#[test]
fn a_camera_that_keeps_to_its_marker_has_its_pictures_out_at_once() {
    let scene = Scene { audio: None, ..Scene::PLAIN };
    let shots = scene.shoot();
    let mut run = Run::new();
    for (n, pack) in packs(&scene, &shots).into_iter().enumerate() {
        run.play(&[pack], Cut::Mtu, Marker::Last);
        // The marker must have been right twice; a picture more is what tells.
        let late = if n < 2 { 1 } else { 0 };
        let pictures = run.frames.iter().filter(|frame| frame.kind != Kind::Config).count();
        assert_eq!(pictures, n + 1 - late, "after picture {n}");
    }
}

#[test]
fn a_camera_without_markers_has_its_pictures_out_with_the_next_pack() {
    let scene = Scene::PLAIN;
    let shots = scene.shoot();
    let mut run = Run::new();
    run.play(&packs(&scene, &shots), Cut::Mtu, Marker::Never);
    // Of the last access unit, a sound, nothing is late; the picture before it ended with its pack.
    assert_frames(run.frames, expected(&shots), "all");
}

#[test]
fn a_lone_picture_is_out_after_a_short_wait() {
    let scene = Scene { audio: None, pictures: 1, ..Scene::PLAIN };
    let shots = scene.shoot();
    let mut run = Run::new();
    run.play(&packs(&scene, &shots), Cut::Mtu, Marker::Never);
    assert_eq!(run.frames, []);
    assert_eq!(run.demux.deadline(), Some(PICTURE_WAIT));
    run.demux.timeout(PICTURE_WAIT, &mut run.counters);
    run.drain();
    assert_frames(run.frames, expected(&shots), "the picture");
    assert_eq!(run.demux.deadline(), None);
}

#[test]
fn noise_and_the_rest_of_a_picture_before_the_first_pack_are_borne() {
    let shots = Scene::PLAIN.shoot();
    let packs = packs(&Scene::PLAIN, &shots);
    for seed in 0..20 {
        let mut run = Run::new();
        let noise = Random(seed).bytes(3000);
        run.push(&noise, 0, false);
        // A pack header that is cut off, and one with broken marker bits.
        run.push(&[0, 0, 1, 0xba, 0x44, 0, 0, 0, 0, 1, 0xba, 0, 0, 0, 1, 0xba, 0], 0, false);
        run.push(&packs[2].1[5000.min(packs[2].1.len() / 2)..], 0, true);
        run.play(&packs, Cut::Anywhere(seed), Marker::Last);
        let run = run.finish();
        assert_frames(run.frames.clone(), expected(&shots), "behind noise");
        let Some(&(Dropped::Noise, bytes)) = run.dropped().first() else { panic!("{:?}", run.dropped()) };
        assert!(bytes >= 3000 && run.dropped().len() == 1, "{:?}", run.dropped());
    }
}

/// Loses packets by a seed: what comes out is what went in, less the access units that lost a packet and those beside them.
#[test]
fn a_lost_packet_costs_its_picture_and_nothing_that_comes_is_broken() {
    for seed in 0..40 {
        let scene = Scene {
            audio: [None, Some(Codec::PcmA(G711)), Some(Codec::Aac)][seed as usize % 3],
            video: [Some(Codec::H264), Some(Codec::H265)][seed as usize % 2],
            pes_bytes: [Some(65_000), Some(2000), None][seed as usize % 3],
            pictures: 60,
            seed,
            ..Scene::PLAIN
        };
        let shots = scene.shoot();
        let mut random = Random(seed);
        let mut run = Run::new();
        let mut whole: Vec<bool> = Vec::new();
        for (dts, pack) in packs(&scene, &shots) {
            let pieces = Cut::Mtu.pieces(&pack);
            let mut lost = false;
            for (n, piece) in pieces.iter().enumerate() {
                // The first key frame comes whole, and what follows it: without it there is nothing to see.
                if whole.len() > 3 && random.below(40) == 0 {
                    run.demux.gap(&mut run.counters);
                    lost = true;
                } else {
                    run.push(piece, dts, n + 1 == pieces.len());
                }
            }
            whole.push(!lost);
        }
        let run = run.finish();
        let all = expected(&shots);
        for frame in run.frames.iter().filter(|frame| frame.kind != Kind::Config) {
            assert!(
                all.contains(frame),
                "seed {seed}: a frame that was not sent: {:?} {}",
                frame.kind,
                frame.dts_ms
            );
        }
        let sure: Vec<&Shot> = (0..shots.len())
            .filter(|&n| (n.saturating_sub(1)..n + 3).all(|near| whole.get(near) != Some(&false)))
            .map(|n| &shots[n])
            .collect();
        for shot in sure {
            assert!(
                run.frames.contains(&shot.frame),
                "seed {seed}: {:?} at {} is missing",
                shot.codec,
                shot.frame.dts_ms
            );
        }
        let lost = (0..shots.len()).filter(|&n| !whole[n]);
        for shot in lost.map(|n| &shots[n]) {
            assert!(!run.frames.contains(&shot.frame), "seed {seed}: half a frame at {}", shot.frame.dts_ms);
        }
    }
}

#[test]
fn a_length_that_lies_costs_at_most_its_picture() {
    let scene = Scene { audio: None, ..Scene::PLAIN };
    let shots = scene.shoot();
    let good = packs(&scene, &shots);
    let find =
        |pack: &[u8]| pack.windows(4).position(|four| four == [0, 0, 1, 0xe0]).expect("a PES packet") + 4;
    // Too short, by far too short, a little too long, as long as can be.
    for lie in [100u16, 3, 900, 1855, 1900, 65_535] {
        let mut packs = good.clone();
        let at = find(&packs[5].1);
        packs[5].1[at..at + 2].copy_from_slice(&lie.to_be_bytes());
        let mut run = Run::new();
        run.play(&packs, Cut::Mtu, Marker::Last);
        let run = run.finish();
        for (n, shot) in shots.iter().enumerate() {
            let borne = n == 5 || run.frames.contains(&shot.frame);
            assert!(borne, "length {lie}: picture {n} is missing: {:?}", run.dropped());
        }
        assert!(!run.dropped().is_empty(), "length {lie}");
    }
}

#[test]
fn what_is_not_carried_is_refused_by_name_and_the_rest_goes_on() {
    for (kind, name) in [(0x80, "SVAC video"), (0x10, "MPEG-4 video"), (0x02, "MPEG-2 video")] {
        refuse(0xe0, kind, name, |codec| codec != Codec::H264);
    }
    for (kind, name) in [(0x9b, "SVAC audio"), (0x92, "G.722.1"), (0x99, "G.729"), (0x11, "AAC in LATM")] {
        refuse(0xc0, kind, name, |codec| codec == Codec::H264);
    }
}

/// Sends a map that names another type for one stream.
#[track_caller]
fn refuse(id: u8, kind: u8, name: &'static str, is_left: impl Fn(Codec) -> bool) {
    let shots = Scene::PLAIN.shoot();
    let mut packs = packs(&Scene::PLAIN, &shots);
    for (_, pack) in &mut packs {
        if let Some(map) = pack.windows(4).position(|four| four == [0, 0, 1, 0xbc]) {
            let entries = map + 12;
            let entry =
                pack[entries..].windows(2).position(|pair| pair[1] == id).expect("the stream is mapped");
            pack[entries + entry] = kind;
        }
    }
    let mut run = Run::new();
    run.play(&packs, Cut::Mtu, Marker::Last);
    let run = run.finish();
    assert_eq!(run.refused, [name]);
    assert_eq!(run.dropped(), [(Dropped::UnsupportedCodec, 30)], "{name}");
    let left = shots.iter().filter(|shot| is_left(shot.codec));
    assert_frames(run.frames, expected(left), name);
}

#[test]
fn a_second_camera_in_the_stream_is_left_out() {
    let shots = Scene::PLAIN.shoot();
    let mut run = Run::new();
    for (dts, pack) in packs(&Scene::PLAIN, &shots) {
        run.play(&[(dts, pack.clone())], Cut::Mtu, Marker::Last);
        let mut other = pack;
        if let Some(at) = other.windows(4).position(|four| four == [0, 0, 1, 0xe0]) {
            other[at + 3] = 0xe1;
            run.play(&[(dts, other)], Cut::Mtu, Marker::Last);
        }
    }
    let run = run.finish();
    assert_frames(run.frames.clone(), expected(&shots), "the first camera");
    assert_eq!(run.dropped(), [(Dropped::ExtraTrack, 30)]);
}

#[test]
fn units_without_interest_are_passed_over() {
    let shots = Scene::PLAIN.shoot();
    let mut run = Run::new();
    for (dts, mut pack) in packs(&Scene::PLAIN, &shots) {
        // Padding, private data with a start code in it, a zero-length unit, a directory.
        pack.extend_from_slice(&[0, 0, 1, 0xbe, 0, 3, 0xff, 0xff, 0xff]);
        pack.extend_from_slice(&[0, 0, 1, 0xbd, 0, 9, 0x80, 0, 0, 0, 0, 1, 0xba, 7, 7]);
        pack.extend_from_slice(&[0, 0, 1, 0xbf, 0, 0]);
        pack.extend_from_slice(&[0, 0, 1, 0xff, 0, 2, 1, 2]);
        pack.extend_from_slice(&[0, 0, 1, 0xb9]);
        run.play(&[(dts, pack)], Cut::Anywhere(dts as u64), Marker::Last);
    }
    let run = run.finish();
    assert_frames(run.frames.clone(), expected(&shots), "the rest");
    assert_eq!(run.dropped(), []);
}

#[test]
fn a_picture_beyond_the_bound_is_dropped_and_the_next_comes_through() {
    let scene = Scene { audio: None, ..Scene::PLAIN };
    let mut shots = scene.shoot();
    let length = shots[3].bytes.len();
    shots[3].bytes.resize(ACCESS_UNIT_BYTES_MAX + length, 0x55);
    let mut run = Run::new();
    run.play(&packs(&scene, &shots), Cut::Mtu, Marker::Last);
    let run = run.finish();
    shots.remove(3);
    assert_frames(run.frames.clone(), expected(&shots), "the others");
    assert_eq!(run.dropped(), [(Dropped::Overflow, 1)]);
}

#[test]
fn a_camera_may_change_its_codec() {
    let first = Scene { audio: None, ..Scene::PLAIN };
    let second = Scene { video: Some(Codec::H265), start: 30 * 3600, ..first };
    let mut run = Run::new();
    let mut all = Vec::new();
    for scene in [first, second] {
        let shots = scene.shoot();
        run.play(&packs(&scene, &shots), Cut::Mtu, Marker::Last);
        all.extend(expected(&shots));
    }
    let run = run.finish();
    assert_frames(run.frames.clone(), all, "both");
}

#[test]
fn a_new_sps_comes_before_the_picture_that_needs_it() {
    let scene = Scene { audio: None, ..Scene::PLAIN };
    let mut shots = scene.shoot();
    // Another level in the SPS of the second key frame and of the third.
    for key in [10, 20] {
        shots[key].bytes[7] = 0x1f;
    }
    let mut run = Run::new();
    run.play(&packs(&scene, &shots), Cut::Mtu, Marker::Last);
    let kinds: Vec<(usize, i64, u8)> = (0..run.frames.len())
        .filter(|&n| run.frames[n].kind == Kind::Config)
        .map(|n| (n, run.frames[n].dts_ms, run.frames[n].payload[3]))
        .collect();
    assert_eq!(kinds, [(0, 0, 0x0d), (11, 400, 0x1f)]);
}

#[test]
fn nothing_is_handed_out_before_the_first_key_frame() {
    let scene = Scene { audio: None, ..Scene::PLAIN };
    let shots = scene.shoot();
    let mut run = Run::new();
    run.play(&packs(&scene, &shots)[4..], Cut::Mtu, Marker::Last);
    let run = run.finish();
    assert_frames(run.frames, expected(&shots[10..]), "from the second key frame on");
}

#[test]
fn no_bytes_make_it_panic_or_grow() {
    let shots = Scene::PLAIN.shoot();
    let packs = packs(&Scene { pes_bytes: Some(500), ..Scene::PLAIN }, &shots);
    for seed in 0..300 {
        let mut random = Random(seed);
        let mut run = Run::new();
        for (dts, pack) in &packs[..12] {
            let mut pack = pack.clone();
            for _ in 0..random.below(30) {
                let at = random.below(pack.len());
                match random.below(4) {
                    0 => pack[at] = random.next() as u8,
                    1 => pack.truncate(at),
                    2 => pack[at] = 0xff,
                    _ => drop(pack.splice(at..at, [0, 0, 1, 0xb9 + random.below(0x47) as u8])),
                }
                pack.push(0);
            }
            run.play(&[(*dts, pack)], Cut::Anywhere(seed), Marker::Last);
            if random.below(5) == 0 {
                run.demux.gap(&mut run.counters);
            }
        }
        run.finish();
    }
}
