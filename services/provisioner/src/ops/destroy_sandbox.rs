//! DestroySandbox: legal in every state; cancels the sandbox's flows and starts its destroy flow.

use foundry_authn::Caller;
use foundry_core::Error;
use foundry_proto::common::v1::{Condition, Role, TurnEnd, TurnOutcome};
use foundry_proto::provisioner::v1::{DestroySandboxRequest, DestroySandboxResponse};
use foundry_server::RequestContext;
use foundry_store::WriteSet;

use super::closing::close;
use super::{Command, audit, behalf, sandbox_for};
use crate::domain::{Sandbox, SandboxState, SessionState};
use crate::flow;
use crate::shared::Shared;
use crate::store::{condition_value, sandboxes, sessions};

/// Schedules the destruction of a sandbox.
pub async fn destroy_sandbox(
    shared: &Shared,
    caller: &Caller,
    request: DestroySandboxRequest,
) -> Result<DestroySandboxResponse, Error> {
    let organization = sandbox_for(shared, caller, &request.sandbox_id, Role::Member).await?.organization_id;
    let user_id = behalf(caller, &request.user_id)?;
    let body = DestroySandboxRequest { request_id: String::new(), ..request.clone() };
    let command = Command::new(shared, caller, &organization, "DestroySandbox", &request.request_id, &body)?;
    command
        .run(|| async {
            let sandbox = sandbox_for(shared, caller, &request.sandbox_id, Role::Member).await?;
            let mut ws = WriteSet::new();
            if sandbox.state.is_ending() {
                return Ok((ws, DestroySandboxResponse { sandbox: Some(sandbox.to_proto()), rev: 0 }));
            }
            let sandbox = destroy(shared, &mut ws, sandbox).await?;
            let id = sandbox.sandbox_id.as_str();
            ws.audit(audit(&organization, caller, &user_id, "sandbox.destroy", id, &request.request_id));
            Ok((ws, DestroySandboxResponse { sandbox: Some(sandbox.to_proto()), rev: 0 }))
        })
        .await
}

async fn destroy(shared: &Shared, ws: &mut WriteSet, sandbox: Sandbox) -> Result<Sandbox, Error> {
    let now = shared.env.clock.now();
    for session in sessions::of_sandbox(&shared.store, &sandbox.sandbox_id).await? {
        if session.state != SessionState::Closed {
            let end = TurnEnd {
                outcome: TurnOutcome::Cancelled.into(),
                reason: "SANDBOX_DESTROYED".to_owned(),
                message: "the sandbox is destroyed".to_owned(),
                ..TurnEnd::default()
            };
            close(shared, ws, &session, &end).await?;
        }
    }
    let flow_id = shared.flow_id();
    let condition = Condition {
        waiting_on: "sandbox_destroyed".to_owned(),
        message: "the sandbox is being destroyed".to_owned(),
        since_time: Some(now.to_proto()),
        ..Condition::default()
    };
    let set = vec![
        ("state", SandboxState::Destroying.as_str().into()),
        ("condition", condition_value(&condition)),
        ("flow_id", (&flow_id).into()),
    ];
    sandboxes::update(ws, &sandbox, set);
    // A destruction that failed is started again: its own flow has ended.
    if let Ok(current) = sandbox.flow_id.parse() {
        foundry_flow::request_cancel(ws, &current);
    }
    flow::destroy::enqueue_for(ws, &sandbox, flow_id, &RequestContext::current_traceparent())?;
    Ok(Sandbox { state: SandboxState::Destroying, condition, ..sandbox })
}
