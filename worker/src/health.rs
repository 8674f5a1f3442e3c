//! The health port: who this process is and which of its threads tick, told by the watchdog's own thread (design §5).
//!
//! It is served with poll() and nothing of the runtimes, so that it answers while they hang.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use media::http::{HealthAsked, parse_health};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Socket, Type};

/// Connections at one time; one more ends the oldest, so that silent peers keep nobody out.
const CONNECTIONS_MAX: usize = 64;

/// Connections that the kernel keeps until the next round; those beyond would wait a second for their next SYN.
const BACKLOG: i32 = 4 * CONNECTIONS_MAX as i32;

/// From accept to the last byte of the request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);

/// The listener and those who ask.
#[derive(Debug)]
pub struct HealthPort {
    listener: TcpListener,
    peers: VecDeque<Peer>,
}

#[derive(Debug)]
struct Peer {
    socket: TcpStream,
    since: Instant,
    request: Vec<u8>,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answers {
    /// False: the status of `/healthz` is 503.
    pub ready: bool,
    /// False: that of `/livez` is.
    pub alive: bool,
    /// JSON, of both.
    pub body: String,
}

impl HealthPort {
    /// Opens the port.
    pub fn bind(address: SocketAddr) -> io::Result<HealthPort> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(HealthPort { listener: socket.into(), peers: VecDeque::new() })
    }

    /// The address it is open on.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers whoever asks, until `until` and no longer, however many ask.
    pub fn serve(&mut self, until: Instant, page: impl Fn() -> Answers) {
        loop {
            let now = Instant::now();
            let Some(left) = until.checked_duration_since(now).filter(|left| !left.is_zero()) else { return };
            self.peers.retain(|peer| now.duration_since(peer.since) < REQUEST_TIMEOUT);
            let ready = self.wait(left);
            // Newest first: the places of those before stay as they were.
            for at in (0..self.peers.len()).rev() {
                if ready[at + 1] && self.peers[at].serve(&page) == Peered::Done {
                    self.peers.remove(at);
                }
            }
            if ready[0] {
                self.accept(now);
            }
        }
    }

    /// Waits for the listener (place 0) and the peers (from place 1).
    fn wait(&self, left: Duration) -> Vec<bool> {
        let mut fds = Vec::with_capacity(1 + self.peers.len());
        fds.push(PollFd::new(&self.listener, PollFlags::IN));
        fds.extend(self.peers.iter().map(|peer| PollFd::new(&peer.socket, PollFlags::IN)));
        let timeout = Timespec { tv_sec: left.as_secs() as _, tv_nsec: left.subsec_nanos().into() };
        // Interrupted by a signal, or out of memory: nobody is ready, and the next round tries again.
        let _ = poll(&mut fds, Some(&timeout));
        fds.iter().map(|fd| !fd.revents().is_empty()).collect()
    }

    fn accept(&mut self, now: Instant) {
        while let Ok((socket, _)) = self.listener.accept() {
            if socket.set_nonblocking(true).is_err() {
                continue;
            }
            if self.peers.len() == CONNECTIONS_MAX {
                self.peers.pop_front();
            }
            self.peers.push_back(Peer { socket, since: now, request: Vec::new() });
        }
    }
}

/// Whether a peer is to be kept.
#[derive(PartialEq, Eq)]
enum Peered {
    Wants,
    Done,
}

impl Peer {
    fn serve(&mut self, page: impl Fn() -> Answers) -> Peered {
        let mut buffer = [0; 512];
        loop {
            match self.socket.read(&mut buffer) {
                Ok(0) => return Peered::Done,
                Ok(length) => self.request.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Peered::Wants,
                Err(_) => return Peered::Done,
            }
            let answer = match parse_health(&self.request) {
                HealthAsked::Incomplete => continue,
                HealthAsked::Refused => return Peered::Done,
                HealthAsked::Health => {
                    let Answers { ready, alive: _, body } = page();
                    answer(if ready { OK } else { UNAVAILABLE }, &body)
                }
                HealthAsked::Life => {
                    let Answers { ready: _, alive, body } = page();
                    answer(if alive { OK } else { UNAVAILABLE }, &body)
                }
                HealthAsked::Else => {
                    answer("404 Not Found", "{\"error\":\"only /healthz and /livez are served here\"}")
                }
            };
            // It fits the empty send buffer of a new connection; a peer that doesn't take it is not waited for.
            drop(self.socket.write_all(answer.as_bytes()));
            drop(self.socket.shutdown(std::net::Shutdown::Write));
            return Peered::Done;
        }
    }
}

const OK: &str = "200 OK";
const UNAVAILABLE: &str = "503 Service Unavailable";

fn answer(status: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

#[cfg(test)]
mod tests;
