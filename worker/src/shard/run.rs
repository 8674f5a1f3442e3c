//! A shard's thread: a current-thread runtime with the tasks that share one hub.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use media::budget::Budget;
use media::http;
use socket2::TcpKeepalive;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet, LocalSet};

use super::{Fault, ShardCommand, ShardHandle, ShardReport, ShardSnapshot};
use crate::canary::Cage;
use crate::clock::Clock;
use crate::connection::{Arrival, Wants};
use crate::counters::{Counters, DropReason};
use crate::egress::Egress;
use crate::hub::{Hub, HubStream};
use crate::ingress;
use crate::limits::{
    ARRIVALS_MAX, ASSIGN_WAIT, COMMANDS_MAX, DRAIN_MAX, REFUSAL_DEADLINE, STUCK_MAX, SWEEP, UNASSIGNED_MAX,
    UNSENT_BYTES_MAX,
};
use crate::pulse::{Pulse, Thread};
use crate::shard::EndReason;

/// With TCP_USER_TIMEOUT one unanswered question is enough, so a viewer that is gone is found out after [`STUCK_MAX`] and a third.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(STUCK_MAX).with_interval(Duration::from_secs(STUCK_MAX.as_secs() / 3));

/// What a shard is made with.
#[derive(Debug)]
pub struct Config {
    /// Its number, from 0.
    pub index: usize,
    /// The process's clock.
    pub clock: Clock,
    /// The process's bytes.
    pub budget: Budget,
    /// To control.
    pub reports: mpsc::Sender<ShardReport>,
    /// The canaries' streams.
    pub cage: Cage,
}

/// Starts a shard. It ends when all handles are dropped, or by a panic of its own, which its pulse shows.
pub fn spawn(config: Config) -> io::Result<(ShardHandle, JoinHandle<()>)> {
    let Config { index, clock, budget, reports, cage } = config;
    let (commands, commanded) = mpsc::channel(COMMANDS_MAX);
    let (arrivals, arrived) = mpsc::channel(ARRIVALS_MAX);
    let number = u16::try_from(index).map_err(|_| io::Error::other("more than 65536 shards"))?;
    let pulse = Pulse::new(Thread::Shard(number));
    let counters = Arc::new(Counters::default());
    let handle = ShardHandle { index, pulse: pulse.clone(), counters: counters.clone(), commands, arrivals };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let thread = std::thread::Builder::new().name(format!("shard-{index}")).spawn(move || {
        // Also when it panics.
        let _ended = EndedOnDrop(pulse.clone());
        let hub = Hub::new(clock, counters, pulse, budget, reports);
        hub.take_canaries(&cage, index);
        runtime.block_on(LocalSet::new().run_until(run(hub, index, commanded, arrived)));
    })?;
    Ok((handle, thread))
}

struct EndedOnDrop(Arc<Pulse>);

impl Drop for EndedOnDrop {
    fn drop(&mut self) {
        self.0.set_ended();
    }
}

async fn run(
    hub: Rc<Hub>,
    index: usize,
    commands: mpsc::Receiver<ShardCommand>,
    arrivals: mpsc::Receiver<Arrival>,
) {
    let egress = Egress::new(hub.clone());
    // None of these ends by itself while others hold the handle: whichever panics takes the thread with it.
    let mut tasks = JoinSet::new();
    tasks.spawn_local(hub.pulse.clone().beat());
    let fan_out = egress.clone();
    // It yields by itself; the runtime's own budget would starve viewers behind the first hundred.
    tasks.spawn_local(tokio::task::unconstrained(async move { fan_out.run().await }));
    tasks.spawn_local(take_arrivals(hub.clone(), egress.clone(), arrivals));
    let obeying = obey(&hub, &egress, index, commands);
    tokio::pin!(obeying);
    tokio::select! {
        () = &mut obeying => {}
        Some(ended) = tasks.join_next() => {
            if let Err(error) = ended && let Ok(panic) = error.try_into_panic() {
                std::panic::resume_unwind(panic);
            }
        }
    }
    tasks.shutdown().await;
}

/// Does what control says, one after the other.
async fn obey(hub: &Rc<Hub>, egress: &Rc<Egress>, index: usize, mut commands: mpsc::Receiver<ShardCommand>) {
    while let Some(command) = commands.recv().await {
        hub.pulse.busy(command.name());
        match command {
            ShardCommand::Assign { assignment, ingress } => hub.assign(assignment, ingress).await,
            ShardCommand::Revoke { stream, reason } => {
                tracing::info!(uid = %stream.uid, epoch = stream.epoch, reason, "revoke");
                hub.revoke(&stream, EndReason::Revoked).await;
            }
            ShardCommand::Snapshot(reply) => {
                let streams = hub.streams().iter().map(|stream| egress.snapshot(stream)).collect();
                // Who asked may have gone.
                let _ = reply.send(ShardSnapshot { streams });
            }
            ShardCommand::Kick(kick, reply) => {
                let _ = reply.send(hub.kick(&kick));
            }
            ShardCommand::Drain => {
                hub.drain().await;
                let until = hub.clock.now() + DRAIN_MAX;
                while hub.clock.now() < until && (egress.len() > 0 || hub.counters.publishers.value() > 0) {
                    tokio::time::sleep(SWEEP / 10).await;
                }
                hub.report(ShardReport::Drained(index));
            }
            ShardCommand::Fault(fault) => break_on_purpose(hub, fault),
        }
        hub.pulse.idle();
    }
}

fn break_on_purpose(hub: &Hub, fault: Fault) {
    tracing::warn!(?fault, "a fault was asked for");
    match fault {
        Fault::Block => loop {
            std::thread::sleep(Duration::from_secs(3600));
        },
        Fault::Spin => loop {
            std::hint::spin_loop();
        },
        Fault::Panic => panic!("a fault was asked for: the shard panics"),
        Fault::PanicSession(path) => hub.make_session_panic(&path),
        Fault::Mute(mute) => hub.mute.set(mute),
    }
}

/// Takes connections from front: publishers become tasks, viewers go to the egress loop.
async fn take_arrivals(hub: Rc<Hub>, egress: Rc<Egress>, mut arrivals: mpsc::Receiver<Arrival>) {
    let mut sessions = JoinSet::new();
    let mut unassigned: Vec<(Arrival, Duration)> = vec![];
    let mut look = tokio::time::interval(SWEEP);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            arrival = arrivals.recv() => {
                let Some(arrival) = arrival else { return };
                match hub.stream(&arrival.path) {
                    Some(stream) => settle(&hub, &egress, &mut sessions, arrival, stream),
                    None if unassigned.len() < UNASSIGNED_MAX => {
                        let wait = match &arrival.wants {
                            Wants::PublishRtmp(_) => ASSIGN_WAIT,
                            Wants::PlayRtmp(_) | Wants::PlayFlv => arrival.entry.play.start_timeout,
                        };
                        let until = hub.clock.now() + wait;
                        unassigned.push((arrival, until));
                    }
                    None => hub.counters.drop_one(DropReason::ConnectionLimit),
                }
            }
            Some(ended) = sessions.join_next() => count_end(&hub, ended),
            _ = look.tick(), if !unassigned.is_empty() => {
                let now = hub.clock.now();
                for (arrival, until) in std::mem::take(&mut unassigned) {
                    match hub.stream(&arrival.path) {
                        Some(stream) => settle(&hub, &egress, &mut sessions, arrival, stream),
                        None if until <= now => {
                            hub.counters.drop_one(DropReason::Deadline);
                            sessions.spawn_local(refuse(arrival));
                        }
                        None => unassigned.push((arrival, until)),
                    }
                }
            }
        }
        hub.counters.publishers.set(sessions.len() as u64);
    }
}

/// Brings a connection to its stream.
fn settle(hub: &Hub, egress: &Egress, sessions: &mut JoinSet<()>, arrival: Arrival, stream: HubStream) {
    let Arrival { socket, remote, path: _, entry: _, wants, seat } = arrival;
    let socket = match tokio_socket(socket, &wants) {
        Ok(socket) => socket,
        Err(error) => {
            // The peer is gone already, or the process is out of descriptors.
            tracing::debug!(%remote, %error, "a connection was lost on its way to its shard");
            return;
        }
    };
    match wants {
        Wants::PublishRtmp(session) => {
            sessions.spawn_local(async move {
                let _seat = seat;
                ingress::publish(socket, session, remote, stream).await;
            });
            hub.counters.publishers.set(sessions.len() as u64);
        }
        Wants::PlayRtmp(session) => egress.adopt(socket, remote, stream, Some(session), seat),
        Wants::PlayFlv => egress.adopt(socket, remote, stream, None, seat),
    }
}

fn tokio_socket(socket: std::net::TcpStream, wants: &Wants) -> io::Result<TcpStream> {
    match wants {
        Wants::PublishRtmp(_) => {}
        Wants::PlayRtmp(_) | Wants::PlayFlv => {
            let options = socket2::SockRef::from(&socket);
            options.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
            options.set_tcp_user_timeout(Some(STUCK_MAX))?;
            // One that is paused is sent nothing, and would be kept for ever if it vanished without a word.
            options.set_tcp_keepalive(&KEEPALIVE)?;
        }
    }
    TcpStream::from_std(socket)
}

fn count_end(hub: &Hub, ended: Result<(), JoinError>) {
    if ended.is_err_and(|error| error.is_panic()) {
        tracing::error!("a publisher's session panicked; it alone is ended");
        hub.counters.session_panics.add(1);
    }
}

/// Tells a peer that the worker has nothing under its path.
async fn refuse(arrival: Arrival) {
    let Ok(socket) = tokio_socket(arrival.socket, &arrival.wants) else { return };
    let why = "the stream is declared, but no worker publishes it at the moment";
    match arrival.wants {
        Wants::PublishRtmp(mut session) => {
            session.refuse_publish(media::rtmp::PublishRefusal::BadName, why);
            ingress::last_words(&socket, &mut session).await;
        }
        Wants::PlayRtmp(mut session) => {
            session.refuse_play(media::rtmp::PlayRefusal::StreamNotFound, why);
            ingress::last_words(&socket, &mut session).await;
        }
        Wants::PlayFlv => ingress::close_with(&socket, &http::not_found(why), REFUSAL_DEADLINE).await,
    }
}
