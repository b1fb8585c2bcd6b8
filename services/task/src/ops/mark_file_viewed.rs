//! Marks a changed file as viewed by the caller, or not.

use foundry_authn::Caller;
use foundry_core::{Error, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::task::v1::{MarkFileViewedRequest, MarkFileViewedResponse, ViewedFile};
use foundry_store::{CommitError, Guard, WriteSet};

use crate::context::Context;
use crate::domain::review::MAX_VIEWED;
use crate::domain::validate;
use crate::store::reviews::{self, VIEWED_FILES};
use crate::store::user_state::Owner;

/// Longest identification of a file's content, in bytes.
const MAX_CONTENT: usize = 200;

/// The newest mark wins; the same one writes nothing.
///
/// # Errors
/// `NOT_FOUND` for the task, `FAILED_PRECONDITION` `REPOSITORY_REMOVED`, `INVALID_ARGUMENT`, `RESOURCE_EXHAUSTED` for a 10,001st file.
pub async fn mark_file_viewed(
    cx: &Context,
    caller: &Caller,
    request: MarkFileViewedRequest,
) -> Result<MarkFileViewedResponse> {
    let found = cx.task(caller, &request.task_id, Role::Viewer).await?;
    let task = &found.task.task_id;
    let owner = Owner::of(found.task.organization_id.clone(), caller)?;
    validate::review_path("path", &request.path)?;
    if request.viewed {
        found.require_repository()?;
    }
    if request.viewed && (request.content.is_empty() || request.content.len() > MAX_CONTENT) {
        return Err(Error::invalid_field("content", "must be the content of a changed file, as listed"));
    }
    let before = reviews::viewed(&cx.store, &owner, task, &request.path).await?;
    let unchanged = match &before {
        Some(before) => request.viewed && before.entity.content == request.content,
        None => !request.viewed,
    };
    if unchanged {
        let head = cx.store.head(&owner.scope()).await?;
        return Ok(MarkFileViewedResponse { rev: before.map_or(head, |b| b.rev) });
    }
    let mut ws = WriteSet::new();
    let rev = ws.scope(owner.scope());
    if request.viewed {
        if before.is_none() {
            let of = [
                ("organization_id", (&owner.organization).into()),
                ("user_id", (&owner.user).into()),
                ("task_id", task.into()),
            ];
            ws.guard(Guard::count_below(&VIEWED_FILES, &of, MAX_VIEWED, "viewed_files"));
        }
        let (path, content, version) = (request.path, request.content, found.changes_version());
        let file = ViewedFile { task_id: request.task_id, path, content, version };
        reviews::put_viewed(&mut ws, rev, &owner, &file);
    } else {
        reviews::remove_viewed(&mut ws, rev, &owner, task.as_str(), &request.path);
    }
    let committed = cx.store.commit(ws).await.map_err(|e| match e {
        CommitError::LimitReached { .. } => {
            let maximum = u64::try_from(MAX_VIEWED).unwrap_or_default();
            Error::quota("viewed_files", task.as_str(), maximum, maximum)
        }
        e => e.into(),
    })?;
    Ok(MarkFileViewedResponse { rev: committed.rev(rev) })
}
