//! Who leads: a Lease that one replica holds, renewed long before another may take it, and the term written into it.
//!
//! ```text
//! stand by ──(free, or unchanged for 4 s)──→ lead ──(not renewed for 2.5 s, or somebody else's)──→ stand by
//!    ↑                                        └──(another hears more workers for 1 s)──→ aside for 30 s ─┐
//!    └──────────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! The fencing number is the term in an annotation. `leaseTransitions` is not: it starts again when a Lease is deleted.

use std::{collections::BTreeMap, sync::Arc};

use http::StatusCode;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::api::{Api, PostParams};
use operator_core::{Event, ids::Term};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::peers::Hearing;
use crate::limits::{API_CALL, API_RETRY, LEASE, LEASE_RENEWED_WITHIN, STANDS_ASIDE};

/// Holds the highest term that this Lease has seen.
const TERM_ANNOTATION: &str = "media.penstock.dev/term";

/// Set by a person: what lists lack is gone for certain. Taken away once the planner knows.
const CONFIRMED_ANNOTATION: &str = "media.penstock.dev/absence-confirmed";

/// This replica begins or ends to lead.
pub(super) enum Turn {
    /// From here on, with terms above this one.
    Lead {
        /// As the Lease has it.
        floor: Term,
    },
    /// Until here. The sender waits until it is known.
    Demoted {
        /// Told once nothing is decided any more.
        done: oneshot::Sender<()>,
    },
}

/// Keeps the Lease, or waits for it.
pub(super) struct Keeper {
    pub(super) leases: Api<Lease>,
    pub(super) name: String,
    /// Of this process: the pod's UID and something random.
    pub(super) identity: String,
    pub(super) turns: mpsc::Sender<Turn>,
    /// Terms to be written.
    pub(super) terms: mpsc::Receiver<Term>,
    pub(super) events: mpsc::Sender<Event>,
    /// What the others hear; absent where there are none.
    pub(super) hearing: Option<Arc<Hearing>>,
    pub(super) shutdown: CancellationToken,
}

/// Why a replica leads no longer.
enum End {
    /// The Lease is not ours any more, or may not be.
    Lost(String),
    /// Another replica hears more workers.
    Outheard,
    /// This process ends.
    Shutdown,
}

/// A Lease that is ours.
struct Held {
    lease: Lease,
    /// When the last successful renewal was sent.
    renewed: Instant,
}

/// The Lease after a renewal.
struct Renewed {
    lease: Lease,
    /// A person's note was on it.
    confirmed: bool,
}

/// How an attempt to write the Lease ended.
enum Wrote {
    Done(Box<Lease>),
    /// Somebody else has written it.
    Conflict,
    /// It was deleted.
    Gone,
    /// Nobody knows, or the API is away.
    Failed(String),
}

impl Keeper {
    /// Stands by and leads in turn until the shutdown, when a Lease of ours is given back.
    pub(super) async fn run(mut self) {
        let shutdown = self.shutdown.clone();
        loop {
            let held = tokio::select! {
                held = self.stand_by() => held,
                () = shutdown.cancelled() => return,
            };
            // What was to be written in an earlier turn is not wanted any more.
            while self.terms.try_recv().is_ok() {}
            let floor = term_of(&held.lease);
            tracing::info!(lease = self.name, identity = self.identity, floor = floor.0, "leads");
            if self.turns.send(Turn::Lead { floor }).await.is_err() {
                return;
            }
            let (held, end) = self.lead(held).await;
            match &end {
                End::Lost(why) => tracing::warn!(lease = self.name, "leads no longer: {why}"),
                End::Outheard => {
                    tracing::warn!(lease = self.name, "leads no longer: another replica hears more workers");
                }
                End::Shutdown => tracing::info!(lease = self.name, "leads no longer: this replica ends"),
            }
            let (done, known) = oneshot::channel();
            if self.turns.send(Turn::Demoted { done }).await.is_err() {
                return;
            }
            let _ = known.await;
            match end {
                End::Lost(_) => {}
                End::Outheard => {
                    self.release(held).await;
                    tokio::select! {
                        () = sleep(STANDS_ASIDE) => {}
                        () = shutdown.cancelled() => return,
                    }
                }
                End::Shutdown => {
                    self.release(held).await;
                    return;
                }
            }
        }
    }

    /// Waits until the Lease is ours. Another's time is measured here, from when its last change was seen: clocks of two machines
    /// are never compared.
    async fn stand_by(&mut self) -> Held {
        let mut seen: Option<(Option<String>, Instant)> = None;
        let mut told = false;
        loop {
            let began = Instant::now();
            let attempt = match self.get().await {
                Ok(None) => Some(self.create(Term(0)).await),
                Ok(Some(lease)) => {
                    let version = lease.metadata.resource_version.clone();
                    let now = Instant::now();
                    let since = match &seen {
                        Some((before, since)) if *before == version => *since,
                        _ => now,
                    };
                    seen = Some((version, since));
                    let free = holder(&lease).is_none();
                    if free || now.duration_since(since) >= LEASE {
                        Some(self.write(&lease, Some(&self.identity), None).await)
                    } else {
                        None
                    }
                }
                Err(error) => Some(Wrote::Failed(error)),
            };
            match attempt {
                Some(Wrote::Done(lease)) => return Held { lease: *lease, renewed: began },
                Some(Wrote::Failed(error)) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!(lease = self.name, "the Lease can't be read or taken: {error}");
                    }
                }
                Some(Wrote::Conflict | Wrote::Gone) | None => told = false,
            }
            sleep_until(began + API_RETRY).await;
        }
    }

    /// Renews the Lease, and writes terms into it, until it can't be called ours any more.
    async fn lead(&mut self, mut held: Held) -> (Held, End) {
        let mut next = held.renewed + API_RETRY;
        let mut pending: Option<Term> = None;
        let hearing = self.hearing.clone();
        let outheard = async move {
            match &hearing {
                Some(hearing) => hearing.outheard().await,
                None => std::future::pending().await,
            }
        };
        let mut outheard = std::pin::pin!(outheard);
        let end = loop {
            tokio::select! {
                () = self.shutdown.cancelled() => break End::Shutdown,
                () = &mut outheard => break End::Outheard,
                Some(term) = self.terms.recv() => pending = Some(term),
                () = sleep_until(next) => {}
            }
            let began = Instant::now();
            next = began + API_RETRY;
            // An answer after this is of no use.
            let until = held.renewed + LEASE_RENEWED_WITHIN;
            let attempt = tokio::select! {
                attempt = self.renew(&held.lease, pending) => attempt,
                () = sleep_until(until) => Err("the API server did not answer".to_owned()),
            };
            match attempt {
                Ok(Some(Renewed { lease, confirmed })) => {
                    held = Held { lease, renewed: began };
                    if confirmed {
                        tracing::info!("a person has confirmed that what lists lack is gone");
                        let _ = self.events.send(Event::AbsenceConfirmed).await;
                    }
                    if let Some(term) = pending.take()
                        && self.events.send(Event::TermRecorded { term }).await.is_err()
                    {
                        break End::Lost("the planner has ended".to_owned());
                    }
                }
                Ok(None) => break End::Lost("another replica has taken the Lease".to_owned()),
                Err(error) if Instant::now() >= until => {
                    break End::Lost(format!(
                        "the Lease was not renewed for {LEASE_RENEWED_WITHIN:?}: {error}"
                    ));
                }
                Err(error) => tracing::debug!("the Lease is not renewed: {error}"),
            }
        };
        (held, end)
    }

    /// The Lease, renewed; absent: it is somebody else's.
    async fn renew(&self, lease: &Lease, term: Option<Term>) -> Result<Option<Renewed>, String> {
        let renewed = |lease: Box<Lease>| Ok(Some(Renewed { lease: *lease, confirmed: false }));
        let highest = term.unwrap_or(Term(0)).max(term_of(lease));
        match self.write(lease, Some(&self.identity), term).await {
            Wrote::Done(lease) => renewed(lease),
            Wrote::Failed(error) => Err(error),
            Wrote::Gone => match self.create(highest).await {
                Wrote::Done(lease) => renewed(lease),
                Wrote::Conflict | Wrote::Gone => Err("the Lease was deleted, and made by another".to_owned()),
                Wrote::Failed(error) => Err(error),
            },
            // Our own write whose answer was lost, or a note on it, is no reason to step down.
            Wrote::Conflict => match self.get().await? {
                Some(mut lease) if holder(&lease) == Some(&self.identity) => {
                    let notes = lease.metadata.annotations.as_mut();
                    let confirmed = notes.is_some_and(|all| all.remove(CONFIRMED_ANNOTATION).is_some());
                    match self.write(&lease, Some(&self.identity), term).await {
                        Wrote::Done(lease) => Ok(Some(Renewed { lease: *lease, confirmed })),
                        Wrote::Conflict | Wrote::Gone => Err("the Lease changes too often".to_owned()),
                        Wrote::Failed(error) => Err(error),
                    }
                }
                Some(_) => Ok(None),
                None => Err("the Lease was deleted".to_owned()),
            },
        }
    }

    /// Gives it back, so that another replica need not wait. If it fails, that one waits for its time.
    async fn release(&self, held: Held) {
        match self.write(&held.lease, None, None).await {
            Wrote::Done(_) => tracing::info!(lease = self.name, "the Lease is given back"),
            Wrote::Conflict | Wrote::Gone => {}
            Wrote::Failed(error) => tracing::warn!(lease = self.name, "the Lease is not given back: {error}"),
        }
    }

    async fn get(&self) -> Result<Option<Lease>, String> {
        match timeout(API_CALL, self.leases.get_opt(&self.name)).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer in {API_CALL:?}")),
        }
    }

    async fn create(&self, term: Term) -> Wrote {
        let mut lease = Lease {
            metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
            spec: None,
        };
        fill(&mut lease, Some(&self.identity), (term > Term(0)).then_some(term));
        let how = PostParams::default();
        wrote(timeout(API_CALL, self.leases.create(&how, &lease)).await)
    }

    /// Replaces exactly this version.
    async fn write(&self, lease: &Lease, holder: Option<&str>, term: Option<Term>) -> Wrote {
        let mut lease = lease.clone();
        fill(&mut lease, holder, term);
        let how = PostParams::default();
        wrote(timeout(API_CALL, self.leases.replace(&self.name, &how, &lease)).await)
    }
}

fn wrote(answer: Result<kube::Result<Lease>, tokio::time::error::Elapsed>) -> Wrote {
    match answer {
        Ok(Ok(lease)) => Wrote::Done(Box::new(lease)),
        Ok(Err(kube::Error::Api(status))) if status.code == StatusCode::CONFLICT.as_u16() => Wrote::Conflict,
        Ok(Err(kube::Error::Api(status))) if status.code == StatusCode::NOT_FOUND.as_u16() => Wrote::Gone,
        Ok(Err(error)) => Wrote::Failed(error.to_string()),
        Err(_) => Wrote::Failed(format!("no answer in {API_CALL:?}")),
    }
}

fn fill(lease: &mut Lease, holder: Option<&str>, term: Option<Term>) {
    let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
    let now = MicroTime(Timestamp::now());
    if spec.holder_identity.as_deref() != holder {
        spec.acquire_time = Some(now.clone());
        spec.lease_transitions = Some(spec.lease_transitions.unwrap_or_default().saturating_add(1));
    }
    spec.holder_identity = holder.map(str::to_owned);
    spec.renew_time = Some(now);
    spec.lease_duration_seconds = i32::try_from(LEASE.as_secs()).ok();
    if let Some(term) = term {
        let annotations = lease.metadata.annotations.get_or_insert_with(BTreeMap::new);
        annotations.insert(TERM_ANNOTATION.to_owned(), term.0.to_string());
    }
}

fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

/// The highest term; 0 where the annotation is missing or no number: statuses and workers know it too.
fn term_of(lease: &Lease) -> Term {
    let text = lease.metadata.annotations.as_ref().and_then(|all| all.get(TERM_ANNOTATION));
    Term(text.and_then(|text| text.parse().ok()).unwrap_or_default())
}
