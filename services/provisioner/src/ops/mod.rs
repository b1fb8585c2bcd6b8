//! One use case per file: validate, load, decide, one write set, return.

pub mod cancel_prompt;
pub mod close_agent_session;
pub mod create_agent_profile;
pub mod create_agent_session;
pub mod create_model_provider;
pub mod delete_agent_profile;
pub mod delete_attachment;
pub mod delete_model_provider;
pub mod destroy_sandbox;
pub mod ensure_sandbox;
pub mod get_agent_profile;
pub mod get_attachment;
pub mod get_model_provider;
pub mod get_sandbox;
pub mod hold_attachments;
pub mod list_agent_profiles;
pub mod list_agents;
pub mod list_attachments;
pub mod list_model_limits;
pub mod list_model_providers;
pub mod list_model_usage;
pub mod list_processes;
pub mod list_providers;
pub mod list_sandboxes;
pub mod prompt_agent_session;
pub mod put_attachment;
pub mod release_agent_events;
pub mod respond_to_elicitation;
pub mod respond_to_permission;
pub mod resume_agent_session;
pub mod retry_agent_session;
pub mod retry_sandbox;
pub mod set_agent_session_option;
pub mod set_model_limit;
pub mod test_model_provider;
pub mod update_agent_profile;
pub mod update_model_provider;
pub mod watch_agent_session;
pub mod watch_sandbox;
pub mod watch_sandboxes;

#[cfg(test)]
mod attachment_tests;
mod closing;
mod command;
mod masked;
mod profile_checks;

use foundry_authn::Caller;
use foundry_core::{AttachmentId, Error, ModelProviderId, OrganizationId, ProfileId, SandboxId, SessionId};
use foundry_proto::common::v1::Role;
pub(crate) use foundry_service::audit;

use crate::domain::attachment::{Attachment, MAX_PER_MESSAGE};
use crate::domain::{ModelProvider, Profile, Sandbox, Session};
use crate::shared::Shared;
use crate::store::{agent_profiles, attachments, model_providers, sandboxes, sessions};

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

/// The agent session with this id; only services may ask.
pub(crate) async fn session_for(shared: &Shared, caller: &Caller, id: &str) -> Result<Session, Error> {
    let parsed: SessionId = id.parse()?;
    let session = sessions::find(&shared.store, &parsed).await?;
    let session = session.ok_or_else(|| Error::not_found("agent session", id))?;
    caller.require_for(&session.organization_id, Role::Member, "agent session", id)?;
    Ok(session)
}

/// The model provider with this id, for a caller with this role in its organization. One of the environment belongs
/// to everybody: the role may be in any organization.
pub(crate) async fn model_provider_for(
    shared: &Shared,
    caller: &Caller,
    id: &str,
    role: Role,
) -> Result<ModelProvider, Error> {
    const KIND: &str = "model provider";
    let parsed: ModelProviderId = id.parse()?;
    if let Some(found) = shared.profiles.environment.find(&parsed) {
        let memberships = caller.memberships();
        let greatest = memberships.iter().max_by_key(|m| m.role);
        let organization = greatest.ok_or_else(|| Error::not_found(KIND, id))?;
        caller.require_for(&organization.organization_id, role, KIND, id)?;
        return Ok(found.clone());
    }
    let found = model_providers::find(&shared.store, &parsed).await?;
    let owned = found.and_then(|p| Some((p.organization_id.clone()?, p)));
    let (organization, found) = owned.ok_or_else(|| Error::not_found(KIND, id))?;
    caller.require_for(&organization, role, KIND, id)?;
    Ok(found)
}

/// The organization that a model provider belongs to.
///
/// # Errors
/// `MODEL_PROVIDER_READ_ONLY` for one of the environment.
pub(crate) fn stored(provider: &ModelProvider) -> Result<&OrganizationId, Error> {
    provider.organization_id.as_ref().ok_or_else(|| {
        let text = format!("model provider {} is set in the environment of `foundry up`", provider.view.name);
        Error::precondition("MODEL_PROVIDER_READ_ONLY", provider.model_provider_id.as_str(), text)
            .next_action("change the variables and restart the mesh, or add your own model provider")
    })
}

/// The agent profile with this id, for a caller with this role in its organization.
pub(crate) async fn profile_for(
    shared: &Shared,
    caller: &Caller,
    id: &str,
    role: Role,
) -> Result<Profile, Error> {
    let parsed: ProfileId = id.parse()?;
    let found = agent_profiles::find(&shared.store, &parsed).await?;
    let found = found.ok_or_else(|| Error::not_found("agent profile", id))?;
    caller.require_for(&found.organization_id, role, "agent profile", id)?;
    Ok(found)
}

/// The stored file with this id, for a caller with this role in its organization. `NOT_FOUND` while it is not stored
/// yet or is being removed.
pub(crate) async fn attachment_for(
    shared: &Shared,
    caller: &Caller,
    id: &str,
    role: Role,
) -> Result<Attachment, Error> {
    let parsed: AttachmentId = id.parse()?;
    let found = attachments::find(&shared.store, &parsed).await?.filter(Attachment::is_ready);
    let found = found.ok_or_else(|| Error::not_found("attachment", id))?;
    caller.require_for(&found.organization_id, role, "attachment", id)?;
    Ok(found)
}

/// Checks the files of a message: at most [`MAX_PER_MESSAGE`], each once.
pub(crate) fn attachment_ids(ids: &[String]) -> Result<Vec<AttachmentId>, Error> {
    const FIELD: &str = "attachment_ids";
    if ids.len() > MAX_PER_MESSAGE {
        return Err(Error::invalid_field(FIELD, format!("must contain at most {MAX_PER_MESSAGE} files")));
    }
    let mut parsed: Vec<AttachmentId> = Vec::with_capacity(ids.len());
    for id in ids {
        let id = id.parse().map_err(|_| Error::invalid_field(FIELD, "must look like att_<32 hex digits>"))?;
        if parsed.contains(&id) {
            return Err(Error::invalid_field(FIELD, "must not contain duplicates"));
        }
        parsed.push(id);
    }
    Ok(parsed)
}

/// Checks the user on whose behalf a service acts. The id goes to the audit record and grants nothing.
pub(crate) fn behalf(caller: &Caller, user_id: &str) -> Result<String, Error> {
    if user_id.is_empty() || caller.as_user().is_some() {
        return Ok(caller.on_behalf_of().map(ToString::to_string).unwrap_or_default());
    }
    Ok(user_id.parse::<foundry_core::UserId>()?.to_string())
}

#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod tests;
