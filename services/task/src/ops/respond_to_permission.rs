//! Answers a permission request of the agent.

use foundry_authn::Caller;
use foundry_core::Result;
use foundry_proto::common::v1::Role;
use foundry_proto::task::v1::{RespondToPermissionRequest, RespondToPermissionResponse};

use super::command::{Command, Decision};
use crate::context::Context;
use crate::flow::provisioner_call::ProvisionerCall;
use foundry_core::Error;

/// Records the answer; a flow delivers it to the agent.
///
/// # Errors
/// `FAILED_PRECONDITION` `PERMISSION_NOT_PENDING`, `INVALID_ARGUMENT` for an option that was not offered, `NOT_FOUND`.
pub async fn respond_to_permission(
    cx: &Context,
    caller: &Caller,
    request: RespondToPermissionRequest,
) -> Result<RespondToPermissionResponse> {
    let found = cx.task_of_session(caller, &request.session_id, Role::Member).await?;
    let decide = |decision: &mut Decision<'_>| {
        let session = decision.open_session(&request.session_id)?;
        let asked = session.view.pending_permission.as_ref();
        let Some(asked) = asked.filter(|p| p.permission_id == request.permission_id) else {
            return Err(Error::precondition(
                "PERMISSION_NOT_PENDING",
                &request.session_id,
                "there is no such pending permission request",
            )
            .next_action(
                "reload the session; the request may have been answered, or its turn may have ended",
            ));
        };
        let option = request.option_id.as_str();
        if !option.is_empty() && !asked.options.iter().any(|o| o.option_id == option) {
            return Err(Error::invalid_field("option_id", "is not one of the options"));
        }
        session.answered.clone_from(&request.permission_id);
        let call = ProvisionerCall::Respond {
            session_id: request.session_id.clone(),
            permission_id: request.permission_id.clone(),
            option_id: request.option_id.clone(),
        };
        decision.send(&request.session_id, &call)
    };
    let command = Command::new(
        caller,
        found,
        "RespondToPermission",
        &request.request_id,
        "permission.answer",
        &request.session_id,
    );
    let (answer, rev) = command
        .run(cx, &request, decide, |aggregate| RespondToPermissionResponse {
            session: aggregate.session(&request.session_id).map(|s| s.view.clone()),
            rev: 0,
        })
        .await?;
    Ok(RespondToPermissionResponse { rev, ..answer })
}
