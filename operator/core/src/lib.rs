//! The pure planning core: events in, actions out.
