use std::collections::BTreeSet;
use std::mem::discriminant;

use super::*;

#[test]
fn a_step_is_the_same_each_time_and_needs_none_before() {
    let forth: Vec<Action> = (0..500).map(|step| action(7, step)).collect();
    let back: Vec<Action> = (0..500).rev().map(|step| action(7, step)).collect();
    assert!(forth.iter().eq(back.iter().rev()));
    assert_ne!(forth, (0..500).map(|step| action(8, step)).collect::<Vec<_>>());
}

/// The gate's run must show each kind of assault, and it makes this many steps on a slow machine.
#[test]
fn the_first_steps_of_seed_one_have_each_kind_of_action() {
    let mut missing: Vec<Action> = Vec::new();
    // One of each kind is among so many steps of some seed.
    for step in 0..10_000 {
        let seen = action(99, step);
        if !missing.iter().any(|kind| discriminant(kind) == discriminant(&seen)) {
            missing.push(seen);
        }
    }
    assert_eq!(missing.len(), 11);
    for step in 0..100 {
        missing.retain(|kind| discriminant(kind) != discriminant(&action(crate::chaos::SEED, step)));
    }
    assert_eq!(missing, []);
}

#[test]
fn each_way_to_misbehave_is_in_the_mix() {
    let said: BTreeSet<String> = (0..20_000)
        .filter_map(|step| match action(1, step) {
            Action::Publish { end, .. } => Some(format!("{end:?}")),
            Action::Send { camera, .. } => Some(format!("camera {camera:?}")),
            Action::Assail { door, attack, .. } => Some(format!("{door:?} {attack:?}")),
            Action::Steal { loot, .. } => Some(format!("steal {loot:?}")),
            Action::Declare { file, .. } => Some(format!("{file:?}")),
            Action::Duel { .. }
            | Action::Watch { .. }
            | Action::NeverRead { .. }
            | Action::Pool { .. }
            | Action::Stop { .. }
            | Action::Kill => None,
        })
        .collect();
    // Ends, cameras, attacks, loot, files (of which edits are three).
    assert_eq!(said.len(), 4 + 6 + ATTACKS.len() + 3 + 4 + 3, "{said:?}");
}

#[test]
fn what_is_declared_at_a_step_is_the_sum_of_those_before() {
    let mut declared = Declared::first();
    for step in 0..300 {
        assert_eq!(declared, Declared::before(3, step));
        declared.take(action(3, step));
        assert!((NUMBERS_MIN..=NUMBERS).contains(&declared.numbers));
        assert_eq!(declared.files.len(), usize::from(PUSHED + CAMERAS), "no step makes up a stream");
    }
    assert_ne!(declared, Declared::first());
}
