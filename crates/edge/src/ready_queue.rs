//! Which watches of one stream have something to say, each once, in turn.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard};

use tokio::sync::Notify;

/// The queue for the next turn.
#[derive(Debug, Default)]
pub(crate) struct ReadyQueue {
    waiting: Mutex<Waiting>,
    called: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    order: VecDeque<u32>,
    members: HashSet<u32>,
}

impl ReadyQueue {
    /// This one has something to say.
    pub(crate) fn call(&self, sub_id: u32) {
        let mut waiting = self.lock();
        if waiting.members.insert(sub_id) {
            waiting.order.push_back(sub_id);
        }
        drop(waiting);
        self.called.notify_one();
    }

    /// Whose turn it is.
    pub(crate) fn take(&self) -> Option<u32> {
        let mut waiting = self.lock();
        let sub_id = waiting.order.pop_front()?;
        waiting.members.remove(&sub_id);
        Some(sub_id)
    }

    /// Completes when somebody waits. Safe to drop at any time.
    pub(crate) async fn wait(&self) {
        while self.lock().order.is_empty() {
            self.called.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Every change leaves it whole.
        foundry_core::lock(&self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_that_calls_often_gets_one_turn_and_the_others_theirs() {
        let ready = ReadyQueue::default();
        for sub_id in [1, 1, 1, 2, 1, 3] {
            ready.call(sub_id);
        }
        ready.wait().await;
        let order: Vec<_> = std::iter::from_fn(|| ready.take()).collect();
        assert_eq!(order, [1, 2, 3]);
    }
}
