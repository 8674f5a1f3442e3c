//! The pure planning core: events in, actions out.
//!
//! ```text
//! drivers ─→ Event ─→ State::observe ─→ plan ─→ Action ─→ drivers
//! ```
//!
//! `next_deadline` says when `plan` wants to be called though nothing happens.

#![allow(
    clippy::duplicated_attributes,
    reason = "the columns of a CRD are all called `printcolumn`; the lint takes them for one"
)]

pub mod action;
pub mod api;
pub mod check;
mod claim;
pub mod config;
pub mod counters;
pub mod digest;
pub mod event;
pub mod ids;
mod ledger;
pub mod limits;
mod news;
mod node;
mod observe;
pub mod panel;
mod plan;
mod pool;
pub mod port_set;
pub mod reason;
pub mod spec;
mod state;
pub mod status;
mod stream;
mod timers;
mod window;

pub use action::{Action, Command};
pub use config::Config;
pub use counters::Counters;
pub use event::{Event, Now};
pub use plan::plan;
pub use reason::Reason;
pub use state::{ClaimView, LeaseState, NodeView, PoolPorts, State, StreamView, WorkerView};
