//! The pure planning core: events in, actions out.
//!
//! ```text
//! drivers ─→ Event ─→ State::observe ─→ plan ─→ Action ─→ drivers
//! ```
//!
//! `next_deadline` says when `plan` wants to be called though nothing happens.

pub mod action;
pub mod api;
pub mod config;
pub mod event;
pub mod ids;
mod plan;
pub mod port_set;
pub mod reason;
pub mod spec;
mod state;
pub mod status;

pub use action::{Action, Command};
pub use config::Config;
pub use event::{Event, Now};
pub use plan::plan;
pub use reason::Reason;
pub use state::State;
