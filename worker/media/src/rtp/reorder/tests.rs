//! Orders in, orders out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use super::{Lost, Ordered, Reorder};
use crate::dropped::{Counters, Dropped};
use crate::ps::tests::camera::Random;
use crate::rtp::limits::{LOST_MAX, REORDER_PACKETS_MAX, REORDER_WAIT, SETTLE_PACKETS};
use crate::rtp::packet::Packet;

fn packet(sequence: u16) -> Packet {
    let payload = Bytes::from_static(&[0; 1400]);
    Packet { marker: false, payload_type: 96, sequence, timestamp: 0, ssrc: 1, payload }
}

struct Run {
    reorder: Reorder,
    counters: Counters,
    got: Vec<i64>,
}

/// A gap of n packets in the list of what came out; a restart.
const GAP: i64 = -1_000_000;
const RESTART: i64 = -2_000_000;

impl Run {
    /// A buffer whose beginning has settled on `first`.
    fn settled(first: u16) -> Run {
        let mut run = Run { reorder: Reorder::default(), counters: Counters::default(), got: Vec::new() };
        let numbers: Vec<u16> = (0..SETTLE_PACKETS as u16).map(|n| first.wrapping_add(n)).collect();
        run.push(&numbers, Duration::ZERO);
        assert_eq!(run.got.len(), SETTLE_PACKETS);
        run.got.clear();
        run
    }

    fn push(&mut self, numbers: &[u16], now: Duration) {
        for &number in numbers {
            self.reorder.push(packet(number), now, &mut self.counters);
            self.drain();
        }
    }

    fn drain(&mut self) {
        while let Some(ordered) = self.reorder.poll() {
            self.got.push(match ordered {
                Ordered::Packet(packet) => i64::from(packet.sequence),
                Ordered::Gap(count) => GAP - count as i64,
                Ordered::Restart => RESTART,
            });
        }
    }

    fn timeout(&mut self, now: Duration) {
        self.reorder.timeout(now, &mut self.counters);
        self.drain();
    }

    #[track_caller]
    fn expect(&mut self, got: &[i64], dropped: &[(Dropped, u64)]) {
        assert_eq!(std::mem::take(&mut self.got), got);
        let all: Vec<(Dropped, u64)> = Dropped::ALL
            .into_iter()
            .map(|reason| (reason, self.counters.dropped(reason)))
            .filter(|&(_, count)| count > 0)
            .collect();
        assert_eq!(all, dropped);
    }
}

#[test]
fn packets_in_order_pass_at_once_also_across_the_end() {
    let mut run = Run::settled(65_500);
    for number in (65_516..=65_535).chain(0..20) {
        run.push(&[number], Duration::ZERO);
        run.expect(&[i64::from(number)], &[]);
    }
    assert_eq!(run.reorder.deadline(), None);
}

#[test]
fn packets_that_are_mixed_come_out_in_order_from_the_very_first_on() {
    for seed in 0..50 {
        let mut random = Random(seed);
        let first = random.next() as u16;
        let numbers: Vec<u16> = (0..500).map(|n| first.wrapping_add(n)).collect();
        let numbers = random.mix(numbers, 5);
        let mut run = Run { reorder: Reorder::default(), counters: Counters::default(), got: Vec::new() };
        run.push(&numbers, Duration::ZERO);
        let expected: Vec<i64> = (0..500).map(|n| i64::from(first.wrapping_add(n))).collect();
        run.expect(&expected, &[]);
    }
}

#[test]
fn a_few_packets_settle_by_time() {
    let mut run = Run { reorder: Reorder::default(), counters: Counters::default(), got: Vec::new() };
    run.push(&[12, 11, 10], Duration::ZERO);
    run.expect(&[], &[]);
    assert_eq!(run.reorder.deadline(), Some(REORDER_WAIT));
    run.timeout(REORDER_WAIT);
    run.expect(&[10, 11, 12], &[]);
}

#[test]
fn a_lost_packet_is_waited_for_and_given_up() {
    let mut run = Run::settled(0);
    let late = Duration::from_millis(40);
    run.push(&[17, 18], late);
    run.push(&[20], 2 * late);
    run.timeout(late + REORDER_WAIT - Duration::from_nanos(1));
    run.expect(&[], &[]);
    run.timeout(late + REORDER_WAIT);
    run.expect(&[GAP - 1, 17, 18], &[(Dropped::Lost, 1)]);
    run.push(&[16], 3 * late);
    run.expect(&[], &[(Dropped::Late, 1), (Dropped::Lost, 1)]);
    run.push(&[16, 18, 20], 3 * late);
    run.expect(&[], &[(Dropped::Late, 1), (Dropped::Duplicate, 3), (Dropped::Lost, 1)]);
    run.push(&[19], 3 * late);
    run.expect(&[19, 20], &[(Dropped::Late, 1), (Dropped::Duplicate, 3), (Dropped::Lost, 1)]);
}

#[test]
fn a_picture_of_a_mebibyte_behind_a_lost_packet_is_held_whole() {
    let mut run = Run::settled(0);
    let picture: Vec<u16> = (17..17 + 750).collect();
    run.push(&picture, Duration::ZERO);
    run.expect(&[], &[]);
    run.push(&[16], Duration::ZERO);
    assert_eq!(run.got.len(), 751);
}

#[test]
fn a_full_buffer_gives_up_the_gap() {
    let mut run = Run::settled(0);
    let many: Vec<u16> = (20..20 + REORDER_PACKETS_MAX as u16 + 1).collect();
    run.push(&many, Duration::ZERO);
    assert_eq!(run.got.first(), Some(&(GAP - 4)));
    assert_eq!(run.got.len(), REORDER_PACKETS_MAX + 2);
    assert_eq!(run.counters.dropped(Dropped::Lost), 4);
}

#[test]
fn a_sender_that_begins_anew_is_followed_and_a_stray_packet_is_not() {
    for anew in [30_000, 65_000, 400 + 5000] {
        let mut run = Run::settled(400);
        run.push(&[anew, 416, anew + 1, anew + 7], Duration::ZERO);
        run.expect(&[416], &[(Dropped::Late, 2)]);
        run.push(&[anew + 8, anew + 9, anew + 10], Duration::ZERO);
        let numbers: Vec<i64> = (7..11).map(|n| i64::from(anew) + n).collect();
        run.expect(&[&[RESTART][..], &numbers].concat(), &[(Dropped::Late, 2)]);
        run.push(&[anew + 11], Duration::ZERO);
        run.expect(&[i64::from(anew) + 11], &[(Dropped::Late, 2)]);
    }
}

#[test]
fn a_seeded_mix_of_losses_and_repeats_is_a_rising_list_with_every_gap_told() {
    for seed in 0..100 {
        let mut random = Random(seed);
        let mut run = Run::settled(0);
        let mut sent: Vec<u16> = (16..1500).filter(|_| random.below(50) != 0).collect();
        let lost = 1484 - sent.len() as u64;
        for n in 0..sent.len() - 20 {
            match random.below(10) {
                0 => sent.swap(n, n + random.clone().below(20)),
                1 => sent.insert(n, sent[n]),
                _ => {}
            }
        }
        for (n, number) in sent.iter().enumerate() {
            run.push(&[*number], Duration::from_millis(n as u64 * 4));
        }
        run.reorder.flush(&mut run.counters);
        run.drain();
        let mut next = 16;
        let mut missing = 0;
        for got in &run.got {
            if *got < GAP {
                missing += (GAP - got) as u64;
                next += GAP - got;
            } else {
                assert_eq!(*got, next, "seed {seed}");
                next += 1;
            }
        }
        let late = run.counters.dropped(Dropped::Late);
        assert!(missing <= lost + late && run.counters.dropped(Dropped::Lost) == missing, "seed {seed}");
    }
}

#[test]
fn the_deadline_is_that_of_the_packet_that_is_held_longest() {
    let mut random = Random(5);
    let mut run = Run::settled(0);
    let mut came = BTreeMap::new();
    for n in 0..6000u64 {
        let now = Duration::from_millis(n / 3);
        let number = (SETTLE_PACKETS as u64 + n + random.below(12) as u64) as u16;
        run.timeout(now);
        run.push(&[number], now);
        // Numbers do not come round here, so each is its own key.
        came.entry(i64::from(number)).or_insert(now);
        came.retain(|number, _| run.reorder.held.contains_key(number));
        assert_eq!(came.len(), run.reorder.held.len());
        assert_eq!(run.reorder.deadline(), came.values().min().map(|came| *came + REORDER_WAIT));
        assert!(run.reorder.arrivals.len() <= 2 * REORDER_PACKETS_MAX);
    }
}

#[test]
fn numbers_that_were_given_up_are_a_set_of_the_newest() {
    let mut random = Random(3);
    let (mut lost, mut model, mut next) = (Lost::default(), BTreeSet::new(), 0);
    for _ in 0..4000 {
        let begin = next + random.below(5) as i64;
        next = begin + [0, 1, 2, 40, 3000][random.below(5)];
        lost.push(begin..next);
        model.extend(begin..next);
        while model.len() > LOST_MAX as usize {
            model.pop_first();
        }
        for _ in 0..8 {
            let number = next - random.below(5000) as i64;
            assert_eq!(lost.contains(number), model.contains(&number));
            if random.below(2) == 0 {
                assert_eq!(lost.remove(number), model.remove(&number));
            }
        }
        assert_eq!(lost.count, model.len() as i64);
        assert!(lost.ranges.iter().all(|range| !range.is_empty()));
    }
    assert_eq!(lost.ranges.into_iter().flatten().collect::<BTreeSet<i64>>(), model);
}
