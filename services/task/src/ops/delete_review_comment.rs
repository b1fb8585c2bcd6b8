//! Removes a comment on the changes of a task that is not sent.

use foundry_authn::Caller;
use foundry_core::{Result, ReviewCommentId};
use foundry_proto::common::v1::Role;
use foundry_proto::task::v1::{DeleteReviewCommentRequest, DeleteReviewCommentResponse};
use foundry_store::WriteSet;

use crate::context::Context;
use crate::store::reviews;
use crate::store::user_state::Owner;

/// No effect if there is no such comment of the caller.
///
/// # Errors
/// `NOT_FOUND` for the task; `ABORTED` when others kept changing the comment.
pub async fn delete_review_comment(
    cx: &Context,
    caller: &Caller,
    request: DeleteReviewCommentRequest,
) -> Result<DeleteReviewCommentResponse> {
    let found = cx.task(caller, &request.task_id, Role::Viewer).await?;
    let owner = Owner::of(found.task.organization_id.clone(), caller)?;
    let id: ReviewCommentId = request.comment_id.parse()?;
    if reviews::comment(&cx.store, &owner, &id).await?.is_none() {
        return Ok(DeleteReviewCommentResponse { rev: cx.store.head(&owner.scope()).await? });
    }
    let decided = cx.store.retry_on_conflict(|| async {
        let mut ws = WriteSet::new();
        let before = reviews::comment(&cx.store, &owner, &id).await?;
        // Another tab may have removed it.
        if let Some(before) = before.filter(|c| c.entity.task_id == request.task_id) {
            let rev = ws.scope(owner.scope());
            reviews::remove_comment(&mut ws, rev, &owner, &before);
        }
        Ok((ws, ()))
    });
    let (committed, ()) = decided.await?;
    let rev = match committed.scope_rev(&owner.scope()) {
        Some(rev) => rev,
        None => cx.store.head(&owner.scope()).await?,
    };
    Ok(DeleteReviewCommentResponse { rev })
}
