//! ListAgents: the agents that can be chosen.

use foundry_agents::Entry;
use foundry_authn::Caller;
use foundry_core::{Error, OrganizationId};
use foundry_proto::common::v1::Role;
use foundry_proto::provisioner::v1::{Agent, ListAgentsRequest, ListAgentsResponse};

use crate::models::{can_use, providers_of};
use crate::shared::Shared;

/// Lists the agents, the default first. Without an organization, only model providers of the environment count.
///
/// # Errors
/// `NOT_FOUND` for an organization that is not the caller's.
pub async fn list_agents(
    shared: &Shared,
    caller: &Caller,
    request: ListAgentsRequest,
) -> Result<ListAgentsResponse, Error> {
    let providers = match request.organization_id.as_str() {
        "" => shared.profiles.environment.all().cloned().collect(),
        id => {
            let organization: OrganizationId = id.parse()?;
            caller.require(&organization, Role::Viewer)?;
            providers_of(shared, &organization).await?
        }
    };
    let agent = |entry: &Entry| Agent {
        name: entry.name().to_owned(),
        display_name: entry.display_name().to_owned(),
        available: !entry.needs_model() || providers.iter().any(|p| can_use(entry, p)),
        missing_credentials: entry.model_kinds().map(|kind| kind.name().to_owned()).collect(),
    };
    let mut agents: Vec<Agent> = shared.catalogue.iter().map(agent).collect();
    agents.sort_by_key(|a| a.name != shared.config.default_agent);
    Ok(ListAgentsResponse { agents })
}
