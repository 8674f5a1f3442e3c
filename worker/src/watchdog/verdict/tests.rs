//! The watchdog's judgement over virtual time.

use std::fmt::Write;

use super::*;

/// What a thread does in a stretch of virtual time.
#[derive(Clone, Copy)]
enum Does {
    Tick,
    Block,
    Spin,
    /// Ready all the time, on a CPU for a thousandth of it: too little to come to its tick.
    Starve,
    /// Computes, and has a ninth of a CPU, as beside 16 burners on 2 cores.
    SpinBesideBurners,
    /// Ready all the time and never run, so that the kernel counts nothing.
    Throttled,
    End,
}

/// What happens for `ms`: to shard 0 (with `.1` streams), and to shard 1 (with `.2` streams), which ticks.
struct Stretch {
    ms: u64,
    does: Does,
    /// Time between the watchdog's wakes.
    wake_ms: u64,
}

fn stretch(ms: u64, does: Does) -> Stretch {
    Stretch { ms, does, wake_ms: 100 }
}

/// Plays the stretches on `thread` and writes each finding with its time.
fn play(thread: Thread, streams: (usize, usize), stretches: &[Stretch]) -> String {
    let (mut judge, mut out) = (Judge::default(), String::new());
    let (mut now, mut ticked, mut usage) = (0, 0, Usage::default());
    for stretch in stretches {
        for _ in 0..stretch.ms / stretch.wake_ms {
            now += stretch.wake_ms;
            let ms = Duration::from_millis;
            let passed = ms(stretch.wake_ms);
            let mut ended = false;
            usage.runnable = false;
            match stretch.does {
                Does::Tick => {
                    ticked = now - 50;
                    usage.run += passed / 100;
                }
                Does::Block => {}
                Does::Spin => {
                    usage.run += passed;
                    usage.runnable = true;
                }
                Does::Starve => {
                    usage.run += passed / 1000;
                    usage.delay += passed * 999 / 1000;
                    usage.runnable = true;
                }
                Does::SpinBesideBurners => {
                    usage.run += passed / 9;
                    usage.delay += passed * 8 / 9;
                    usage.runnable = true;
                }
                Does::Throttled => usage.runnable = true,
                Does::End => ended = true,
            }
            let tick_age = ms(now - ticked);
            let sampled = (tick_age >= SAMPLE_AFTER).then_some(usage);
            let sick = Sample { thread, tick_age, streams: streams.0, ended, usage: sampled };
            let well = Sample {
                thread: Thread::Shard(1),
                streams: streams.1,
                tick_age: ms(50),
                ended: false,
                usage: None,
            };
            for finding in judge.look(ms(now), &[sick, well]) {
                let line = match finding {
                    Finding::Stuck { thread, verdict, age } => {
                        format!("{thread} {} {}", verdict.as_str(), age.as_millis())
                    }
                    Finding::Recovered { thread } => format!("{thread} recovered"),
                    Finding::Abort { thread, verdict, age } => {
                        writeln!(out, "{now}: abort, {thread} {} {}", verdict.as_str(), age.as_millis())
                            .unwrap();
                        return out;
                    }
                };
                writeln!(out, "{now}: {line}").unwrap();
            }
        }
    }
    out
}

#[track_caller]
fn check(thread: Thread, streams: (usize, usize), stretches: &[Stretch], expected: &str) {
    let expected: String =
        expected.split("; ").filter(|line| !line.is_empty()).map(|line| format!("{line}\n")).collect();
    assert_eq!(play(thread, streams, stretches), expected);
}

const SHARD: Thread = Thread::Shard(0);

#[test]
fn a_shard_that_ticks_is_left_alone() {
    check(SHARD, (3, 3), &[stretch(60_000, Does::Tick)], "");
}

#[test]
fn a_blocked_shard_is_seen_within_a_second_and_ends_the_process_at_ten() {
    let stuck = [stretch(2_000, Does::Tick), stretch(20_000, Does::Block)];
    check(SHARD, (3, 3), &stuck, "2700: shard-0 blocked 750; 12000: abort, shard-0 blocked 10050");
}

#[test]
fn a_spinning_shard_is_told_from_a_blocked_one() {
    let stuck = [stretch(2_000, Does::Tick), stretch(20_000, Does::Spin)];
    check(SHARD, (3, 3), &stuck, "2700: shard-0 spinning 750; 12000: abort, shard-0 spinning 10050");
}

#[test]
fn a_shard_that_spins_on_a_loaded_host_is_convicted_by_its_own_time() {
    let stuck = [stretch(2_000, Does::Tick), stretch(20_000, Does::SpinBesideBurners)];
    let expected =
        "2700: shard-0 starved 750; 6800: shard-0 spinning 4850; 12000: abort, shard-0 spinning 10050";
    check(SHARD, (3, 3), &stuck, expected);
}

#[test]
fn with_no_stream_on_other_shards_nobody_is_waited_for() {
    let stuck = [stretch(2_000, Does::Tick), stretch(20_000, Does::Block)];
    check(SHARD, (3, 0), &stuck, "2700: shard-0 blocked 750; 4000: abort, shard-0 blocked 2050");
    let ended = [stretch(2_000, Does::Tick), stretch(20_000, Does::End)];
    check(SHARD, (3, 0), &ended, "2100: shard-0 ended 150; 2100: abort, shard-0 ended 150");
    check(SHARD, (3, 3), &ended, "2100: shard-0 ended 150; 12000: abort, shard-0 ended 10050");
}

#[test]
fn a_starved_shard_never_ends_the_process() {
    for starved in [Does::Starve, Does::Throttled] {
        let stuck = [stretch(2_000, Does::Tick), stretch(60_000, starved), stretch(1_000, Does::Tick)];
        check(SHARD, (3, 0), &stuck, "2700: shard-0 starved 750; 62100: shard-0 recovered");
    }
}

#[test]
fn a_process_that_was_paused_convicts_nobody() {
    let stopped = |ms| Stretch { ms, does: Does::Block, wake_ms: ms };
    check(SHARD, (3, 0), &[stretch(2_000, Does::Tick), stopped(10_000), stretch(2_000, Does::Tick)], "");
    // Paused again and again, it is never long enough awake for a verdict.
    let slow = Stretch { ms: 30_000, does: Does::Block, wake_ms: 300 };
    check(SHARD, (3, 0), &[stretch(2_000, Does::Tick), slow], "");
    // A shard that does not come back after the pause is convicted after six wakes.
    let lost = [stretch(2_000, Does::Tick), stopped(10_000), stretch(2_000, Does::Block)];
    check(SHARD, (3, 0), &lost, "12600: shard-0 blocked 10650; 12600: abort, shard-0 blocked 10650");
}

#[test]
fn a_shard_that_comes_back_is_ready_again() {
    let hiccup = [stretch(2_000, Does::Tick), stretch(1_500, Does::Block), stretch(2_000, Does::Tick)];
    check(SHARD, (3, 0), &hiccup, "2700: shard-0 blocked 750; 3600: shard-0 recovered");
}

#[test]
fn streams_play_on_without_control_for_a_while() {
    let stuck = [stretch(2_000, Does::Tick), stretch(70_000, Does::Block)];
    check(Thread::Control, (0, 3), &stuck, "2700: control blocked 750; 62000: abort, control blocked 60050");
    check(Thread::Control, (0, 0), &stuck, "2700: control blocked 750; 12000: abort, control blocked 10050");
    check(Thread::Front, (0, 3), &stuck, "2700: front blocked 750; 12000: abort, front blocked 10050");
}
