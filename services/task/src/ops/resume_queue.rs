//! Lets a held queue go on.

use foundry_authn::Caller;
use foundry_core::Result;
use foundry_proto::common::v1::Role;
use foundry_proto::task::v1::{ResumeQueueRequest, ResumeQueueResponse};
use foundry_store::Scope;

use super::steer::{COMMAND, Command, Draft};
use crate::context::Context;

/// Does nothing for a queue that is not held.
///
/// # Errors
/// `FAILED_PRECONDITION` for a session that is closed, `NOT_FOUND`.
pub async fn resume_queue(
    cx: &Context,
    caller: &Caller,
    request: ResumeQueueRequest,
) -> Result<ResumeQueueResponse> {
    let found = cx.task_of_session(caller, &request.session_id, Role::Member).await?;
    let decide = |draft: &mut Draft<'_>| {
        draft.open_session(&request.session_id)?.view.queue_held = false;
        Ok(())
    };
    let command = Command {
        caller,
        scope: Scope::organization(&found.task.organization_id),
        found,
        method: "ResumeQueue",
        request_id: &request.request_id,
        remembered: COMMAND,
        action: "queue.resume",
        subject: &request.session_id,
    };
    let (answer, rev) = command
        .run(cx, &request, decide, |of| ResumeQueueResponse {
            session: of.session(&request.session_id).map(|s| s.view.clone()),
            rev: 0,
        })
        .await?;
    Ok(ResumeQueueResponse { rev, ..answer })
}
