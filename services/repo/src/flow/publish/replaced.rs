//! What other tasks had published to a branch, and a push has taken from it: they must not go on showing it as published.

use foundry_core::Result;
use foundry_git::{CommitId, Mirror};
use foundry_proto::common::v1::Publication;
use foundry_store::{RevRef, WriteSet};

use crate::context::Context;
use crate::domain::work::Work;
use crate::store::{publications, works};

/// A push that has made a branch again.
pub struct Push<'a> {
    pub mirror: &'a Mirror,
    /// The work that is published by it.
    pub by: &'a Work,
    pub old: &'a CommitId,
    pub new: &'a CommitId,
}

/// Marks the publications of other tasks to the branch that were part of it before the push and are not any more.
///
/// # Errors
/// When the database fails.
pub async fn mark(cx: &Context, ws: &mut WriteSet, rev: RevRef, push: Push<'_>) -> Result<()> {
    let Push { mirror, by, old, new } = push;
    let Some(branch) = by.publication.as_ref().map(|p| p.branch.as_str()) else { return Ok(()) };
    let replaced = async |publication: &Publication| {
        if publication.branch != branch || !publication.replaced_by.is_empty() {
            return None;
        }
        let commit = CommitId::parse(&publication.commit).ok()?;
        // What cannot be compared is not said to be replaced.
        let was_part = mirror.is_ancestor(&commit, old).await.ok()?;
        let is_part = mirror.is_ancestor(&commit, new).await.ok()?;
        (was_part && !is_part)
            .then(|| Publication { replaced_by: by.task_id.to_string(), ..publication.clone() })
    };
    for (task, publication) in publications::of_repository(&cx.store, &by.repository_id).await? {
        if task != by.task_id
            && let Some(marked) = replaced(&publication).await
        {
            publications::put(ws, (&task, &by.repository_id), &marked);
        }
    }
    for mut work in works::published(&cx.store, &by.repository_id).await? {
        let Some(publication) = work.publication.as_ref().filter(|_| work.task_id != by.task_id) else {
            continue;
        };
        if let Some(marked) = replaced(publication).await {
            work.publication = Some(marked);
            works::save(ws, rev, &work);
        }
    }
    Ok(())
}
