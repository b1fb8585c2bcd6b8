//! Deletes a repository that is marked.
//!
//! | stage    | does                                                    | time-out | retry            |
//! |----------|---------------------------------------------------------|----------|------------------|
//! | deleting | removes the mirror, then the rows, leaving tombstones   | 5 min    | 1 s to 60 s, 10 × |

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use foundry_core::{RepositoryId, Result};
use foundry_flow::{Binding, Flow, Outcome, Retry, Stage, StageContext, StageSpec};
use foundry_git::{Mirror, MirrorLimits};
use foundry_store::{Scope, WriteSet};

use crate::context::Context;
use crate::store::branches::BRANCHES;
use crate::store::changes::WORK_CHANGES;
use crate::store::repositories::{self, REPOSITORIES};
use crate::store::works::WORKS;
use crate::view::repositories::{REPOSITORY, WORK};

/// The flow; its key and subject are the repository.
pub static DELETE: Flow = Flow::new(
    "repository_delete",
    &[StageSpec::new(
        "deleting",
        Duration::from_secs(5 * 60),
        Retry { initial: Duration::from_secs(1), factor: 2, max_delay: Duration::from_secs(60), budget: 10 },
    )],
);

/// The flow with its code.
pub fn binding(cx: Arc<Context>) -> Binding {
    Binding::job(&DELETE, Deleting(cx))
}

struct Deleting(Arc<Context>);

#[async_trait]
impl Stage for Deleting {
    async fn run(&self, flow: &StageContext) -> Outcome {
        match delete(&self.0, flow.subject_id()).await {
            Ok(ws) => Outcome::done().recording(ws),
            Err(e) => e.into(),
        }
    }
}

async fn delete(cx: &Context, id: &str) -> Result<WriteSet> {
    let id: RepositoryId = id.parse()?;
    let mut ws = WriteSet::new();
    let Some(repository) = repositories::find(&cx.store, &id).await? else { return Ok(ws) };
    // Also what a removal that broke off left beside it.
    Mirror::remove(&cx.mirror_path(&id), MirrorLimits::default().lock_wait).await?;
    let works =
        cx.store.query("SELECT task_id FROM works WHERE repository_id = $1", &[id.as_str().into()]).await?;
    let rev = ws.scope(Scope::organization(&repository.organization_id));
    for row in &works {
        let task = row.text("task_id")?;
        ws.delete_where(&WORK_CHANGES, &[("task_id", task.into())]);
        ws.remove(&WORKS, &[task.into()]);
        ws.tombstone(rev, WORK, task);
    }
    ws.delete_where(&BRANCHES, &[("repository_id", id.as_str().into())]);
    ws.remove(&REPOSITORIES, &[id.as_str().into()]);
    ws.tombstone(rev, REPOSITORY, id.as_str());
    ws.tombstone(rev, &format!("{REPOSITORY}/{id}"), &format!("{REPOSITORY}/{id}"));
    Ok(ws)
}
