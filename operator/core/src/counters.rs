//! What is counted for metrics. Rates and states are computed from the state; these only rise.

/// What is counted for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Sockets that a worker had open although nobody asked for it, closed.
    pub leaks_repaired: u64,
    /// Streams that a worker had and the lists had not, taken over until a GET said what they are.
    pub adoptions: u64,
    /// Digests that differed at an equal sequence.
    pub digest_mismatches: u64,
    /// Numbers that could not be bound.
    pub bind_failures: u64,
    /// Of these: another stream of ours had it.
    pub own_clashes: u64,
    /// Numbers with two claims, settled.
    pub contests: u64,
    /// Moves because a worker was lost or started again.
    pub failovers: u64,
    /// Writes that found another version.
    pub write_conflicts: u64,
    /// Writes that the API refused.
    pub write_refusals: u64,
    /// Writes of which nobody knows whether they came to pass.
    pub writes_unknown: u64,
    /// Status writes that would have changed nothing.
    pub writes_dropped: u64,
    /// Watch events older than what was known.
    pub stale_events: u64,
    /// Messages of sessions that do not speak for a node's worker any more.
    pub stale_messages: u64,
    /// Streams that a list lacked and that were kept all the same.
    pub absences_held: u64,
}
