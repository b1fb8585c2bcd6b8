//! One use case per file: validate, load, decide, one write set, return.

pub mod authorize_watch;
pub mod cancel_prompt;
pub mod close_agent_session;
pub mod create_agent_session;
pub mod destroy_sandbox;
pub mod ensure_sandbox;
pub mod get_sandbox;
pub mod list_agents;
pub mod list_processes;
pub mod list_providers;
pub mod list_sandboxes;
pub mod prompt_agent_session;
pub mod respond_to_permission;
pub mod retry_agent_session;
pub mod retry_sandbox;
pub mod watch;

mod command;

use foundry_authn::Caller;
use foundry_core::{Error, SandboxId, SessionId};
use foundry_proto::common::v1::Role;
use foundry_store::AuditRecord;

use crate::domain::{Sandbox, Session};
use crate::shared::Shared;
use crate::store::{sandboxes, sessions};

pub(crate) use command::Command;

/// The sandbox with this id, for a caller with this role in its organization.
pub(crate) async fn sandbox_for(
    shared: &Shared,
    caller: &Caller,
    id: &str,
    role: Role,
) -> Result<Sandbox, Error> {
    let parsed: SandboxId = id.parse()?;
    let sandbox = sandboxes::find(&shared.store, &parsed).await?;
    let sandbox = sandbox.ok_or_else(|| Error::not_found("sandbox", id))?;
    caller.require_for(&sandbox.organization_id, role, "sandbox", id)?;
    Ok(sandbox)
}

/// The agent session with this id; only services ask.
pub(crate) async fn session_for(shared: &Shared, caller: &Caller, id: &str) -> Result<Session, Error> {
    let parsed: SessionId = id.parse()?;
    let session = sessions::find(&shared.store, &parsed).await?;
    let session = session.ok_or_else(|| Error::not_found("agent session", id))?;
    caller.require_for(&session.organization_id, Role::Member, "agent session", id)?;
    Ok(session)
}

/// Checks the user on whose behalf a service acts; data for the audit, never a permission.
pub(crate) fn behalf(caller: &Caller, user_id: &str) -> Result<String, Error> {
    if user_id.is_empty() || caller.as_user().is_some() {
        return Ok(caller.on_behalf_of().map(ToString::to_string).unwrap_or_default());
    }
    Ok(user_id.parse::<foundry_core::UserId>()?.to_string())
}

pub(crate) fn audit(
    organization: &foundry_core::OrganizationId,
    caller: &Caller,
    user_id: &str,
    action: &str,
    subject: &str,
    request_id: &str,
) -> AuditRecord {
    AuditRecord {
        organization_id: organization.to_string(),
        actor: if user_id.is_empty() { caller.actor() } else { user_id.to_owned() },
        action: action.to_owned(),
        subject: subject.to_owned(),
        detail_json: serde_json::json!({ "caller": caller.actor() }).to_string(),
        request_id: request_id.to_owned(),
        trace: foundry_server::RequestContext::current_traceparent(),
    }
}

#[cfg(test)]
mod tests;

/// The name of an agent of the catalogue.
fn known_agent(shared: &Shared, name: &str) -> Result<String, Error> {
    match shared.catalogue.get(name) {
        Ok(entry) => Ok(entry.name().to_owned()),
        Err(e) => Err(Error::invalid_field("agent", format!("is not known: {}", e.message))),
    }
}
