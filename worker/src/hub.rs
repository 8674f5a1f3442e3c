//! The hub: a shard's streams as an ingress sees them. One publisher token a stream; who holds it may push frames.
//!
//! Nothing here waits and nothing touches a socket. What an event means for viewers is noted in the stream and its flush is
//! made due; the egress loop does the rest.

use std::cell::RefCell;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use media::budget::Budget;
use media::frame::Frame;
use media::limits::{BULK_WINDOW, NORMAL_WINDOW};
use media::packed::Unpackable;
use media::policy::{Latency, PublishPolicy};
use media::stream::{Event, Pushed, Stream, Token};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;

use crate::assignment::{Assignment, RtpPorts, StreamRef};
use crate::canary::Cage;
use crate::clock::Clock;
use crate::counters::{Counters, DropReason};
use crate::pulse::Pulse;
use crate::shard::{EndReason, Kick, Kicked, PublisherInfo, ShardReport, Whom};

/// An ingress that control has built around bound sockets and the shard runs: a future on the shard's thread. The shard drops it,
/// and with it the sockets, when the stream is revoked or goes to another epoch.
pub type Ingress = Box<dyn FnOnce(HubStream) -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// All that the tasks of one shard share. It stays on the shard's thread.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) clock: Clock,
    pub(crate) counters: Arc<Counters>,
    pub(crate) pulse: Arc<Pulse>,
    pub(crate) budget: Budget,
    /// Wakes the egress loop.
    pub(crate) wake: Arc<Notify>,
    streams: RefCell<BTreeMap<Arc<str>, HubStream>>,
    /// Aside from the users' streams: nobody counts, lists or moves them.
    canaries: RefCell<Vec<HubStream>>,
    /// `--test-hooks`: nothing is written to viewers.
    pub(crate) mute: std::cell::Cell<bool>,
    due: RefCell<VecDeque<HubStream>>,
    timers: RefCell<BinaryHeap<Timer>>,
    reports: Reports,
}

/// A stream of this shard. Clones are the same stream. It stays on the shard's thread.
#[derive(Clone, Debug)]
pub struct HubStream {
    cell: Rc<Cell>,
}

#[derive(Debug)]
struct Cell {
    hub: Rc<Hub>,
    state: RefCell<State>,
    counters: Arc<Counters>,
    whose: Whose,
}

/// Whose media a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Users,
    /// Of it nothing is logged or reported.
    Canarys,
}

/// What a shard keeps of a stream.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) assignment: Arc<Assignment>,
    pub(crate) stream: Stream,
    pub(crate) publisher: Option<Slot>,
    /// Keys of its viewers, in the egress's table.
    pub(crate) viewers: Vec<usize>,
    pub(crate) flush: Flush,
    pub(crate) frames_in: u64,
    pub(crate) bytes_in: u64,
    ingress: Option<JoinHandle<()>>,
    /// Set once the stream is being stopped: nobody is taken any more.
    stopped: Option<EndReason>,
    /// `--test-hooks`: the publisher's session panics at its next bytes.
    panics: bool,
}

/// What the egress loop has to do for a stream.
#[derive(Debug, Default)]
pub(crate) struct Flush {
    /// It is in the queue.
    pub(crate) queued: bool,
    /// The merge window closes then.
    pub(crate) at: Option<Duration>,
    /// Viewers that wait may begin.
    pub(crate) opened: bool,
    /// A new start came: the ring may let go of what nobody needs.
    pub(crate) trim: bool,
    /// Viewers that play are ended, for this reason.
    pub(crate) over: Option<EndReason>,
}

/// Who holds the token.
#[derive(Debug)]
pub(crate) struct Slot {
    token: Token,
    pub(crate) info: PublisherInfo,
    lost: watch::Sender<Option<EndReason>>,
}

/// The publisher token of a stream. Dropping it says that the publisher left.
#[derive(Debug)]
pub struct Publisher {
    stream: HubStream,
    token: Token,
    lost: watch::Receiver<Option<EndReason>>,
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
        self.cell.state.borrow().assignment.stream.clone()
    }

    /// What was assigned.
    pub fn assignment(&self) -> Arc<Assignment> {
        self.cell.state.borrow().assignment.clone()
    }

    /// How publishers are treated at the moment; an edit may change it.
    pub fn publish_policy(&self) -> PublishPolicy {
        self.cell.state.borrow().stream.policy().clone()
    }

    /// Asks for the publisher token. `protocol` is `RTMP` or `RTP`.
    pub fn publish(&self, remote: SocketAddr, protocol: &'static str) -> Result<Publisher, Refusal> {
        let hub = &self.cell.hub;
        let mut state = self.cell.state.borrow_mut();
        if state.stopped.is_some() {
            return Err(Refusal::Stopped);
        }
        let token = state.stream.publish(hub.clock.now()).map_err(|_| Refusal::Duplicate)?;
        // The former holder hears of its end before its slot goes.
        self.settle(&mut state);
        let since_unix_ms = hub.clock.unix_ms();
        let info = PublisherInfo { remote, since_unix_ms, protocol, codecs: vec![] };
        let lost = watch::Sender::new(None);
        let receiver = lost.subscribe();
        state.publisher = Some(Slot { token, info, lost });
        self.report_publisher(&state, None);
        if self.is_users() {
            tracing::info!(stream = %state.assignment, epoch = state.assignment.stream.epoch, %remote, protocol, "publisher came");
        }
        Ok(Publisher { stream: self.clone(), token, lost: receiver })
    }

    /// Says why its device was not connected to.
    pub fn dial_failed(&self, error: &str) {
        self.cell.hub.report(ShardReport::DialFailed { stream: self.stream(), error: error.into() });
    }

    /// Says that some of its leases are closed, and it goes on by the others.
    pub fn leases_closed(&self) {
        self.report(ShardReport::LeasesClosed(self.stream()));
    }

    /// Says on which of two leases, by its RTP port, media comes, and whether it has come there long enough to stay.
    pub fn media_arrived(&self, port: u16, settled: bool) {
        self.report(ShardReport::Arrived { stream: self.stream(), port, settled });
    }

    pub(crate) fn clock(&self) -> Clock {
        self.cell.hub.clock
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.cell.counters
    }

    /// False of a canary's: of it nothing is logged.
    pub(crate) fn is_users(&self) -> bool {
        self.cell.whose == Whose::Users
    }

    fn report(&self, report: ShardReport) {
        if self.is_users() {
            self.cell.hub.report(report);
        }
    }

    fn report_publisher(&self, state: &State, reason: Option<EndReason>) {
        let publisher = state.publisher.as_ref().map(|slot| slot.info.clone());
        let stream = state.assignment.stream.clone();
        self.report(ShardReport::Publisher { stream, publisher, reason });
    }

    pub(crate) fn borrow(&self) -> std::cell::Ref<'_, State> {
        self.cell.state.borrow()
    }

    pub(crate) fn borrow_mut(&self) -> std::cell::RefMut<'_, State> {
        self.cell.state.borrow_mut()
    }

    /// Does what is due in the stream itself.
    pub(crate) fn timeout(&self, now: Duration) {
        let mut state = self.cell.state.borrow_mut();
        if state.stream.deadline().is_some_and(|at| at <= now) {
            state.stream.timeout(now);
            self.settle(&mut state);
        }
    }

    /// Puts the stream into the egress loop's queue.
    pub(crate) fn make_due(&self, state: &mut State) {
        if !state.flush.queued {
            state.flush.queued = true;
            self.cell.hub.due.borrow_mut().push_back(self.clone());
            self.cell.hub.wake.notify_one();
        }
    }

    /// Acts on what happened in the stream.
    fn settle(&self, state: &mut State) {
        while let Some(event) = state.stream.poll_event() {
            match event {
                Event::Ended(token, reason) => {
                    let Some(slot) = state.publisher.take_if(|slot| slot.token == token) else { continue };
                    slot.lost.send_replace(Some(reason));
                    self.say_publisher_ended(state, &slot, reason);
                }
                Event::Opened => {
                    state.flush.opened = true;
                    self.make_due(state);
                }
                Event::Live(live) => {
                    let stream = state.assignment.stream.clone();
                    if self.is_users() {
                        tracing::info!(stream = %state.assignment, epoch = stream.epoch, live, "media");
                    }
                    self.report(ShardReport::Media { stream, live });
                }
                Event::Tracks => {
                    let codecs = state.stream.tracks().names();
                    if let Some(slot) = state.publisher.as_mut().filter(|slot| slot.info.codecs != codecs) {
                        slot.info.codecs = codecs;
                        self.report_publisher(state, None);
                    }
                }
                Event::Over => {
                    state.flush.over = Some(EndReason::Left);
                    self.make_due(state);
                }
            }
        }
    }

    fn say_publisher_ended(&self, state: &State, slot: &Slot, reason: EndReason) {
        if self.is_users() {
            tracing::info!(
                stream = %state.assignment, epoch = state.assignment.stream.epoch,
                remote = %slot.info.remote, reason = reason.as_str(), "publisher ended"
            );
        }
        self.report_publisher(state, Some(reason));
    }

    /// Plans the write of what was pushed: cost is per send, so a frame waits for its merge window.
    fn plan_flush(&self, state: &mut State, picture: bool, now: Duration) {
        if state.viewers.is_empty() {
            return;
        }
        let window = match (state.assignment.play.latency, picture) {
            (Latency::Low, _) | (Latency::Normal, true) => return self.make_due(state),
            (Latency::Normal, false) => NORMAL_WINDOW,
            (Latency::Bulk, _) => BULK_WINDOW,
        };
        if state.flush.at.is_none() && !state.flush.queued {
            let at = now + window;
            state.flush.at = Some(at);
            let mut timers = self.cell.hub.timers.borrow_mut();
            let is_next = timers.peek().is_none_or(|next| at < next.at);
            timers.push(Timer { at, stream: self.clone() });
            if is_next {
                self.cell.hub.wake.notify_one();
            }
        }
    }
}

impl Publisher {
    /// Pushes a frame to the ring and its viewers. Never waits.
    pub fn push(&self, frame: Frame) -> Result<(), Ended> {
        let hub = &self.stream.cell.hub;
        let now = hub.clock.now();
        let mut state = self.stream.cell.state.borrow_mut();
        let length = frame.payload.len() as u64;
        let pushed = state.stream.push(self.token, frame, now).map_err(|_| self.why_ended())?;
        state.frames_in += 1;
        state.bytes_in += length;
        let counters = self.stream.counters();
        counters.frames_in.add(1);
        match pushed {
            Pushed::Taken { picture, start } => {
                if start && state.viewers.is_empty() {
                    let end = state.stream.ring().end();
                    state.stream.trim(end);
                } else {
                    state.flush.trim |= start;
                    // For one that was lost: it waits for a key frame.
                    state.flush.opened |= start;
                    self.stream.plan_flush(&mut state, picture, now);
                }
            }
            Pushed::Known => {}
            Pushed::Undecodable => counters.drop_one(DropReason::Undecodable),
            Pushed::Refused(Unpackable::Budget) => counters.drop_one(DropReason::Budget),
            Pushed::Refused(Unpackable::TooLong(_)) => counters.drop_one(DropReason::FrameTooLong),
        }
        self.stream.settle(&mut state);
        Ok(())
    }

    /// Bytes were heard of the publisher, whether they hold media or not.
    pub fn heard(&self, bytes: usize) {
        let hub = &self.stream.cell.hub;
        self.stream.counters().bytes_in.add(bytes as u64);
        let mut state = self.stream.cell.state.borrow_mut();
        state.stream.heard(self.token, hub.clock.now());
        if std::mem::take(&mut state.panics) {
            panic!("a fault was asked for: the session of {} panics", state.assignment);
        }
    }

    /// The source is at another address now (a UDP source was pinned anew).
    pub fn moved_to(&self, remote: SocketAddr) {
        let mut state = self.stream.cell.state.borrow_mut();
        let token = self.token;
        if let Some(slot) = state.publisher.as_mut().filter(|slot| slot.token == token) {
            slot.info.remote = remote;
            self.stream.report_publisher(&state, None);
        }
    }

    /// Waits until the token is lost, and says why: end the session then. Cancel-safe.
    pub async fn ended(&self) -> Ended {
        let mut lost = self.lost.clone();
        // The sender goes only with its slot, and says why before; a stream dropped whole says nothing.
        let reason = lost.wait_for(Option::is_some).await.ok().and_then(|reason| *reason);
        Ended(reason.unwrap_or(EndReason::Revoked))
    }

    /// The stream that it publishes.
    pub fn stream(&self) -> &HubStream {
        &self.stream
    }

    /// Runs a step of the publisher's session, so that a state dump names the stream if it never ends.
    pub fn step<T>(&self, work: impl FnOnce() -> T) -> T {
        let hub = &self.stream.cell.hub;
        hub.pulse.doing("ingress", &self.stream.assignment());
        let done = work();
        hub.pulse.idle();
        done
    }

    fn why_ended(&self) -> Ended {
        Ended(self.lost.borrow().unwrap_or(EndReason::Revoked))
    }

    /// Gives the token back with a reason other than that the publisher left by itself.
    pub fn give_up(self, reason: EndReason) {
        self.vacate(reason);
    }

    fn vacate(&self, reason: EndReason) {
        let hub = &self.stream.cell.hub;
        // Dropped while unwinding out of the stream itself: the sweep's stallTimeout ends what is left.
        let Ok(mut state) = self.stream.cell.state.try_borrow_mut() else { return };
        state.stream.leave(self.token, hub.clock.now());
        if let Some(slot) = state.publisher.take_if(|slot| slot.token == self.token) {
            slot.lost.send_replace(Some(reason));
            self.stream.say_publisher_ended(&state, &slot, reason);
        }
        self.stream.settle(&mut state);
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.vacate(if std::thread::panicking() { EndReason::Panicked } else { EndReason::Left });
    }
}

impl Hub {
    pub(crate) fn new(
        clock: Clock,
        counters: Arc<Counters>,
        pulse: Arc<Pulse>,
        budget: Budget,
        reports: mpsc::Sender<ShardReport>,
    ) -> Rc<Self> {
        Rc::new(Hub {
            clock,
            counters,
            pulse,
            budget,
            wake: Arc::new(Notify::new()),
            streams: RefCell::default(),
            canaries: RefCell::default(),
            mute: std::cell::Cell::new(false),
            due: RefCell::default(),
            timers: RefCell::default(),
            reports: Reports { sender: reports, waiting: RefCell::default() },
        })
    }

    /// Publishes the canaries' streams here, for as long as the process runs.
    pub(crate) fn take_canaries(self: &Rc<Self>, cage: &Cage, shard: usize) {
        let keep = |assignment| {
            let (budget, counters) = (cage.budget().clone(), cage.counters().clone());
            HubStream::new(self, assignment, budget, counters, Whose::Canarys)
        };
        *self.canaries.borrow_mut() = cage.streams(shard).into_iter().map(keep).collect();
    }

    /// The stream of a path, if it is assigned here. Front lets nobody but canaries ask for a canary's.
    pub(crate) fn stream(&self, path: &str) -> Option<HubStream> {
        let canaries = self.canaries.borrow();
        let canary = canaries.iter().find(|canary| *canary.borrow().assignment.path == *path);
        canary.or(self.streams.borrow().get(path)).cloned()
    }

    /// The users' streams, by path.
    pub(crate) fn streams(&self) -> Vec<HubStream> {
        self.streams.borrow().values().cloned().collect()
    }

    /// These and the canaries'.
    pub(crate) fn all_streams(&self) -> Vec<HubStream> {
        self.streams.borrow().values().chain(&*self.canaries.borrow()).cloned().collect()
    }

    /// How many viewers are the canaries'.
    pub(crate) fn canary_viewers(&self) -> usize {
        self.canaries.borrow().iter().map(|canary| canary.borrow().viewers.len()).sum()
    }

    /// Publishes a stream here, or changes one that is.
    pub(crate) async fn assign(self: &Rc<Self>, assignment: Arc<Assignment>, ingress: Option<Ingress>) {
        let present = self.stream(&assignment.path);
        let stream = match present {
            Some(stream) if stream.stream().uid == assignment.stream.uid => {
                if stream.stream().epoch > assignment.stream.epoch {
                    tracing::warn!(stream = %assignment, epoch = assignment.stream.epoch, "an assignment of an older epoch is ignored");
                    return;
                }
                stream.change(assignment.clone(), ingress.is_some()).await;
                stream
            }
            other => {
                if let Some(other) = other {
                    let stream = other.stream();
                    self.revoke(&stream, EndReason::Revoked).await;
                }
                let (budget, counters) = (self.budget.clone(), self.counters.clone());
                let stream = HubStream::new(self, assignment.clone(), budget, counters, Whose::Users);
                self.streams.borrow_mut().insert(assignment.path.clone(), stream.clone());
                stream
            }
        };
        if let Some(ingress) = ingress {
            let task = tokio::task::spawn_local(ingress(stream.clone()));
            stream.borrow_mut().ingress = Some(task);
        }
        self.count_streams();
        tracing::info!(stream = %assignment, epoch = assignment.stream.epoch, "assigned");
        self.reports.send(&self.counters, ShardReport::Assigned(assignment.stream.clone()));
    }

    /// Stops a stream, ends its sessions, and reports it closed.
    pub(crate) async fn revoke(&self, which: &StreamRef, reason: EndReason) {
        let is_it = |stream: &&HubStream| stream.borrow().assignment.stream.uid == which.uid;
        let stream = self.streams.borrow().values().find(is_it).cloned();
        if let Some(stream) = stream {
            let running = stream.stream();
            if running.epoch > which.epoch {
                tracing::warn!(stream = %stream.assignment(), epoch = which.epoch, "a revoke of an older epoch stops nothing");
            } else {
                stream.stop(reason).await;
                self.streams.borrow_mut().remove(&stream.assignment().path);
                tracing::info!(stream = %stream.assignment(), epoch = running.epoch, "revoked");
                if running != *which {
                    self.reports.send(&self.counters, ShardReport::Closed(running));
                }
            }
        }
        self.count_streams();
        self.reports.send(&self.counters, ShardReport::Closed(which.clone()));
    }

    /// Ends who publishes or plays, as a person asked. The streams stay, and take whoever comes next.
    pub(crate) fn kick(&self, kick: &Kick) -> Vec<Kicked> {
        let is_meant = |stream: &HubStream| {
            let assignment = stream.assignment();
            *assignment.namespace == *kick.namespace && *assignment.name == *kick.name
        };
        let meant: Vec<HubStream> = self.streams().into_iter().filter(is_meant).collect();
        meant.iter().map(|stream| stream.kick(kick.whom)).collect()
    }

    /// Ends all sessions; the streams stay assigned but take nobody any more.
    pub(crate) async fn drain(&self) {
        for stream in self.all_streams() {
            stream.stop(EndReason::Drained).await;
        }
    }

    pub(crate) fn report(&self, report: ShardReport) {
        self.reports.send(&self.counters, report);
    }

    /// Sends reports that found the channel full.
    pub(crate) fn send_waiting_reports(&self) {
        self.reports.send_waiting();
    }

    /// The next stream whose flush is due.
    pub(crate) fn take_due(&self) -> Option<HubStream> {
        let stream = self.due.borrow_mut().pop_front()?;
        let mut state = stream.borrow_mut();
        state.flush.queued = false;
        // Whatever the window still holds goes out with this.
        state.flush.at = None;
        drop(state);
        Some(stream)
    }

    /// Makes due what merge windows have closed for, and says when the next one does.
    pub(crate) fn close_windows(&self, now: Duration) -> Option<Duration> {
        loop {
            let mut timers = self.timers.borrow_mut();
            let next = timers.peek()?;
            // One that was flushed meanwhile needs none any more.
            let holds = next.stream.borrow().flush.at == Some(next.at);
            if holds && next.at > now {
                return Some(next.at);
            }
            let timer = timers.pop().expect("it was there when peeked at");
            drop(timers);
            if holds {
                let mut state = timer.stream.borrow_mut();
                timer.stream.make_due(&mut state);
            }
        }
    }

    /// `--test-hooks`: the publisher's session of this path panics at its next bytes.
    pub(crate) fn make_session_panic(&self, path: &str) {
        if let Some(stream) = self.stream(path) {
            stream.borrow_mut().panics = true;
        }
    }

    fn count_streams(&self) {
        let streams = self.streams.borrow().len();
        self.counters.streams.set(streams as u64);
        self.pulse.set_streams(streams);
    }
}

impl HubStream {
    fn new(
        hub: &Rc<Hub>,
        assignment: Arc<Assignment>,
        budget: Budget,
        counters: Arc<Counters>,
        whose: Whose,
    ) -> Self {
        let stream = Stream::new(
            assignment.publish.clone(),
            assignment.created_unix_ms,
            hub.clock.unix_ms(),
            hub.clock.now(),
            budget,
        );
        let state = State {
            assignment,
            stream,
            publisher: None,
            viewers: vec![],
            flush: Flush::default(),
            frames_in: 0,
            bytes_in: 0,
            ingress: None,
            stopped: None,
            panics: false,
        };
        HubStream { cell: Rc::new(Cell { hub: hub.clone(), state: RefCell::new(state), counters, whose }) }
    }

    /// Takes another assignment of the same stream: viewers and ring stay. Ports that were replaced are closed.
    async fn change(&self, assignment: Arc<Assignment>, ports_replaced: bool) {
        let former = self.stream();
        let is_new_epoch = former.epoch < assignment.stream.epoch;
        // What has no ports of its own goes on under the new epoch.
        let keeps = is_shared(&self.assignment()) && is_shared(&assignment);
        if (is_new_epoch && !keeps) || ports_replaced {
            self.end_ingress().await;
        }
        let mut state = self.borrow_mut();
        state.stream.set_policy(assignment.publish.clone());
        state.assignment = assignment;
        state.stopped = None;
        if is_new_epoch {
            self.report(ShardReport::Closed(former));
            // The operator knows nothing yet of this epoch.
            self.report_publisher(&state, None);
            let (stream, live) = (state.assignment.stream.clone(), state.stream.live());
            self.report(ShardReport::Media { stream, live });
        }
    }

    /// The policy goes on as if they had gone by themselves: viewers keep their sockets for resumeWindow.
    fn kick(&self, whom: Whom) -> Kicked {
        let mut state = self.borrow_mut();
        let path = state.assignment.path.clone();
        tracing::info!(stream = %state.assignment, epoch = state.assignment.stream.epoch, ?whom, "kicked by a person");
        match whom {
            Whom::Publisher => {
                let publisher = state.publisher.as_ref().map(|slot| slot.info.clone());
                state.stream.end_publisher(EndReason::Kicked, self.cell.hub.clock.now());
                self.settle(&mut state);
                Kicked { path, publisher, viewers: 0 }
            }
            Whom::Viewers => {
                let viewers = state.viewers.len();
                // Those of a stream that is being stopped are ended already.
                if state.stopped.is_none() {
                    state.flush.over = Some(EndReason::Kicked);
                    self.make_due(&mut state);
                }
                Kicked { path, publisher: None, viewers }
            }
        }
    }

    async fn stop(&self, reason: EndReason) {
        self.end_ingress().await;
        let mut state = self.borrow_mut();
        state.stopped = Some(reason);
        state.stream.end_publisher(reason, self.cell.hub.clock.now());
        self.settle(&mut state);
        state.flush.over = Some(reason);
        self.make_due(&mut state);
    }

    async fn end_ingress(&self) {
        let ingress = self.borrow_mut().ingress.take();
        if let Some(task) = ingress {
            task.abort();
            // Its sockets are closed when this returns, which is what may be reported then.
            let _ = task.await;
        }
    }
}

/// Whether its media comes to the port that many share.
fn is_shared(assignment: &Assignment) -> bool {
    assignment.rtp.as_ref().is_some_and(|rtp| rtp.ports == RtpPorts::Shared)
}

/// A merge window that closes.
#[derive(Debug)]
struct Timer {
    at: Duration,
    stream: HubStream,
}

impl PartialEq for Timer {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Timer {}

impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timer {
    /// The soonest is the greatest, as a heap wants it.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.at.cmp(&self.at)
    }
}

/// Reports on their way to control. What finds the channel full waits here, at most one of each kind a stream.
#[derive(Debug)]
struct Reports {
    sender: mpsc::Sender<ShardReport>,
    waiting: RefCell<VecDeque<ShardReport>>,
}

impl Reports {
    fn send(&self, counters: &Counters, report: ShardReport) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.is_empty() {
            match self.sender.try_send(report) {
                Ok(()) => return,
                Err(mpsc::error::TrySendError::Closed(_)) => return,
                Err(mpsc::error::TrySendError::Full(report)) => waiting.push_back(report),
            }
            return;
        }
        let before = waiting.len();
        waiting.retain(|old| !old.is_replaced_by(&report));
        if waiting.len() < before {
            counters.drop_one(DropReason::ReportMerged);
        }
        waiting.push_back(report);
    }

    fn send_waiting(&self) {
        let mut waiting = self.waiting.borrow_mut();
        while let Some(report) = waiting.pop_front() {
            if let Err(mpsc::error::TrySendError::Full(report)) = self.sender.try_send(report) {
                waiting.push_front(report);
                return;
            }
        }
    }
}
