//! Rebuilds views that do not yet show the latest state of a flow.
//!
//! A flow's projection sees only the flow's own status, so it marks the task stale in the transaction of the
//! transition. Here the whole task is loaded, and its view and summary are written.

use std::sync::Arc;
use std::time::Duration;

use foundry_core::Result;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::flow::change_damaged_too;
use crate::store::aggregate::STALE_TOPIC;
use crate::store::tasks;

/// Poll interval: the longest delay that a lost wake-up causes.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Most tasks in one query.
const AT_A_TIME: u32 = 100;

pub(super) async fn run(cx: Arc<Context>, stop: CancellationToken) {
    let mut woken = cx.store.subscribe_topic(STALE_TOPIC);
    loop {
        woken.mark_seen();
        if let Err(e) = freshen(&cx).await {
            tracing::warn!(error = ?e, "stale views could not be derived; retrying");
            tokio::select! {
                () = stop.cancelled() => return,
                () = cx.env.clock.sleep(LOOK_AGAIN) => continue,
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            _ = woken.changed() => {}
            () = cx.env.clock.sleep(LOOK_AGAIN) => {}
        }
    }
}

/// Rebuilds all stale views.
///
/// # Errors
/// When the database fails.
pub(crate) async fn freshen(cx: &Context) -> Result<()> {
    loop {
        let stale = tasks::stale(&cx.store, AT_A_TIME).await?;
        let mut failed = None;
        for task in &stale {
            // One task that cannot be read or written must not block the others.
            if let Err(e) = change_damaged_too(cx, task, |_, _| Ok(()), |_| {}).await {
                tracing::warn!(%task, error = ?e, "the view of a task could not be derived");
                failed = Some(e);
            }
        }
        if let Some(e) = failed {
            return Err(e);
        }
        if stale.len() < AT_A_TIME as usize {
            return Ok(());
        }
    }
}
