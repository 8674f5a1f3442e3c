//! A session between a worker and a replica: two queues that keep their order, may be slow, and may break at any time.

use std::time::Duration;

use operator_core::Event;
use operator_core::event::{Beat, Closed, Hello, Inventory, Report};
use operator_core::ids::{SessionId, Uid};

/// One session. It is never used again after its end.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) worker: usize,
    pub(crate) replica: usize,
    pub(crate) incarnation: u64,
    pub(crate) session: SessionId,
    /// Commands arrive at the worker.
    pub(crate) worker_open: bool,
    /// Messages arrive at the operator.
    pub(crate) operator_open: bool,
    /// The last command that the worker applied.
    pub(crate) applied: u64,
    /// Nothing arrives before what was sent before it.
    up_last: Duration,
    down_last: Duration,
    /// Nothing arrives before that: the network holds it.
    pub(crate) stalled_until: Duration,
    /// What the worker says comes late.
    pub(crate) slow: bool,
}

/// What a worker says.
#[derive(Clone, Debug)]
pub(crate) enum Up {
    Hello(Box<Hello>),
    Inventory(Box<Inventory>),
    Beat(Beat),
    Report(Box<Report>),
}

impl Up {
    /// Whether it is a report on this stream.
    pub(crate) fn is_of(&self, uid: &Uid) -> bool {
        matches!(self, Self::Report(_)) && self.streams().contains(uid)
    }

    /// The streams that it speaks of.
    pub(crate) fn streams(&self) -> Vec<Uid> {
        match self {
            Self::Inventory(inventory) => inventory.streams.iter().map(|stream| stream.uid.clone()).collect(),
            Self::Report(report) => match &**report {
                Report::Assigned { stream, .. }
                | Report::BindFailed { stream, .. }
                | Report::Closed(Closed { stream, .. })
                | Report::PortsClosed { stream, .. }
                | Report::Arrived { stream, .. }
                | Report::Publisher { stream, .. }
                | Report::Media { stream, .. } => vec![stream.uid.clone()],
                Report::Scan { .. } | Report::ShardStuck { .. } => Vec::new(),
            },
            Self::Hello(_) | Self::Beat(_) => Vec::new(),
        }
    }

    pub(crate) fn event(self, session: SessionId) -> Event {
        match self {
            Self::Hello(hello) => Event::Hello { session, hello: *hello },
            Self::Inventory(inventory) => Event::Inventory { session, inventory: *inventory },
            Self::Beat(beat) => Event::Beat { session, beat },
            Self::Report(report) => Event::Report { session, report: *report },
        }
    }
}

impl Link {
    pub(crate) fn new(worker: usize, replica: usize, incarnation: u64, session: SessionId) -> Self {
        Self {
            worker,
            replica,
            incarnation,
            session,
            worker_open: true,
            operator_open: true,
            applied: 0,
            up_last: Duration::ZERO,
            down_last: Duration::ZERO,
            stalled_until: Duration::ZERO,
            slow: false,
        }
    }

    /// What the worker says from here on does not arrive before `until`.
    pub(crate) fn hold_up(&mut self, until: Duration) {
        self.up_last = self.up_last.max(until);
    }

    /// When a message to the operator that could arrive at `at` does.
    pub(crate) fn up(&mut self, at: Duration) -> Duration {
        self.up_last = at.max(self.up_last).max(self.stalled_until);
        self.up_last
    }

    /// When a command that could arrive at `at` does.
    pub(crate) fn down(&mut self, at: Duration) -> Duration {
        self.down_last = at.max(self.down_last).max(self.stalled_until);
        self.down_last
    }
}
