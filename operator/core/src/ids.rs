//! The names things go by. Keys are UIDs and epochs; names are for people and for what Kubernetes keys by name.

use std::fmt;
use std::sync::Arc;

/// Makes a cheap-to-clone name of its own type, so that a node's name is never taken for a worker's.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// The UID of a MediaStream or a PortPool.
    Uid
}
name! {
    /// A node. Ports belong to one.
    NodeName
}
name! {
    /// A worker: the name of its pod, `local` in standalone.
    WorkerName
}
name! {
    /// Random for each start of a worker process. A new one on a node means that the old process's sockets are gone.
    BootId
}
name! {
    /// A PortPool. Cluster-scoped, so a name is one pool.
    PoolName
}
name! {
    /// A ServiceCIDR. Cluster-scoped.
    ServiceCidrName
}
name! {
    /// `app/key` that a stream is published and played under.
    Path
}

/// A namespaced object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name in there.
    pub name: Arc<str>,
}

impl ObjectName {
    /// The object `namespace/name`.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Makes a number of its own type.
macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// One session between this replica and a worker. The driver numbers them; a number is never used again.
    SessionId
}
number! {
    /// One write to the API, from `Action` to `Event::Write`.
    WriteId
}
number! {
    /// Who may command: the highest term does. Only rises.
    Term
}
number! {
    /// One assignment of a stream. Only rises, never used twice.
    Epoch
}
number! {
    /// An object's resourceVersion as a number (Kubernetes made them comparable); 0 is before all others.
    ResourceVersion
}

/// A point in time as the API writes it, in whole seconds since 1970 (metav1.Time holds no fractions).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime(pub u64);

/// One stream at one epoch: the key of everything.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamRef {
    /// The MediaStream.
    pub uid: Uid,
    /// Its assignment.
    pub epoch: Epoch,
}

impl StreamRef {
    /// The stream `uid` at `epoch`.
    pub fn new(uid: Uid, epoch: Epoch) -> Self {
        Self { uid, epoch }
    }
}

impl fmt::Display for StreamRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.uid, self.epoch)
    }
}

/// The numbers of one lease. A pair is an even RTP number and the odd one above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ports {
    /// For RTP.
    pub rtp: u16,
    /// For RTCP; absent where it goes in-band or is not wanted.
    pub rtcp: Option<u16>,
}

impl Ports {
    /// Its numbers, RTP first.
    pub fn numbers(self) -> impl Iterator<Item = u16> {
        std::iter::once(self.rtp).chain(self.rtcp)
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rtcp {
            Some(rtcp) => write!(f, "{}+{rtcp}", self.rtp),
            None => write!(f, "{}", self.rtp),
        }
    }
}

/// Of a media socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Listening TCP.
    Tcp,
    /// Unconnected UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}
