//! The hub: a shard's streams as an ingress sees them. One publisher token a stream; who holds it may push frames.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;

use media::frame::Frame;
use media::policy::PublishPolicy;

use crate::assignment::StreamRef;
use crate::shard::EndReason;

/// An ingress that control has built around bound sockets and the shard runs: a future on the shard's thread. The shard drops it,
/// and with it the sockets, when the stream is revoked or goes to another epoch.
pub type Ingress = Box<dyn FnOnce(HubStream) -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// A stream of this shard. Clones are the same stream. It stays on the shard's thread.
#[derive(Clone, Debug)]
pub struct HubStream {
    inner: Rc<()>,
}

/// The publisher token of a stream. Dropping it says that the publisher left.
#[derive(Debug)]
pub struct Publisher {
    stream: HubStream,
}

/// Why a publisher was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another is heard, and the policy says `Reject`.
    #[error("the path has a publisher already")]
    Duplicate,
    /// The stream is being stopped.
    #[error("the stream is being stopped")]
    Stopped,
}

/// The publisher lost its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("publisher ended: {}", .0.as_str())]
pub struct Ended(pub EndReason);

impl HubStream {
    /// Which stream, at which epoch.
    pub fn stream(&self) -> StreamRef {
        let _ = &self.inner;
        StreamRef { uid: "".into(), epoch: 0 }
    }

    /// How publishers are treated at the moment; an edit may change it.
    pub fn publish_policy(&self) -> Option<PublishPolicy> {
        None
    }

    /// Asks for the publisher token. `protocol` is `RTMP` or `RTP`.
    pub fn publish(&self, remote: SocketAddr, protocol: &'static str) -> Result<Publisher, Refusal> {
        let _ = (remote, protocol);
        Err(Refusal::Stopped)
    }
}

impl Publisher {
    /// Pushes a frame to the ring and its viewers. Never waits.
    pub fn push(&self, frame: Frame) -> Result<(), Ended> {
        let _ = (frame, &self.stream);
        Err(Ended(EndReason::Revoked))
    }

    /// Bytes were heard of the publisher, whether they hold media or not. `push` says it too.
    pub fn heard(&self, bytes: usize) {
        let _ = bytes;
    }

    /// The source is at another address now (a UDP source was pinned anew).
    pub fn moved_to(&self, remote: SocketAddr) {
        let _ = remote;
    }

    /// Waits until the token is lost, and says why: end the session then. Cancel-safe.
    pub async fn ended(&self) -> Ended {
        std::future::pending().await
    }
}
