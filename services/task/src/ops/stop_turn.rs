//! Stops the running turn; the queue is then held.

use foundry_authn::Caller;
use foundry_core::Result;
use foundry_proto::common::v1::Role;
use foundry_proto::provisioner::v1::AgentSessionState;
use foundry_proto::task::v1::{StopTurnRequest, StopTurnResponse};
use foundry_store::Scope;

use super::steer::{Command, Draft};
use crate::context::Context;
use crate::domain::derive::Aggregate;
use crate::domain::session::MessageState;
use crate::flow::command::{self, Command as Order};

/// Records the stop of the turn that runs or is about to; the agent is told in the background.
/// Without one only the queue is held.
///
/// # Errors
/// `FAILED_PRECONDITION` for a session that is closed, `NOT_FOUND`.
pub async fn stop_turn(cx: &Context, caller: &Caller, request: StopTurnRequest) -> Result<StopTurnResponse> {
    let found = cx.task_of_session(caller, &request.session_id, Role::Member).await?;
    let decide = |draft: &mut Draft<'_>| {
        let user = draft.caller.actor();
        let session = draft.open_session(&request.session_id)?;
        session.view.queue_held = true;
        let organization = session.organization_id.clone();
        if let Some(message_id) = turn(&draft.of, &request.session_id) {
            let order = Order::StopTurn { session_id: request.session_id.clone(), message_id };
            command::send(&mut draft.ws, draft.env, &organization, &request.session_id, &user, &order)?;
        }
        Ok(())
    };
    let command = Command {
        caller,
        scope: Scope::organization(&found.task.organization_id),
        found,
        method: "StopTurn",
        request_id: &request.request_id,
        creates: false,
        action: "turn.stop",
        subject: &request.session_id,
    };
    let (answer, rev) = command
        .run(cx, &request, decide, |of| StopTurnResponse {
            session: of.session(&request.session_id).map(|s| s.view.clone()),
            rev: 0,
        })
        .await?;
    Ok(StopTurnResponse { rev, ..answer })
}

/// The turn to stop: the one being handed over, or else the one that runs.
fn turn(of: &Aggregate, session_id: &str) -> Option<String> {
    let handed = of.queue(session_id).find(|m| m.state == MessageState::Delivering);
    handed.map(|m| m.message_id.to_string()).or_else(|| {
        let agent = of.agent(session_id)?;
        (agent.state() == AgentSessionState::Running).then(|| agent.message_id.clone())
    })
}
