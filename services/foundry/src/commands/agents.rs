//! `foundry agents`: the catalogue of coding agents.

use std::process::ExitCode;

use foundry_proto::provisioner::v1::ListAgentsRequest;

use crate::cli::Output;
use crate::client::Gateway;
use crate::failure::Failure;
use crate::output;

/// Lists the agents, the default first, with what each unusable one is missing.
pub async fn run(gateway: &Gateway, output: Output) -> Result<ExitCode, Failure> {
    let agents = gateway.provisioner().list_agents(ListAgentsRequest {}).await?.into_inner().agents;
    if output == Output::Json {
        agents.iter().try_for_each(|a| output::json(a).map(|text| output::line(&text)))?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows = agents.iter().map(|a| {
        let missing = if a.available { String::new() } else { a.missing_credentials.join(" or ") };
        let usable = if a.available { "yes" } else { "no" };
        vec![a.name.clone(), a.display_name.clone(), usable.to_owned(), missing]
    });
    output::table(&["agent", "name", "usable", "missing"], rows.collect());
    Ok(ExitCode::SUCCESS)
}
