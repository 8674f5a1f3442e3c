//! A pool as the planner knows it.

use std::sync::Arc;

use crate::ids::{ResourceVersion, Uid, WriteId};
use crate::spec::{PoolObject, PoolSpec, Refusal};
use crate::status::PoolStatus;

/// A pool as the planner knows it.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    pub(crate) uid: Uid,
    pub(crate) resource_version: ResourceVersion,
    pub(crate) generation: i64,
    pub(crate) created_unix_ms: u64,
    /// The last good one.
    pub(crate) spec: Option<Arc<PoolSpec>>,
    /// Why the present one is not taken.
    pub(crate) refusal: Option<Refusal>,
    /// The older pool that has some of its numbers, and where.
    pub(crate) overlap: Option<String>,
    pub(crate) stored: Box<PoolStatus>,
    pub(crate) write: Option<WriteId>,
    /// Writes that met another version, since a version was last seen.
    pub(crate) conflicts: u32,
    /// What was passed over for being older than what is known; after a restore it is the truth.
    pub(crate) passed_over: Option<Box<PoolObject>>,
}

impl Pool {
    /// A pool seen for the first time.
    pub(crate) fn new(object: PoolObject) -> Self {
        let PoolObject { uid, name: _, resource_version, generation, created_unix_ms, spec, status } = object;
        let (spec, refusal) = match spec {
            Ok(spec) => (Some(spec), None),
            Err(refusal) => (None, Some(refusal)),
        };
        Self {
            uid,
            resource_version,
            generation,
            created_unix_ms,
            spec,
            refusal,
            overlap: None,
            stored: status,
            write: None,
            conflicts: 0,
            passed_over: None,
        }
    }

    /// Its spec while leases may be taken by it.
    pub(crate) fn accepted(&self) -> Option<&Arc<PoolSpec>> {
        if self.overlap.is_some() { None } else { self.spec.as_ref() }
    }
}
