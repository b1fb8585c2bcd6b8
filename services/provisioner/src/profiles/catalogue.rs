//! Checks against the catalogue of agents.

use foundry_core::Error;

use crate::shared::Shared;

/// Checks that an agent is in the catalogue.
///
/// # Errors
/// `INVALID_ARGUMENT` naming `field`, with the agents to choose from.
pub fn check_agent(shared: &Shared, field: &str, name: &str) -> Result<(), Error> {
    shared.catalogue.get(name).map(drop).map_err(|e| {
        Error::invalid_field(field, format!("is unknown: {}", e.message))
            .next_action("list the agents with ListAgents, or `foundry agents`")
    })
}
