//! Whose the SSRCs of the shared port are: front looks them up, a stream's lease enters its own, and takes it out on drop.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use media::budget::{Budget, Permit};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::assignment::RtpSource;
use crate::counters::Count;
use crate::limits::{QUEUED_BYTES_MAX, QUEUED_CONNECTION_BYTES, QUEUED_MAX, QUEUED_TOTAL_BYTES_MAX};
use crate::scan::Protocol;
use crate::seats::Seat;

/// All SSRCs that streams of this process have on the shared port. Clones are the same.
#[derive(Clone, Debug)]
pub struct Routes {
    table: Arc<Mutex<Table>>,
    /// Of datagrams that wait, of all streams.
    waiting: Budget,
    unknown: Arc<[Count; 2]>,
}

#[derive(Debug, Default)]
struct Table {
    routes: BTreeMap<(Protocol, u32), Route>,
    /// Names the next lease.
    next: u64,
}

#[derive(Debug)]
struct Route {
    lease: u64,
    queue: Queue,
}

/// The way to a stream.
#[derive(Clone, Debug)]
struct Queue {
    sender: mpsc::Sender<Delivered>,
    /// Its share of what may wait.
    waiting: Budget,
}

/// What came for a stream.
#[derive(Debug)]
pub enum Delivered {
    /// A datagram.
    Datagram {
        /// Who sent it.
        from: SocketAddr,
        /// What it is.
        bytes: Bytes,
        /// Its bytes.
        _waits: Permit,
    },
    /// A connection.
    Connection {
        /// Non-blocking, in no runtime.
        socket: TcpStream,
        /// Who opened it.
        from: SocketAddr,
        /// What it has sent, from its first pack on.
        bytes: Bytes,
        /// Its place among the connections of its address.
        seat: Seat,
        /// As for a datagram.
        _waits: Permit,
    },
}

/// Why nothing was delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undelivered {
    /// Nobody has the SSRC.
    Unknown,
    /// Too much waits for the stream.
    Full,
}

/// A stream's SSRC on the shared port, and what comes for it. Dropping it makes the SSRC unknown.
#[derive(Debug)]
pub struct SharedLease {
    routes: Routes,
    id: u64,
    key: (Protocol, u32),
    queue: Queue,
    delivered: mpsc::Receiver<Delivered>,
}

impl Default for Routes {
    fn default() -> Self {
        Routes {
            table: Arc::default(),
            waiting: Budget::new(QUEUED_TOTAL_BYTES_MAX),
            unknown: Arc::default(),
        }
    }
}

impl Routes {
    /// Has what comes with the SSRC of `source` be the stream's. Of two that want one SSRC the later has it: whoever was there before is
    /// about to be revoked.
    pub fn lease(&self, source: &RtpSource) -> SharedLease {
        let (sender, delivered) = mpsc::channel(QUEUED_MAX);
        let queue = Queue { sender, waiting: self.waiting.share(QUEUED_BYTES_MAX) };
        let mut table = self.lock();
        table.next += 1;
        let (id, key) = (table.next, key_of(source));
        table.routes.insert(key, Route { lease: id, queue: queue.clone() });
        drop(table);
        SharedLease { routes: self.clone(), id, key, queue, delivered }
    }

    /// Whether anybody has the SSRC.
    pub fn knows(&self, protocol: Protocol, ssrc: u32) -> bool {
        self.lock().routes.contains_key(&(protocol, ssrc))
    }

    /// Gives a datagram to the stream of its SSRC. Copied only where there is one.
    pub fn deliver_datagram(&self, ssrc: u32, from: SocketAddr, bytes: &[u8]) -> Result<(), Undelivered> {
        self.deliver((Protocol::Udp, ssrc), bytes.len(), |_waits| {
            let bytes = Bytes::copy_from_slice(bytes);
            Delivered::Datagram { from, bytes, _waits }
        })
    }

    /// Gives a connection to the stream of its SSRC.
    pub fn deliver_connection(
        &self,
        ssrc: u32,
        socket: TcpStream,
        from: SocketAddr,
        bytes: Bytes,
        seat: Seat,
    ) -> Result<(), Undelivered> {
        // A descriptor, and what the kernel holds for it.
        let weight = bytes.len().max(QUEUED_CONNECTION_BYTES);
        self.deliver((Protocol::Tcp, ssrc), weight, |_waits| Delivered::Connection {
            socket,
            from,
            bytes,
            seat,
            _waits,
        })
    }

    fn deliver(
        &self,
        key: (Protocol, u32),
        weight: usize,
        make: impl FnOnce(Permit) -> Delivered,
    ) -> Result<(), Undelivered> {
        let queue = self.lock().routes.get(&key).map(|route| route.queue.clone());
        let Queue { sender, waiting } = queue.ok_or(Undelivered::Unknown)?;
        let waits = waiting.take(weight as u64).ok_or(Undelivered::Full)?;
        sender.try_send(make(waits)).map_err(|refused| match refused {
            TrySendError::Full(_) => Undelivered::Full,
            // It was revoked meanwhile.
            TrySendError::Closed(_) => Undelivered::Unknown,
        })
    }

    /// Counts a datagram, or a connection, of an SSRC that nobody has.
    pub fn count_unknown(&self, protocol: Protocol) {
        self.unknown[protocol as usize].add(1);
    }

    /// How many there were.
    pub fn unknown(&self, protocol: Protocol) -> u64 {
        self.unknown[protocol as usize].value()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Each change is one insertion or removal, made or not made.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SharedLease {
    /// Follows an edit of the stream's source.
    pub fn follow(&mut self, source: &RtpSource) {
        let key = key_of(source);
        if key == self.key {
            return;
        }
        let mut table = self.routes.lock();
        table.remove_route(self.key, self.id);
        table.routes.insert(key, Route { lease: self.id, queue: self.queue.clone() });
        drop(table);
        self.key = key;
    }

    /// What came next, once something has.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Delivered> {
        match self.delivered.poll_recv(context) {
            Poll::Ready(Some(delivered)) => Poll::Ready(delivered),
            // It holds a sender of its own, so the queue never ends.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    /// What came next, if anything has.
    pub fn take(&mut self) -> Option<Delivered> {
        self.delivered.try_recv().ok()
    }
}

impl Drop for SharedLease {
    fn drop(&mut self) {
        self.routes.lock().remove_route(self.key, self.id);
    }
}

impl Table {
    /// Unless another lease has it by now.
    fn remove_route(&mut self, key: (Protocol, u32), lease: u64) {
        if self.routes.get(&key).is_some_and(|route| route.lease == lease) {
            self.routes.remove(&key);
        }
    }
}

/// Where packets of a source come, and with which SSRC.
fn key_of(source: &RtpSource) -> (Protocol, u32) {
    // What is shared has one: `convert` has looked.
    (source.transport.protocol(), source.ssrc.unwrap_or_default())
}

#[cfg(test)]
mod tests;
