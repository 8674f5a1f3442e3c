//! RTP in: GB28181 media over UDP and over TCP passive, as frames.
//!
//! ```text
//!  datagrams ──────────────┐                  ┌─ reorder ─┐
//!  bytes of a connection ─ rfc4571 ─ packet ─ candidates ─┴─ ps::Demux ─→ Event::Frame
//!                                      └ rtcp ─→ Event::Released, reception ─→ Transmit (receiver reports)
//! ```
//!
//! One [`Receiver`] serves one stream and all who may send it. It is driven as the crate says: feed it, drain
//! [`Receiver::poll_event`] and [`Receiver::poll_transmit`], call [`Receiver::timeout`] at [`Receiver::deadline`].

pub mod candidates;
pub mod limits;
mod live;
pub mod packet;
pub mod packetizer;
mod receiver;
mod reception;
pub mod reorder;
pub mod rfc4571;
pub mod rtcp;
pub mod shared;

use std::net::SocketAddr;

use bytes::Bytes;

use crate::frame::Frame;

pub use crate::dropped::{Counters, Dropped};
pub use receiver::Receiver;

/// What a receiver is told of its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The SSRC that the stream was invited with.
    pub ssrc: Option<u32>,
    /// What is done with another one.
    pub policy: SsrcPolicy,
    /// Whether the sender gets receiver reports.
    pub rtcp: Rtcp,
}

/// Which synchronisation sources (RFC 3550 §5.1) may send the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SsrcPolicy {
    /// Only [`Config::ssrc`]; with `None` there it is as `Learn`.
    Enforce,
    /// The first that sends a valid PS pack; others while it is silent.
    Learn,
}

/// Whether RTCP is sent. It is understood always.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rtcp {
    /// Nothing is sent.
    Off,
    /// Receiver reports (RFC 3550 §6.4.2) go to the holder, about one each 5 s.
    On {
        /// Our own SSRC in them: any number, random per receiver. It also spreads the reports in time.
        local_ssrc: u32,
    },
}

/// A connection of TCP passive, as [`Receiver::connect`] named it. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// Where packets come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// A sender of datagrams to the RTP port.
    Datagrams(SocketAddr),
    /// A connection.
    Connection(ConnectionId),
}

/// Who sends the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Where it sends from.
    pub source: Source,
    /// Its address.
    pub address: SocketAddr,
    /// Its SSRC.
    pub ssrc: u32,
}

/// What came of the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Somebody sent the first valid PS pack with the right SSRC and is the holder from here on. Frames that follow are on a
    /// clock of their own.
    Held {
        /// The new holder.
        by: Holder,
        /// The silent holder that it took over from. Its connection gets a [`Event::Close`] of its own.
        from: Option<Holder>,
    },
    /// A frame of the holder.
    Frame(Frame),
    /// The holder's sequence numbers or clock began anew: frames that follow are on a clock of their own.
    Restarted,
    /// The stream carries something that penstock doesn't. Once per name and holder; what it carries besides goes on.
    Refused {
        /// The name of the codec or format, as people say it: `SVAC video`.
        name: &'static str,
    },
    /// The holder said goodbye, by RTCP (RFC 3550 §6.6) or by closing its connection; nobody holds the stream.
    Released {
        /// Who it was.
        holder: Holder,
        /// How it left.
        reason: Released,
    },
    /// The caller is to close this connection; the receiver has forgotten it.
    Close {
        /// Which one.
        connection: ConnectionId,
        /// Why.
        reason: Close,
    },
}

/// How a holder left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Released {
    /// RTCP BYE.
    Bye,
    /// [`Receiver::disconnect`].
    Disconnected,
}

/// Why a connection is closed from our side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// Another one took the stream over while this one was silent.
    TakenOver,
    /// There were four candidates already, and this one had waited longest without a valid PS pack.
    Crowded,
    /// No valid PS pack came in the time that a candidate has.
    NoMedia,
}

/// Bytes for a peer: RTCP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Where they go.
    pub to: Destination,
    /// One datagram, or framed bytes for a connection.
    pub bytes: Bytes,
}

/// Where RTCP goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// From our RTCP port to this address.
    Rtcp(SocketAddr),
    /// From our RTP port to this address: the peer multiplexes (RFC 5761).
    Rtp(SocketAddr),
    /// On this connection.
    Connection(ConnectionId),
}
