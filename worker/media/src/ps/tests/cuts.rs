//! What comes out, and what is counted, is the same however the bytes were cut, even of bytes that no camera should send.

use std::time::Duration;

use super::camera::{G711, Random, Scene, packs};
use crate::dropped::{Counters, Dropped};
use crate::frame::Codec;
use crate::ps::limits::{ACCESS_UNIT_BYTES_MAX, SOUND_BYTES_MAX};
use crate::ps::{Demux, Output};

fn play<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Output>, Counters) {
    let (mut demux, mut counters) = (Demux::new(), Counters::default());
    for piece in pieces {
        demux.push(piece, 0, false, Duration::ZERO, &mut counters);
    }
    demux.finish(&mut counters);
    (std::iter::from_fn(|| demux.poll()).collect(), counters)
}

#[track_caller]
fn check(what: &str, bytes: &[u8], sizes: &[usize]) -> (Vec<Output>, Counters) {
    let whole = play([bytes]);
    for &size in sizes {
        assert!(play(bytes.chunks(size)) == whole, "{what}, in pieces of {size}");
    }
    whole
}

/// A short scene, in which one PES packet's length is `more` too long, and a unit stands behind it.
fn misstate(scene: &Scene, more: i32, behind: &[u8]) -> Vec<u8> {
    let mut packs = packs(scene, &scene.shoot());
    let pack = &mut packs[3].1;
    let at = pack.windows(4).position(|four| four == [0, 0, 1, 0xe0]).expect("a PES packet of video") + 4;
    let length = i32::from(u16::from_be_bytes([pack[at], pack[at + 1]])) + more;
    pack[at..at + 2].copy_from_slice(&(length as u16).to_be_bytes());
    pack.extend_from_slice(behind);
    packs.into_iter().flat_map(|(_, pack)| pack).collect()
}

#[test]
fn a_length_that_lies_is_taken_the_same_in_all_cuts() {
    let scene = Scene {
        audio: None,
        pictures: 6,
        key_bytes: 60,
        inter_bytes: 40,
        pes_bytes: Some(500),
        ..Scene::PLAIN
    };
    let units: [&[u8]; 6] = [
        &[],
        &[0, 0, 1, 0xb9],
        &[0, 0, 1, 0xbe, 0, 3, 0xff, 0xff, 0xff],
        &[0, 0, 1, 0xbd, 0, 9, 0x80, 0, 0, 0, 0, 1, 0xba, 7, 7],
        &[0, 0, 1, 0xe0, 0, 0, 0x00, 0, 0],
        &[0, 0, 0, 0, 0, 1, 0xba, 0x21, 0, 1, 0],
    ];
    for scene in [scene, Scene { video: Some(Codec::H265), ..scene }] {
        for (n, unit) in units.iter().enumerate() {
            for more in -20..=30 {
                let what = format!("{:?}, {more} too long, before unit {n}", scene.video);
                check(&what, &misstate(&scene, more, unit), &[1, 2, 3, 5, 7, 11, 64]);
            }
        }
    }
}

#[test]
fn random_damage_is_taken_the_same_in_all_cuts() {
    for seed in 0..120 {
        let scene = Scene {
            pictures: 6,
            key_bytes: 80,
            inter_bytes: 50,
            audio: [Some(Codec::Aac), Some(Codec::PcmA(G711)), None][seed as usize % 3],
            pes_bytes: [Some(500), None, Some(33)][seed as usize / 3 % 3],
            seed,
            ..Scene::PLAIN
        };
        let mut bytes: Vec<u8> =
            packs(&scene, &scene.shoot()).into_iter().flat_map(|(_, pack)| pack).collect();
        let mut random = Random(seed);
        for _ in 0..random.below(12) {
            let at = 60 + random.below(bytes.len() - 60);
            match random.below(3) {
                0 => bytes[at] = random.next() as u8,
                1 => drop(bytes.drain(at - random.below(20)..at)),
                _ => drop(bytes.splice(at..at, [0, 0, 1, 0xb9 + random.below(0x47) as u8])),
            }
        }
        check(&format!("seed {seed}"), &bytes, &[1, 2, 3, 7, 100]);
    }
}

#[test]
fn a_picture_beyond_the_bound_is_dropped_though_its_end_comes_with_it() {
    let scene = Scene { audio: None, pictures: 6, pes_bytes: None, ..Scene::PLAIN };
    let mut shots = scene.shoot();
    // The first of its zeros counts to the picture before.
    for (size, fits) in [(ACCESS_UNIT_BYTES_MAX + 1, true), (ACCESS_UNIT_BYTES_MAX + 2, false)] {
        shots[3].bytes.resize(size, 0x55);
        let bytes: Vec<u8> = packs(&scene, &shots).into_iter().flat_map(|(_, pack)| pack).collect();
        let (outputs, counters) = check(&format!("{size} bytes"), &bytes, &[1400, 65_523]);
        assert_eq!(outputs.len(), if fits { 7 } else { 6 });
        assert_eq!(counters.dropped(Dropped::Overflow), u64::from(!fits));
    }
}

#[test]
fn a_sound_of_unstated_length_beyond_the_bound_is_dropped_to_its_end() {
    let scene = Scene { pictures: 4, ..Scene::PLAIN };
    for (size, fits) in [(SOUND_BYTES_MAX, true), (SOUND_BYTES_MAX + 1, false), (3 * SOUND_BYTES_MAX, false)]
    {
        let mut packs = packs(&scene, &scene.shoot());
        let pack = &mut packs[3].1;
        let at = pack.windows(4).position(|four| four == [0, 0, 1, 0xc0]).expect("a PES packet of sound");
        pack[at + 4..at + 6].fill(0);
        let head = at + 9 + usize::from(pack[at + 8]);
        pack.resize(head + size, 0xd5);
        let bytes: Vec<u8> = packs.into_iter().flat_map(|(_, pack)| pack).collect();
        let (outputs, counters) = check(&format!("{size} bytes"), &bytes, &[1, 1400, 65_523]);
        // Four pictures and their record, four sounds.
        assert_eq!(outputs.len(), if fits { 9 } else { 8 });
        assert_eq!(counters.dropped(Dropped::Overflow), u64::from(!fits));
    }
}
