//! One round: a publisher, a player, and a picture that must come from one to the other in time.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use media::frame::{Codec, Kind};
use media::rtmp::{ClientEvent, Role};
use tokio::time::{Instant, timeout_at};

use super::cage::Cage;
use super::peer::{Flv, NoLine, Rtmp};
use super::{Listener, Outcome, Step, clip};
use crate::clock::Clock;
use crate::limits::{CANARY_ECHO_MAX, CANARY_OPEN_MAX};

/// A publisher and its player.
pub(super) struct Pair {
    publisher: Rtmp,
    player: Player,
    /// Of the last picture.
    number: u64,
    since: Duration,
}

/// Where a round goes.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    pub(super) cage: &'a Cage,
    pub(super) clock: Clock,
    pub(super) path: &'a str,
    /// By which listener it is played, and where that is.
    pub(super) play: (Listener, SocketAddr),
}

enum Player {
    Rtmp(Box<Rtmp>),
    Flv(Flv),
}

impl Pair {
    /// Publishes at `publish` and plays, until the first picture has come; tells how long that took.
    pub(super) async fn open(way: Way<'_>, publish: SocketAddr) -> Result<(Pair, Duration), Outcome> {
        let Way { cage, clock, path, play: _ } = way;
        let (since, until) = way.opens();
        let mut publisher = connected(until, Rtmp::connect(cage, publish, Role::Publish, path)).await?;
        said(until, Step::Publish, publisher.until(is_started)).await?;
        // One that no pair before had: what is left of those in the ring is not taken for it.
        let number = since.as_micros() as u64;
        let [video, audio] = clip::configs();
        let all = [vec![video, audio], clip::frames(number, 0).to_vec()].concat();
        said(until, Step::Publish, publisher.send(&all)).await?;
        let mut player = Player::open(way, until).await?;
        said(until, Step::Media, player.until(number)).await?;
        let latency = clock.now().saturating_sub(since);
        Ok((Pair { publisher, player, number, since }, latency))
    }

    /// Sends the next picture through sessions that are there, and tells how long it took.
    pub(super) async fn echo(mut self, clock: Clock) -> Result<(Pair, Duration), Outcome> {
        let began = clock.now();
        let until = Instant::from_std(clock.instant(began + CANARY_ECHO_MAX));
        self.number += 1;
        let dts_ms = began.saturating_sub(self.since).as_millis() as i64;
        let frames = clip::frames(self.number, dts_ms);
        said(until, Step::Publish, self.publisher.send(&frames)).await?;
        said(until, Step::Media, self.player.until(self.number)).await?;
        Ok((self, clock.now().saturating_sub(began)))
    }

    /// The number of the last picture.
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

/// Plays what another publishes, until a picture of this number or a later one has come; tells how long that took.
pub(super) async fn watch(way: Way<'_>, number: u64) -> Result<Duration, Outcome> {
    let (since, until) = way.opens();
    let mut player = Player::open(way, until).await?;
    said(until, Step::Media, player.until(number)).await?;
    Ok(way.clock.now().saturating_sub(since))
}

impl Way<'_> {
    /// When a round that begins here began, and when it is missed.
    fn opens(&self) -> (Duration, Instant) {
        let since = self.clock.now();
        (since, Instant::from_std(self.clock.instant(since + CANARY_OPEN_MAX)))
    }
}

impl Player {
    async fn open(way: Way<'_>, until: Instant) -> Result<Player, Outcome> {
        let Way { cage, clock: _, path, play: (listener, to) } = way;
        match listener {
            Listener::Private | Listener::Rtmp => {
                let mut player = connected(until, Rtmp::connect(cage, to, Role::Play, path)).await?;
                said(until, Step::Play, player.until(is_started)).await?;
                Ok(Player::Rtmp(Box::new(player)))
            }
            Listener::Http => {
                let mut player = connected(until, Flv::connect(cage, to)).await?;
                said(until, Step::Play, player.play(path)).await?;
                Ok(Player::Flv(player))
            }
        }
    }

    /// Reads until a picture of this number or a later one has come, as it was sent.
    async fn until(&mut self, number: u64) -> io::Result<()> {
        match self {
            Player::Rtmp(rtmp) => {
                let is_it = |event: &ClientEvent| match event {
                    ClientEvent::Frame(frame) => {
                        (frame.codec, frame.kind) == (Codec::H264, Kind::Key)
                            && clip::is_in(&frame.payload, number)
                    }
                    ClientEvent::Started
                    | ClientEvent::Message { .. }
                    | ClientEvent::Status { .. }
                    | ClientEvent::StreamEof => false,
                };
                rtmp.until(is_it).await
            }
            Player::Flv(flv) => flv.until(|came| clip::is_in(came, number)).await,
        }
    }
}

fn is_started(event: &ClientEvent) -> bool {
    *event == ClientEvent::Started
}

async fn connected<T>(
    until: Instant,
    connecting: impl Future<Output = Result<T, NoLine>>,
) -> Result<T, Outcome> {
    match timeout_at(until, connecting).await {
        Ok(Ok(line)) => Ok(line),
        Ok(Err(NoLine::Socket(error))) => {
            tracing::debug!(%error, "a canary has no socket");
            Err(Outcome::NotTried)
        }
        Ok(Err(NoLine::Connect(error))) => missed(Step::Connect, Some(error)),
        Err(_) => missed(Step::Connect, None),
    }
}

async fn said<T>(
    until: Instant,
    step: Step,
    saying: impl Future<Output = io::Result<T>>,
) -> Result<T, Outcome> {
    match timeout_at(until, saying).await {
        Ok(Ok(said)) => Ok(said),
        Ok(Err(error)) => missed(step, Some(error)),
        Err(_) => missed(step, None),
    }
}

fn missed<T>(step: Step, error: Option<io::Error>) -> Result<T, Outcome> {
    let why = error.map_or_else(|| "no answer in time".to_owned(), |error| error.to_string());
    tracing::debug!(step = step.as_str(), why, "a canary was missed");
    Err(Outcome::Missed(step))
}
