//! The end of streams in a drain: they are cut in groups, spread over the available time, so that their clients do
//! not reconnect all at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use foundry_core::Clock;
use tokio_util::sync::CancellationToken;

const GROUPS: u32 = 16;

/// Cuts streams in groups; cloning shares it.
#[derive(Clone)]
pub(crate) struct Cut(Arc<Inner>);

struct Inner {
    groups: Vec<Place>,
    next: AtomicUsize,
}

/// The place of an open stream in one of the groups.
#[derive(Clone, Default)]
pub(crate) struct Place {
    token: CancellationToken,
    /// Held by the group itself and by each of its streams.
    open: Arc<()>,
}

impl Place {
    /// Runs until the group is cut; none then.
    pub(crate) async fn until_cut<F: Future>(&self, run: F) -> Option<F::Output> {
        self.token.run_until_cancelled(run).await
    }

    /// Ends when the group is cut. The stream counts as open until this is dropped.
    pub(crate) async fn cut(self) {
        self.token.cancelled().await;
    }
}

impl Default for Cut {
    fn default() -> Self {
        let groups = (0..GROUPS).map(|_| Place::default()).collect();
        Self(Arc::new(Inner { groups, next: AtomicUsize::new(0) }))
    }
}

impl Cut {
    /// A place in one of the groups, in turn.
    pub(crate) fn place(&self) -> Place {
        let groups = &self.0.groups;
        groups[self.0.next.fetch_add(1, Ordering::Relaxed) % groups.len()].clone()
    }

    /// Cuts every group within four fifths of the time; the rest is for the responses to arrive. No time passes for
    /// groups without a stream.
    pub(crate) async fn all(&self, spread: Duration, clock: &dyn Clock) {
        let pause = spread * 4 / 5 / GROUPS;
        for group in &self.0.groups {
            group.token.cancel();
            if Arc::strong_count(&group.open) > 1 {
                clock.sleep(pause).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use foundry_testkit::test_env;
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn takes_time_only_for_groups_that_have_streams() {
        let (test, cut) = (test_env(), Cut::default());
        let clock = &*test.env.clock;
        let (closed, open) = (cut.place(), cut.place());
        drop(closed);
        let stream = Box::pin(open.clone().cut());
        drop(open);
        let spread = Duration::from_secs(16);
        assert_eq!(cut.all(spread, clock).now_or_never(), None, "the stream's group is not waited for");
        stream.await;
        assert_eq!(cut.all(spread, clock).now_or_never(), Some(()), "an empty group is waited for");
    }
}
