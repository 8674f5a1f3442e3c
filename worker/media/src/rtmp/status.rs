//! The refusals and ends that a peer is told of, and the codes that clients know them by.
//!
//! The codes are those of Flash Media Server, which ffmpeg, librtmp and GStreamer look for; `Idle` and `Rejected` are sent by others, too.

/// Why a publish request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PublishRefusal {
    /// `NetStream.Publish.BadName`: the path has a live publisher, or no stream declares it.
    BadName,
    /// `NetStream.Publish.Denied`: token, address or policy.
    Denied,
}

/// Why an accepted publish is ended by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PublishEnd {
    /// `NetStream.Publish.BadName`: another publisher took over.
    TakenOver,
    /// `NetStream.Publish.Idle`: no media for startTimeout or stallTimeout.
    Idle,
    /// `NetStream.Publish.Rejected`: the media can't be carried.
    Rejected,
    /// `NetStream.Failed`: the stream was stopped, moved or deleted.
    Stopped,
}

/// Why a play request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PlayRefusal {
    /// `NetStream.Play.StreamNotFound`: not declared, or no media within startTimeout.
    StreamNotFound,
    /// `NetStream.Play.Failed`: token, address, or a limit.
    Denied,
}

/// Why an accepted play is ended by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PlayEnd {
    /// Stream EOF, `NetStream.Play.UnpublishNotify` and `NetStream.Play.Stop`: the publisher is gone for good.
    Unpublished,
    /// `NetStream.Play.InsufficientBW`, an error: the viewer is too slow and the policy says disconnect.
    TooSlow,
    /// `NetStream.Play.Failed`, an error: the stream was stopped, moved or deleted.
    Stopped,
}

impl PublishRefusal {
    pub(super) fn code(self) -> &'static str {
        match self {
            PublishRefusal::BadName => "NetStream.Publish.BadName",
            PublishRefusal::Denied => "NetStream.Publish.Denied",
        }
    }
}

impl PublishEnd {
    pub(super) fn code(self) -> &'static str {
        match self {
            PublishEnd::TakenOver => "NetStream.Publish.BadName",
            PublishEnd::Idle => "NetStream.Publish.Idle",
            PublishEnd::Rejected => "NetStream.Publish.Rejected",
            PublishEnd::Stopped => "NetStream.Failed",
        }
    }
}

impl PlayRefusal {
    pub(super) fn code(self) -> &'static str {
        match self {
            PlayRefusal::StreamNotFound => "NetStream.Play.StreamNotFound",
            PlayRefusal::Denied => "NetStream.Play.Failed",
        }
    }
}
