//! The poll behind the hints. A hint may be lost, and then only the database knows: every scope that
//! is watched is asked for its head now and then, once for all its feeds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use foundry_store::Scope;

use crate::feed::Feed;
use crate::hub::Inner;
use crate::lock;

impl Inner {
    /// When to look again: one to two seconds from now, so that replicas do not ask in step.
    pub(crate) fn poll_after(&self) -> Duration {
        Duration::from_secs_f64(1.0 + self.env.random.fraction())
    }

    /// The feeds by scope; none ends the poll.
    fn feeds_to_poll(&self) -> Option<BTreeMap<Scope, Vec<Arc<Feed>>>> {
        let mut feeds = lock(&self.feeds);
        if feeds.watched.is_empty() {
            feeds.polled = false;
            return None;
        }
        let mut scopes: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for ((scope, _), (feed, _)) in &feeds.watched {
            scopes.entry(scope.clone()).or_default().push(Arc::clone(feed));
        }
        Some(scopes)
    }
}

/// Runs while there are feeds.
pub(crate) async fn run(hub: Arc<Inner>) {
    loop {
        tokio::select! {
            () = hub.env.clock.sleep(hub.poll_after()) => {}
            () = hub.tasks.cancellation().cancelled() => return,
        }
        let Some(scopes) = hub.feeds_to_poll() else { return };
        let now = hub.env.clock.now();
        for (scope, feeds) in scopes {
            // A feed that cannot read says so itself, once.
            let head = hub.store.head(&scope).await.unwrap_or(i64::MAX);
            for feed in feeds {
                feed.forget_unused(now);
                if feed.head().is_some_and(|known| known < head) {
                    feed.nudge();
                }
            }
        }
    }
}
