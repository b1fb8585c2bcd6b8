//! How many watches each user has, over all streams and credentials.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use foundry_core::{Error, Result};

/// Time after which one that was refused may have room: streams that broke off are gone by then.
const PAUSE: Duration = Duration::from_secs(5);

/// The counts of all users; cloning shares them.
#[derive(Clone)]
pub(crate) struct Watchers(Arc<Inner>);

struct Inner {
    most: usize,
    users: Mutex<HashMap<Arc<str>, usize>>,
}

impl Watchers {
    /// With so many watches for each user.
    pub(crate) fn new(most: usize) -> Self {
        Self(Arc::new(Inner { most, users: Mutex::default() }))
    }

    /// Counts a watch of this user until what is returned is dropped.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` when the user has as many as one may.
    pub(crate) fn enter(&self, user: &Arc<str>) -> Result<Counted> {
        let mut users = self.lock();
        let current = users.get(user).copied().unwrap_or_default();
        if current >= self.0.most {
            return Err(Error::quota("watches_per_user", "user", current as u64, self.0.most as u64)
                .retry_after(PAUSE)
                .next_action("close pages you no longer need"));
        }
        users.insert(Arc::clone(user), current + 1);
        Ok(Counted { watchers: self.clone(), user: Arc::clone(user) })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, usize>> {
        // Every change leaves it whole.
        foundry_core::lock(&self.0.users)
    }
}

/// One watch that counts.
pub(crate) struct Counted {
    watchers: Watchers,
    user: Arc<str>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut users = self.watchers.lock();
        if let Some(count) = users.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                users.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_at_the_limit_is_refused_alone_and_gets_in_again_when_one_ends() {
        let watchers = Watchers::new(2);
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let first = watchers.enter(&a).unwrap();
        let second = watchers.enter(&a).unwrap();
        assert_eq!(watchers.enter(&a).err().unwrap().reason(), "LIMIT_REACHED");
        let other = watchers.enter(&b).unwrap();
        drop(first);
        let third = watchers.enter(&a).unwrap();
        drop((second, third, other));
        assert!(watchers.lock().is_empty(), "nothing is kept of users without watches");
    }
}
