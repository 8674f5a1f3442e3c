//! One byte budget for the process: who holds media bytes holds a permit, and dropping it gives the bytes back. Each owner takes them
//! through a share of its own, which tells how much is held for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The bytes that all rings and buffers of the process may hold together, or an owner's share in them. Clones share one count.
#[derive(Clone, Debug)]
pub struct Budget {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    used: AtomicU64,
    bytes_max: u64,
    /// What a share is of. Only what that has left, too, may be taken.
    whole: Option<Budget>,
}

/// Bytes taken from a [`Budget`]; given back on drop.
#[derive(Debug)]
pub struct Permit {
    budget: Budget,
    bytes: u64,
}

impl Budget {
    /// A budget of this many bytes.
    pub fn new(bytes_max: u64) -> Self {
        Budget { inner: Arc::new(Inner { used: AtomicU64::new(0), bytes_max, whole: None }) }
    }

    /// For one owner, who may have this many bytes: what is taken from it counts here and in the whole. It outlives its owner as long as
    /// somebody else holds what was taken.
    pub fn share(&self, bytes_max: u64) -> Self {
        let whole = Some(self.clone());
        Budget { inner: Arc::new(Inner { used: AtomicU64::new(0), bytes_max, whole }) }
    }

    /// Takes bytes, or `None` where that many are not left.
    pub fn take(&self, bytes: u64) -> Option<Permit> {
        self.count(bytes).then(|| Permit { budget: self.clone(), bytes })
    }

    /// Counts these bytes in the whole and in the share; or nothing where they are too many for either.
    fn count(&self, bytes: u64) -> bool {
        let Inner { used, bytes_max, whole } = &*self.inner;
        let room = |used: u64| used.checked_add(bytes).filter(|sum| sum <= bytes_max);
        if used.fetch_update(Relaxed, Relaxed, room).is_err() {
            return false;
        }
        let fits = whole.as_ref().is_none_or(|whole| whole.count(bytes));
        if !fits {
            used.fetch_sub(bytes, Relaxed);
        }
        fits
    }

    fn give_back(&self, bytes: u64) {
        self.inner.used.fetch_sub(bytes, Relaxed);
        if let Some(whole) = &self.inner.whole {
            whole.give_back(bytes);
        }
    }

    /// Bytes that are taken at the moment.
    pub fn used(&self) -> u64 {
        self.inner.used.load(Relaxed)
    }

    /// The most that may be taken.
    pub fn bytes_max(&self) -> u64 {
        self.inner.bytes_max
    }
}

impl Permit {
    /// The bytes that it stands for.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_given_back_on_drop_and_never_exceed_the_budget() {
        let budget = Budget::new(100);
        let sixty = budget.take(60).unwrap();
        assert!(budget.take(41).is_none());
        assert!(budget.take(u64::MAX).is_none());
        let forty = budget.take(40).unwrap();
        assert_eq!((budget.used(), forty.bytes()), (100, 40));
        drop(sixty);
        assert_eq!(budget.used(), 40);
        drop(forty);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn shares_have_a_bound_each_and_one_together() {
        let budget = Budget::new(100);
        let (one, other) = (budget.share(70), budget.share(100));
        assert!(one.take(71).is_none());
        let sixty = one.take(60).unwrap();
        assert!(one.take(11).is_none(), "it has its own bound");
        assert!(other.take(41).is_none(), "no more is left of the whole");
        assert_eq!((budget.used(), one.used(), other.used()), (60, 60, 0), "what was refused counts nowhere");
        let forty = other.clone().take(40).unwrap();
        assert_eq!((budget.used(), one.used(), other.used()), (100, 60, 40));
        // Somebody else has it still.
        drop(one);
        drop(forty);
        assert_eq!((budget.used(), other.used()), (60, 0));
        drop(sixty);
        assert_eq!(budget.used(), 0);
        assert_eq!(other.bytes_max(), 100);
    }
}
