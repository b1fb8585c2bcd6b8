//! The sandboxes and agent sessions of an organization, as the provisioner tells them.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use foundry_core::{OrganizationId, Result, TaskId, Tasks};
use foundry_proto::provisioner::v1::sandbox_item::Item;
use foundry_proto::provisioner::v1::{SandboxItem, WatchSandboxesRequest};
use foundry_store::WriteSet;
use foundry_watch::Consumer;

use super::{Batch, REFUSED, apply, config, insist, next, pause};
use crate::context::Context;
use crate::flow::change;
use crate::store::{positions, upstream};

/// What is watched.
const VIEW: &str = "WatchSandboxes";

/// What concerns one task.
#[derive(Default)]
struct News {
    told: Vec<(i64, Item)>,
    gone: Vec<String>,
}

pub(super) async fn run(cx: Arc<Context>, tasks: Tasks, organization: OrganizationId) {
    let stream = format!("sandboxes/{organization}");
    loop {
        let position = positions::find(&cx.store, &stream).await.unwrap_or_else(|e| {
            tracing::warn!(error = ?e, "a position could not be read; the stream starts with a snapshot");
            None
        });
        let (client, of) = (cx.provisioner.clone(), organization.to_string());
        let mut consumer = Consumer::<SandboxItem>::start(
            &tasks,
            cx.env.clone(),
            config(&cx, VIEW, position),
            move |options| {
                let (mut client, organization_id) = (client.clone(), of.clone());
                async move {
                    let request = WatchSandboxesRequest { options: Some(options), organization_id };
                    Ok(client.watch_sandboxes(request).await?.into_inner())
                }
            },
        );
        let refused = loop {
            match next(&tasks, &mut consumer).await {
                None => return,
                Some(Err(status)) => break status,
                Some(Ok(event)) => {
                    let Some(batch) = Batch::of(event) else { continue };
                    let tries = AtomicU32::new(0);
                    let take = || {
                        let last = tries.fetch_add(1, Ordering::Relaxed) + 1 >= super::TRIES;
                        take(&cx, &organization, &stream, &batch, last)
                    };
                    if !insist(&tasks, &cx, VIEW, batch.rows.len(), take).await {
                        return;
                    }
                }
            }
        };
        tracing::warn!(%organization, status = %refused, "sandboxes cannot be watched; it is tried again");
        if !pause(&tasks, &cx.env, REFUSED).await {
            return;
        }
    }
}

async fn take(
    cx: &Context,
    organization: &OrganizationId,
    stream: &str,
    batch: &Batch<SandboxItem>,
    last: bool,
) -> Result<()> {
    let before = positions::find(&cx.store, stream).await?;
    let mut failed = None;
    for (task, news) in sort(cx, organization, batch).await? {
        // One task that cannot be read or written must not keep the organization's others waiting.
        if let Err(e) = change(cx, &task, |of, ws| tell(cx, of, ws, &news)).await {
            if last {
                tracing::error!(%task, error = ?e, "news of a task could not be taken in; they are left out");
            } else {
                failed = Some(e);
            }
        }
    }
    if let Some(e) = failed {
        return Err(e);
    }
    // After all that led to it: after a crash in between the same comes again and changes nothing.
    let mut ws = WriteSet::new();
    positions::put(&mut ws, stream, before.as_ref(), &batch.position);
    cx.store.commit(ws).await?;
    Ok(())
}

fn tell(
    cx: &Context,
    of: &mut crate::domain::derive::Aggregate,
    ws: &mut WriteSet,
    news: &News,
) -> Result<()> {
    for (rev, item) in &news.told {
        match item {
            Item::Sandbox(sandbox) => apply::sandbox(ws, &cx.env, of, sandbox, *rev)?,
            Item::AgentSession(agent) => apply::agent_session(ws, &cx.env, of, agent, *rev)?,
        }
    }
    for sandbox in &news.gone {
        apply::sandbox_gone(of, sandbox);
    }
    Ok(())
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
                    news.entry(task).or_default().told.push((*rev, item.clone()));
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
        for (sandbox, task) in upstream::sandbox_ids(&cx.store, organization).await? {
            if !seen.contains(&sandbox) {
                news.entry(task).or_default().gone.push(sandbox);
            }
        }
    }
    Ok(news)
}
