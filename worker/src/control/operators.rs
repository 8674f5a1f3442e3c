//! Where operators are: a name is looked up again and again, and a session kept to each replica that it leads to.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Uri};

use super::session::{Event, Replica};

/// Between two looks at a name while some replica is missed: one that was started again has a new address.
const LOOK_MISSING: Duration = Duration::from_secs(1);

/// The same while there is a session to each: only a further replica would be missed.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// One look. Resolvers of clusters answer in milliseconds; what asks further is a name that is not there yet, and musl's goes on
/// asking for 5 s.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);

/// Replicas behind one name.
const REPLICAS_MAX: usize = 16;

/// For the TCP and HTTP/2 handshakes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection without an answer to a ping for this long is over.
const KEEPALIVE: Duration = Duration::from_secs(1);

/// By what an operator is trusted, and this worker by it.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// Proves who this worker is.
    pub token: Option<Token>,
    /// PEM file of the authority of the operators' certificates. Read for each dial: it is renewed under our feet.
    pub authority: Option<PathBuf>,
}

/// A bearer token.
#[derive(Clone)]
pub enum Token {
    /// This one.
    Given(String),
    /// What is in this file. Read for each dial: a kubelet renews it long before it ends.
    File(PathBuf),
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Given(_) => f.write_str("Given"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

/// Operators behind one URL.
#[derive(Clone, Debug)]
pub struct Operator {
    /// `https` or `http`.
    scheme: String,
    host: String,
    port: u16,
    credentials: Arc<Credentials>,
}

/// What is known of a replica on both sides of its task.
#[derive(Debug)]
pub(super) struct Link {
    /// False: it is not among the operators any more.
    pub(super) wanted: AtomicBool,
    /// There is a session.
    pub(super) up: AtomicBool,
}

/// What is dialled with.
pub(super) struct Dial {
    pub(super) endpoint: Endpoint,
    pub(super) bearer: Option<MetadataValue<Ascii>>,
}

impl Operator {
    /// Checks the URL, e.g. `https://penstock-operator.penstock-system.svc:9190`.
    pub fn new(url: &str, credentials: Arc<Credentials>) -> Result<Operator, String> {
        let wrong = |why: &str| format!("--operator {url}: {why}; write https://HOST:PORT");
        let uri: Uri = url.parse().map_err(|error| wrong(&format!("{error}")))?;
        let scheme = uri.scheme_str().unwrap_or_default().to_owned();
        match scheme.as_str() {
            "https" if credentials.authority.is_none() => {
                return Err(wrong("https needs --operator-ca with the authority of its certificate"));
            }
            "https" | "http" => {}
            _ => return Err(wrong("it is neither https nor http")),
        }
        let host =
            uri.host().ok_or_else(|| wrong("the host is missing"))?.trim_matches(['[', ']']).to_owned();
        let port = uri.port_u16().ok_or_else(|| wrong("the port is missing"))?;
        Ok(Operator { scheme, host, port, credentials })
    }

    /// Keeps a session to each replica for ever; ends when nobody takes their events.
    pub(super) async fn keep(self, ids: Arc<AtomicU64>, events: mpsc::Sender<Event>) {
        let mut replicas: BTreeMap<SocketAddr, (Arc<Link>, AbortHandle)> = BTreeMap::new();
        let mut dialling = JoinSet::new();
        let mut told = false;
        while !events.is_closed() {
            match self.look_up().await {
                Ok(found) => {
                    told = false;
                    // One that is not named any more is dialled no more; a session that it still has is a good one.
                    for (address, (link, _)) in &replicas {
                        link.wanted.store(found.contains(address), Ordering::Relaxed);
                    }
                    replicas.retain(|_, (_, task)| !task.is_finished());
                    for address in found {
                        if replicas.contains_key(&address) {
                            continue;
                        }
                        let link = Arc::new(Link { wanted: true.into(), up: false.into() });
                        let replica = Replica::new(self.clone(), address, link.clone());
                        let (ids, events) = (ids.clone(), events.clone());
                        let task = dialling.spawn(async move { replica.keep(&ids, events).await });
                        replicas.insert(address, (link, task));
                    }
                }
                // Those that are known are kept: a resolver that is down takes no session away.
                Err(error) if !std::mem::replace(&mut told, true) => {
                    tracing::warn!(operator = self.host, error, "the operator's name leads nowhere");
                }
                Err(_) => {}
            }
            while dialling.try_join_next().is_some() {}
            let all_up = replicas.values().all(|(link, _)| link.up.load(Ordering::Relaxed));
            sleep(if all_up && !replicas.is_empty() { LOOK_EVERY } else { LOOK_MISSING }).await;
        }
    }

    async fn look_up(&self) -> Result<Vec<SocketAddr>, String> {
        if let Ok(address) = self.host.parse() {
            return Ok(vec![SocketAddr::new(address, self.port)]);
        }
        let found = timeout(LOOK_TIMEOUT, tokio::net::lookup_host((self.host.as_str(), self.port))).await;
        let found = found.map_err(|_| format!("no answer in {LOOK_TIMEOUT:?}"))?;
        let mut found: Vec<SocketAddr> = found.map_err(|error| error.to_string())?.collect();
        found.sort();
        found.dedup();
        found.truncate(REPLICAS_MAX);
        Ok(found)
    }

    /// What a dial of one of the replicas needs, read anew.
    pub(super) async fn dial(&self, address: SocketAddr) -> Result<Dial, String> {
        let mut endpoint = Endpoint::from_shared(format!("{}://{address}", self.scheme))
            .map_err(|error| error.to_string())?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true);
        if let Some(authority) = self.credentials.authority.as_ref().filter(|_| self.scheme == "https") {
            let pem = read(authority).await?;
            let tls = ClientTlsConfig::new()
                .ca_certificate(Certificate::from_pem(pem))
                // It was the name that was asked for, wherever it leads.
                .domain_name(&self.host)
                .timeout(CONNECT_TIMEOUT);
            endpoint = endpoint.tls_config(tls).map_err(|error| error.to_string())?;
        }
        let token = match &self.credentials.token {
            None => None,
            Some(Token::Given(token)) => Some(token.clone()),
            Some(Token::File(path)) => {
                let text = read(path).await?;
                Some(String::from_utf8_lossy(&text).trim().to_owned())
            }
        };
        let bearer = token.map(|token| {
            let mut value = MetadataValue::try_from(format!("Bearer {token}"))
                .map_err(|_| String::from("the session token has characters that a header cannot carry"))?;
            value.set_sensitive(true);
            Ok::<_, String>(value)
        });
        Ok(Dial { endpoint, bearer: bearer.transpose()? })
    }
}

/// A small file, read beside the runtime, which must tick.
async fn read(path: &std::path::Path) -> Result<Vec<u8>, String> {
    let file = path.to_owned();
    let read = tokio::task::spawn_blocking(move || std::fs::read(file)).await;
    match read {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => Err(format!("{}: {error}", path.display())),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}
