//! Between the contract and the planner, by hand: the only file that sees both. Parse, then trust.

mod incoming;
mod outgoing;

pub(crate) use incoming::{admin_port, event, sight};
pub(crate) use outgoing::{inquire, operator_message};

#[cfg(test)]
mod tests;
