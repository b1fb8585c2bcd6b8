//! Who may begin to read from an owner: a few at a time, users in turn, so that one with many
//! watches does not keep another waiting.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::oneshot;

/// Starts at the same time at one owner.
const MAX_STARTS: usize = 32;
/// Starts at the same time of one user at one owner.
const MAX_PER_USER: usize = 8;

/// The queues of all owners; cloning shares them.
#[derive(Clone, Default)]
pub(crate) struct Starts(Arc<Mutex<HashMap<&'static str, Queue>>>);

#[derive(Default)]
struct Queue {
    active: usize,
    users: HashMap<Arc<str>, User>,
    /// Users with somebody waiting, each once.
    order: VecDeque<Arc<str>>,
}

#[derive(Default)]
struct User {
    active: usize,
    waiting: VecDeque<oneshot::Sender<Start>>,
}

impl Starts {
    /// Waits for this user's turn at an owner. Safe to drop at any time.
    pub(crate) async fn turn(&self, owner: &'static str, user: &Arc<str>) -> Start {
        loop {
            let (sender, receiver) = oneshot::channel();
            {
                let mut queues = self.lock();
                let queue = queues.entry(owner).or_default();
                let of_user = queue.users.entry(Arc::clone(user)).or_default();
                if of_user.waiting.is_empty() {
                    queue.order.push_back(Arc::clone(user));
                }
                of_user.waiting.push_back(sender);
            }
            self.serve(owner);
            // Its sender is kept until it is used.
            if let Ok(start) = receiver.await {
                return start;
            }
        }
    }

    /// Gives turns to those who wait, as far as there is room.
    fn serve(&self, owner: &'static str) {
        let mut missed = Vec::new();
        {
            let mut queues = self.lock();
            let Some(queue) = queues.get_mut(owner) else { return };
            while let Some((user, sender)) = queue.next() {
                let start = Start { starts: self.clone(), owner, user };
                if let Err(start) = sender.send(start) {
                    missed.push(start);
                }
            }
            if queue.users.is_empty() {
                queues.remove(owner);
            }
        }
        // One that went away gives its turn back; not under the lock.
        drop(missed);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<&'static str, Queue>> {
        // Every change leaves it whole.
        foundry_core::lock(&self.0)
    }
}

impl Queue {
    /// Counts the next in turn as begun.
    fn next(&mut self) -> Option<(Arc<str>, oneshot::Sender<Start>)> {
        for _ in 0..self.order.len() {
            if self.active >= MAX_STARTS {
                return None;
            }
            let name = self.order.pop_front()?;
            let Some(user) = self.users.get_mut(&name) else { continue };
            user.waiting.retain(|sender| !sender.is_closed());
            let has_room = user.active < MAX_PER_USER;
            let next = if has_room { user.waiting.pop_front() } else { None };
            if !user.waiting.is_empty() {
                self.order.push_back(Arc::clone(&name));
            }
            if let Some(sender) = next {
                user.active += 1;
                self.active += 1;
                return Some((name, sender));
            }
            if user.active == 0 && user.waiting.is_empty() {
                self.users.remove(&name);
            }
        }
        None
    }

    fn give_back(&mut self, name: &Arc<str>) {
        self.active = self.active.saturating_sub(1);
        if let Some(user) = self.users.get_mut(name) {
            user.active = user.active.saturating_sub(1);
            if user.active == 0 && user.waiting.is_empty() {
                self.users.remove(name);
            }
        }
    }
}

/// One start in progress.
pub(crate) struct Start {
    starts: Starts,
    owner: &'static str,
    user: Arc<str>,
}

impl Drop for Start {
    fn drop(&mut self) {
        if let Some(queue) = self.starts.lock().get_mut(self.owner) {
            queue.give_back(&self.user);
        }
        self.starts.serve(self.owner);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use futures::future::BoxFuture;

    use super::*;

    fn turn<'a>(starts: &'a Starts, user: &'a Arc<str>) -> BoxFuture<'a, Start> {
        let mut turn = starts.turn("task", user).boxed();
        match turn.as_mut().now_or_never() {
            Some(start) => futures::future::ready(start).boxed(),
            None => turn,
        }
    }

    #[test]
    fn one_user_has_a_few_starts_and_the_rest_wait_their_turn() {
        let (starts, user): (_, Arc<str>) = (Starts::default(), "a".into());
        let mut begun: Vec<_> =
            (0..MAX_PER_USER).map(|_| starts.turn("task", &user).now_or_never().unwrap()).collect();
        let mut next = starts.turn("task", &user).boxed();
        assert!((&mut next).now_or_never().is_none());
        assert!(starts.turn("repo", &user).now_or_never().is_some(), "each owner has its own");
        begun.pop();
        assert!((&mut next).now_or_never().is_some());
        drop((begun, next));
        assert!(starts.lock().is_empty(), "nothing is kept of who is gone");
    }

    #[test]
    fn a_user_who_comes_late_waits_for_one_of_each_other_and_not_for_all_of_them() {
        let starts = Starts::default();
        let many: Vec<Arc<str>> = (0..5).map(|n| format!("many {n}").into()).collect();
        let late: Arc<str> = "late".into();
        let mut begun = VecDeque::new();
        let mut waiting = Vec::new();
        for user in &many {
            for _ in 0..100 {
                match turn(&starts, user).now_or_never() {
                    Some(start) => begun.push_back(start),
                    None => waiting.push(turn(&starts, user)),
                }
            }
        }
        assert_eq!(begun.len(), MAX_STARTS);
        let mut late = starts.turn("task", &late).boxed();
        assert!((&mut late).now_or_never().is_none());
        let mut given_back = 0;
        while (&mut late).now_or_never().is_none() {
            drop(begun.pop_front().unwrap());
            given_back += 1;
            assert!(given_back <= 2 * many.len(), "it waits for hundreds");
        }
    }

    #[test]
    fn one_that_goes_away_gives_its_turn_back() {
        let (starts, user): (_, Arc<str>) = (Starts::default(), "a".into());
        let begun: Vec<_> =
            (0..MAX_PER_USER).map(|_| starts.turn("task", &user).now_or_never().unwrap()).collect();
        let mut gone = starts.turn("task", &user).boxed();
        let mut given = starts.turn("task", &user).boxed();
        assert!((&mut gone).now_or_never().is_none() && (&mut given).now_or_never().is_none());
        drop(gone);
        drop(begun);
        drop(given);
        assert!(starts.lock().is_empty());
    }
}
