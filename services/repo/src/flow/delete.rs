//! Deletes a repository that is marked for deletion.

use std::time::Duration;

use foundry_core::{RepositoryId, Result};
use foundry_flow::{Flow, Outcome, Retry, Stage, stage};
use foundry_git::{Mirror, MirrorLimits};
use foundry_store::{Scope, WriteSet};

use crate::context::Context;
use crate::store::base_requests::BASE_REQUESTS;
use crate::store::branch_overviews;
use crate::store::branch_parents::BRANCH_PARENTS;
use crate::store::branch_places::BRANCH_PLACES;
use crate::store::branches::BRANCHES;
use crate::store::changes;
use crate::store::clones::CLONES;
use crate::store::credentials::{self, CREDENTIALS};
use crate::store::jobs;
use crate::store::publications::PUBLICATIONS;
use crate::store::pull_requests::PULL_REQUESTS;
use crate::store::repositories::{self, REPOSITORIES};
use crate::store::webhooks::{self, WEBHOOKS};
use crate::store::work_versions;
use crate::store::works::WORKS;
use crate::view::repositories::{REPOSITORY, WORK};

/// Key and subject are the repository's id.
pub static DELETE: Flow<Context> = Flow::new(
    "repository_delete",
    &[Stage::new(
        "deleting",
        Duration::from_secs(5 * 60),
        Retry { initial: Duration::from_secs(1), factor: 2, max_delay: Duration::from_secs(60), budget: 10 },
        |cx, flow| stage(delete(cx, flow.subject_id())),
    )],
);

/// Removes the mirror, then the rows, and leaves tombstones.
async fn delete(cx: &Context, id: &str) -> Result<Outcome> {
    let id: RepositoryId = id.parse()?;
    let Some(repository) = repositories::find(&cx.store, &id).await? else { return Ok(Outcome::done()) };
    // This also removes leftovers of an interrupted removal.
    Mirror::remove(&cx.mirror_path(&id), MirrorLimits::default().lock_wait).await?;
    let works =
        cx.store.query("SELECT task_id FROM works WHERE repository_id = $1", &[id.as_str().into()]).await?;
    let mut ws = WriteSet::new();
    let rev = ws.scope(Scope::organization(&repository.organization_id));
    for row in &works {
        let task = row.text("task_id")?;
        changes::forget_all(&mut ws, task);
        work_versions::forget_all(&mut ws, task);
        ws.remove(&WORKS, &[task.into()]);
        ws.tombstone(rev, WORK, task);
    }
    for job in jobs::of_repository(&cx.store, &id).await? {
        foundry_flow::request_cancel(&mut ws, &job.flow_id);
        jobs::remove(&mut ws, rev, &job);
    }
    if let Some(own) = credentials::find_for(&cx.store, &repository.organization_id, id.as_str()).await? {
        let own = own.credential_id.as_str();
        ws.remove(&CREDENTIALS, &[own.into()]);
        ws.tombstone(rev, credentials::KIND, own);
    }
    for webhook in webhooks::of_repository(&cx.store, &id).await? {
        ws.remove(&WEBHOOKS, &[webhook.into()]);
    }
    ws.delete_where(&PULL_REQUESTS, &[("repository_id", id.as_str().into())]);
    ws.delete_where(&PUBLICATIONS, &[("repository_id", id.as_str().into())]);
    ws.delete_where(&CLONES, &[("repository_id", id.as_str().into())]);
    ws.delete_where(&BASE_REQUESTS, &[("repository_id", id.as_str().into())]);
    let branches = branch_overviews::bases(&cx.store, &id).await?;
    branch_overviews::remove_all(&mut ws, rev, &id, branches.keys());
    ws.delete_where(&BRANCH_PARENTS, &[("repository_id", id.as_str().into())]);
    ws.delete_where(&BRANCH_PLACES, &[("repository_id", id.as_str().into())]);
    ws.delete_where(&BRANCHES, &[("repository_id", id.as_str().into())]);
    ws.remove(&REPOSITORIES, &[id.as_str().into()]);
    ws.tombstone(rev, REPOSITORY, id.as_str());
    ws.tombstone(rev, &format!("{REPOSITORY}/{id}"), &format!("{REPOSITORY}/{id}"));
    Ok(Outcome::done().recording(ws))
}
