//! Copies the names of branches from the repo service after each synchronization, so that `CreateTask` waits for no other
//! service.

use std::sync::Arc;
use std::time::Duration;

use foundry_core::{RepositoryId, Result, Timestamp};
use foundry_proto::repo::v1::ListBranchesRequest;
use foundry_store::WriteSet;
use futures::StreamExt as _;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::store::branch_names::{self, BranchNames};
use crate::store::upstream;

/// Topic of changed repositories.
pub const TOPIC: &str = "branch names";
/// Poll interval: the longest delay that a lost wake-up causes, and the pause after a failure.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// Repositories that are read at a time, so that a slow one does not hold up the others.
const SIDE_BY_SIDE: usize = 4;
/// Most bytes of names that are kept, of about 30,000 branches. What is over is compared by the sandbox alone.
const MAX_NAMES: usize = 1 << 20;

pub(super) async fn run(cx: Arc<Context>, stop: CancellationToken) {
    let mut woken = cx.store.subscribe_topic(TOPIC);
    loop {
        woken.mark_seen();
        tokio::select! {
            () = stop.cancelled() => return,
            copied = copy_outdated(&cx) => if let Err(e) = copied {
                tracing::warn!(error = ?e, "the names of branches could not be compared with their copies");
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            _ = woken.changed() => {}
            () = cx.env.clock.sleep(LOOK_AGAIN) => {}
        }
    }
}

/// Copies the names of the repositories that have changed. One that cannot be read is tried again later.
///
/// # Errors
/// When the database fails.
pub(crate) async fn copy_outdated(cx: &Context) -> Result<()> {
    let outdated = branch_names::outdated(&cx.store).await?;
    let copy = async |(repository, rev): (RepositoryId, i64)| {
        if let Err(error) = copy(cx, &repository, rev).await {
            tracing::info!(%repository, %error, "the names of its branches could not be copied; trying again later");
        }
    };
    futures::stream::iter(outdated).map(copy).buffer_unordered(SIDE_BY_SIDE).collect::<()>().await;
    Ok(())
}

async fn copy(cx: &Context, repository: &RepositoryId, rev: i64) -> Result<()> {
    let Some(known) = upstream::repository(&cx.store, repository).await? else { return Ok(()) };
    // A poll of the remote that finds nothing new leaves the former as it is.
    let as_of = known.entity.branches_time.or(known.entity.sync_time);
    let as_of = as_of.as_ref().map(Timestamp::from_proto).unwrap_or_default();
    let before = branch_names::find(&cx.store, repository).await?;
    let names = match &before {
        Some(before) if before.as_of == as_of => before.names.clone(),
        // Not mirrored yet, or its copy cannot be read.
        _ if as_of == Timestamp::default() => String::new(),
        _ => listed(cx, repository).await?,
    };
    let mut ws = WriteSet::new();
    match before {
        Some(before) if before.names == names => branch_names::confirm(&mut ws, repository, rev, as_of),
        _ => branch_names::put(&mut ws, repository, rev, &BranchNames { as_of, names }),
    }
    cx.store.commit(ws).await?;
    Ok(())
}

async fn listed(cx: &Context, repository: &RepositoryId) -> Result<String> {
    let (mut names, mut page_token) = (String::new(), String::new());
    loop {
        let request =
            ListBranchesRequest { repository_id: repository.to_string(), page_size: 500, page_token };
        let page = cx.read_repo(cx.repo.clone().list_branches(request)).await;
        let page = page.map_err(crate::context::UpstreamError::of_repo)?;
        for branch in &page.branches {
            if names.len() + branch.name.len() >= MAX_NAMES {
                tracing::warn!(%repository, "it has more branches than are compared with the branch of a new task");
                return Ok(names);
            }
            names.push_str(&branch.name);
            names.push('\n');
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(names);
        }
    }
}
