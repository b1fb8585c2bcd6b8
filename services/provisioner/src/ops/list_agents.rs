//! ListAgents: the agents that can be chosen.

use foundry_agents::Entry;
use foundry_authn::Caller;
use foundry_core::Error;
use foundry_proto::provisioner::v1::{Agent, ListAgentsRequest, ListAgentsResponse};

use crate::models::agent_kind;
use crate::shared::Shared;

/// Lists the agents, the default first. Only model providers of the environment count: the request names no
/// organization.
pub async fn list_agents(
    shared: &Shared,
    _: &Caller,
    _: ListAgentsRequest,
) -> Result<ListAgentsResponse, Error> {
    let given = |entry: &Entry| {
        let mut all = shared.profiles.environment.all();
        all.any(|p| agent_kind(p.view.kind()).is_some_and(|kind| entry.takes(kind)))
    };
    let agent = |entry: &Entry| Agent {
        name: entry.name().to_owned(),
        display_name: entry.display_name().to_owned(),
        available: !entry.needs_model() || given(entry),
        missing_credentials: entry.model_kinds().map(|kind| kind.name().to_owned()).collect(),
    };
    let mut agents: Vec<Agent> = shared.catalogue.iter().map(agent).collect();
    agents.sort_by_key(|a| a.name != shared.config.default_agent);
    Ok(ListAgentsResponse { agents })
}
