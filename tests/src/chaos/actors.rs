//! Who carries the actions out: each on a thread of its own, for a time that the script gives, and never more than a bound at once.
//!
//! An actor's own luck is of no interest: a server that refuses it, ends it or is dead at the moment does what it should. Whether it
//! should is the watcher's business.

pub(super) mod cameras;
pub(super) mod encoders;
pub(super) mod strangers;
pub(super) mod thieves;
pub(super) mod viewers;

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::eventually::within;

/// Actors at once. Most sleep most of the time; the machine is to be left to the server.
const ACTORS_MAX: usize = 32;
/// The last of them ends within the patience of a camera that waits for its receiver's end, 10 s, and is not alone on the machine.
pub(super) const END: Duration = Duration::from_secs(20);
/// Between two looks of an actor at the clock.
const LOOK_EACH: Duration = Duration::from_millis(20);
/// How long a connection of an actor, or a write that nobody takes, may last.
const PATIENCE: Duration = Duration::from_secs(1);

/// All actors that are there.
#[derive(Default)]
pub(super) struct Actors {
    threads: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

/// How long an actor is to stay.
#[derive(Clone, Debug)]
pub(super) struct Life {
    end: Instant,
    stop: Arc<AtomicBool>,
}

impl Actors {
    /// Lets one begin; false when there are too many.
    pub(super) fn begin(&mut self, millis: u16, act: impl FnOnce(Life) + Send + 'static) -> bool {
        self.threads.retain(|thread| !thread.is_finished());
        if self.threads.len() >= ACTORS_MAX {
            return false;
        }
        let end = Instant::now() + Duration::from_millis(millis.into());
        let life = Life { end, stop: self.stop.clone() };
        self.threads.push(std::thread::spawn(move || act(life)));
        true
    }

    /// Ends all of them; says how many are still there when a limit has passed.
    pub(super) fn end(&mut self, limit: Duration) -> Result<(), usize> {
        self.stop.store(true, Ordering::Relaxed);
        within(limit, || {
            self.threads.retain(|thread| !thread.is_finished());
            if self.threads.is_empty() { Ok(()) } else { Err(self.threads.len()) }
        })
    }
}

impl Drop for Actors {
    fn drop(&mut self) {
        if let Err(left) = self.end(END) {
            eprintln!("chaos: {left} actors do not end");
        }
    }
}

impl Life {
    /// True when it is time to leave.
    pub(super) fn over(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || Instant::now() >= self.end
    }

    /// Does nothing for a time, or until it is over. An actor keeps its own clock; nothing is waited for here.
    pub(super) fn idle(&self, time: Duration) {
        let end = Instant::now() + time;
        while !self.over() && Instant::now() < end {
            std::thread::sleep(LOOK_EACH.min(time));
        }
    }

    /// Does nothing until it is over.
    pub(super) fn sit_out(&self) {
        while !self.over() {
            std::thread::sleep(LOOK_EACH);
        }
    }
}

/// A connection whose reads and writes end.
fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpStream::connect_timeout(&to, PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Ends a connection with a reset.
fn reset(socket: &impl std::os::fd::AsFd) -> io::Result<()> {
    SockRef::from(socket).set_linger(Some(Duration::ZERO))
}
