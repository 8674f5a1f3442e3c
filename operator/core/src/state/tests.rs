//! When memory is given back.

use super::*;
use crate::event::{Event, Now};
use crate::limits::COMPACTED_FROM;
use crate::spec::{Refusal, StreamObject};

fn event(state: &mut State, event: Event) -> bool {
    let now = Now { mono: Duration::ZERO, wall_unix_ms: 0 };
    state.observe(event, now);
    drop(crate::plan(state, now));
    state.compact()
}

fn come(state: &mut State, number: usize) -> bool {
    let object = StreamObject {
        uid: Uid::from(format!("u{number}")),
        name: ObjectName { namespace: "default".into(), name: format!("cam-{number}").into() },
        resource_version: ResourceVersion(number as u64 + 1),
        generation: 1,
        created_unix_ms: 0,
        deleting: false,
        touch: None,
        spec: Err(Refusal { reason: crate::reason::Reason::InvalidSpec, message: "".into() }),
        status: Box::default(),
    };
    event(state, Event::StreamSeen(Box::new(object)))
}

fn go(state: &mut State, number: usize) -> bool {
    event(state, Event::StreamGone { uid: Uid::from(format!("u{number}")) })
}

#[test]
fn memory_is_laid_out_anew_once_three_quarters_of_many_streams_are_gone() {
    let mut state = State::new(Config::cluster());
    let most = 8 * COMPACTED_FROM;
    assert!(!(0..most).any(|number| come(&mut state, number)), "they come");
    let shrunk: Vec<usize> =
        (0..most).filter(|number| go(&mut state, *number)).map(|last| last + 1).collect();
    assert_eq!(shrunk, [most * 3 / 4, most * 15 / 16], "of {most}, then of {}", most / 4);
    assert!(!(0..COMPACTED_FROM - 1).any(|number| come(&mut state, number)), "they come again");
    assert!(!(0..COMPACTED_FROM - 1).any(|number| go(&mut state, number)), "too few to be worth it");
}
