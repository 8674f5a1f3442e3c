//! From what is known to what is to be done.

use crate::action::Action;
use crate::event::Now;
use crate::state::State;

/// What is to be done by now. Each decision is recorded in `state` before it is returned, so no two plans take the same port.
pub fn plan(state: &mut State, now: Now) -> Vec<Action> {
    let _ = (state, now);
    Vec::new()
}
