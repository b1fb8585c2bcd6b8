//! What the flows need of agents: installing one in a sandbox, and how it is started.

use foundry_agents::{Entry, KeyDelivery, Launch, ModelAccess as AgentModel, Places, Profile, launch};
use foundry_core::OrganizationId;
use foundry_flow::{Outcome, StageContext};
use foundry_proto::provisioner::v1::McpServer;
use foundry_proto::provisioner::v1::mcp_server::Transport;
use foundry_sandbox::AgentInstall;
use foundry_sandbox::wire::MODEL_URL;
use foundry_secrets::Secret;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::StageError;
use crate::domain::{Sandbox, offer};
use crate::models::{self, Chosen};
use crate::profiles::ModelAccess;
use crate::shared::{Shared, name_of};

/// Installs an agent in a sandbox, with progress messages, and returns its paths there.
///
/// # Errors
/// `AGENT_UNKNOWN`, and those of the provider.
pub async fn install(
    shared: &Shared,
    ctx: &StageContext,
    sandbox: &Sandbox,
    agent: &str,
) -> Result<Places, StageError> {
    let entry = shared.catalogue.get(agent)?;
    let what = AgentInstall {
        name: entry.name().to_owned(),
        packages: entry.packages().cloned(),
        node: entry.runs_on_node(),
    };
    let provider = shared.providers.get(&sandbox.provider)?;
    let name = name_of(&sandbox.sandbox_id)?;
    let (sender, mut words) = watch::channel(String::new());
    let progress = move |text: String| drop(sender.send(text));
    let installing = provider.install_agent(&name, &what, &progress);
    tokio::pin!(installing);
    let installed = loop {
        tokio::select! {
            installed = &mut installing => break installed?,
            Ok(()) = words.changed() => {
                let text = words.borrow_and_update().clone();
                ctx.progress(text).await;
            }
        }
    };
    Ok(Places { foundry: installed.foundry, installed: installed.installed, node: installed.node })
}

/// How an agent is started, and with which tools.
pub struct Start<'a> {
    /// The agent's entry in the catalogue.
    pub entry: &'a Entry,
    /// Arguments, environment, files and settings.
    pub launch: Launch,
    /// MCP servers, as the protocol writes them.
    pub mcp_servers: Vec<Value>,
    /// Id of the model provider; empty for an agent without a model.
    pub provider: String,
}

/// How an agent of an organization is started with this profile and what was chosen over it. `token` stands in for
/// its model key.
///
/// # Errors
/// `AGENT_UNKNOWN`, `AGENT_MODEL_MISSING`, `AGENT_MODEL_UNSUITABLE`, `PROFILE_NOT_FOUND`,
/// `MODEL_PROVIDER_NOT_FOUND`, and when secrets cannot be decrypted.
pub async fn start<'a>(
    shared: &'a Shared,
    organization: &OrganizationId,
    agent: &str,
    (profile_id, over): (&str, &offer::Start),
    token: &str,
) -> Result<Start<'a>, StageError> {
    let entry = shared.catalogue.get(agent)?;
    let Chosen { set_up, provider, model } = models::choose(shared, organization, entry, profile_id).await?;
    let named = |text: &str| Some(text.to_owned()).filter(|t| !t.is_empty());
    let model = named(&over.model).or(model);
    let access = match &provider {
        Some((_, provider)) => Some(access(entry, provider, token, model)?),
        None => None,
    };
    let mut profile = Profile::default();
    let mut mcp_servers = Vec::new();
    if let Some(set_up) = &set_up {
        let settings = set_up.profile.settings();
        (profile.mode, profile.effort) = (named(&settings.mode), named(&settings.effort));
        profile.env = plain(&set_up.environment).collect();
        mcp_servers =
            set_up.mcp_servers.iter().map(|(server, values)| mcp_server(server, values, token)).collect();
    }
    profile.mode = named(&over.mode).or(profile.mode);
    profile.effort = named(&over.effort).or(profile.effort);
    let launch = launch(entry, access.as_ref(), &profile)?;
    let provider = provider.map(|(id, _)| id).unwrap_or_default();
    Ok(Start { entry, launch, mcp_servers, provider })
}

/// How an agent reaches its model: through our gateway with a token, or, where the operator's entry delivers the key
/// in the environment, directly.
fn access(
    entry: &Entry,
    provider: &ModelAccess,
    token: &str,
    model: Option<String>,
) -> Result<AgentModel, StageError> {
    let Some(kind) = models::agent_kind(provider.kind) else {
        let text = "agents cannot use this kind of model provider";
        return Err(Outcome::fail("AGENT_MODEL_UNSUITABLE", text).of_class("configuration").into());
    };
    let mut access = AgentModel::new(kind, MODEL_URL, token);
    if entry.key() == KeyDelivery::Environment {
        let key = provider.credential.as_ref().and_then(|c| c.secret().expose_str()).unwrap_or_default();
        access = AgentModel::new(kind, provider.base_url.as_str(), key);
        access.headers = plain(&provider.headers).collect();
        tracing::warn!(
            agent = entry.name(),
            "this agent's configuration passes the model key in its environment"
        );
    }
    access.model = model;
    access.models.clone_from(&provider.models);
    Ok(access)
}

fn plain(values: &[(String, Secret)]) -> impl Iterator<Item = (String, String)> {
    values.iter().map(|(name, value)| (name.clone(), value.expose_str().unwrap_or_default().to_owned()))
}

/// An MCP server as the protocol writes it. One over HTTP is reached through our gateway, which adds the secrets; a
/// program gets its secrets in its environment.
fn mcp_server(server: &McpServer, values: &[(String, Secret)], token: &str) -> Value {
    let name = &server.name;
    let through = |kind: &str| {
        let headers = [json!({ "name": "Authorization", "value": format!("Bearer {token}") })];
        json!({ "type": kind, "name": name, "url": format!("{MODEL_URL}/mcp/{name}"), "headers": headers })
    };
    match &server.transport {
        Some(Transport::Stdio(stdio)) => {
            let values: Vec<Value> =
                plain(values).map(|(name, value)| json!({ "name": name, "value": value })).collect();
            json!({ "name": name, "command": stdio.command, "args": stdio.args, "env": values })
        }
        Some(Transport::Http(_)) => through("http"),
        Some(Transport::Sse(_)) => through("sse"),
        None => Value::Null,
    }
}
