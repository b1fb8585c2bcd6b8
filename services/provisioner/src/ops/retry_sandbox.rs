//! RetrySandbox: a failed sandbox continues at the stage that failed; or its scheduled next attempt starts now.

use foundry_authn::Caller;
use foundry_core::{Error, FlowId};
use foundry_proto::common::v1::Role;
use foundry_proto::provisioner::v1::{RetrySandboxRequest, RetrySandboxResponse};
use foundry_store::WriteSet;

use super::{Command, audit, behalf, sandbox_for};
use crate::domain::{Sandbox, SandboxState};
use crate::shared::Shared;
use crate::store::{cleared, condition_value, sandboxes};

/// Continues a failed sandbox, or hastens its next attempt.
pub async fn retry_sandbox(
    shared: &Shared,
    caller: &Caller,
    request: RetrySandboxRequest,
) -> Result<RetrySandboxResponse, Error> {
    let organization = sandbox_for(shared, caller, &request.sandbox_id, Role::Member).await?.organization_id;
    let user_id = behalf(caller, &request.user_id)?;
    let body = RetrySandboxRequest { request_id: String::new(), ..request.clone() };
    let command = Command::new(shared, caller, &organization, "RetrySandbox", &request.request_id, &body)?;
    command
        .run(|| async {
            let sandbox = sandbox_for(shared, caller, &request.sandbox_id, Role::Member).await?;
            let mut ws = WriteSet::new();
            let flow: FlowId = sandbox.flow_id.parse()?;
            let id = sandbox.sandbox_id.to_string();
            let sandbox = if sandbox.state == SandboxState::Error {
                let (state, condition) = (resumed(&sandbox), cleared(shared.env.clock.now()));
                let set = vec![("state", state.as_str().into()), ("condition", condition_value(&condition))];
                sandboxes::update(&mut ws, &sandbox, set);
                foundry_flow::retry(&mut ws, &flow);
                Sandbox { state, condition, ..sandbox }
            } else if sandbox.condition.next_attempt_time.is_some() {
                foundry_flow::hasten(&mut ws, &flow);
                sandbox
            } else {
                let text = format!("only a failed sandbox can be retried; it is {}", sandbox.state.as_str());
                return Err(Error::precondition("NOT_FAILED", &id, text));
            };
            ws.audit(audit(&organization, caller, &user_id, "sandbox.retry", &id, &request.request_id));
            Ok((ws, RetrySandboxResponse { sandbox: Some(sandbox.to_proto()), rev: 0 }))
        })
        .await
}

/// The state in which it continues: that of its failed stage, or of its destruction when that failed.
fn resumed(sandbox: &Sandbox) -> SandboxState {
    use foundry_proto::common::v1::StageState;
    let failed = sandbox.stages.iter().find(|s| s.state() == StageState::Failed);
    failed.map_or(SandboxState::Destroying, |s| SandboxState::of_stage(&s.name))
}
