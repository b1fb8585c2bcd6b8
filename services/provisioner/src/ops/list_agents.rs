//! ListAgents: the agents that can be chosen, and what is missing for those that cannot.

use foundry_core::Error;
use foundry_proto::provisioner::v1::{Agent, ListAgentsResponse};
use foundry_sandbox::AgentKind;

use crate::shared::Shared;

/// Lists the agents, the default first.
pub fn list_agents(shared: &Shared) -> Result<ListAgentsResponse, Error> {
    let mut agents: Vec<Agent> = AgentKind::ALL
        .into_iter()
        .map(|kind| {
            let available = shared.credentials.for_agent(kind).is_ok();
            let missing = if available { &[][..] } else { kind.credential_variables() };
            Agent {
                name: kind.name().to_owned(),
                display_name: display_name(kind).to_owned(),
                available,
                missing_credentials: missing.iter().map(|v| (*v).to_owned()).collect(),
            }
        })
        .collect();
    agents.sort_by_key(|a| a.name != shared.config.default_agent);
    Ok(ListAgentsResponse { agents })
}

fn display_name(kind: AgentKind) -> &'static str {
    match kind {
        AgentKind::Demo => "Demo agent",
        AgentKind::ClaudeCode => "Claude Code",
        AgentKind::Codex => "Codex",
        AgentKind::OpenCode => "OpenCode",
    }
}
