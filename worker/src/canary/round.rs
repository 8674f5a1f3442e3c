//! One round: a publisher, a player, and a picture that must come from one to the other in time.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use media::frame::Frame;
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

enum Player {
    Rtmp(Box<Rtmp>),
    Flv(Flv),
}

impl Pair {
    /// Publishes `path` by one listener and plays it by another, until the first picture has come; tells how long that took.
    pub(super) async fn open(
        clock: Clock,
        cage: &Cage,
        path: &str,
        publish: SocketAddr,
        (listener, play): (Listener, SocketAddr),
    ) -> Result<(Pair, Duration), Outcome> {
        let since = clock.now();
        let until = Instant::from_std(clock.instant(since + CANARY_OPEN_MAX));
        let is_started = |event: &ClientEvent| *event == ClientEvent::Started;
        let mut publisher = connected(until, Rtmp::connect(cage, publish, Role::Publish, path)).await?;
        said(until, Step::Publish, publisher.until(is_started)).await?;
        // One that no pair before had: what is left of those in the ring is not taken for it.
        let number = since.as_micros() as u64;
        let frames = clip::frames(number, 0);
        let [video, audio] = clip::configs();
        let all = [vec![video, audio], frames.to_vec()].concat();
        said(until, Step::Publish, publisher.send(&all)).await?;
        let player = match listener {
            Listener::Private | Listener::Rtmp => {
                let mut player = connected(until, Rtmp::connect(cage, play, Role::Play, path)).await?;
                said(until, Step::Play, player.until(is_started)).await?;
                Player::Rtmp(Box::new(player))
            }
            Listener::Http => {
                let mut player = connected(until, Flv::connect(cage, play)).await?;
                said(until, Step::Play, player.play(path)).await?;
                Player::Flv(player)
            }
        };
        let mut pair = Pair { publisher, player, number, since };
        said(until, Step::Media, pair.player.until(&frames[0])).await?;
        Ok((pair, clock.now().saturating_sub(since)))
    }

    /// Sends the next picture through sessions that are there, and tells how long it took.
    pub(super) async fn echo(mut self, clock: Clock) -> Result<(Pair, Duration), Outcome> {
        let began = clock.now();
        let until = Instant::from_std(clock.instant(began + CANARY_ECHO_MAX));
        self.number += 1;
        let dts_ms = began.saturating_sub(self.since).as_millis() as i64;
        let frames = clip::frames(self.number, dts_ms);
        said(until, Step::Publish, self.publisher.send(&frames)).await?;
        said(until, Step::Media, self.player.until(&frames[0])).await?;
        Ok((self, clock.now().saturating_sub(began)))
    }
}

impl Player {
    /// Reads until this picture has come, as it was sent.
    async fn until(&mut self, picture: &Frame) -> io::Result<()> {
        match self {
            Player::Rtmp(rtmp) => {
                let is_it = |event: &ClientEvent| match event {
                    ClientEvent::Frame(frame) => {
                        (frame.codec, frame.kind, &frame.payload)
                            == (picture.codec, picture.kind, &picture.payload)
                    }
                    ClientEvent::Started
                    | ClientEvent::Message { .. }
                    | ClientEvent::Status { .. }
                    | ClientEvent::StreamEof => false,
                };
                rtmp.until(is_it).await
            }
            Player::Flv(flv) => flv.until(&picture.payload).await,
        }
    }
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
