//! Between the contract and the planner, by hand: the only file that sees both. Parse, then trust.

mod incoming;
mod outgoing;

pub(crate) use incoming::{admin_port, event};
pub(crate) use outgoing::operator_message;

#[cfg(test)]
mod tests;
