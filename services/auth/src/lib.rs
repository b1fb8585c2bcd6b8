//! The auth service: organizations, users, roles, sign-in, tokens and their revocation.
//!
//! Only this service stores who may do what. All others verify its five-minute tokens with its published keys and
//! follow its revocations by a watch. No rpc waits for another service.

mod auth;
mod development;
mod domain;
mod flow;
mod jobs;
mod keys;
mod ops;
mod rpc;
mod secret_file;
mod sign_in;
mod signing;
mod store;
#[cfg(test)]
mod testing;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use foundry_authn::{Authenticator, Caller, KeyRing, Revocations};
use foundry_core::{Env, Error, Result, Tasks};
use foundry_flow::{Engine, Hooks, Options, OwnedDataDirectory};
use foundry_http_client::NetworkSettings;
use foundry_proto::auth::v1::auth_service_server::{AuthServiceServer, SERVICE_NAME};
use foundry_secrets::KeySource;
use foundry_server::{DataDirectory, Service, Standing};
use foundry_service::{Database, finish_flows, on_database, reencrypt_at_start, served};
use foundry_store::StoreOptions;
use foundry_watch::Observer;
use serde::{Deserialize, Serialize};
use tonic::service::Routes;

use crate::auth::{Auth, RecentUses};
use crate::development::DevelopmentSignIn;
use crate::domain::guesses::Guesses;
use crate::jobs::Jobs;
use crate::keys::PublishedKeys;
use crate::rpc::Rpc;
use crate::sign_in::SignIn;
use crate::signing::SigningKeys;

pub use sign_in::config::ProviderConfig;
pub use store::{ENCODED, REFERENCES};

/// The service's name in the mesh.
pub const NAME: &str = "auth";

/// Name of the file in the data directory that holds the secret of the development sign-in.
pub const DEVELOPMENT_SECRET_FILE: &str = development::FILE;

/// Name of the file in the data directory that holds the secret for the first owner; there is one as soon as an identity
/// provider is configured.
pub const SET_UP_SECRET_FILE: &str = sign_in::SET_UP_FILE;

/// Settings of the service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Database, `sqlite:<path>` or `postgres://…`; empty = `auth.db` in the data directory.
    pub store_url: String,
    /// Whether the development sign-in is enabled: on this machine only, with the secret of the data directory.
    pub development_sign_in: bool,
    /// Identity providers to sign in with, by name. With at least one, the development sign-in is off.
    pub sign_in: BTreeMap<String, ProviderConfig>,
    /// How identity providers are reached: an HTTP proxy, the hosts without it, and certificates to trust besides the
    /// system's. Without any of them, those of `provisioner.network`.
    pub network: NetworkSettings,
    /// Where the keys that encrypt the tokens of providers come from: `file:PATH`, `env:VARIABLE` or `command:PROGRAM
    /// ARGUMENT…`. The first one encrypts, each decrypts; empty = `secrets.key` in the service's directory, made at the
    /// first start.
    pub secret_keys: Vec<KeySource>,
    /// How long a session lasts.
    #[serde(with = "foundry_server::config::duration")]
    pub session_lifetime: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            store_url: String::new(),
            development_sign_in: false,
            sign_in: BTreeMap::new(),
            network: NetworkSettings::default(),
            secret_keys: Vec::new(),
            session_lifetime: Duration::from_secs(30 * 86_400),
        }
    }
}

impl Config {
    /// Whether the development sign-in is on: never beside a provider.
    pub fn has_development_sign_in(&self) -> bool {
        self.development_sign_in && self.sign_in.is_empty()
    }
}

/// What the binary provides to the service.
pub struct Dependencies<'a> {
    /// Clock and random source.
    pub env: Env,
    /// The owner of the service's background tasks; shut down with the service.
    pub tasks: Tasks,
    /// The service's own data directory, locked by this process, for signing keys, secrets, and the database unless
    /// `store_url` names another place.
    pub data: &'a DataDirectory,
    /// Directory where services publish the public halves of their identities.
    pub keys_dir: PathBuf,
    /// Origin of the page, as in `gateway.public_url`; empty if it is not configured.
    pub public_url: String,
    /// Receives events of the flow engine.
    pub flow_hooks: Arc<dyn Hooks>,
    /// Receives measurements of the watches.
    pub watch_observer: Arc<dyn Observer>,
}

/// Builds the service: opens the store, starts its jobs, and hands over routes and stop phases.
///
/// # Errors
/// When a file or the database cannot be used, or an rpc lacks its authorization entry.
pub async fn build(config: Config, deps: Dependencies<'_>) -> Result<Service> {
    let (auth, database) = open(config, &deps, StoreOptions::default()).await?;
    // Before the first request: users are refused until the revocations are loaded.
    jobs::follow_revocations::catch_up(&auth, None).await?;
    let jobs = Jobs::start(&auth, &deps.tasks);
    let (store, keys) = (auth.store.clone(), auth.sign_in.keys.clone());
    let reencrypted = reencrypt_at_start(store, keys, &store::SECRETS, deps.env.clone(), deps.tasks.clone());
    deps.tasks.spawn("secrets under older keys", reencrypted);
    let options = Options { hooks: deps.flow_hooks.clone(), ..Options::default() };
    let owned = OwnedDataDirectory::held_by(deps.data);
    let engine =
        database.start_engine(&deps.env, &deps.tasks, flow::bindings(&auth), options, &owned).await?;
    let rpc = Rpc(auth.clone());
    let routes = Routes::new(AuthServiceServer::new(rpc.clone()));
    let service = served(NAME, &[SERVICE_NAME], routes, rpc, auth.authenticator.clone());
    let service = service.standing_of(|extensions| match extensions.get::<Caller>() {
        Some(_) => Standing::Identified,
        None => Standing::Anonymous,
    });
    let last = auth.clone();
    let finish = move |limit| finish(last, jobs, engine, limit);
    Ok(on_database(service, &auth.store, &auth.hub, &deps.env, deps.tasks, finish))
}

/// Ends the jobs within the limit; returns what was cut off.
async fn finish(auth: Arc<Auth>, jobs: Jobs, engine: Engine, limit: Duration) -> Vec<String> {
    let (mut cut_off, late) = tokio::join!(finish_flows(engine, limit), jobs.stop(limit));
    if let Err(e) = jobs::record_last_use::run(auth).await {
        tracing::warn!(error = %e, "last uses of credentials were not written");
    }
    if late > 0 {
        cut_off.push(format!("{late} jobs"));
    }
    cut_off
}

async fn open(
    config: Config,
    deps: &Dependencies<'_>,
    options: StoreOptions,
) -> Result<(Arc<Auth>, Database)> {
    let (env, dir) = (deps.env.clone(), deps.data.path());
    let migrations = [&store::MIGRATIONS, &foundry_flow::MIGRATIONS];
    let database = Database::open_with(options, &config.store_url, dir, NAME, &migrations, &env).await?;
    database.supervise(&deps.tasks);
    let (signing, development) = secrets(&config, deps).await?;
    let sign_in = SignIn::load(&config, dir, &env).await?;
    let published = PublishedKeys::new(signing.clone(), deps.keys_dir.clone(), env.clock.clone());
    let revocations = Revocations::new();
    let ring = KeyRing::new(Arc::new(published.clone()), env.clock.clone());
    let authenticator = Arc::new(Authenticator::new(NAME, ring, revocations.clone(), &env)?);
    let hub = database.hub(NAME, &env, &deps.tasks, deps.watch_observer.clone());
    let uses = RecentUses::default();
    let auth = Arc::new(Auth {
        config,
        env,
        store: database.store.clone(),
        hub,
        signing,
        published,
        development,
        revocations,
        authenticator,
        sign_in,
        uses,
        public_url: deps.public_url.clone(),
        guesses: Guesses::default(),
    });
    // Before the mesh says where the secret is.
    jobs::keep_set_up_secret::run(auth.clone()).await?;
    Ok((auth, database))
}

/// Reads or creates the secret files, off the runtime's threads.
async fn secrets(
    config: &Config,
    deps: &Dependencies<'_>,
) -> Result<(SigningKeys, Option<DevelopmentSignIn>)> {
    let (env, dir, enabled) =
        (deps.env.clone(), deps.data.path().to_owned(), config.has_development_sign_in());
    let load = move || {
        let signing = SigningKeys::load_or_create(&dir, &env)?;
        let development = enabled.then(|| DevelopmentSignIn::load_or_create(&dir, &env)).transpose()?;
        Ok::<_, Error>((signing, development))
    };
    tokio::task::spawn_blocking(load).await.map_err(Error::internal)?
}
