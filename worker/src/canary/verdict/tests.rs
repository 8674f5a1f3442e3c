//! The judge of canaries in virtual time.

use super::*;
use crate::canary::Step;

const SECOND: Duration = Duration::from_secs(1);
const CANARY: Canary = Canary { shard: 0, listener: Listener::Private };
const VISIT: Canary = Canary { shard: 0, listener: Listener::Rtmp };

/// A world of one canary: what happens in it is told in words, one a second.
struct World {
    judge: Judge,
    now: Duration,
    rounds: Vec<(Canary, Option<Round>)>,
}

impl World {
    fn new(canary: Canary) -> World {
        World { judge: Judge::default(), now: SECOND, rounds: vec![(canary, None)] }
    }

    /// Lets seconds pass, a letter each: `p` a round that passes, `m` one whose media is missed, `c` one that does not connect, `n` one that is not tried, `.` none, `l` a
    /// missed one while a thread's tick is late, `w` one in which the watchdog doesn't wake. Tells what was found, with the second.
    fn pass(&mut self, seconds: &str) -> String {
        let mut found = vec![];
        for (second, letter) in seconds.chars().enumerate() {
            let outcome = match letter {
                'p' => Some(Outcome::Passed(Duration::from_millis(1))),
                'm' | 'l' | 'w' => Some(Outcome::Missed(Step::Media)),
                'c' => Some(Outcome::Missed(Step::Connect)),
                'n' => Some(Outcome::NotTried),
                _ => None,
            };
            let began = self.now;
            for tenth in 1..=10 {
                self.now = began + tenth * SECOND / 10;
                if let (Some(outcome), 10) = (outcome, tenth) {
                    let number = self.rounds[0].1.map_or(1, |round| round.number + 1);
                    self.rounds[0].1 = Some(Round { number, began, ended: self.now, outcome });
                }
                if letter == 'w' && tenth < 10 {
                    continue;
                }
                let late = letter == 'l' && (3..7).contains(&tenth);
                let tick_age = Duration::from_millis(if late { 350 } else { 90 });
                for finding in self.judge.look(self.now, tick_age, &self.rounds) {
                    let word = match finding {
                        Finding::Failing { since, missing, .. } => {
                            let ago = (self.now - since).as_secs();
                            format!("{second}: {missing} fails since {ago} s")
                        }
                        Finding::Recovered { .. } => format!("{second}: passes"),
                    };
                    found.push(word);
                }
            }
        }
        assert_eq!(self.judge.all_pass(), !self.judge.watched.iter().any(|watched| watched.failing));
        found.join(", ")
    }
}

#[track_caller]
fn check(canary: Canary, seconds: &str, want: &str) {
    assert_eq!(World::new(canary).pass(seconds), want, "{canary:?} {seconds}");
}

#[test]
fn three_misses_in_a_row_fail_and_one_pass_is_enough_to_recover() {
    check(CANARY, "pppmmpmmppp", "");
    check(CANARY, "ppmmmmmpp", "4: media fails since 3 s, 7: passes");
    check(VISIT, "pmmmpmmm", "3: media fails since 3 s, 4: passes, 7: media fails since 3 s");
    check(CANARY, "pcpmcc", "5: connect, media fails since 3 s");
    // From the start, too.
    check(CANARY, ".mmm", "3: media fails since 3 s");
}

#[test]
fn what_was_missed_while_a_thread_or_the_watchdog_was_late_neither_convicts_nor_acquits() {
    check(CANARY, "pllllllllll", "");
    check(CANARY, "pwwwwwwwwww", "");
    check(CANARY, "pmlmlm", "5: media fails since 5 s");
    check(CANARY, "pmmmlllwwlm.p", "3: media fails since 3 s, 12: passes");
}

#[test]
fn what_was_not_tried_says_nothing() {
    check(CANARY, "pnnnnnnnnnnnnnnnnnn", "");
    check(CANARY, "pmnmnnm", "6: media fails since 6 s");
}

#[test]
fn a_canary_of_which_nothing_is_heard_fails_but_not_one_whose_turn_is_rare() {
    check(CANARY, "p..........................", "11: round fails since 10 s");
    check(VISIT, "p..........................", "");
    check(CANARY, "p...................p", "11: round fails since 10 s, 20: passes");
}

#[test]
fn a_process_that_was_stopped_is_given_its_time_anew() {
    let mut world = World::new(CANARY);
    assert_eq!(world.pass("pp"), "");
    // SIGSTOP for a minute, in the midst of a round that then ends late.
    world.now += 60 * SECOND;
    assert_eq!(world.pass("m.......p"), "", "the wake after it is late, and with it the round");
    world.now += 60 * SECOND;
    assert_eq!(world.pass("...........m"), "10: round fails since 70 s");
}
