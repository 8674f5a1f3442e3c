//! TCP active: connects to the device from the leased port, and again whenever it must.
//!
//! ```text
//!  wait ─→ look the host up ─→ may it be connected to? ─→ bind the leased number ─→ connect ─→ the receiver
//!    └──────────────────────────── refused, silent, closed ←──────────────────────────────────────┘
//! ```

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ipnet::IpNet;
use rustix::io::Errno;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::assignment::{Assignment, Remote};
use crate::limits::{
    ADDRESSES_MAX, DIAL_BACKOFF_MAX, DIAL_BACKOFF_MIN, DIAL_DEADLINE, DIAL_SAID_AGAIN, LOOKUP_DEADLINE,
    LOOKUPS_MAX,
};
use crate::listeners::{Leased, Reserved};
use crate::targets::{Denied, Targets};

/// Of all shards: a lookup is a thread for as long as it takes.
static LOOKUPS: Semaphore = Semaphore::const_new(LOOKUPS_MAX);

/// Connects to one device, from one leased number.
pub struct Dialer {
    number: Leased<Reserved>,
    targets: Targets,
    aim: Option<Arc<Aim>>,
    /// Attempts since media came last.
    attempts: u32,
    attempt: Option<Attempt>,
}

type Attempt = Pin<Box<dyn Future<Output = Result<(TcpStream, SocketAddr), DialError>>>>;

/// Whom to connect to.
#[derive(Debug, PartialEq, Eq)]
struct Aim {
    remote: Remote,
    /// publish.allowedCIDRs.
    allowed: Vec<IpNet>,
}

/// Why no connection came about, or it was no use.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Its name leads nowhere.
    #[error("cannot look up {host}: {source}")]
    Lookup {
        /// The name.
        host: Arc<str>,
        /// The resolver's words.
        source: io::Error,
    },
    /// Nobody said in time where its name leads.
    #[error("cannot look up {0}: no answer")]
    LookupTimeout(Arc<str>),
    /// It may not be connected to.
    #[error("{remote} is not connected to: {address} {why}: {}", why.remedy())]
    Denied {
        /// Who.
        remote: Remote,
        /// What its name leads to.
        address: IpAddr,
        /// The rule.
        why: Denied,
    },
    /// It may not publish.
    #[error("{remote} is not connected to: {address} is not in publish.allowedCIDRs")]
    NotAllowed {
        /// Who.
        remote: Remote,
        /// What its name leads to.
        address: IpAddr,
    },
    /// Somebody else listens on the leased number.
    #[error("the leased port {port} is in use by another process")]
    NumberTaken {
        /// The number.
        port: u16,
    },
    /// The host remembers an earlier connection between the same two ports (TIME_WAIT), which ends within a minute.
    #[error("an earlier connection from port {port} to {remote} is not over for this host yet")]
    NotOver {
        /// Our number.
        port: u16,
        /// Who.
        remote: Remote,
    },
    /// Nothing listens there.
    #[error("connection refused by {0}")]
    Refused(Remote),
    /// Nobody answered.
    #[error("no answer from {0}")]
    NoAnswer(Remote),
    /// Any other way to fail.
    #[error("cannot connect to {remote}: {source}")]
    Connect {
        /// Who.
        remote: Remote,
        /// The operating system's words.
        source: io::Error,
    },
    /// It took the connection and ended it.
    #[error("{0} closed the connection before any media")]
    Closed(Remote),
    /// It took the connection and sent nothing of use.
    #[error("no media from {0}")]
    Silent(Remote),
}

impl DialError {
    /// One word, for metrics.
    pub fn reason(&self) -> DialFailure {
        match self {
            DialError::Lookup { .. } | DialError::LookupTimeout(_) => DialFailure::Lookup,
            DialError::Denied { .. } | DialError::NotAllowed { .. } => DialFailure::Denied,
            DialError::NumberTaken { .. } | DialError::NotOver { .. } => DialFailure::PortBusy,
            DialError::Refused(_) => DialFailure::Refused,
            DialError::NoAnswer(_) => DialFailure::NoAnswer,
            DialError::Connect { .. } => DialFailure::Unreachable,
            DialError::Closed(_) => DialFailure::Closed,
            DialError::Silent(_) => DialFailure::Silent,
        }
    }
}

/// The label of `penstock_dial_failures_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DialFailure {
    /// Its name leads nowhere.
    Lookup,
    /// A rule forbids it.
    Denied,
    /// The leased number can't be connected from at the moment.
    PortBusy,
    /// Nothing listens there.
    Refused,
    /// Nobody answered.
    NoAnswer,
    /// No way there.
    Unreachable,
    /// It ended the connection before any media.
    Closed,
    /// It sent no media.
    Silent,
}

impl DialFailure {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Lookup,
        Self::Denied,
        Self::PortBusy,
        Self::Refused,
        Self::NoAnswer,
        Self::Unreachable,
        Self::Closed,
        Self::Silent,
    ];

    /// As the label writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lookup => "Lookup",
            Self::Denied => "Denied",
            Self::PortBusy => "PortBusy",
            Self::Refused => "Refused",
            Self::NoAnswer => "NoAnswer",
            Self::Unreachable => "Unreachable",
            Self::Closed => "Closed",
            Self::Silent => "Silent",
        }
    }
}

/// What has been said of a device since it sent last: not every attempt is a word.
#[derive(Debug, Default)]
pub struct Told {
    all: BTreeSet<DialFailure>,
    last: Option<(DialFailure, Duration)>,
}

impl Told {
    /// Whether this is to be said at time `now`; if so, it is said.
    pub fn is_news(&mut self, failure: DialFailure, now: Duration) -> bool {
        let is_new = self.all.insert(failure);
        let changed = self.last.is_none_or(|(last, at)| last != failure && now >= at + DIAL_SAID_AGAIN);
        if is_new || changed {
            self.last = Some((failure, now));
        }
        is_new || changed
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Dialer { number, targets: _, aim, attempts, attempt } = self;
        let mut shown = f.debug_struct("Dialer");
        shown.field("number", number).field("aim", aim).field("attempts", attempts);
        shown.field("dials", &attempt.is_some()).finish()
    }
}

impl Dialer {
    /// One that has nobody to connect to yet.
    pub fn new(number: Leased<Reserved>, targets: Targets) -> Dialer {
        Dialer { number, targets, aim: None, attempts: 0, attempt: None }
    }

    /// Connects to what is assigned from here on. Another device is connected to at once.
    pub fn aim(&mut self, assigned: &Assignment) {
        let remote = assigned.rtp.as_ref().and_then(|rtp| rtp.remote.clone());
        let aim = remote.map(|remote| Aim { remote, allowed: assigned.publish.access.allowed.clone() });
        if self.aim.as_deref() != aim.as_ref() {
            (self.aim, self.attempts, self.attempt) = (aim.map(Arc::new), 0, None);
        }
    }

    /// Whom it connects to.
    pub fn remote(&self) -> Option<&Remote> {
        self.aim.as_ref().map(|aim| &aim.remote)
    }

    /// Media came: the next attempt, when there is one, comes soon.
    pub fn media_came(&mut self) {
        // Not 0: one that sends a packet and closes must not be connected to in a loop without a pause.
        self.attempts = 1;
    }

    /// Another door's turn has come: what is under way is given up. Nobody would see to its deadlines, and a device may take one
    /// connection only.
    pub fn rest(&mut self) {
        self.attempt = None;
    }

    /// The attempt that is under way, or another one. Only to be called while there is no connection.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(TcpStream, SocketAddr), DialError>> {
        let Some(aim) = &self.aim else { return Poll::Pending };
        let attempt = self.attempt.get_or_insert_with(|| {
            let wait = backoff(self.attempts, super::random());
            self.attempts = self.attempts.saturating_add(1);
            let (aim, targets, port) = (aim.clone(), self.targets.clone(), self.number.socket().port());
            let nth = self.attempts;
            Box::pin(async move {
                tokio::time::sleep(wait).await;
                connect(&aim, &targets, port, nth).await
            })
        });
        let outcome = attempt.as_mut().poll(context);
        if outcome.is_ready() {
            self.attempt = None;
        }
        outcome
    }
}

/// At once, then twice as long each time, and a quarter more or less, so that devices that were lost together are not all
/// connected to together.
fn backoff(attempts: u32, random: u32) -> Duration {
    let Some(doublings) = attempts.checked_sub(1) else { return Duration::ZERO };
    let wait = DIAL_BACKOFF_MIN.saturating_mul(2u32.saturating_pow(doublings)).min(DIAL_BACKOFF_MAX);
    wait * 3 / 4 + (wait / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

/// One attempt, at one of the addresses: they take turns.
async fn connect(
    aim: &Aim,
    targets: &Targets,
    port: u16,
    nth: u32,
) -> Result<(TcpStream, SocketAddr), DialError> {
    let remote = &aim.remote;
    let addresses = look_up(remote).await?;
    let address = addresses[nth as usize % addresses.len()];
    let ip = address.ip().to_canonical();
    let denied = |why| DialError::Denied { remote: remote.clone(), address: ip, why };
    targets.check(ip).map_err(denied)?;
    if !aim.allowed.is_empty() && !aim.allowed.iter().any(|network| network.contains(&ip)) {
        return Err(DialError::NotAllowed { remote: remote.clone(), address: ip });
    }
    let failed = |source: io::Error| {
        let remote = remote.clone();
        let errno = Errno::from_io_error(&source);
        if source.kind() == io::ErrorKind::ConnectionRefused {
            DialError::Refused(remote)
        } else if errno == Some(Errno::TIMEDOUT) {
            DialError::NoAnswer(remote)
        } else if errno == Some(Errno::ADDRNOTAVAIL) {
            DialError::NotOver { port, remote }
        } else {
            DialError::Connect { remote, source }
        }
    };
    let socket = crate::listeners::outgoing(port, address).map_err(|source| {
        let taken = Errno::from_io_error(&source) == Some(Errno::ADDRINUSE);
        if taken { DialError::NumberTaken { port } } else { failed(source) }
    })?;
    match timeout(DIAL_DEADLINE, socket.connect(address)).await {
        Ok(connected) => connected.map(|socket| (socket, address)).map_err(failed),
        Err(_) => Err(DialError::NoAnswer(remote.clone())),
    }
}

/// The addresses of a host, at least one. A name is looked up on a thread of its own, since the resolver blocks.
async fn look_up(remote: &Remote) -> Result<Vec<SocketAddr>, DialError> {
    let Remote { host, port } = remote.clone();
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![(address, port).into()]);
    }
    let name = host.clone();
    let look = async move {
        let permit = LOOKUPS.acquire().await;
        let looked = tokio::task::spawn_blocking(move || {
            // Held until the thread is free, however long nobody waits any more.
            let _permit = permit;
            (&*name, port).to_socket_addrs().map(|found| found.take(ADDRESSES_MAX).collect::<Vec<_>>())
        });
        looked.await.unwrap_or_else(|error| Err(io::Error::other(error)))
    };
    match timeout(LOOKUP_DEADLINE, look).await {
        Ok(Ok(found)) if found.is_empty() => {
            let source = io::Error::other("it has no address");
            Err(DialError::Lookup { host, source })
        }
        Ok(Ok(found)) => Ok(found),
        Ok(Err(source)) => Err(DialError::Lookup { host, source }),
        Err(_) => Err(DialError::LookupTimeout(host)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why_not(host: &str, port: u16, targets: &Targets, allowed: &[&str]) -> String {
        let remote = Remote { host: host.into(), port };
        let allowed = allowed.iter().map(|network| network.parse().unwrap()).collect();
        let aim = Aim { remote, allowed };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(connect(&aim, targets, 0, 0)).unwrap_err().to_string()
    }

    #[test]
    fn what_a_name_leads_to_is_judged_and_what_keeps_from_connecting_is_said() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let here = Targets { allowed: vec!["127.0.0.0/8".parse().unwrap()], ..Targets::default() };
        let nowhere = Targets::default();
        assert_eq!(
            why_not("127.0.0.1", closed, &nowhere, &[]),
            format!(
                "127.0.0.1:{closed} is not connected to: 127.0.0.1 is a loopback address: give the address of a device, or have --allow-targets of the worker name it"
            )
        );
        let by_name = why_not("localhost", closed, &nowhere, &[]);
        assert!(by_name.starts_with(&format!("localhost:{closed} is not connected to: ")), "{by_name}");
        assert_eq!(
            why_not("127.0.0.1", closed, &here, &["10.0.0.0/8"]),
            format!("127.0.0.1:{closed} is not connected to: 127.0.0.1 is not in publish.allowedCIDRs")
        );
        assert_eq!(
            why_not("127.0.0.1", closed, &here, &["127.0.0.1/32"]),
            format!("connection refused by 127.0.0.1:{closed}")
        );
    }

    #[test]
    fn attempts_come_ever_later_up_to_a_cap_and_not_in_step() {
        let waits =
            |random| (0..12).map(|attempts| backoff(attempts, random).as_millis()).collect::<Vec<_>>();
        assert_eq!(waits(0), [0, 187, 375, 750, 1500, 3000, 6000, 7500, 7500, 7500, 7500, 7500]);
        assert_eq!(
            waits(u32::MAX),
            [0, 312, 625, 1250, 2500, 5000, 10000, 12500, 12500, 12500, 12500, 12500]
        );
        assert_eq!(backoff(u32::MAX, 0).as_millis(), 7500);
    }

    #[test]
    fn a_device_that_fails_now_so_and_now_so_is_no_stream_of_words() {
        use DialFailure::{Closed, Refused};
        let mut told = Told::default();
        let second = Duration::from_secs(1);
        let mut said = vec![];
        for attempt in 0..60 {
            let (failure, now) = (if attempt % 2 == 0 { Refused } else { Closed }, 10 * attempt * second);
            if told.is_news(failure, now) {
                said.push((failure, now.as_secs()));
            }
        }
        assert_eq!(said, [(Refused, 0), (Closed, 10), (Refused, 320)]);
        assert!((0..60).all(|attempt| !told.is_news(Refused, (600 + 10 * attempt) * second)), "it is said");
    }
}
