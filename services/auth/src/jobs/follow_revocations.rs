//! Keeps this process's copy of the revocations current, as other replicas of this service write them too.

use std::sync::Arc;
use std::time::Duration;

use foundry_core::Result;
use tokio_util::sync::CancellationToken;

use crate::auth::Auth;
use crate::store::revocations;

/// Poll interval, in case a hint was lost.
const POLL: Duration = Duration::from_secs(1);

pub(crate) async fn run(auth: Arc<Auth>, cancel: CancellationToken) {
    let mut hint = auth.store.subscribe(&revocations::scope());
    let mut seen = None;
    loop {
        match catch_up(&auth, seen).await {
            Ok(head) => seen = Some(head),
            Err(e) => {
                tracing::warn!(error = %e, "the revocations cannot be read");
                auth.revocations.feed_lost(auth.env.clock.now());
            }
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = hint.changed() => {}
            () = auth.env.clock.sleep(POLL) => {}
        }
    }
}

/// Reloads the revocations if they have changed. The table spans only minutes, so it is read whole.
pub(crate) async fn catch_up(auth: &Auth, seen: Option<i64>) -> Result<i64> {
    let head = auth.store.head(&revocations::scope()).await?;
    if seen == Some(head) {
        auth.revocations.feed_restored();
        return Ok(head);
    }
    let (entries, head) = revocations::all(&auth.store).await?;
    auth.revocations.replace(entries.iter().map(|e| (e.key.as_str(), e.rev)));
    Ok(head)
}
