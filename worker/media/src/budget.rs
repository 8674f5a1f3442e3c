//! One byte budget for the process: who holds media bytes holds a permit, and dropping it gives the bytes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The bytes that all rings and buffers of the process may hold together. Clones share one count.
#[derive(Clone, Debug)]
pub struct Budget {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    used: AtomicU64,
    bytes_max: u64,
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
        Budget { inner: Arc::new(Inner { used: AtomicU64::new(0), bytes_max }) }
    }

    /// Takes bytes, or `None` where that many are not left.
    pub fn take(&self, bytes: u64) -> Option<Permit> {
        let room = |used: u64| used.checked_add(bytes).filter(|&sum| sum <= self.inner.bytes_max);
        self.inner.used.fetch_update(Relaxed, Relaxed, room).ok()?;
        Some(Permit { budget: self.clone(), bytes })
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
        self.budget.inner.used.fetch_sub(self.bytes, Relaxed);
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
}
