//! Stops the running turn; the queue is then held.

use foundry_authn::Caller;
use foundry_core::Result;
use foundry_proto::common::v1::Role;
use foundry_proto::provisioner::v1::AgentSessionState;
use foundry_proto::task::v1::{StopTurnRequest, StopTurnResponse};

use super::command::{Command, Decision};
use crate::context::Context;
use crate::domain::derive::Aggregate;
use crate::domain::session::MessageState;
use crate::flow::provisioner_call::ProvisionerCall;

/// Records the stop of the turn that runs or is about to; a flow sends it to the agent. Without a turn, only the queue
/// is held.
///
/// # Errors
/// `FAILED_PRECONDITION` for a session that is closed, `NOT_FOUND`.
pub async fn stop_turn(cx: &Context, caller: &Caller, request: StopTurnRequest) -> Result<StopTurnResponse> {
    let found = cx.task_of_session(caller, &request.session_id, Role::Member).await?;
    let decide = |decision: &mut Decision<'_>| {
        let session = decision.open_session(&request.session_id)?;
        session.view.queue_held = true;
        if let Some(message_id) = turn(&decision.aggregate, &request.session_id) {
            let call = ProvisionerCall::StopTurn { session_id: request.session_id.clone(), message_id };
            decision.send(&request.session_id, &call)?;
        }
        Ok(())
    };
    let command =
        Command::new(caller, found, "StopTurn", &request.request_id, "turn.stop", &request.session_id);
    let (answer, rev) = command
        .run(cx, &request, decide, |aggregate| StopTurnResponse {
            session: aggregate.session(&request.session_id).map(|s| s.view.clone()),
            rev: 0,
            stopping: turn(aggregate, &request.session_id).is_some(),
        })
        .await?;
    Ok(StopTurnResponse { rev, ..answer })
}

/// The turn to stop: the one being handed over, or else the one that runs.
fn turn(aggregate: &Aggregate, session_id: &str) -> Option<String> {
    let handed = aggregate.queue(session_id).find(|m| m.state == MessageState::Delivering);
    handed.map(|m| m.message_id.to_string()).or_else(|| {
        let agent = aggregate.agent(session_id)?;
        (agent.state() == AgentSessionState::Running).then(|| agent.message_id.clone())
    })
}
