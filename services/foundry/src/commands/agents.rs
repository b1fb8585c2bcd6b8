//! `foundry agents`: the catalogue of coding agents.

use std::process::ExitCode;

use foundry_proto::provisioner::v1::{Agent, ListAgentsRequest};

use crate::cli::Output;
use crate::client::Gateway;
use crate::failure::Failure;
use crate::output;

/// The agents, the default first; the model providers of this organization count.
pub async fn of(gateway: &Gateway, organization_id: &str) -> Result<Vec<Agent>, Failure> {
    let request = ListAgentsRequest { organization_id: organization_id.to_owned() };
    Ok(gateway.provisioner().list_agents(request).await?.into_inner().agents)
}

/// Lists the agents, the default first, with what each unusable one is missing.
pub async fn run(gateway: &Gateway, output: Output) -> Result<ExitCode, Failure> {
    // Without one organization, what the mesh itself offers is listed.
    let organization = gateway.organization().await.unwrap_or_default();
    let agents = of(gateway, &organization).await?;
    if output == Output::Json {
        agents.iter().try_for_each(|a| output::json(a).map(|text| output::line(&text)))?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows = agents.iter().map(|a| {
        let missing = match a.available {
            true => String::new(),
            false => format!("a model provider: {}", a.missing_credentials.join(" or ")),
        };
        let usable = if a.available { "yes" } else { "no" };
        vec![a.name.clone(), a.display_name.clone(), usable.to_owned(), missing]
    });
    output::table(&["agent", "name", "usable", "missing"], rows.collect());
    Ok(ExitCode::SUCCESS)
}
