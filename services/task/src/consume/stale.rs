//! Rebuilds views that do not yet show the latest state of a flow.
//!
//! A flow's projection sees only the flow's own status, so it marks the task stale in the transaction of the
//! transition. Here the whole task is loaded, and its view and summary are written.

use std::sync::Arc;
use std::time::Duration;

use foundry_core::Result;
use foundry_proto::task::v1::organization_item::Item;
use foundry_service::damaged_condition;
use foundry_store::{Scope, WriteSet, is_damaged};
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::domain::derive::Aggregate;
use crate::domain::task::FlowFacts;
use crate::flow::{change, change_damaged_too};
use crate::projection::organization;
use crate::store::aggregate::STALE_TOPIC;
use crate::store::{summary, tasks};

/// Poll interval: the longest delay that a lost wake-up causes.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Most tasks in one query.
const AT_A_TIME: u32 = 100;

pub(super) async fn run(cx: Arc<Context>, stop: CancellationToken) {
    let mut woken = cx.store.subscribe_topic(STALE_TOPIC);
    tokio::select! {
        () = stop.cancelled() => return,
        restored = list_restored(&cx) => if let Err(e) = restored {
            tracing::warn!(error = ?e, "the list of tasks could not be compared with them");
        }
    }
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

/// Takes up the tasks that lists show as damaged and that were restored while the service was stopped: they are listed as
/// they are, and their flows go on that the damage has stopped.
///
/// # Errors
/// When the database fails.
pub(crate) async fn list_restored(cx: &Context) -> Result<()> {
    for (task, shown) in summary::damaged_tasks(&cx.store).await? {
        let restore = |aggregate: &mut Aggregate, ws: &mut WriteSet| {
            let (now, before) = (cx.env.clock.now(), organization::of_task(aggregate));
            let sessions = aggregate.sessions.iter_mut().filter(|s| !s.closed).map(|s| &mut s.flow);
            for flow in sessions.chain([&mut aggregate.task.flow]).filter(|flow| stopped_by_damage(flow)) {
                foundry_flow::retry(ws, &flow.flow_id);
                flow.retried(now);
            }
            aggregate.refresh(now);
            let row = organization::of_task(aggregate);
            // A row that the derived state changes is written with it.
            if row == before && row.item.item != Some(Item::Task(shown.clone())) {
                let rev = ws.scope(Scope::organization(&aggregate.task.organization_id));
                summary::put(ws, rev, &aggregate.task.organization_id, &row);
            }
            Ok(())
        };
        if let Err(e) = change(cx, &task, restore).await
            && !is_damaged(&e)
        {
            // One task that cannot be written must not block the others.
            tracing::warn!(%task, error = ?e, "a task that was restored could not be taken up");
        }
    }
    Ok(())
}

fn stopped_by_damage(flow: &FlowFacts) -> bool {
    flow.failed() && flow.condition.reason == damaged_condition().reason
}

/// Rebuilds all stale views.
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
