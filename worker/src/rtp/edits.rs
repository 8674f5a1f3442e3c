//! What control tells a running ingress: another assignment, and a lease that comes with it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::watch;

use crate::assignment::Assignment;
use crate::listeners::PortLease;

/// Control's end.
#[derive(Debug)]
pub struct Edits {
    assigned: watch::Sender<Arc<Assignment>>,
    // Weak, so that what an ingress that is gone did not take is closed.
    next: Weak<Slot>,
}

/// The ingress's end.
#[derive(Debug)]
pub struct Edited {
    assigned: watch::Receiver<Arc<Assignment>>,
    next: Arc<Slot>,
}

/// A lease on its way. One that is replaced before it was taken is closed.
type Slot = Mutex<Option<PortLease>>;

/// Both ends, which begin with an assignment and its second lease, if it has one.
pub fn edits(assignment: Arc<Assignment>, next: Option<PortLease>) -> (Edits, Edited) {
    let (sender, assigned) = watch::channel(assignment);
    let slot = Arc::new(Mutex::new(next));
    (Edits { assigned: sender, next: Arc::downgrade(&slot) }, Edited { assigned, next: slot })
}

impl Edits {
    /// Another assignment is in force, and this lease comes with it. Without an ingress that runs the lease is closed.
    pub fn tell(&self, assignment: Arc<Assignment>, next: Option<PortLease>) {
        if let (Some(slot), Some(next)) = (self.next.upgrade(), next) {
            *lock(&slot) = Some(next);
        }
        self.assigned.send_replace(assignment);
    }

    /// Whether the ingress is gone.
    pub fn is_closed(&self) -> bool {
        self.assigned.is_closed()
    }
}

impl Edited {
    /// What is assigned, which from here on is known.
    pub fn assignment(&mut self) -> Arc<Assignment> {
        self.assigned.borrow_and_update().clone()
    }

    /// Waits for another assignment. False: there is nobody any more who could tell one. Cancel-safe.
    pub async fn changed(&mut self) -> bool {
        self.assigned.changed().await.is_ok()
    }

    /// The lease that has come, if one has.
    pub fn take_lease(&self) -> Option<PortLease> {
        lock(&self.next).take()
    }
}

fn lock(slot: &Slot) -> MutexGuard<'_, Option<PortLease>> {
    // Whoever panicked with it had either put its one value there or not.
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}
