//! Fan-out: one loop a shard writes to all viewers of its streams. A viewer is a socket and a cursor: no task, no queue, no copy.
//!
//! ```text
//! hub: stream is due ─▶ flush ─ try_write_vectored ─▶ viewer level with the ring
//!                                      └ would block ─▶ its waker puts its key on the ready list ─▶ goes on
//! ```
//!
//! Cost is per send, not per byte, so all that is due goes out in one write a viewer, and viewers that are level share the
//! gathered pieces. Nobody waits for a viewer: one that falls out of the ring skips or is ended, as its policy says.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use media::cursor::{Cursor, Gathered, Standing, gather_from};
use media::http;
use media::packed::Form;
use media::policy::SlowViewer;
use media::ring::Ring;
use media::rtmp::{self, PlayEnd, PlayRefusal, ViewerEvent};
use media::tracks::Opening;
use slab::Slab;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::counters::DropReason;
use crate::hub::{Hub, HubStream, State};
use crate::limits::{
    CLOSING_MAX, READS_PER_TURN, READY_PER_TURN, STUCK_MAX, SWEEP, SWEEPS_PER_VIEWER_CHECK, WRITES_PER_TURN,
    WRITES_PER_VIEWER,
};
use crate::seats::Seat;
use crate::shard::{EndReason, SNAPSHOT_VIEWERS_MAX, StreamSnapshot, ViewerSnapshot};

/// The viewers of one shard.
pub(crate) struct Egress {
    hub: Rc<Hub>,
    viewers: RefCell<Slab<Viewer>>,
    ready: Arc<Ready>,
}

/// One viewer. There are many: what is rare is boxed.
struct Viewer {
    socket: TcpStream,
    waker: Waker,
    stream: HubStream,
    talk: Talk,
    form: Form,
    phase: Phase,
    cursor: Cursor,
    /// Since when its socket has taken nothing.
    blocked: Option<Duration>,
    remote: SocketAddr,
    since_unix_ms: u64,
    bytes_out: u64,
    skips: u64,
    /// Among the connections of its address; a canary has none.
    _seat: Option<Seat>,
}

/// What speaks with the peer beside the media.
enum Talk {
    /// `play` is not answered yet.
    RtmpAsked(Box<rtmp::Session>),
    Rtmp(Box<rtmp::Viewer>),
    Flv,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// For media to begin with.
    Waiting {
        since: Duration,
    },
    Playing,
    /// It fell behind when not even a key frame was left, and waits for the next.
    Lost,
    Paused,
    /// Its last words are being written.
    Closing {
        until: Duration,
    },
}

/// What becomes of a viewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Stays,
    Gone,
}

/// What all level viewers of a form share in one flush.
struct Round<'a> {
    seq: u64,
    pieces: Vec<IoSlice<'a>>,
    gathered: Gathered,
    /// The same in one piece, from the second viewer on: a plain send costs the kernel less than one of many pieces, and this is
    /// copied once for all.
    joined: Vec<u8>,
}

impl<'a> Round<'a> {
    /// Gathers what a viewer wants next whose next frame is `seq`, with the room of a former round.
    fn gather(former: Option<Round<'a>>, ring: &'a Ring, form: Form, seq: u64) -> Self {
        let (mut pieces, mut joined) = former.map(|round| (round.pieces, round.joined)).unwrap_or_default();
        pieces.clear();
        joined.clear();
        let gathered = gather_from(ring, seq, form, 0, &mut pieces);
        Round { seq, pieces, gathered, joined }
    }

    fn join(&mut self) {
        if self.joined.is_empty() {
            self.joined.reserve_exact(self.gathered.bytes);
            self.pieces.iter().for_each(|piece| self.joined.extend_from_slice(piece));
        }
    }
}

/// What a flush wrote.
#[derive(Default)]
struct Written {
    sends: u64,
    bytes: u64,
}

impl Egress {
    pub(crate) fn new(hub: Rc<Hub>) -> Rc<Self> {
        let ready = Arc::new(Ready { keys: Mutex::default(), wake: hub.wake.clone() });
        Rc::new(Egress { hub, viewers: RefCell::default(), ready })
    }

    /// The loop. Never returns.
    pub(crate) async fn run(&self) {
        let mut sweep_at = self.hub.clock.now();
        let mut sweeps = 0u32;
        loop {
            let now = self.hub.clock.now();
            if now >= sweep_at {
                sweep_at = now + SWEEP;
                sweeps = sweeps.wrapping_add(1);
                self.sweep(now, sweeps.is_multiple_of(SWEEPS_PER_VIEWER_CHECK));
            }
            let window = self.hub.close_windows(now);
            let mut busy = false;
            for (turn, key) in self.ready.take().into_iter().enumerate() {
                busy = true;
                self.on_ready(key);
                if turn % READY_PER_TURN == READY_PER_TURN - 1 {
                    tokio::task::yield_now().await;
                }
            }
            while let Some(stream) = self.hub.take_due() {
                busy = true;
                self.flush(&stream).await;
            }
            if busy {
                // Work may have come meanwhile, from here and from the sockets: let the others run, then look again.
                tokio::task::yield_now().await;
                continue;
            }
            let wake_at = tokio::time::Instant::from_std(
                self.hub.clock.instant(window.map_or(sweep_at, |at| at.min(sweep_at))),
            );
            tokio::select! {
                () = self.hub.wake.notified() => {}
                () = tokio::time::sleep_until(wake_at) => {}
            }
        }
    }

    /// Takes a viewer in. It begins at once where there is media, else it waits.
    pub(crate) fn adopt(
        &self,
        socket: TcpStream,
        remote: SocketAddr,
        stream: HubStream,
        session: Option<Box<rtmp::Session>>,
        seat: Option<Seat>,
    ) {
        let mut viewers = self.viewers.borrow_mut();
        let entry = viewers.vacant_entry();
        let key = entry.key();
        let now = self.hub.clock.now();
        let (talk, form) = match session {
            Some(session) => (Talk::RtmpAsked(session), Form::Rtmp),
            None => (Talk::Flv, Form::Flv),
        };
        entry.insert(Viewer {
            socket,
            waker: Waker::from(Arc::new(ViewerWaker { key, ready: self.ready.clone() })),
            stream: stream.clone(),
            talk,
            form,
            phase: Phase::Waiting { since: now },
            // Nothing of the ring is its before it begins.
            cursor: Cursor::new(u64::MAX),
            blocked: None,
            remote,
            since_unix_ms: self.hub.clock.unix_ms(),
            bytes_out: 0,
            skips: 0,
            _seat: seat,
        });
        drop(viewers);
        stream.borrow_mut().viewers.push(key);
        self.count_viewers();
        // Its turn comes like that of any other: it begins, if it can, and its reading side is armed.
        self.ready.put(key);
    }

    /// What a stream and its viewers are doing.
    pub(crate) fn snapshot(&self, stream: &HubStream) -> StreamSnapshot {
        let state = stream.borrow();
        let viewers = self.viewers.borrow();
        let ring = state.stream.ring();
        let one = |&key: &usize| {
            let viewer = viewers.get(key)?;
            Some(ViewerSnapshot {
                remote: viewer.remote,
                protocol: match viewer.form {
                    Form::Rtmp => "RTMP",
                    Form::Flv => "HTTP-FLV",
                },
                since_unix_ms: viewer.since_unix_ms,
                bytes_out: viewer.bytes_out,
                behind: if viewer.phase == Phase::Playing {
                    ring.end().saturating_sub(viewer.cursor.seq())
                } else {
                    0
                },
                skips: viewer.skips,
            })
        };
        StreamSnapshot {
            assignment: state.assignment.clone(),
            publisher: state.publisher.as_ref().map(|slot| slot.info.clone()),
            live: state.stream.live(),
            frames_in: state.frames_in,
            bytes_in: state.bytes_in,
            ring_bytes: ring.bytes(),
            ring_frames: ring.len(),
            held_bytes: state.stream.held_bytes(),
            viewers: state.viewers.iter().filter_map(one).take(SNAPSHOT_VIEWERS_MAX).collect(),
            viewer_count: state.viewers.len(),
        }
    }

    /// How many viewers there are.
    pub(crate) fn len(&self) -> usize {
        self.viewers.borrow().len()
    }

    /// Brings all viewers of a stream level with its ring, as far as their sockets take it.
    async fn flush(&self, stream: &HubStream) {
        self.hub.pulse.doing("egress", &stream.borrow().assignment);
        let over = stream.borrow_mut().flush.over.take();
        if let Some(reason) = over {
            self.end_viewers(stream, reason);
        }
        let opened = std::mem::take(&mut stream.borrow_mut().flush.opened);
        // From the end to the start: the place of one that goes is taken by the last, which has had its turn.
        let mut rest = usize::MAX;
        while let Some(before) = self.flush_some(stream, rest, opened) {
            rest = before;
            tokio::task::yield_now().await;
        }
        let mut state = stream.borrow_mut();
        if std::mem::take(&mut state.flush.trim) {
            self.trim(&mut state);
        }
        self.hub.pulse.idle();
    }

    /// Flushes the last of the first `rest` viewers, a bounded number; returns how many are left.
    fn flush_some(&self, stream: &HubStream, rest: usize, opened: bool) -> Option<usize> {
        let state = stream.borrow();
        let mut viewers = self.viewers.borrow_mut();
        let mut rounds = [None, None];
        let mut written = Written::default();
        let mut gone = vec![];
        let to = state.viewers.len().min(rest);
        let from = to.saturating_sub(WRITES_PER_TURN);
        for &key in state.viewers[from..to].iter().rev() {
            let viewer =
                viewers.get_mut(key).expect("a stream lists its viewers until they are taken from the table");
            let mut fate = if opened { self.begin(viewer, &state) } else { Fate::Stays };
            if fate == Fate::Stays && viewer.blocked.is_none() {
                fate = self.write(viewer, key, &state, &mut rounds, &mut written);
            }
            if fate == Fate::Gone {
                gone.push(key);
            }
        }
        drop(rounds);
        drop(viewers);
        drop(state);
        stream.counters().sends.add(written.sends);
        stream.counters().bytes_out.add(written.bytes);
        gone.into_iter().for_each(|key| self.remove(key));
        (from > 0).then_some(from)
    }

    /// Writes what waits for one viewer until it is level, its socket is full, or it has had its turn.
    fn write<'a>(
        &self,
        viewer: &mut Viewer,
        key: usize,
        state: &'a State,
        rounds: &mut [Option<Round<'a>>; 2],
        written: &mut Written,
    ) -> Fate {
        if self.hub.mute.get() {
            return Fate::Stays;
        }
        let ring = state.stream.ring();
        let form = viewer.form;
        for _ in 0..WRITES_PER_VIEWER {
            if let Phase::Waiting { .. } | Phase::Lost | Phase::Paused = viewer.phase
                && viewer.cursor.is_plain()
            {
                return Fate::Stays;
            }
            match viewer.cursor.standing(ring) {
                Standing::Behind => {}
                Standing::Level => {
                    return match viewer.phase {
                        Phase::Closing { .. } => Fate::Gone,
                        Phase::Waiting { .. } | Phase::Playing | Phase::Lost | Phase::Paused => Fate::Stays,
                    };
                }
                Standing::Fallen => {
                    self.skip(viewer, state);
                    continue;
                }
            }
            let seq = viewer.cursor.seq();
            let result = if viewer.cursor.is_plain() {
                let round = &mut rounds[form as usize];
                let sent = match round {
                    Some(round) if round.seq == seq => {
                        round.join();
                        viewer.socket.try_write(&round.joined)
                    }
                    _ => {
                        let former = round.take();
                        let new = round.insert(Round::gather(former, ring, form, seq));
                        viewer.socket.try_write_vectored(&new.pieces)
                    }
                };
                let gathered = round.as_ref().expect("a round was made for this frame").gathered;
                sent.inspect(|&bytes| {
                    if bytes == gathered.bytes {
                        viewer.cursor.jump(gathered.end);
                    } else {
                        viewer.cursor.advance(ring, form, bytes);
                    }
                })
            } else {
                let mut pieces = vec![];
                viewer.cursor.gather(ring, form, &mut pieces);
                let result = viewer.socket.try_write_vectored(&pieces);
                drop(pieces);
                result.inspect(|&bytes| viewer.cursor.advance(ring, form, bytes))
            };
            match result {
                Ok(bytes) => {
                    written.sends += 1;
                    written.bytes += bytes as u64;
                    viewer.bytes_out += bytes as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match viewer.socket.poll_write_ready(&mut Context::from_waker(&viewer.waker)) {
                        Poll::Pending => {
                            viewer.blocked = Some(self.hub.clock.now());
                            return Fate::Stays;
                        }
                        Poll::Ready(Ok(())) => {}
                        Poll::Ready(Err(_)) => return Fate::Gone,
                    }
                }
                Err(error) => return lost(viewer, &error),
            }
        }
        // One that has just come, or is far behind, takes more turns: a long GOP for hundreds at once is seconds of copying.
        self.ready.put(key);
        Fate::Stays
    }

    /// Puts a viewer that fell out of the ring where its policy wants it.
    fn skip(&self, viewer: &mut Viewer, state: &State) {
        match state.assignment.play.slow_viewer {
            SlowViewer::SkipToKeyframe => {
                viewer.stream.counters().drop_one(DropReason::ViewerSkipped);
                viewer.skips += 1;
                self.go_on(viewer, state);
            }
            SlowViewer::Disconnect => {
                viewer.stream.counters().drop_one(DropReason::ViewerSlow);
                self.end(viewer, PlayEnd::TooSlow, "too slow for this stream");
            }
        }
    }

    /// Puts a viewer that has begun at the newest key frame.
    fn go_on(&self, viewer: &mut Viewer, state: &State) {
        match state.stream.start(viewer.form, Opening::Again) {
            Some((seq, opening)) => {
                viewer.cursor.say(opening);
                viewer.cursor.jump(seq);
                viewer.phase = Phase::Playing;
            }
            None => {
                viewer.cursor.jump(u64::MAX);
                viewer.phase = Phase::Lost;
            }
        }
    }

    /// Lets a viewer that waits begin, if there is something to begin with.
    fn begin(&self, viewer: &mut Viewer, state: &State) -> Fate {
        match viewer.phase {
            Phase::Waiting { .. } => {}
            Phase::Lost => {
                self.go_on(viewer, state);
                return Fate::Stays;
            }
            Phase::Playing | Phase::Paused | Phase::Closing { .. } => return Fate::Stays,
        }
        let Some((seq, opening)) = state.stream.start(viewer.form, Opening::First) else {
            return Fate::Stays;
        };
        let fate = self.alone(|| match std::mem::replace(&mut viewer.talk, Talk::Flv) {
            Talk::RtmpAsked(mut session) => {
                session.accept_play();
                let mut talk = Box::new(session.into_viewer());
                while let Some(words) = talk.poll_transmit() {
                    viewer.cursor.say(words);
                }
                viewer.talk = Talk::Rtmp(talk);
            }
            Talk::Rtmp(talk) => viewer.talk = Talk::Rtmp(talk),
            Talk::Flv => viewer.cursor.say(http::flv_begins()),
        });
        viewer.cursor.say(opening);
        viewer.cursor.jump(seq);
        viewer.phase = Phase::Playing;
        fate
    }

    /// Runs a step of one viewer's session. A panic in it ends this viewer alone.
    fn alone(&self, step: impl FnOnce()) -> Fate {
        match catch_unwind(AssertUnwindSafe(step)) {
            Ok(()) => Fate::Stays,
            Err(_) => {
                self.hub.counters.session_panics.add(1);
                Fate::Gone
            }
        }
    }

    /// Speaks the last words to a viewer. It goes when they are written, or after [`CLOSING_MAX`].
    fn end(&self, viewer: &mut Viewer, end: PlayEnd, why: &str) {
        if let Phase::Closing { .. } = viewer.phase {
            return;
        }
        let waited = matches!(viewer.phase, Phase::Waiting { .. });
        // If this panics it goes without last words, which is what becomes of it in any case.
        let _ = self.alone(|| match &mut viewer.talk {
            Talk::RtmpAsked(session) => {
                session.refuse_play(PlayRefusal::StreamNotFound, why);
                while let Some(words) = session.poll_transmit() {
                    viewer.cursor.say(words);
                }
            }
            Talk::Rtmp(talk) => {
                talk.end_play(end, why);
                while let Some(words) = talk.poll_transmit() {
                    viewer.cursor.say(words);
                }
            }
            Talk::Flv if waited => viewer.cursor.say(http::not_found(why)),
            Talk::Flv => {}
        });
        viewer.cursor.jump(u64::MAX);
        viewer.phase = Phase::Closing { until: self.hub.clock.now() + CLOSING_MAX };
    }

    /// Ends the viewers of a stream. Where only the publisher is gone, those that wait for one wait on.
    fn end_viewers(&self, stream: &HubStream, reason: EndReason) {
        let (end, why) = match reason {
            EndReason::Revoked | EndReason::Drained => (PlayEnd::Stopped, "the stream was stopped here"),
            EndReason::Kicked => (PlayEnd::Stopped, "a person has ended all viewers of the stream"),
            EndReason::Left
            | EndReason::NeverStarted
            | EndReason::Stalled
            | EndReason::TakenOver
            | EndReason::Protocol
            | EndReason::Panicked => (PlayEnd::Unpublished, "the publisher is gone"),
        };
        let state = stream.borrow();
        let mut viewers = self.viewers.borrow_mut();
        for &key in &state.viewers {
            let Some(viewer) = viewers.get_mut(key) else { continue };
            let waits = matches!(viewer.phase, Phase::Waiting { .. });
            if !(waits && end == PlayEnd::Unpublished) {
                self.end(viewer, end, why);
            }
        }
    }

    /// A viewer's socket has become readable or writable.
    fn on_ready(&self, key: usize) {
        let mut viewers = self.viewers.borrow_mut();
        // The key may be one of a viewer that went; another that has it now just looks once more.
        let Some(viewer) = viewers.get_mut(key) else { return };
        let stream = viewer.stream.clone();
        let state = stream.borrow();
        let mut fate = self.read(viewer, &state, key);
        if fate == Fate::Stays && viewer.blocked.is_some() {
            match viewer.socket.poll_write_ready(&mut Context::from_waker(&viewer.waker)) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => viewer.blocked = None,
                Poll::Ready(Err(_)) => fate = Fate::Gone,
            }
        }
        if fate == Fate::Stays && viewer.blocked.is_none() {
            fate = self.begin(viewer, &state);
        }
        if fate == Fate::Stays && viewer.blocked.is_none() {
            let mut written = Written::default();
            fate = self.write(viewer, key, &state, &mut [None, None], &mut written);
            stream.counters().sends.add(written.sends);
            stream.counters().bytes_out.add(written.bytes);
        }
        drop((state, viewers));
        if fate == Fate::Gone {
            self.remove(key);
        }
    }

    /// Reads what a viewer says, and arms its reading side again.
    fn read(&self, viewer: &mut Viewer, state: &State, key: usize) -> Fate {
        let mut buffer = [0; 2048];
        for _ in 0..READS_PER_TURN {
            match viewer.socket.poll_read_ready(&mut Context::from_waker(&viewer.waker)) {
                Poll::Pending => return Fate::Stays,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Fate::Gone,
            }
            match viewer.socket.try_read(&mut buffer) {
                Ok(0) => return Fate::Gone,
                Ok(length) => {
                    let mut heard = Fate::Stays;
                    let outcome = self.alone(|| heard = self.hear(viewer, state, &buffer[..length]));
                    if (outcome, heard) != (Fate::Stays, Fate::Stays) {
                        return Fate::Gone;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return lost(viewer, &error),
            }
        }
        // It talks a lot: the others first.
        self.ready.put(key);
        Fate::Stays
    }

    /// Takes what a viewer said.
    fn hear(&self, viewer: &mut Viewer, state: &State, said: &[u8]) -> Fate {
        let now = self.hub.clock.now();
        let said = Bytes::copy_from_slice(said);
        let heard = match &mut viewer.talk {
            // A player of HTTP-FLV has nothing more to say.
            Talk::Flv => return Fate::Stays,
            Talk::RtmpAsked(session) => {
                let heard = session.receive(said, now);
                if let Some(rtmp::Event::Unpublish) = session.poll_event() {
                    return Fate::Gone;
                }
                while let Some(words) = session.poll_transmit() {
                    viewer.cursor.say(words);
                }
                heard
            }
            Talk::Rtmp(talk) => {
                let heard = talk.receive(said, now);
                while let Some(words) = talk.poll_transmit() {
                    viewer.cursor.say(words);
                }
                match talk.poll_event() {
                    None => {}
                    Some(ViewerEvent::Stop) => return Fate::Gone,
                    Some(ViewerEvent::Pause) => {
                        if let Phase::Playing | Phase::Lost = viewer.phase {
                            // What it misses is not held for it.
                            viewer.cursor.jump(u64::MAX);
                            viewer.phase = Phase::Paused;
                        }
                    }
                    Some(ViewerEvent::Resume) if viewer.phase == Phase::Paused => self.go_on(viewer, state),
                    Some(ViewerEvent::Resume) => {}
                }
                heard
            }
        };
        match heard {
            Ok(()) => Fate::Stays,
            Err(error) => {
                tracing::debug!(remote = %viewer.remote, %error, "viewer ended");
                viewer.stream.counters().drop_one(DropReason::Protocol);
                Fate::Gone
            }
        }
    }

    /// Ends what has waited too long.
    fn sweep(&self, now: Duration, viewers_too: bool) {
        for stream in self.hub.all_streams() {
            stream.timeout(now);
        }
        self.hub.send_waiting_reports();
        if viewers_too {
            self.sweep_viewers(now);
        }
    }

    fn sweep_viewers(&self, now: Duration) {
        let mut viewers = self.viewers.borrow_mut();
        let mut gone = vec![];
        for (key, viewer) in viewers.iter_mut() {
            if viewer.blocked.is_some_and(|since| since + STUCK_MAX <= now) {
                say_stuck(viewer);
                gone.push(key);
                continue;
            }
            match viewer.phase {
                Phase::Waiting { since }
                    if since + viewer.stream.borrow().assignment.play.start_timeout <= now =>
                {
                    self.end(viewer, PlayEnd::Unpublished, "no media came within play.startTimeout");
                    self.ready.put(key);
                }
                Phase::Closing { until } if until <= now => gone.push(key),
                Phase::Waiting { .. }
                | Phase::Closing { .. }
                | Phase::Playing
                | Phase::Lost
                | Phase::Paused => {}
            }
        }
        drop(viewers);
        gone.into_iter().for_each(|key| self.remove(key));
        let canaries = self.hub.canary_viewers();
        let mut viewers = self.viewers.borrow_mut();
        // What a canary has may be at the end of the table; it is renewed, and then takes the first place.
        if viewers.len() <= canaries && viewers.capacity() > 4 * canaries {
            viewers.shrink_to_fit();
        }
    }

    /// Lets the ring go of what the slowest viewer has got.
    fn trim(&self, state: &mut State) {
        let viewers = self.viewers.borrow();
        let playing = |key: &usize| viewers.get(*key).filter(|viewer| viewer.phase == Phase::Playing);
        let needed = state.viewers.iter().filter_map(playing).map(|viewer| viewer.cursor.seq()).min();
        state.stream.trim(needed.unwrap_or(u64::MAX));
    }

    fn count_viewers(&self) {
        let users = self.len().saturating_sub(self.hub.canary_viewers());
        self.hub.counters.viewers.set(users as u64);
    }

    fn remove(&self, key: usize) {
        let mut viewers = self.viewers.borrow_mut();
        let Some(viewer) = viewers.try_remove(key) else { return };
        drop(viewers);
        let mut state = viewer.stream.borrow_mut();
        if let Some(at) = state.viewers.iter().position(|&listed| listed == key) {
            state.viewers.swap_remove(at);
        }
        if state.viewers.is_empty() {
            state.viewers = vec![];
            let end = state.stream.ring().end();
            state.stream.trim(end);
        }
        drop(state);
        self.count_viewers();
        // Last words first, then the end of the stream: a close alone may overtake them.
        let _ = socket2::SockRef::from(&viewer.socket).shutdown(std::net::Shutdown::Write);
    }
}

/// What a socket's error means for its viewer. The kernel may be the first to find that nothing is taken (TCP_USER_TIMEOUT).
fn lost(viewer: &Viewer, error: &io::Error) -> Fate {
    // With what the network said meanwhile, where it said something.
    if let io::ErrorKind::TimedOut | io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable =
        error.kind()
    {
        say_stuck(viewer);
    }
    Fate::Gone
}

/// A viewer is ended whose socket has taken nothing for [`STUCK_MAX`].
fn say_stuck(viewer: &Viewer) {
    viewer.stream.counters().drop_one(DropReason::ViewerSlow);
    if viewer.stream.is_users() {
        tracing::info!(
            stream = %viewer.stream.assignment(), remote = %viewer.remote,
            "viewer ended: it took nothing for {STUCK_MAX:?}"
        );
    }
}

/// Keys of viewers whose sockets have become ready. The runtime's wakers write it, the loop reads it.
struct Ready {
    keys: Mutex<Vec<usize>>,
    wake: Arc<Notify>,
}

impl Ready {
    fn put(&self, key: usize) {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.push(key);
        if keys.len() == 1 {
            self.wake.notify_one();
        }
    }

    fn take(&self) -> Vec<usize> {
        std::mem::take(&mut *self.keys.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Puts a viewer on the ready list.
struct ViewerWaker {
    key: usize,
    ready: Arc<Ready>,
}

impl Wake for ViewerWaker {
    fn wake(self: Arc<Self>) {
        self.ready.put(self.key);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.put(self.key);
    }
}
