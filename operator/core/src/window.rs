//! How many writes the API bears at once: fewer after one that got no answer in time, more again with those that did.
//!
//! An API server that is slow answers nobody in time when it is asked by many at once; what was written must then be read, and the
//! Lease is not renewed either. Whoever goes on at full width keeps it slow for ever.

use crate::limits;

/// Additive increase, multiplicative decrease, as a sender's window in TCP (RFC 5681).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    size: usize,
    /// Answers since it grew last.
    answered: usize,
    max: usize,
}

impl Window {
    /// As wide as it gets.
    pub(crate) fn new(max: usize) -> Self {
        Self { size: max, answered: 0, max }
    }

    /// Writes in flight at once.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// A write was answered, whatever the answer. Wider by one when as many were as fit.
    pub(crate) fn answered(&mut self) {
        self.answered += 1;
        if self.answered >= self.size {
            self.answered = 0;
            self.size = (self.size + 1).min(self.max);
        }
    }

    /// A write got no answer in time.
    pub(crate) fn unanswered(&mut self) {
        self.answered = 0;
        self.size = (self.size / 2).max(limits::WRITES_IN_FLIGHT_MIN.min(self.max));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_narrows_at_once_and_widens_by_one_a_round() {
        let mut window = Window::new(64);
        assert_eq!(window.size(), 64);
        window.unanswered();
        assert_eq!(window.size(), 32);
        for _ in 0..31 {
            window.answered();
        }
        assert_eq!(window.size(), 32, "a round is not over");
        window.answered();
        assert_eq!(window.size(), 33);
        for _ in 0..100 {
            window.unanswered();
        }
        assert_eq!(window.size(), limits::WRITES_IN_FLIGHT_MIN, "it never closes");
        for _ in 0..64 * 64 {
            window.answered();
        }
        assert_eq!(window.size(), 64, "and no wider than it was");
        assert_eq!(Window::new(1).size(), 1);
    }
}
