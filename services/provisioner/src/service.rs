//! Putting the service together, in dependency order.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use foundry_agents::Catalogue;
use foundry_authn::Authenticator;
use foundry_core::{Env, Error, Tasks};
use foundry_flow::{Engine, Hooks, Options, OwnedDataDirectory, Starter};
use foundry_proto::provisioner::v1::attachment_service_server::{self, AttachmentServiceServer};
use foundry_proto::provisioner::v1::profile_service_server::{self, ProfileServiceServer};
use foundry_proto::provisioner::v1::provisioner_service_server::{ProvisionerServiceServer, SERVICE_NAME};
use foundry_proto::repo::v1::repo_service_client::RepoServiceClient;
use foundry_server::{DataDirectory, Service, Upstream};
use foundry_service::{Database, finish_flows, on_database, reencrypt_at_start, served};
use foundry_watch::Observer;

use crate::attachments::{self, Attachments};
use crate::config::Config;
use crate::models::{self, GatewayProbe};
use crate::profiles::{EnvironmentKeys, Profiles, SECRETS};
use crate::providers::{FurtherProviders, Providers};
use crate::rpc::{AttachmentRpc, ProfileRpc, Rpc};
use crate::shared::Shared;
use crate::{egress, flow, runtime, store};

/// Largest request: a prompt and its frame.
const MAX_REQUEST: usize = 512 << 10;
/// Largest request with a file in it.
const MAX_FILE_REQUEST: usize = 4 << 20;
/// Where files are kept, in the service's directory, unless it is configured otherwise.
const ATTACHMENTS: &str = "attachments";
/// File of the key for stored secrets, in the service's directory, unless others are configured.
const SECRETS_KEY_FILE: &str = "secrets.key";

/// What the service needs from the process it runs in.
pub struct Dependencies<'a> {
    /// Time and randomness.
    pub env: Env,
    /// The service's background tasks; the process watches their failures.
    pub tasks: Tasks,
    /// The service's own directory, locked by this process: its database, bundles that pass through and,
    /// unless configured otherwise, local sandboxes.
    pub data: &'a DataDirectory,
    /// Verifies the tokens of callers.
    pub authenticator: Arc<Authenticator>,
    /// The repo service, behind this service's identity.
    pub repo: Upstream,
    /// Makes further providers from the local one, for tests of what providers may do; none in the product.
    pub further_providers: FurtherProviders,
    /// Observes the flow engine.
    pub flow_hooks: Arc<dyn Hooks>,
    /// Observes the watches.
    pub watch_observer: Arc<dyn Observer>,
    /// Receives at the end which sandboxes stay alive.
    pub survivors: Survivors,
    /// The model providers of the environment; none unless the operator wants them.
    pub environment: EnvironmentKeys,
}

/// The sandboxes that stayed alive when the service stopped; cloning shares the list.
#[derive(Clone, Debug, Default)]
pub struct Survivors(Arc<Mutex<Vec<String>>>);

impl Survivors {
    /// Their ids, once the service has stopped its jobs.
    pub fn sandboxes(&self) -> Vec<String> {
        foundry_core::lock(&self.0).clone()
    }

    fn set(&self, sandboxes: Vec<String>) {
        *foundry_core::lock(&self.0) = sandboxes;
    }
}

/// Builds the service: opens its database and providers, and starts its flows and watches.
///
/// # Errors
/// When the database cannot be opened, or a flow's table and code do not match.
pub async fn build(config: Config, deps: Dependencies<'_>) -> Result<Service, Error> {
    let (env, tasks) = (deps.env.clone(), deps.tasks.clone());
    let migrations = [&foundry_flow::MIGRATIONS, &store::MIGRATIONS];
    let database =
        Database::open(&config.store_url, deps.data.path(), "provisioner", &migrations, &env).await?;
    database.supervise(&tasks);
    let client = models::client(&config.network)?;
    let shared = share(config, &deps, &database, client.clone()).await?;
    models::serve(&shared, client, &env, &tasks, deps.data.path())?;
    egress::serve(&shared, &env, &tasks, deps.data.path())?;
    let retention = shared.config.flow_retention;
    let (hooks, starter) = (Arc::clone(&deps.flow_hooks), shared.starter.clone());
    let options = Options { retention, hooks, starter, ..Options::default() };
    let owned = OwnedDataDirectory::held_by(deps.data);
    let engine = database.start_engine(&env, &tasks, flow::bindings(&shared), options, &owned).await?;
    tasks.spawn("sandbox health", runtime::watch_health(Arc::clone(&shared)));
    tasks.spawn("isolation of sandboxes", settle(Arc::clone(&shared)));
    tasks.spawn("sandbox sweeper", runtime::sweep_strangers(Arc::clone(&shared)));
    let (store, keys) = (shared.store.clone(), shared.profiles.keys.clone());
    let reencrypted = reencrypt_at_start(store, keys, &SECRETS, env.clone(), tasks.clone());
    tasks.spawn("secrets under older keys", reencrypted);
    tasks.spawn("released events", runtime::reclaim_again(Arc::clone(&shared)));
    tasks.spawn("attachment sweeper", attachments::sweep_again(Arc::clone(&shared)));

    let routes = tonic::service::Routes::new(
        ProvisionerServiceServer::new(Rpc(Arc::clone(&shared))).max_decoding_message_size(MAX_REQUEST),
    )
    .add_service(
        ProfileServiceServer::new(ProfileRpc(Arc::clone(&shared))).max_decoding_message_size(MAX_REQUEST),
    )
    .add_service(
        AttachmentServiceServer::new(AttachmentRpc(Arc::clone(&shared)))
            .max_decoding_message_size(MAX_FILE_REQUEST),
    );
    let names = [SERVICE_NAME, profile_service_server::SERVICE_NAME, attachment_service_server::SERVICE_NAME];
    let service = served("provisioner", &names, routes, Rpc(Arc::clone(&shared)), deps.authenticator);
    let (last, survivors) = (Arc::clone(&shared), deps.survivors);
    let finish = move |limit| finish(last, engine, survivors, limit);
    Ok(on_database(service, &shared.store, &shared.hub, &env, tasks, finish))
}

async fn share(
    config: Config,
    deps: &Dependencies<'_>,
    database: &Database,
    client: reqwest::Client,
) -> Result<Arc<Shared>, Error> {
    let providers = Providers::open(&config, deps.data.path(), &deps.env, &deps.further_providers).await;
    let own = deps.data.path().join(SECRETS_KEY_FILE);
    let keys = foundry_secrets::Keys::load(&config.secret_keys, &own, &deps.env).await?;
    let parts = Parts {
        env: deps.env.clone(),
        tasks: deps.tasks.clone(),
        authenticator: Arc::clone(&deps.authenticator),
        repo: deps.repo.clone(),
        watch_observer: Arc::clone(&deps.watch_observer),
        attachments: Attachments::open(
            &config.attachments.store_url,
            &deps.data.path().join(ATTACHMENTS),
            &deps.env,
        )?,
        bundles: deps.data.path().join("bundles"),
        profiles: Profiles::new(
            keys,
            deps.environment.clone(),
            Arc::new(GatewayProbe::new(client, deps.env.clone())),
        ),
    };
    let shared = assemble(config, parts, database, providers)?;
    // Bundles that an earlier process left behind.
    if let Err(e) = std::fs::remove_dir_all(&shared.bundles)
        && e.kind() != std::io::ErrorKind::NotFound
    {
        return Err(Error::internal(e));
    }
    std::fs::create_dir_all(&shared.bundles).map_err(Error::internal)?;
    Ok(shared)
}

/// The parts that are shared, besides configuration, store and providers.
pub(crate) struct Parts {
    pub(crate) env: Env,
    pub(crate) tasks: Tasks,
    pub(crate) authenticator: Arc<Authenticator>,
    pub(crate) repo: Upstream,
    pub(crate) watch_observer: Arc<dyn Observer>,
    pub(crate) attachments: Attachments,
    pub(crate) bundles: PathBuf,
    pub(crate) profiles: Profiles,
}

/// Assembles the shared parts.
///
/// # Errors
/// `AGENT_ENTRY_INVALID` when an agent of the configuration is incomplete.
pub(crate) fn assemble(
    config: Config,
    parts: Parts,
    database: &Database,
    providers: Providers,
) -> Result<Arc<Shared>, Error> {
    let catalogue = Catalogue::new(config.agents.clone())?;
    catalogue.get(&config.default_agent)?;
    Ok(Arc::new(Shared {
        hub: database.hub("provisioner", &parts.env, &parts.tasks, parts.watch_observer),
        config,
        env: parts.env,
        store: database.store.clone(),
        tasks: parts.tasks,
        authenticator: parts.authenticator,
        repo: RepoServiceClient::new(parts.repo),
        providers,
        catalogue,
        profiles: parts.profiles,
        attachments: parts.attachments,
        model_gateway: std::sync::OnceLock::new(),
        bundles: parts.bundles,
        clients: runtime::Clients::default(),
        pumps: runtime::Pumps::default(),
        stored_output: runtime::StoredOutput::default(),
        work_locks: runtime::Locks::default(),
        reclaim_requested: tokio::sync::Notify::new(),
        health_check_requested: tokio::sync::Notify::new(),
        listings: tokio::sync::Semaphore::new(crate::ops::list_processes::CONCURRENT_LISTINGS),
        git: tokio::sync::OnceCell::new(),
        starter: Starter::default(),
    }))
}

/// Detects how sandboxes are isolated, in case that took too long during the start.
async fn settle(shared: Arc<Shared>) {
    tokio::select! {
        () = shared.tasks.cancellation().cancelled() => {}
        () = shared.providers.settle(&shared.env) => {}
    }
}

/// Ends the flows within the limit, and tells which sandboxes stay alive.
async fn finish(shared: Arc<Shared>, engine: Engine, survivors: Survivors, limit: Duration) -> Vec<String> {
    let cut_off = finish_flows(engine, limit).await;
    survivors.set(still_running(&shared).await);
    cut_off
}

/// The sandboxes that outlive this process; the next one adopts them.
async fn still_running(shared: &Shared) -> Vec<String> {
    match store::sandboxes::living(&shared.store).await {
        Ok(all) => {
            let alive: Vec<String> =
                all.iter().filter(|s| s.facts.is_some()).map(|s| s.sandbox_id.to_string()).collect();
            if !alive.is_empty() {
                tracing::info!(sandboxes = ?alive, "these sandboxes keep running and will be adopted");
            }
            alive
        }
        Err(e) => {
            tracing::warn!(error = %e, "the ledger cannot be read");
            Vec::new()
        }
    }
}
