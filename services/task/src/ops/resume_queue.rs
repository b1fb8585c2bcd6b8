//! Resumes a held queue, or a session that waits until its model provider's quota resets.

use foundry_authn::Caller;
use foundry_core::Result;
use foundry_proto::common::v1::Role;
use foundry_proto::task::v1::{ResumeQueueRequest, ResumeQueueResponse};

use super::command::{Command, Decision};
use crate::context::Context;
use crate::domain::derive::Aggregate;
use crate::flow::provisioner_call::ProvisionerCall;

/// Does nothing for a queue that is not held, in a session that does not wait for its model provider. A session that
/// does wait resumes together with all other sessions of that provider.
///
/// # Errors
/// `FAILED_PRECONDITION` for a session that is closed, `NOT_FOUND`.
pub async fn resume_queue(
    cx: &Context,
    caller: &Caller,
    request: ResumeQueueRequest,
) -> Result<ResumeQueueResponse> {
    let found = cx.task_of_session(caller, &request.session_id, Role::Member).await?;
    let held = found.session(&request.session_id).is_some_and(|s| s.view.queue_held);
    let decide = |decision: &mut Decision<'_>| {
        let session = decision.open_session(&request.session_id)?;
        session.view.queue_held = false;
        if waits_for_quota(&decision.aggregate, &request.session_id) {
            let call = ProvisionerCall::Resume { session_id: request.session_id.clone() };
            decision.send(&request.session_id, &call)?;
        }
        Ok(())
    };
    let command =
        Command::new(caller, found, "ResumeQueue", &request.request_id, "queue.resume", &request.session_id);
    let (answer, rev) = command
        .run(cx, &request, decide, |aggregate| ResumeQueueResponse {
            session: aggregate.session(&request.session_id).map(|s| s.view.clone()),
            rev: 0,
            resumed: held || waits_for_quota(aggregate, &request.session_id),
        })
        .await?;
    Ok(ResumeQueueResponse { rev, ..answer })
}

/// Whether the provisioner keeps the turn back until a known time.
fn waits_for_quota(aggregate: &Aggregate, session_id: &str) -> bool {
    let condition = aggregate.agent(session_id).and_then(|agent| agent.condition.as_ref());
    condition.is_some_and(|c| c.reason == "MODEL_QUOTA" && c.next_attempt_time.is_some())
}
