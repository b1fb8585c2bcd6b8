//! Follows the sandboxes and agent sessions of an organization in the provisioner.

use std::collections::{BTreeMap, HashSet};

use foundry_core::{Code, Error, OrganizationId, Result, TaskId};
use foundry_frame::Frame;
use foundry_proto::provisioner::v1::sandbox_item::Item;
use foundry_proto::provisioner::v1::{GetSandboxRequest, SandboxItem, WatchSandboxesRequest};
use foundry_proto::watch::v1::WatchOptions;
use foundry_store::{WriteSet, is_damaged};
use futures::StreamExt as _;
use tonic::{Status, Streaming};

use super::{Batch, PAUSE, Source, agent_side, apply};
use crate::context::Context;
use crate::flow::{call, change_damaged_too};
use crate::store::{positions, upstream};

/// How many tasks of a batch are updated at a time.
const SIDE_BY_SIDE: usize = 16;

/// The updates of one task in a batch.
#[derive(Default)]
struct News {
    updates: Vec<(i64, Item)>,
    gone: Vec<String>,
}

pub(super) struct Sandboxes;

impl Source for Sandboxes {
    type Item = SandboxItem;
    const VIEW: &'static str = "WatchSandboxes";
    const STREAM: &'static str = "sandboxes";

    async fn open(
        cx: &Context,
        organization_id: String,
        options: WatchOptions,
    ) -> Result<Streaming<Frame>, Status> {
        let request = WatchSandboxesRequest { options: Some(options), organization_id };
        Ok(cx.provisioner.clone().watch_sandboxes(request).await?.into_inner())
    }

    async fn take(
        cx: &Context,
        organization: &OrganizationId,
        stream: &str,
        batch: &Batch<SandboxItem>,
        last: bool,
    ) -> Result<()> {
        let news = sort(cx, organization, batch).await?;
        let unknown = news.into_iter().map(|one| unless_known(cx, one));
        let unknown = futures::stream::iter(unknown).buffer_unordered(SIDE_BY_SIDE);
        let news: Vec<_> = unknown.filter_map(std::future::ready).collect().await;
        if news.is_empty() && !batch.rows.is_empty() && !batch.whole {
            // Nothing to write: after a restart the batch arrives again and changes nothing again.
            return Ok(());
        }
        let before = positions::find(&cx.store, stream).await?;
        let put = |ws: &mut WriteSet| positions::put(ws, stream, before.as_ref(), &batch.position);
        if let [(task, news)] = news.as_slice() {
            match take_news(cx, task, news, &put).await {
                Ok(()) => return Ok(()),
                Err(e) if !last || is_passing(&e) => return Err(e),
                Err(e) => {
                    tracing::error!(%task, error = ?e, "failed to apply updates of a task; skipping them")
                }
            }
        } else {
            // Side by side, so that they share commits.
            let taken = news.into_iter().map(|(task, news)| take_one(cx, task, news));
            let taken = futures::stream::iter(taken).buffer_unordered(SIDE_BY_SIDE);
            for (task, taken) in taken.collect::<Vec<_>>().await {
                // One task that cannot be read or written must not block the organization's other tasks.
                let Err(e) = taken else { continue };
                if !last || is_passing(&e) {
                    return Err(e);
                }
                tracing::error!(%task, error = ?e, "failed to apply updates of a task; skipping them");
            }
        }
        // The position is written last: after a crash in between, the same batch arrives again and changes nothing.
        let mut ws = WriteSet::new();
        put(&mut ws);
        cx.store.commit(ws).await?;
        Ok(())
    }
}

/// The updates of a task, unless all of them were applied before: the answers to this service's own calls arrive once
/// more as updates. Waits for the commit that applies such an answer.
async fn unless_known(cx: &Context, (task, news): (TaskId, News)) -> Option<(TaskId, News)> {
    if let ([(rev, Item::Sandbox(sandbox))], []) = (news.updates.as_slice(), news.gone.as_slice()) {
        let _turn = cx.writers.turn(&task).await;
        // What cannot be read is applied, and judged there.
        let known = upstream::of_task(&cx.store, &task).await.ok().and_then(|copies| copies.sandbox);
        if known.is_some_and(|k| k.entity.sandbox_id == sandbox.sandbox_id && k.rev >= *rev) {
            return None;
        }
    }
    Some((task, news))
}

/// Applies the updates of one of several tasks.
async fn take_one(cx: &Context, task: TaskId, news: News) -> (TaskId, Result<()>) {
    let taken = take_news(cx, &task, &news, &|_| {}).await;
    (task, taken)
}

/// Whether the database may take the same updates a moment later.
fn is_passing(e: &Error) -> bool {
    matches!(e.code(), Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted)
}

/// Applies the updates of one task; `put` adds the position to the same write set. Updates that change nothing leave
/// the position: after a restart they arrive again.
async fn take_news(
    cx: &Context,
    task: &TaskId,
    news: &News,
    put: &(impl Fn(&mut WriteSet) + Sync),
) -> Result<()> {
    if let ([(rev, Item::AgentSession(agent))], []) = (news.updates.as_slice(), news.gone.as_slice()) {
        match agent_side::update(cx, task, agent, *rev, put).await {
            Err(e) if is_damaged(&e) => {}
            taken => return taken,
        }
    }
    // A damaged task learns of its sandbox, too, so that its end can be seen.
    change_damaged_too(cx, task, |aggregate, ws| apply_news(cx, aggregate, ws, news), put).await?;
    Ok(())
}

fn apply_news(
    cx: &Context,
    aggregate: &mut crate::domain::derive::Aggregate,
    ws: &mut WriteSet,
    news: &News,
) -> Result<()> {
    for (rev, item) in &news.updates {
        match item {
            Item::Sandbox(sandbox) => apply::sandbox(ws, &cx.env, aggregate, sandbox, *rev)?,
            Item::AgentSession(agent) => apply::agent_session(ws, &cx.env, aggregate, agent, *rev)?,
        }
    }
    for sandbox in &news.gone {
        apply::sandbox_gone(aggregate, sandbox);
    }
    Ok(())
}

/// Whether a sandbox that is missing from a snapshot of this position is gone. One that an answer told of may be newer than
/// the snapshot; but so is one from before the provisioner's database was restored.
async fn is_gone(cx: &Context, sandbox: &str, rev: i64, snapshot: i64) -> Result<bool> {
    if rev <= snapshot {
        return Ok(true);
    }
    let request = GetSandboxRequest { sandbox_id: sandbox.to_owned() };
    match call(&cx.env, cx.provisioner.clone().get_sandbox(request)).await {
        Ok(_) => Ok(false),
        Err(e) if e.code == tonic::Code::NotFound => Ok(true),
        Err(e) => Err(Error::unavailable("PROVISIONER_UNAVAILABLE", e.message, PAUSE)),
    }
}

async fn sort(
    cx: &Context,
    organization: &OrganizationId,
    batch: &Batch<SandboxItem>,
) -> Result<BTreeMap<TaskId, News>> {
    let mut news = BTreeMap::<TaskId, News>::new();
    let mut seen = HashSet::new();
    for (key, rev, item) in &batch.rows {
        let item = item.as_ref().and_then(|i| i.item.as_ref());
        match (item, key.strip_prefix("sandbox/")) {
            (Some(item), _) => {
                let (owner, task) = match item {
                    Item::Sandbox(s) => {
                        seen.insert(s.sandbox_id.clone());
                        (&s.organization_id, &s.task_id)
                    }
                    Item::AgentSession(a) => (&a.organization_id, &a.task_id),
                };
                if owner == organization.as_str()
                    && let Ok(task) = task.parse()
                {
                    news.entry(task).or_default().updates.push((*rev, item.clone()));
                }
            }
            (None, Some(sandbox)) => {
                if let Some(task) = upstream::task_of_sandbox(&cx.store, sandbox).await? {
                    news.entry(task).or_default().gone.push(sandbox.to_owned());
                }
            }
            (None, None) => {}
        }
    }
    if batch.whole {
        for (sandbox, task, rev) in upstream::sandbox_ids(&cx.store, organization).await? {
            if !seen.contains(&sandbox) && is_gone(cx, &sandbox, rev, batch.position.rev).await? {
                news.entry(task).or_default().gone.push(sandbox);
            }
        }
    }
    Ok(news)
}

#[cfg(test)]
mod tests {
    use foundry_proto::common::v1::Role;
    use foundry_proto::provisioner::v1::SandboxState;
    use foundry_watch::Position;

    use super::*;
    use crate::testing::World;

    #[tokio::test]
    async fn a_snapshot_from_before_a_sandbox_was_made_does_not_take_it_away() {
        let world = World::new().await;
        let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
        let task = running.create(&tenant, "one").await.task.unwrap().task_id;
        running.until(&tenant, &task, |t| !t.task.as_ref().unwrap().sandbox_id.is_empty()).await;
        let id: TaskId = task.parse().unwrap();
        let state = async || {
            let copies = upstream::of_task(&running.cx.store, &id).await.unwrap();
            copies.sandbox.unwrap().entity.state()
        };
        let snapshot = async |rev| {
            let position = Position { rev, ..Position::default() };
            let batch = Batch { rows: Vec::new(), whole: true, position };
            let news = sort(&running.cx, &tenant.organization, &batch).await.unwrap();
            news.values().map(|news| news.gone.len()).sum::<usize>()
        };
        assert_ne!(state().await, SandboxState::Destroyed);
        assert_eq!(snapshot(0).await, 0, "the sandbox is newer");
        assert_eq!(snapshot(i64::MAX).await, 1);
        // As in a database that was restored from before.
        world.provisioner.forget_sandboxes();
        assert_eq!(snapshot(0).await, 1);
        running.stop().await;
    }
}
