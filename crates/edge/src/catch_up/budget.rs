//! Bytes that private readers hold before their callers take them: bounded for each stream, for
//! each user and for the process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

use tokio::sync::Notify;

/// What is set aside before a frame is read: the largest chunk of a snapshot, as a rule.
pub(crate) const FRAME: usize = 64 * 1024;
const MAX_STREAM_BYTES: usize = 1024 * 1024;
const MAX_USER_BYTES: usize = 8 * 1024 * 1024;
const MAX_PROCESS_BYTES: usize = 64 * 1024 * 1024;

/// Bytes that share a bound.
#[derive(Debug)]
struct Pool {
    most: usize,
    used: Mutex<usize>,
    freed: Notify,
}

impl Pool {
    fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, used: Mutex::new(0), freed: Notify::new() })
    }

    fn with<T>(&self, f: impl FnOnce(&mut usize) -> T) -> T {
        f(&mut foundry_core::lock(&self.used))
    }

    fn has_room(&self, used: usize) -> bool {
        used + FRAME <= self.most
    }

    fn try_take(&self) -> bool {
        self.with(|used| {
            let fits = self.has_room(*used);
            if fits {
                *used += FRAME;
            }
            fits
        })
    }

    async fn take(&self) {
        while !self.try_take() {
            self.freed.notified().await;
        }
        // The next that waits may find room, too.
        if self.with(|used| self.has_room(*used)) {
            self.freed.notify_one();
        }
    }

    fn resize(&self, from: usize, to: usize) {
        let has_room = self.with(|used| {
            *used = (*used + to).saturating_sub(from);
            self.has_room(*used)
        });
        if has_room {
            self.freed.notify_one();
        }
    }
}

/// The bounds of the process and of its users; cloning shares them.
#[derive(Clone)]
pub(crate) struct Budgets {
    process: Arc<Pool>,
    users: Arc<Mutex<HashMap<Arc<str>, Weak<Pool>>>>,
}

impl Default for Budgets {
    fn default() -> Self {
        Self { process: Pool::new(MAX_PROCESS_BYTES), users: Arc::default() }
    }
}

impl Budgets {
    /// The bounds of one more stream of this user.
    pub(crate) fn of_stream(&self, user: &Arc<str>) -> Budget {
        let mut users = foundry_core::lock(&self.users);
        let of_user = users.get(user).and_then(Weak::upgrade).unwrap_or_else(|| {
            users.retain(|_, pool| pool.strong_count() > 0);
            let pool = Pool::new(MAX_USER_BYTES);
            users.insert(Arc::clone(user), Arc::downgrade(&pool));
            pool
        });
        Budget([Pool::new(MAX_STREAM_BYTES), of_user, Arc::clone(&self.process)])
    }
}

/// The bounds of one stream, the narrowest first; cloning shares them.
#[derive(Clone, Debug)]
pub(crate) struct Budget([Arc<Pool>; 3]);

impl Budget {
    /// Sets room for a frame aside, when there is some. Safe to drop at any time.
    pub(crate) async fn take(&self) -> Held {
        let mut held = Held::default();
        // Always in this order: nobody waits for one who waits for it.
        for pool in &self.0 {
            pool.take().await;
            held.pools.push(Arc::clone(pool));
            held.bytes = FRAME;
        }
        held
    }

    /// The same at once, or none.
    pub(crate) fn try_take(&self) -> Option<Held> {
        let mut held = Held { bytes: FRAME, pools: Vec::new() };
        for pool in &self.0 {
            if !pool.try_take() {
                return None;
            }
            held.pools.push(Arc::clone(pool));
        }
        Some(held)
    }

    /// Counts bytes that are there already.
    pub(crate) fn count(&self, bytes: usize) -> Held {
        self.0.iter().for_each(|pool| pool.resize(0, bytes));
        Held { bytes, pools: self.0.to_vec() }
    }
}

/// Bytes that count until this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Held {
    bytes: usize,
    pools: Vec<Arc<Pool>>,
}

impl Held {
    /// It has become so many.
    pub(crate) fn resize(&mut self, bytes: usize) {
        self.pools.iter().for_each(|pool| pool.resize(self.bytes, bytes));
        self.bytes = bytes;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.resize(0);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn a_stream_at_its_bound_waits_and_others_do_not() {
        let budgets = Budgets::default();
        let user: Arc<str> = "a".into();
        let (full, other) = (budgets.of_stream(&user), budgets.of_stream(&user));
        let mut held: Vec<_> = std::iter::from_fn(|| full.try_take()).collect();
        assert_eq!(held.len() * FRAME, MAX_STREAM_BYTES);
        let mut next = full.take().boxed();
        assert!((&mut next).now_or_never().is_none());
        assert!(other.try_take().is_some());
        held[0].resize(FRAME / 2);
        assert!((&mut next).now_or_never().is_none(), "half of a frame is not enough");
        held.pop();
        assert!((&mut next).now_or_never().is_some());
    }

    #[test]
    fn a_user_with_many_streams_does_not_use_up_the_process_and_all_is_given_back() {
        let budgets = Budgets::default();
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let streams: Vec<_> = (0..20).map(|_| budgets.of_stream(&a)).collect();
        let take = |s: &Budget| std::iter::from_fn(|| s.try_take()).collect::<Vec<_>>();
        let held: Vec<_> = streams.iter().flat_map(take).collect();
        assert_eq!(held.len() * FRAME, MAX_USER_BYTES);
        assert!(budgets.of_stream(&b).try_take().is_some());
        drop(held);
        let large = streams[0].count(5 << 20);
        assert!(streams[0].try_take().is_none() && streams[1].try_take().is_some());
        drop(large);
        assert_eq!(budgets.process.with(|used| *used), 0);
    }
}
