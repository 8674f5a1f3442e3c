//! What a worker is told to publish, in checked types: the border to the contract is `convert.rs`.

use std::fmt;
use std::sync::Arc;

use media::policy::{PlayPolicy, PublishPolicy};

use crate::scan::Protocol;

/// One stream at one epoch: the key of everything.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamRef {
    /// UID of the MediaStream.
    pub uid: Arc<str>,
    /// Its epoch, which only rises.
    pub epoch: u64,
}

/// A stream that is to be published and played here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Which stream, at which epoch.
    pub stream: StreamRef,
    /// The path it is published and played under, without slashes at its ends.
    pub path: Arc<str>,
    /// Namespace of the MediaStream, for metrics and logs.
    pub namespace: Arc<str>,
    /// Name of the MediaStream, for metrics and logs.
    pub name: Arc<str>,
    /// creationTimestamp: stream time counts from it.
    pub created_unix_ms: u64,
    /// How publishers are treated.
    pub publish: PublishPolicy,
    /// How viewers are treated.
    pub play: PlayPolicy,
    /// Absent: a pushed stream.
    pub rtp: Option<RtpSource>,
}

impl fmt::Display for Assignment {
    /// Namespace and name: what logs call it, since its path may be a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Where GB28181 media comes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RtpSource {
    /// How it comes.
    pub transport: RtpTransport,
    /// Absent: none is configured, and the first one seen is learnt.
    pub ssrc: Option<u32>,
    /// What happens to packets of another SSRC.
    pub ssrc_policy: SsrcPolicy,
    /// Where it comes.
    pub ports: RtpPorts,
    /// Whom to connect to; there for [`RtpTransport::TcpActive`] only.
    pub remote: Option<Remote>,
}

/// Where packets of a source come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RtpPorts {
    /// To numbers that are the stream's alone.
    Leased {
        /// Its lease.
        lease: Ports,
        /// A lease that is to take its place: media comes on either.
        next: Option<Ports>,
    },
    /// To the port that this worker has for all of them. Then there is an SSRC, and it is enforced.
    Shared,
}

impl RtpPorts {
    /// The lease that it goes by.
    pub fn lease(self) -> Option<Ports> {
        match self {
            RtpPorts::Leased { lease, next: _ } => Some(lease),
            RtpPorts::Shared => None,
        }
    }

    /// The lease that is to take its place.
    pub fn next(self) -> Option<Ports> {
        match self {
            RtpPorts::Leased { lease: _, next } => next,
            RtpPorts::Shared => None,
        }
    }

    /// Both, or the one.
    pub fn leases(self) -> impl Iterator<Item = Ports> {
        [self.lease(), self.next()].into_iter().flatten()
    }

    /// The same without this lease, if it is the one that is to take the other's place.
    pub fn without_next(self, unbound: Ports) -> RtpPorts {
        match self {
            RtpPorts::Leased { lease, next } => {
                RtpPorts::Leased { lease, next: next.filter(|next| *next != unbound) }
            }
            RtpPorts::Shared => RtpPorts::Shared,
        }
    }
}

/// Leased ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Of the media.
    pub rtp: u16,
    /// Of RTCP; absent where there is none.
    pub rtcp: Option<u16>,
}

impl Ports {
    /// Both, or the one.
    pub fn numbers(self) -> impl Iterator<Item = u16> {
        [Some(self.rtp), self.rtcp].into_iter().flatten()
    }
}

/// A device that is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// An address or a name.
    pub host: Arc<str>,
    /// Its port.
    pub port: u16,
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Remote { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// How RTP comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RtpTransport {
    /// Datagrams.
    Udp,
    /// RFC 4571 over connections that the sender opens.
    TcpPassive,
    /// RFC 4571 over a connection that we open to the sender, from the leased port; never on the shared one.
    TcpActive,
}

impl RtpTransport {
    /// In which protocol its numbers are open.
    pub fn protocol(self) -> Protocol {
        match self {
            RtpTransport::Udp => Protocol::Udp,
            RtpTransport::TcpPassive | RtpTransport::TcpActive => Protocol::Tcp,
        }
    }
}

/// What happens to packets of an SSRC that is not configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SsrcPolicy {
    /// They are dropped and counted.
    Enforce,
    /// The first one seen is taken.
    Learn,
}
