//! ListAgents: the agents that can be chosen.

use foundry_core::Error;
use foundry_proto::provisioner::v1::{Agent, ListAgentsResponse};

use crate::shared::Shared;

/// Lists the agents, the default first.
pub fn list_agents(shared: &Shared) -> Result<ListAgentsResponse, Error> {
    let agent = |entry: &foundry_agents::Entry| Agent {
        name: entry.name().to_owned(),
        display_name: entry.display_name().to_owned(),
        available: !entry.needs_model(),
        missing_credentials: entry.model_kinds().map(|kind| kind.name().to_owned()).collect(),
    };
    let mut agents: Vec<Agent> = shared.catalogue.iter().map(agent).collect();
    agents.sort_by_key(|a| a.name != shared.config.default_agent);
    Ok(ListAgentsResponse { agents })
}
