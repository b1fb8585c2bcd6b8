//! Lists the caller's comments on the changes of a task, and the files viewed.

use foundry_authn::Caller;
use foundry_core::Result;
use foundry_proto::common::v1::Role;
use foundry_proto::task::v1::{ListReviewCommentsRequest, ListReviewCommentsResponse};

use super::placing::placed;
use crate::context::Context;
use crate::store::reviews;
use crate::store::user_state::Owner;

/// Most viewed files in a response.
const MAX_VIEWED: u32 = 2_000;

/// A stored read, with reads of the repo service for files that may have changed since they were commented on.
///
/// # Errors
/// `NOT_FOUND`.
pub async fn list_review_comments(
    cx: &Context,
    caller: &Caller,
    request: ListReviewCommentsRequest,
) -> Result<ListReviewCommentsResponse> {
    let found = cx.task(caller, &request.task_id, Role::Viewer).await?;
    let task = &found.task;
    let owner = Owner::of(task.organization_id.clone(), caller)?;
    let comments = reviews::comments(&cx.store, &owner, &task.task_id).await?;
    let version = found.changes_version();
    let comments = comments.into_iter().map(|comment| comment.entity).collect();
    let comments = placed(cx, &task.task_id, version, comments).await;
    let viewed_files = reviews::all_viewed(&cx.store, &owner, &task.task_id, MAX_VIEWED).await?;
    Ok(ListReviewCommentsResponse { comments, version, viewed_files })
}
