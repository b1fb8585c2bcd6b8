//! The task service: tasks, their sessions, queues and transcripts, and the organization summary.
//!
//! Handlers read and write rows; only durable flows call the provisioner. The state of the provisioner and of the repo
//! service is consumed from their watches and kept in tables, so that everything stays readable while they are down.

mod attachments;
mod consume;
mod context;
mod domain;
mod flow;
mod ops;
mod projection;
mod rebuild;
mod rpc;
mod stalls;
mod store;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod view;
mod writers;

use std::sync::Arc;
use std::time::Duration;

use foundry_authn::{Authenticator, IdentityLayer, ServiceIdentity};
use foundry_core::{Env, Result, Tasks};
use foundry_flow::{Engine, Hooks, Options, OwnedDataDirectory, Starter};
use foundry_proto::provisioner::v1::attachment_service_client::AttachmentServiceClient;
use foundry_proto::provisioner::v1::provisioner_service_client::ProvisionerServiceClient;
use foundry_proto::repo::v1::repo_service_client::RepoServiceClient;
use foundry_proto::task::v1::task_service_server::{self, TaskServiceServer};
use foundry_server::config::duration;
use foundry_server::{DataDirectory, Service, Upstream};
use foundry_service::{Database, finish_flows, on_database, served};
use foundry_watch::Observer;
use serde::{Deserialize, Serialize};
use tonic::service::Routes;

use consume::FollowedOrganizations;
use context::Context;
pub use rebuild::{Rebuilt, rebuild};
pub use store::{ENCODED, REFERENCES};

/// Settings of the service.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Database, `sqlite:<path>` or `postgres://…`; empty = `task.db` in the service's directory.
    pub store_url: String,
    /// Sandbox provider of tasks that name none.
    pub default_provider: String,
    /// Names of the agents that a task may ask for.
    pub agents: Vec<String>,
    /// Names of the sandbox providers that a task may ask for.
    pub providers: Vec<String>,
    /// How long the transcripts of a killed task are kept; 0 = for ever. Those of other tasks, archived ones too, are not
    /// deleted.
    #[serde(with = "duration")]
    pub transcript_retention: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            store_url: String::new(),
            default_provider: "local".to_owned(),
            agents: ["demo", "claude", "codex", "opencode", "gemini", "qwen"].map(str::to_owned).into(),
            providers: ["local"].map(str::to_owned).into(),
            transcript_retention: Duration::from_secs(90 * 24 * 3600),
        }
    }
}

/// What the binary provides to the service.
pub struct Dependencies<'a> {
    /// Clock and random source.
    pub env: Env,
    /// The owner of the service's background tasks; shut down with the service.
    pub tasks: Tasks,
    /// The service's own data directory, locked by this process.
    pub data: &'a DataDirectory,
    /// Verifies callers' tokens.
    pub authenticator: Arc<Authenticator>,
    /// The identity under which this service calls others.
    pub identity: ServiceIdentity,
    /// Connection to the provisioner, without an identity.
    pub provisioner: Upstream,
    /// Connection to the repo service, without an identity.
    pub repo: Upstream,
    /// Receives events of the flow engine.
    pub flow_hooks: Arc<dyn Hooks>,
    /// Receives measurements of the watches.
    pub watch_observer: Arc<dyn Observer>,
}

/// Builds the service and starts its background work.
///
/// # Errors
/// When the database cannot be opened.
pub async fn build(config: &Config, deps: Dependencies<'_>) -> Result<Service> {
    let migrations = [&store::MIGRATIONS, &foundry_flow::MIGRATIONS];
    let database =
        Database::open(&config.store_url, deps.data.path(), "task", &migrations, &deps.env).await?;
    let provisioner =
        deps.provisioner.clone().layer(IdentityLayer::new(deps.identity.clone(), "provisioner")?);
    let repo = deps.repo.clone().layer(IdentityLayer::new(deps.identity.clone(), "repo")?);
    let parts = Parts {
        database,
        env: deps.env.clone(),
        tasks: deps.tasks.clone(),
        authenticator: deps.authenticator.clone(),
        provisioner,
        repo,
        flow_hooks: deps.flow_hooks,
        watch_observer: deps.watch_observer,
    };
    let (cx, engine) = start(config, parts, &OwnedDataDirectory::held_by(deps.data)).await?;
    let routes = Routes::new(TaskServiceServer::new(rpc::Rpc(Arc::clone(&cx))));
    let names = [task_service_server::SERVICE_NAME];
    let service = served("task", &names, routes, rpc::Rpc(Arc::clone(&cx)), deps.authenticator);
    let finish = |limit| finish_flows(engine, limit);
    Ok(on_database(service, &cx.store, &cx.hub, &deps.env, deps.tasks, finish))
}

/// The parts of [`Dependencies`] from which [`start`] builds the service.
struct Parts {
    database: Database,
    env: Env,
    tasks: Tasks,
    authenticator: Arc<Authenticator>,
    provisioner: Upstream,
    repo: Upstream,
    flow_hooks: Arc<dyn Hooks>,
    watch_observer: Arc<dyn Observer>,
}

/// Starts store, flows and consumers.
async fn start(
    config: &Config,
    parts: Parts,
    owned: &OwnedDataDirectory<'_>,
) -> Result<(Arc<Context>, Engine)> {
    parts.database.supervise(&parts.tasks);
    let (followed, requests) = FollowedOrganizations::new();
    let cx = Arc::new(Context {
        hub: parts.database.hub("task", &parts.env, &parts.tasks, parts.watch_observer),
        store: parts.database.store.clone(),
        env: parts.env.clone(),
        authenticator: parts.authenticator,
        attachments: AttachmentServiceClient::new(parts.provisioner.clone()),
        provisioner: ProvisionerServiceClient::new(parts.provisioner),
        repo: RepoServiceClient::new(parts.repo),
        followed,
        writers: writers::Writers::default(),
        stalls: stalls::Stalls::default(),
        transcript_retention: config.transcript_retention,
        default_provider: config.default_provider.clone(),
        agents: config.agents.clone(),
        providers: config.providers.clone(),
        starter: Starter::default(),
    });
    let options = Options { hooks: parts.flow_hooks, starter: cx.starter.clone(), ..Options::default() };
    let flows = flow::bindings(&cx);
    let engine = parts.database.start_engine(&parts.env, &parts.tasks, flows, options, owned).await?;
    consume::start(&cx, &parts.tasks, requests).await?;
    Ok((cx, engine))
}
