//! The contract between operator and worker, a versioned package with additive changes only.
//!
//! `control.proto` is the text to read: each message says there what it means, in which unit, and who may send it when.

/// `penstock.control.v1`.
pub mod control {
    /// Generated from `proto/penstock/control/v1/control.proto`.
    #[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub)]
    pub mod v1 {
        tonic::include_proto!("penstock.control.v1");
    }
}
