//! Why something is as it is: one closed list, shared by condition, event and metric label.

use std::fmt;

/// Makes the enum, its words and the list of all from one table, so that none can be forgotten.
macro_rules! reasons {
    ($($(#[$doc:meta])* $reason:ident,)*) => {
        /// Why something is as it is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[$doc])* $reason,)*
        }

        impl Reason {
            /// All of them, for metrics and documents.
            pub const ALL: &[Self] = &[$(Self::$reason,)*];

            /// As conditions, events and metric labels write it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$reason => stringify!($reason),)*
                }
            }

            /// The reason written as `text`.
            pub fn parse(text: &str) -> Option<Self> {
                match text {
                    $(stringify!($reason) => Some(Self::$reason),)*
                    _ => None,
                }
            }
        }
    };
}

reasons! {
    /// The spec is taken.
    Accepted,
    /// The spec breaks a rule that one object can check.
    InvalidSpec,
    /// A field or value that does not work yet.
    NotSupported,
    /// An older stream has the path.
    PathConflict,
    /// An older stream on shared ports has the SSRC.
    SsrcConflict,
    /// The path is outside the namespace and not granted to it.
    PathNotGranted,
    /// An older pool has some of the numbers on some node.
    Overlap,
    /// No pool of that name, or no default pool.
    PoolNotFound,
    /// The pool itself is not accepted.
    PoolNotAccepted,
    /// The pool is not for this namespace.
    NamespaceNotAllowed,
    /// Numbers are leased.
    Leased,
    /// It needs no number: its worker has one for all streams that are told apart by SSRC.
    Shared,
    /// Workers that may take it have no port for all.
    NoSharedPort,
    /// No number is free.
    PoolExhausted,
    /// The one number that it must have is held, rests, or is somebody else's.
    PortTaken,
    /// The one number that it must have is not among the pool's.
    PortOutside,
    /// The worker acknowledged this epoch.
    Assigned,
    /// The assignment is written, the worker's answer is awaited.
    Assigning,
    /// The claim is being written.
    Claiming,
    /// No worker may or can take it.
    NoWorker,
    /// A worker has come, and has not said yet what its node holds.
    AwaitingInventory,
    /// Its worker is not heard.
    WorkerUnheard,
    /// Its worker is lost.
    WorkerLost,
    /// Its worker or its node is being emptied: it has moved.
    Drained,
    /// Its pool has its number no longer, and another one is open beside it.
    PortsMoving,
    /// It has another number: the one outside its pool's ranges is closed.
    PortsMoved,
    /// No media has come on its other number in time: the one outside its pool's ranges is closed.
    DeadlineExceeded,
    /// Its former worker, which was given up, has its publisher all the same: it has gone back there.
    Returned,
    /// Its worker's process was started again.
    WorkerRestarted,
    /// Paused by its spec.
    Paused,
    /// Without media too long; its ports went back.
    Idle,
    /// It sat on a stuck shard in two aborts.
    Suspect,
    /// A Secret that it names is not there: nobody may come.
    TokenSecretNotFound,
    /// A Secret that it names has no token, or more than are taken: nobody may come.
    TokenSecretInvalid,
    /// Media flows.
    Media,
    /// Nobody publishes.
    NoPublisher,
    /// Somebody publishes, but no media came within stallTimeout.
    Stalled,
    /// The object was deleted.
    Deleted,
    /// The spec asks for another assignment.
    SpecChanged,
    /// Its number could not be bound.
    BindFailed,
    /// Another stream really has its number.
    PortContested,
    /// Moved to another epoch; this one is over.
    Superseded,
    /// A worker held it although nobody asked for it.
    Leak,
    /// ttlAfterIdle is over.
    TtlExpired,
    /// Numbers can be leased.
    Available,
    /// No node that the pool is for has a worker.
    NoNode,
    /// Used above nearlyExhaustedPercent.
    AboveThreshold,
    /// Leases outside the ranges are still there.
    LeasesOutside,
    /// Somebody else holds numbers.
    ForeignHolder,
    /// Ranges meet those that the kernel hands out by itself.
    EphemeralRange,
    /// Ranges meet those of NodePorts.
    NodePortRange,
    /// A list lacks more of a worker's streams than may be believed.
    AbsenceHeld,
    /// A list is older than one seen before.
    ListWentBack,
    /// The API refused a write.
    WriteRefused,
    /// A worker runs, but is not heard by this operator.
    ControlDegraded,
    /// A worker is not heard, and too few witnesses are heard to say what became of it.
    Hold,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
