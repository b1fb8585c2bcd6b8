//! The auth service: organizations, users, roles, sign-in, tokens and their revocation.
//!
//! Only this service stores who may do what. All others verify its five-minute tokens with its published keys and
//! follow its revocations by a watch. No rpc waits for another service.

mod auth;
mod development;
mod domain;
mod jobs;
mod keys;
mod ops;
mod rpc;
mod signing;
mod store;
#[cfg(test)]
mod testing;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use foundry_authn::{Authenticator, Caller, KeyRing, Revocations};
use foundry_core::{Env, Error, Result, Tasks};
use foundry_proto::auth::v1::auth_service_server::{AuthServiceServer, SERVICE_NAME};
use foundry_server::{Service, Standing};
use foundry_service::{Database, on_database, served};
use foundry_watch::Observer;
use serde::{Deserialize, Serialize};
use tonic::service::Routes;

use crate::auth::{Auth, RecentUses};
use crate::development::DevelopmentSignIn;
use crate::jobs::Jobs;
use crate::keys::PublishedKeys;
use crate::rpc::Rpc;
use crate::signing::SigningKeys;

pub use store::REFERENCES;

/// The service's name in the mesh.
pub const NAME: &str = "auth";

/// Name of the file in the data directory that holds the secret of the development sign-in.
pub const DEVELOPMENT_SECRET_FILE: &str = development::FILE;

/// Settings of the service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Database, `sqlite:<path>` or `postgres://…`; empty = `auth.db` in the data directory.
    pub store_url: String,
    /// Whether the development sign-in is enabled: on this machine only, with the secret of the data directory.
    pub development_sign_in: bool,
    /// How long a session lasts.
    #[serde(with = "foundry_server::config::duration")]
    pub session_lifetime: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            store_url: String::new(),
            development_sign_in: false,
            session_lifetime: Duration::from_secs(30 * 86_400),
        }
    }
}

/// What the binary provides to the service.
pub struct Dependencies {
    /// Clock and random source.
    pub env: Env,
    /// The owner of the service's background tasks; shut down with the service.
    pub tasks: Tasks,
    /// Directory for signing keys, the development secret, and the database unless `store_url` names another place.
    pub data_dir: PathBuf,
    /// Directory where services publish the public halves of their identities.
    pub keys_dir: PathBuf,
    /// Receives measurements of the watches.
    pub watch_observer: Arc<dyn Observer>,
}

/// Builds the service: opens the store, starts its jobs, and hands over routes and stop phases.
///
/// # Errors
/// When a file or the database cannot be used, or an rpc lacks its authorization entry.
pub async fn build(config: Config, deps: Dependencies) -> Result<Service> {
    let auth = open(config, &deps).await?;
    // Before the first request: users are refused until the revocations are loaded.
    jobs::follow_revocations::catch_up(&auth, None).await?;
    let jobs = Jobs::start(&auth, &deps.tasks);
    let rpc = Rpc(auth.clone());
    let routes = Routes::new(AuthServiceServer::new(rpc.clone()));
    let service = served(NAME, &[SERVICE_NAME], routes, rpc, auth.authenticator.clone());
    let service = service.standing_of(|extensions| match extensions.get::<Caller>() {
        Some(_) => Standing::Identified,
        None => Standing::Anonymous,
    });
    let last = auth.clone();
    let finish = move |limit| finish(last, jobs, limit);
    Ok(on_database(service, &auth.store, &auth.hub, &deps.env, deps.tasks, finish))
}

/// Ends the jobs within the limit; returns what was cut off.
async fn finish(auth: Arc<Auth>, jobs: Jobs, limit: Duration) -> Vec<String> {
    let late = jobs.stop(limit).await;
    if let Err(e) = jobs::record_last_use::run(auth).await {
        tracing::warn!(error = %e, "last uses of credentials were not written");
    }
    if late == 0 { Vec::new() } else { vec![format!("{late} jobs")] }
}

async fn open(config: Config, deps: &Dependencies) -> Result<Arc<Auth>> {
    let env = deps.env.clone();
    let database =
        Database::open(&config.store_url, &deps.data_dir, NAME, &[&store::MIGRATIONS], &env).await?;
    database.supervise(&deps.tasks);
    let (signing, development) = secrets(&config, deps).await?;
    let published = PublishedKeys::new(signing.clone(), deps.keys_dir.clone(), env.clock.clone());
    let revocations = Revocations::new();
    let ring = KeyRing::new(Arc::new(published.clone()), env.clock.clone());
    let authenticator = Arc::new(Authenticator::new(NAME, ring, revocations.clone(), &env)?);
    let hub = database.hub(NAME, &env, &deps.tasks, deps.watch_observer.clone());
    let uses = RecentUses::default();
    Ok(Arc::new(Auth {
        config,
        env,
        store: database.store,
        hub,
        signing,
        published,
        development,
        revocations,
        authenticator,
        uses,
    }))
}

/// Reads or creates the secret files, off the runtime's threads.
async fn secrets(config: &Config, deps: &Dependencies) -> Result<(SigningKeys, Option<DevelopmentSignIn>)> {
    let (env, dir, enabled) = (deps.env.clone(), deps.data_dir.clone(), config.development_sign_in);
    let load = move || {
        let signing = SigningKeys::load_or_create(&dir, &env)?;
        let development = enabled.then(|| DevelopmentSignIn::load_or_create(&dir, &env)).transpose()?;
        Ok::<_, Error>((signing, development))
    };
    tokio::task::spawn_blocking(load).await.map_err(Error::internal)?
}
