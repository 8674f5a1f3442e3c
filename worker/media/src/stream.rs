//! One stream: who may publish it, what its time is, which frames are held, and when what is over.
//!
//! ```text
//! publish ─▶ Token ─ push(frame) ─▶ timeline ─▶ packed ─▶ ring ─▶ cursors
//!                └─ leave, timeout, another publisher ─▶ resume window ─▶ Event::Over
//! ```
//!
//! Nobody who lost the token can push. Each wait is a deadline: startTimeout, stallTimeout, resumeWindow.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::budget::Budget;
use crate::frame::{Frame, Kind, Track};
use crate::limits::{COPIED_BYTES_MAX, HOLDER_HEARD, PICTURES_WAIT, SECOND_TRACK_WAIT};
use crate::packed::{Form, Packed, Unpackable};
use crate::policy::{OnDuplicate, PublishPolicy};
use crate::ring::{Bounds, Ring};
use crate::timeline::Timeline;
use crate::tracks::{Opening, Tracks};

/// A stream at work on a shard.
#[derive(Debug)]
pub struct Stream {
    policy: PublishPolicy,
    budget: Budget,
    timeline: Timeline,
    ring: Ring,
    tracks: Arc<Tracks>,
    tokens: u64,
    holder: Option<Holder>,
    /// Since when its viewers wait for the publisher to come back.
    left: Option<Duration>,
    last_media: Option<Duration>,
    live: bool,
    opened: Opened,
    events: VecDeque<Event>,
}

/// The right to push frames. Only the newest one given out holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(u64);

#[derive(Debug)]
struct Holder {
    token: Token,
    since: Duration,
    heard: Duration,
    media: Option<Duration>,
    /// A key frame came: pictures after it can be decoded.
    pictures: bool,
}

/// Whether viewers may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opened {
    /// No frame came that a viewer could begin with.
    No,
    /// One came, but maybe another track does, too.
    At(Duration),
    Yes,
}

/// What happened to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The holder of this token has lost it.
    Ended(Token, EndReason),
    /// Viewers that wait may begin.
    Opened,
    /// Media began to flow, or did not flow for stallTimeout.
    Live(bool),
    /// What is known of the tracks has changed.
    Tracks,
    /// Nobody came back within the resume window: viewers end.
    Over,
}

/// Why a publisher or viewer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndReason {
    /// It left by itself.
    Left,
    /// No media within startTimeout.
    NeverStarted,
    /// No media for stallTimeout.
    Stalled,
    /// Another publisher took over.
    TakenOver,
    /// The stream was revoked.
    Revoked,
    /// The worker drains.
    Drained,
    /// The peer broke its protocol.
    Protocol,
    /// The session panicked.
    Panicked,
    /// A person wanted it (`penstock kick`).
    Kicked,
}

impl EndReason {
    /// CamelCase, as in status and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            EndReason::Left => "PublisherLeft",
            EndReason::NeverStarted => "PublisherNeverStarted",
            EndReason::Stalled => "PublisherStalled",
            EndReason::TakenOver => "PublisherTakenOver",
            EndReason::Revoked => "Revoked",
            EndReason::Drained => "Drained",
            EndReason::Protocol => "ProtocolError",
            EndReason::Panicked => "SessionPanicked",
            EndReason::Kicked => "Kicked",
        }
    }
}

/// Another publisher holds the path and was heard a moment ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the path has a publisher that was heard {heard_ago:?} ago")]
pub struct Duplicate {
    /// How long ago.
    pub heard_ago: Duration,
}

/// The token is no longer the one that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the publisher was ended")]
pub struct NotHolder;

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It is in the ring.
    Taken {
        /// A picture, which is what `latency: Normal` sends on.
        picture: bool,
        /// New viewers begin here; older frames may go.
        start: bool,
    },
    /// It tells nothing that isn't known.
    Known,
    /// It is a picture that leans on one that never came.
    Undecodable,
    /// It could not be packed.
    Refused(Unpackable),
}

impl Stream {
    /// A stream made at `created_unix_ms`, on this shard since `now`, which is `now_unix_ms` on the wall.
    pub fn new(
        policy: PublishPolicy,
        created_unix_ms: u64,
        now_unix_ms: u64,
        now: Duration,
        budget: Budget,
    ) -> Self {
        Stream {
            policy,
            budget: budget.share(budget.bytes_max()),
            timeline: Timeline::new(created_unix_ms, now_unix_ms, now),
            ring: Ring::new(Bounds::default()),
            tracks: Arc::default(),
            tokens: 0,
            holder: None,
            left: None,
            last_media: None,
            live: false,
            opened: Opened::No,
            events: VecDeque::new(),
        }
    }

    /// Changes how publishers are treated, the present one too.
    pub fn set_policy(&mut self, policy: PublishPolicy) {
        self.policy = policy;
    }

    /// How publishers are treated.
    pub fn policy(&self) -> &PublishPolicy {
        &self.policy
    }

    /// A valid publisher asks for the path.
    pub fn publish(&mut self, now: Duration) -> Result<Token, Duplicate> {
        if let Some(holder) = &self.holder {
            let heard_ago = now.saturating_sub(holder.heard);
            match self.policy.on_duplicate {
                OnDuplicate::Reject if heard_ago < HOLDER_HEARD => return Err(Duplicate { heard_ago }),
                OnDuplicate::Reject | OnDuplicate::Takeover => {
                    self.events.push_back(Event::Ended(holder.token, EndReason::TakenOver));
                }
            }
        }
        self.tokens += 1;
        let token = Token(self.tokens);
        self.holder = Some(Holder { token, since: now, heard: now, media: None, pictures: false });
        // Somebody is back: from here its own deadlines hold, and another window begins if it goes.
        self.left = None;
        self.timeline.begin_source();
        self.tracks = Arc::default();
        self.ring.close_start();
        self.opened = Opened::No;
        Ok(token)
    }

    /// Bytes of the holder were heard, media or not.
    pub fn heard(&mut self, token: Token, now: Duration) {
        if let Some(holder) = self.holder.as_mut().filter(|holder| holder.token == token) {
            holder.heard = now;
        }
    }

    /// Takes a frame of the holder.
    pub fn push(&mut self, token: Token, frame: Frame, now: Duration) -> Result<Pushed, NotHolder> {
        let holder = self.holder.as_mut().filter(|holder| holder.token == token).ok_or(NotHolder)?;
        holder.heard = now;
        let track = frame.codec.track();
        let is_media = frame.kind != Kind::Config && track != Track::Data;
        if is_media {
            holder.media = Some(now);
            self.last_media = Some(now);
            if !self.live {
                self.live = true;
                self.events.push_back(Event::Live(true));
            }
            if frame.is_key_picture() {
                holder.pictures = true;
            } else if track == Track::Video && !holder.pictures {
                return Ok(Pushed::Undecodable);
            }
        }
        let news = self.tracks.learn(&frame);
        if news {
            self.events.push_back(Event::Tracks);
        }
        if track == Track::Video && !self.holder.as_ref().is_some_and(|holder| holder.pictures) {
            // There will be pictures: sound is no start of its own any more.
            self.ring.close_start();
            self.opened = Opened::No;
        }
        if !is_media {
            // Metadata is for those who begin. Players that run are disturbed by a late one.
            if !news || track == Track::Data {
                return Ok(Pushed::Known);
            }
            let dts_ms = self.timeline.place_untimed(now);
            return Ok(self.keep(frame, dts_ms, None, now));
        }
        let place = self.timeline.place(&frame, now);
        let start = frame.is_key_picture() || self.tracks.video.is_none();
        let start = start.then(|| self.tracks.clone());
        let taken = self.keep(Frame { cts_ms: place.cts_ms, ..frame }, place.dts_ms, start, now);
        if let Pushed::Refused(Unpackable::Budget) = taken {
            // What follows leans on the picture that is missing.
            self.holder.iter_mut().for_each(|holder| holder.pictures &= track != Track::Video);
        }
        self.open(now);
        Ok(taken)
    }

    /// Lets go of frames that neither a new viewer nor the slowest one, which wants frame `needed` next, has use for.
    pub fn trim(&mut self, needed: u64) {
        self.ring.trim(needed);
    }

    /// The holder left, or its session failed.
    pub fn leave(&mut self, token: Token, now: Duration) {
        if self.holder.as_ref().is_some_and(|holder| holder.token == token) {
            self.vacate(now);
        }
    }

    /// Ends the holder, if there is one.
    pub fn end_publisher(&mut self, reason: EndReason, now: Duration) {
        if let Some(holder) = &self.holder {
            self.events.push_back(Event::Ended(holder.token, reason));
            self.vacate(now);
        }
    }

    /// When [`timeout`](Self::timeout) must be called.
    pub fn deadline(&self) -> Option<Duration> {
        let holder = self.holder.as_ref().map(|holder| self.patience(holder).0);
        let stale = self.last_media.filter(|_| self.live).map(|last| last + self.policy.stall_timeout);
        let opened = match self.opened {
            Opened::At(at) => Some(at),
            Opened::No | Opened::Yes => None,
        };
        [holder, stale, self.over_at(), opened].into_iter().flatten().min()
    }

    /// Does what is due.
    pub fn timeout(&mut self, now: Duration) {
        if let Some((at, reason)) = self.holder.as_ref().map(|holder| self.patience(holder))
            && at <= now
        {
            self.end_publisher(reason, now);
        }
        if self.live && self.last_media.is_none_or(|last| last + self.policy.stall_timeout <= now) {
            self.live = false;
            self.events.push_back(Event::Live(false));
        }
        if self.over_at().is_some_and(|at| at <= now) {
            self.left = None;
            self.ring.clear();
            self.opened = Opened::No;
            self.events.push_back(Event::Over);
        }
        self.open(now);
    }

    /// What happened, one a call.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Where a new viewer begins, and what it is sent before; `None` while there is nothing to begin with.
    pub fn start(&self, form: Form, opening: Opening) -> Option<(u64, Bytes)> {
        let seq = match self.opened {
            Opened::Yes => self.ring.newest_start()?,
            Opened::No | Opened::At(_) => return None,
        };
        let packed = self.ring.frame(seq)?;
        let tracks = packed.start.as_ref()?;
        Some((seq, tracks.opening(form, opening, packed.timestamp, &self.tracks)))
    }

    /// Bytes of the budget that are held for it: by the ring, and by cursors inside frames that the ring let go of.
    pub fn held_bytes(&self) -> u64 {
        self.budget.used()
    }

    /// The frames held.
    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    /// What is known of the tracks of the present publisher.
    pub fn tracks(&self) -> &Tracks {
        &self.tracks
    }

    /// Whether media flowed within stallTimeout.
    pub fn live(&self) -> bool {
        self.live
    }

    /// Whether somebody publishes.
    pub fn has_publisher(&self) -> bool {
        self.holder.is_some()
    }

    fn keep(&mut self, mut frame: Frame, dts_ms: i64, start: Option<Arc<Tracks>>, now: Duration) -> Pushed {
        if frame.payload.len() <= COPIED_BYTES_MAX {
            frame.payload = Bytes::copy_from_slice(&frame.payload);
        }
        let picture = frame.codec.track() == Track::Video;
        let is_start = start.is_some();
        let timestamp = self.timeline.wire(dts_ms);
        let pack = |frame, budget: &Budget| Packed::new(frame, dts_ms, timestamp, now, start.clone(), budget);
        let packed = pack(frame.clone(), &self.budget).or_else(|error| match error {
            Unpackable::TooLong(_) => Err(error),
            Unpackable::Budget => {
                self.ring.halve();
                pack(frame, &self.budget)
            }
        });
        match packed {
            Ok(packed) => {
                self.ring.push(packed, now);
                Pushed::Taken { picture, start: is_start }
            }
            Err(error) => Pushed::Refused(error),
        }
    }

    fn open(&mut self, now: Duration) {
        if self.opened == Opened::Yes || self.ring.newest_start().is_none() {
            return;
        }
        let until = match self.opened {
            Opened::At(at) => at,
            Opened::No | Opened::Yes => {
                let wait = if self.tracks.video.is_some() { SECOND_TRACK_WAIT } else { PICTURES_WAIT };
                now + wait
            }
        };
        if self.tracks.complete() == Some(true) || until <= now {
            self.opened = Opened::Yes;
            self.events.push_back(Event::Opened);
        } else {
            self.opened = Opened::At(until);
        }
    }

    /// When the viewers of a publisher that is gone are ended.
    fn over_at(&self) -> Option<Duration> {
        self.left.map(|at| at + self.policy.resume_window)
    }

    /// When a holder is given up, and why.
    fn patience(&self, holder: &Holder) -> (Duration, EndReason) {
        match holder.media {
            None => (holder.since + self.policy.start_timeout, EndReason::NeverStarted),
            Some(last) => (last + self.policy.stall_timeout, EndReason::Stalled),
        }
    }

    fn vacate(&mut self, now: Duration) {
        self.holder = None;
        self.ring.close_start();
        if matches!(self.opened, Opened::At(_)) {
            self.opened = Opened::No;
        }
        self.left = Some(now);
    }
}

#[cfg(test)]
mod tests;
