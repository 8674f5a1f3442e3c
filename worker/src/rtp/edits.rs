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
    /// Came with the assignment that is known, and was not taken yet.
    came: Option<PortLease>,
}

/// A lease on its way. One that is replaced before it was taken is closed. Who holds the lock sees it with its assignment or neither.
type Slot = Mutex<Option<PortLease>>;

/// Both ends, which begin with an assignment and its second lease, if it has one.
pub fn edits(assignment: Arc<Assignment>, next: Option<PortLease>) -> (Edits, Edited) {
    let (sender, assigned) = watch::channel(assignment);
    let slot = Arc::new(Mutex::new(next));
    (Edits { assigned: sender, next: Arc::downgrade(&slot) }, Edited { assigned, next: slot, came: None })
}

impl Edits {
    /// Another assignment is in force, and this lease comes with it. Without an ingress that runs the lease is closed.
    pub fn tell(&self, assignment: Arc<Assignment>, next: Option<PortLease>) {
        let Some(slot) = self.next.upgrade() else {
            self.assigned.send_replace(assignment);
            return;
        };
        let mut way = lock(&slot);
        let replaced = next.and_then(|next| way.replace(next));
        self.assigned.send_replace(assignment);
        drop(way);
        drop(replaced);
    }

    /// Whether the ingress is gone.
    pub fn is_closed(&self) -> bool {
        self.assigned.is_closed()
    }
}

impl Edited {
    /// What is assigned, which from here on is known.
    pub fn assignment(&mut self) -> Arc<Assignment> {
        let mut way = lock(&self.next);
        let assignment = self.assigned.borrow_and_update().clone();
        let next = way.take();
        drop(way);
        if next.is_some() {
            self.came = next;
        }
        assignment
    }

    /// Waits for another assignment. False: there is nobody any more who could tell one. Cancel-safe.
    pub async fn changed(&mut self) -> bool {
        self.assigned.changed().await.is_ok()
    }

    /// The lease that has come with what is known to be assigned, if one has.
    pub fn take_lease(&mut self) -> Option<PortLease> {
        self.came.take()
    }
}

fn lock(slot: &Slot) -> MutexGuard<'_, Option<PortLease>> {
    // Whoever panicked with it had either put its one value there or not.
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assignment::{Ports, RtpTransport};
    use crate::canary::Cage;
    use crate::listeners::BoundPorts;

    /// Two assignments, and a lease on a number of the kernel's choice.
    fn parts(ports: &BoundPorts) -> ([Arc<Assignment>; 2], PortLease) {
        let both: [_; 2] = Cage::new([0; 16], 1, 0).streams(0).try_into().unwrap();
        let lease = ports.lease(&both[1].stream, RtpTransport::Udp, Ports { rtp: 0, rtcp: None }).unwrap();
        (both, lease)
    }

    #[test]
    fn a_lease_is_seen_with_its_own_assignment_and_not_before() {
        let ports = BoundPorts::default();
        let ([first, second], lease) = parts(&ports);
        let (control, mut ingress) = edits(first.clone(), None);
        assert_eq!(ingress.assignment(), first);
        control.tell(second.clone(), Some(lease));
        assert!(ingress.take_lease().is_none(), "what it comes with is not known yet");
        assert_eq!(ingress.assignment(), second);
        // It waits through another edit, and is taken once.
        control.tell(first.clone(), None);
        assert_eq!(ingress.assignment(), first);
        assert!(ingress.take_lease().is_some() && ingress.take_lease().is_none());
        assert_eq!(ports.all(), []);
    }

    #[test]
    fn a_lease_for_an_ingress_that_is_gone_is_closed() {
        let ports = BoundPorts::default();
        let ([first, second], lease) = parts(&ports);
        let (control, ingress) = edits(first, None);
        drop(ingress);
        control.tell(second, Some(lease));
        assert!(control.is_closed());
        assert_eq!(ports.all(), []);
    }
}
