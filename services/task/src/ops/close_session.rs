//! Closes a session; its transcript stays.

use foundry_authn::Caller;
use foundry_core::Result;
use foundry_proto::common::v1::Role;
use foundry_proto::task::v1::{CloseSessionRequest, CloseSessionResponse};

use super::command::{Command, Decision};
use crate::context::Context;
use crate::flow::provisioner_call::ProvisionerCall;
use foundry_flow::request_cancel;

/// Allowed in every state; a running turn is cancelled. Does nothing for a closed session.
///
/// # Errors
/// `NOT_FOUND`.
pub async fn close_session(
    cx: &Context,
    caller: &Caller,
    request: CloseSessionRequest,
) -> Result<CloseSessionResponse> {
    let found = cx.task_of_session(caller, &request.session_id, Role::Member).await?;
    let decide = |decision: &mut Decision<'_>| {
        let known = decision.aggregate.agents.contains_key(&request.session_id);
        let session = decision.session(&request.session_id)?;
        if session.closed {
            return Ok(());
        }
        session.closed = true;
        session.close_sent = known;
        let flow_id = session.flow.flow_id.clone();
        request_cancel(&mut decision.ws, &flow_id);
        if known {
            let call = ProvisionerCall::CloseSession { session_id: request.session_id.clone() };
            decision.send(&request.session_id, &call)?;
        }
        Ok(())
    };
    let command = Command::new(
        caller,
        found,
        "CloseSession",
        &request.request_id,
        "session.close",
        &request.session_id,
    );
    let (answer, rev) = command
        .run(cx, &request, decide, |aggregate| CloseSessionResponse {
            session: aggregate.session(&request.session_id).map(|s| s.view.clone()),
            rev: 0,
        })
        .await?;
    Ok(CloseSessionResponse { rev, ..answer })
}
