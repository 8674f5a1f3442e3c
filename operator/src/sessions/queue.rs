//! What waits for a worker.
//!
//! Nothing is kept for a queue that is empty. A channel of tokio's keeps blocks for some dozens of messages, which whoever sends has
//! allocated: those of two hundred sessions lay among what ten thousand streams had left, and kept the pages of all that.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;

use super::Outbound;
use crate::limits;

/// Of one session: the planner's end, and with [`Queue::poll_pop`] the session's.
#[derive(Clone, Default)]
pub(super) struct Queue(Arc<Inner>);

#[derive(Default)]
struct Inner {
    waiting: Mutex<VecDeque<Outbound>>,
    more: AtomicWaker,
}

/// [`limits::COMMANDS_A_SESSION`] wait already.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Queue {
    /// Appends a message.
    pub(super) fn push(&self, message: Outbound) -> Result<(), Full> {
        let mut waiting = self.waiting();
        if waiting.len() == limits::COMMANDS_A_SESSION {
            return Err(Full);
        }
        waiting.push_back(message);
        drop(waiting);
        self.0.more.wake();
        Ok(())
    }

    /// The oldest message. One task at a time waits for it.
    pub(super) fn poll_pop(&self, cx: &mut Context<'_>) -> Poll<Outbound> {
        // Registered before it is looked: one that comes in between wakes us.
        self.0.more.register(cx.waker());
        let mut waiting = self.waiting();
        let Some(oldest) = waiting.pop_front() else { return Poll::Pending };
        if waiting.is_empty() {
            *waiting = VecDeque::new();
        }
        Poll::Ready(oldest)
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Outbound>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use futures_util::FutureExt as _;
    use proto::control::v1::OperatorMessage;

    use super::*;

    fn message(sequence: u64) -> Outbound {
        OperatorMessage { term: 1, sequence, body: None }.into()
    }

    #[test]
    fn messages_come_in_order_up_to_the_bound_and_leave_nothing_behind() {
        let queue = Queue::default();
        let most = limits::COMMANDS_A_SESSION as u64;
        for sequence in 0..most {
            assert_eq!(queue.push(message(sequence)), Ok(()));
        }
        assert_eq!(queue.push(message(most)), Err(Full));
        let mut cx = Context::from_waker(Waker::noop());
        for wanted in 0..most {
            let Poll::Ready(Outbound::Message(message)) = queue.poll_pop(&mut cx) else { panic!("{wanted}") };
            assert_eq!(message.sequence, wanted);
        }
        assert!(queue.poll_pop(&mut cx).is_pending());
        assert_eq!(queue.waiting().capacity(), 0);
    }

    #[tokio::test]
    async fn who_waits_is_woken() {
        let queue = Queue::default();
        let mut next = Box::pin(std::future::poll_fn(|cx| queue.poll_pop(cx)));
        assert!((&mut next).now_or_never().is_none());
        let push = async {
            tokio::task::yield_now().await;
            queue.push(message(1)).unwrap();
        };
        let (next, ()) = tokio::join!(next, push);
        assert!(matches!(next, Outbound::Message(message) if message.sequence == 1));
    }
}
