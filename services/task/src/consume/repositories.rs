//! Follows the repositories and works of an organization in the repo service.

use std::collections::HashSet;

use foundry_core::{Error, OrganizationId, RepositoryId, Result, TaskId};
use foundry_frame::Frame;
use foundry_proto::repo::v1::repository_item::Item;
use foundry_proto::repo::v1::{Repository, RepositoryItem, WatchRepositoriesRequest, Work};
use foundry_proto::watch::v1::WatchOptions;
use foundry_store::{Scope, WriteSet};
use tonic::{Status, Streaming};

use super::{Batch, Source, branch_names};
use crate::context::Context;
use crate::domain::derive::{Aggregate, Replica};
use crate::flow::change_damaged_too;
use crate::projection::organization;
use crate::store::user_state::{self, Owner};
use crate::store::{positions, reviews, summary, tasks, upstream};

pub(super) struct Repositories;

impl Source for Repositories {
    type Item = RepositoryItem;
    const VIEW: &'static str = "WatchRepositories";
    const STREAM: &'static str = positions::REPOSITORIES;

    async fn open(
        cx: &Context,
        organization_id: String,
        options: WatchOptions,
    ) -> Result<Streaming<Frame>, Status> {
        let request = WatchRepositoriesRequest { options: Some(options), organization_id };
        Ok(cx.repo.clone().watch_repositories(request).await?.into_inner())
    }

    /// Works first, each in its task's write set; then the repositories with the position. After a crash in between,
    /// the same batch arrives again and changes nothing.
    async fn take(
        cx: &Context,
        organization: &OrganizationId,
        stream: &str,
        batch: &Batch<RepositoryItem>,
        last: bool,
    ) -> Result<()> {
        let before = positions::find(&cx.store, stream).await?;
        let mut failed = None;
        let mut ws = WriteSet::new();
        let mut seen = HashSet::new();
        for (key, rev, item) in &batch.rows {
            match item.as_ref().and_then(|i| i.item.as_ref()) {
                Some(Item::Work(work)) if work.organization_id == organization.as_str() => {
                    // One task that cannot be written must not block the others.
                    if let Err(e) = take_work(cx, *rev, work).await {
                        if last {
                            let task = &work.task_id;
                            tracing::error!(task, error = ?e, "failed to apply the work of a task; skipping it");
                        } else {
                            failed = Some(e);
                        }
                    }
                }
                Some(Item::Repository(r)) if r.organization_id == organization.as_str() => {
                    seen.insert(r.repository_id.clone());
                    take_repository(cx, &mut ws, organization, *rev, r).await?;
                }
                Some(_) => {}
                None => {
                    if let Some(id) = key.strip_prefix("repository/") {
                        failed = remove(cx, &mut ws, organization, id, last).await?.or(failed);
                    }
                }
            }
        }
        if batch.whole {
            for id in upstream::repository_ids(&cx.store, organization).await? {
                if !seen.contains(id.as_str()) {
                    failed = remove(cx, &mut ws, organization, id.as_str(), last).await?.or(failed);
                }
            }
        }
        if let Some(e) = failed {
            return Err(e);
        }
        positions::put(&mut ws, stream, before.as_ref(), &batch.position);
        if before.is_none() {
            ws.wake(positions::RECEIVED_TOPIC);
        }
        cx.store.commit(ws).await?;
        Ok(())
    }
}

async fn take_work(cx: &Context, rev: i64, work: &Work) -> Result<()> {
    let Ok(task) = work.task_id.parse::<TaskId>() else { return Ok(()) };
    let set = |aggregate: &mut Aggregate, _: &mut WriteSet| {
        // A repository that is there again brings its works again.
        let removed = aggregate.repository_removed().is_some();
        if removed || aggregate.work.as_ref().is_none_or(|replica| replica.rev < rev) {
            aggregate.work = Some(Replica { rev, entity: work.clone() });
        }
        Ok(())
    };
    change_damaged_too(cx, &task, set, |_| {}).await?;
    Ok(())
}

async fn take_repository(
    cx: &Context,
    ws: &mut WriteSet,
    organization: &OrganizationId,
    rev: i64,
    repository: &Repository,
) -> Result<()> {
    let Ok(id) = repository.repository_id.parse::<RepositoryId>() else { return Ok(()) };
    let known = upstream::repository(&cx.store, &id).await?;
    // One that was missing, as from a database that was restored for a while, is there again.
    if known.as_ref().is_some_and(|k| k.rev >= rev && !upstream::was_removed(k)) {
        return Ok(());
    }
    let row = organization::of_repository(repository);
    let listed = known.as_ref().filter(|k| !upstream::was_removed(k));
    if listed.map(|k| organization::of_repository(&k.entity)).as_ref() != Some(&row) {
        let ours = ws.scope(Scope::organization(organization));
        summary::put(ws, ours, organization, &row);
    }
    let before = match known {
        Some(known) if known.is_damaged() => upstream::repository_rev(&cx.store, &id).await?,
        known => known.map(|k| k.rev),
    };
    upstream::put_repository(ws, before, rev, repository);
    ws.wake(branch_names::TOPIC);
    Ok(())
}

/// Removes a repository, its summary row, and users' drafts for a new task and reviews of tasks in it. Its tasks show that their work is gone;
/// returns why one of them could not be updated, unless that is the `last` attempt.
async fn remove(
    cx: &Context,
    ws: &mut WriteSet,
    organization: &OrganizationId,
    id: &str,
    last: bool,
) -> Result<Option<Error>> {
    let Ok(repository) = id.parse::<RepositoryId>() else { return Ok(None) };
    let Some(known) = upstream::repository(&cx.store, &repository).await? else { return Ok(None) };
    if upstream::was_removed(&known) {
        return Ok(None);
    }
    let mut failed = None;
    for task in tasks::of_repository(&cx.store, &repository).await? {
        let lose = |aggregate: &mut Aggregate, _: &mut WriteSet| {
            aggregate.lose_repository(&known.entity.name, cx.env.clock.now());
            Ok(())
        };
        if let Err(e) = reviews::remove_all(&cx.store, &task, true).await {
            tracing::error!(%task, error = ?e, "the reviews of a task whose repository was removed could not be removed");
            failed = Some(e).filter(|_| !last);
        }
        // One task that cannot be written must not block the others.
        if let Err(e) = change_damaged_too(cx, &task, lose, |_| {}).await {
            tracing::error!(%task, error = ?e, "a task whose repository was removed could not be updated");
            failed = Some(e).filter(|_| !last);
        }
    }
    let rev = ws.scope(Scope::organization(organization));
    upstream::remove_repository(ws, &known);
    crate::store::branch_names::remove(ws, &repository);
    ws.remove(&summary::SUMMARY, &[organization.into(), format!("repository/{id}").into()]);
    ws.tombstone(rev, summary::REPOSITORY, id);
    let subject = format!("new_task/{id}");
    for user in user_state::drafted_by(&cx.store, organization, &subject).await? {
        user_state::remove_draft(ws, &Owner { organization: organization.clone(), user }, &subject);
    }
    Ok(failed)
}
