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
    groups: Vec<CancellationToken>,
    next: AtomicUsize,
}

impl Default for Cut {
    fn default() -> Self {
        let groups = (0..GROUPS).map(|_| CancellationToken::new()).collect();
        Self(Arc::new(Inner { groups, next: AtomicUsize::new(0) }))
    }
}

impl Cut {
    /// The token of one of the groups, in turn.
    pub(crate) fn place(&self) -> CancellationToken {
        let groups = &self.0.groups;
        groups[self.0.next.fetch_add(1, Ordering::Relaxed) % groups.len()].clone()
    }

    /// Cuts every group within four fifths of the time; the rest is for the responses to arrive.
    pub(crate) async fn all(&self, spread: Duration, clock: &dyn Clock) {
        let pause = spread * 4 / 5 / GROUPS;
        for group in &self.0.groups {
            group.cancel();
            clock.sleep(pause).await;
        }
    }
}
