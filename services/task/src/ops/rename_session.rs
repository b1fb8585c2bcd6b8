//! Renames a session.

use foundry_authn::Caller;
use foundry_core::Result;
use foundry_proto::common::v1::Role;
use foundry_proto::task::v1::{RenameSessionRequest, RenameSessionResponse};

use super::command::{Command, Decision};
use crate::context::Context;
use crate::domain::naming;

/// Allowed in every state.
///
/// # Errors
/// `INVALID_ARGUMENT` for a bad name, `NOT_FOUND`.
pub async fn rename_session(
    cx: &Context,
    caller: &Caller,
    request: RenameSessionRequest,
) -> Result<RenameSessionResponse> {
    let found = cx.task_of_session(caller, &request.session_id, Role::Member).await?;
    let name = naming::check_name("name", &request.name, naming::MAX_SESSION_NAME)?;
    let decide = |decision: &mut Decision<'_>| {
        decision.session(&request.session_id)?.view.name.clone_from(&name);
        Ok(())
    };
    let command = Command::new(
        caller,
        found,
        "RenameSession",
        &request.request_id,
        "session.rename",
        &request.session_id,
    );
    let (answer, rev) = command
        .run(cx, &request, decide, |aggregate| RenameSessionResponse {
            session: aggregate.session(&request.session_id).map(|s| s.view.clone()),
            rev: 0,
        })
        .await?;
    Ok(RenameSessionResponse { rev, ..answer })
}
