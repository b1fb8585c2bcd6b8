//! Closes a session; its transcript stays.

use foundry_authn::Caller;
use foundry_core::Result;
use foundry_proto::common::v1::Role;
use foundry_proto::task::v1::{CloseSessionRequest, CloseSessionResponse};
use foundry_store::Scope;

use super::steer::{Command, Draft};
use crate::context::Context;
use crate::flow::command::{self, Command as Order};
use foundry_flow::request_cancel;

/// In whatever state it is; a running turn is cancelled. Does nothing for a closed one.
///
/// # Errors
/// `NOT_FOUND`.
pub async fn close_session(
    cx: &Context,
    caller: &Caller,
    request: CloseSessionRequest,
) -> Result<CloseSessionResponse> {
    let found = cx.task_of_session(caller, &request.session_id, Role::Member).await?;
    let decide = |draft: &mut Draft<'_>| {
        let user = draft.caller.actor();
        let known = draft.of.agents.contains_key(&request.session_id);
        let session = draft.session(&request.session_id)?;
        if session.closed {
            return Ok(());
        }
        session.closed = true;
        session.close_sent = known;
        let (flow_id, organization) = (session.flow.flow_id.clone(), session.organization_id.clone());
        request_cancel(&mut draft.ws, &flow_id);
        if known {
            let order = Order::CloseSession { session_id: request.session_id.clone() };
            command::send(&mut draft.ws, draft.env, &organization, &request.session_id, &user, &order)?;
        }
        Ok(())
    };
    let command = Command {
        caller,
        scope: Scope::organization(&found.task.organization_id),
        found,
        method: "CloseSession",
        request_id: &request.request_id,
        creates: false,
        action: "session.close",
        subject: &request.session_id,
    };
    let (answer, rev) = command
        .run(cx, &request, decide, |of| CloseSessionResponse {
            session: of.session(&request.session_id).map(|s| s.view.clone()),
            rev: 0,
        })
        .await?;
    Ok(CloseSessionResponse { rev, ..answer })
}
