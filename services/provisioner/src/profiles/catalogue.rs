//! Which agents there are.

use foundry_core::Error;

use crate::shared::Shared;

/// Demands an agent of the catalogue.
///
/// # Errors
/// `INVALID_ARGUMENT` naming `field`, with the agents that there are.
pub fn check_agent(shared: &Shared, field: &str, name: &str) -> Result<(), Error> {
    shared.catalogue.get(name).map(drop).map_err(|e| {
        Error::invalid_field(field, format!("is unknown: {}", e.message))
            .next_action("list the agents with ListAgents, or `foundry agents`")
    })
}
