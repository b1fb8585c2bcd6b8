//! The repo service: mirrors of Git repositories, and the work of tasks in them.
//!
//! Handlers read and write rows; git runs in background flows, never in a tree that an agent can write. What
//! handlers read from a mirror (a directory, a file, the differences of two versions of a work) is bounded and few at a time;
//! fetches and whole patches are streamed in a bulkhead of their own.

mod app_tokens;
mod broker;
mod comparison;
mod context;
mod domain;
mod flow;
mod network;
mod ops;
mod rpc;
mod serving;
mod store;
#[cfg(test)]
mod testing;
mod view;
mod webhooks;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use foundry_authn::Authenticator;
use foundry_core::{Env, Error, Result, Tasks};
use foundry_flow::{Hooks, Options, OwnedDataDirectory};
use foundry_forge::{ForgeHost, ForgeHosts, Forges};
use foundry_git::{Git, UrlPolicy};
use foundry_http_client::NetworkSettings;
use foundry_proto::repo::v1::repo_service_server::{self, RepoServiceServer};
use foundry_secrets::{KeySource, Keys};
use foundry_server::config::duration;
use foundry_server::{DataDirectory, Service};
use foundry_service::{Database, finish_flows, on_database, reencrypt_at_start, served};
use foundry_watch::Observer;
use serde::{Deserialize, Serialize};
use tonic::service::Routes;

use context::Context;
use domain::finding::AllowedFinding;
use domain::sync::Pace;
use serving::Serving;
pub use store::{ENCODED, REFERENCES};

/// File of the key for stored credentials, in the service's directory, unless others are configured.
const SECRETS_KEY_FILE: &str = "secrets.key";

/// Settings of the service.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Database, `sqlite:<path>` or `postgres://…`; empty = `repo.db` in the service's directory.
    pub store_url: String,
    /// Whether repositories may be absolute local paths and `file:` URLs.
    pub allow_local_paths: bool,
    /// Whether repositories may be at private, loopback and link-local addresses.
    pub allow_private_addresses: bool,
    /// Whether repositories may be at `http:` URLs, where contents and credentials are not encrypted on their way.
    pub allow_http: bool,
    /// The only hosts that repositories may be at, and whose APIs are called for their pull requests: `git.example.org`,
    /// `git.example.org:2222`, or `*.example.org` for all names below it; without a port, the usual one of the scheme.
    /// Empty = all. Local paths and private addresses have settings of their own, which still apply.
    pub allowed_hosts: Vec<String>,
    /// How remotes at HTTPS addresses and the APIs of forges are reached: an HTTP proxy, the hosts without it, and certificates to trust
    /// besides the system's. Without any of them, those of `provisioner.network`. With a proxy, host names are resolved
    /// by it and checked by name only. Connections by ssh are direct.
    pub network: NetworkSettings,
    /// Where the keys that encrypt stored credentials come from: `file:PATH`, `env:VARIABLE` or `command:PROGRAM
    /// ARGUMENT…`. The first one encrypts, each decrypts; empty = `secrets.key` in the service's directory, made at
    /// the first start.
    pub secret_keys: Vec<KeySource>,
    /// Largest bundle of work, in bytes.
    pub max_bundle_bytes: u64,
    /// Checks of `git fsck` that the objects of a repository may fail, as `URL CHECK`: the URL or path as it is
    /// registered, and the name of the check as in the error, such as `https://example.org/old.git missingEmail`. It holds
    /// for that repository alone.
    pub allow_findings: Vec<String>,
    /// Hosts that may have the files of Git LFS of repositories at other hosts, besides those of github.com, written as in
    /// `allowed_hosts`, in which they need not be. The address rules hold for them too.
    pub lfs_hosts: Vec<String>,
    /// How long the start of a task waits until the newest commit of its base is fetched. After that it starts on what
    /// the mirror has, and shows how old that is.
    #[serde(with = "duration")]
    pub base_wait: Duration,
    /// How often the remote of a repository is asked for changes that was used in the last half hour.
    #[serde(with = "duration")]
    pub poll_active: Duration,
    /// How often the remotes of all other repositories are asked, and of those whose changes a webhook announces.
    #[serde(with = "duration")]
    pub poll_idle: Duration,
    /// How many remotes are asked in the background at the same time, of one organization at most all but one; 0 = none,
    /// whatever webhooks announce.
    pub polls_at_once: usize,
    /// Hosts that are forges, besides github.com, gitlab.com and codeberg.org, as `HOST KIND` or `HOST KIND API`: the host
    /// in the URLs of its repositories, with its port; `github`, `gitlab` or `gitea`; and the URL of the API if it is not
    /// the usual one. These may be at private addresses.
    pub forges: Vec<String>,
}

/// How long a fetch inside a sandbox waits for the remote to be read again.
const FETCH_WAIT: Duration = Duration::from_secs(5);
/// How long an attempt of an action makes commits before it records what it has: what a crash or an outage may cost.
const PLAN_SHARE: Duration = Duration::from_secs(30);

impl Default for Config {
    fn default() -> Self {
        Self {
            store_url: String::new(),
            allow_local_paths: true,
            allow_private_addresses: false,
            allow_http: false,
            allowed_hosts: Vec::new(),
            network: NetworkSettings::default(),
            secret_keys: Vec::new(),
            max_bundle_bytes: 256 << 20,
            allow_findings: Vec::new(),
            lfs_hosts: Vec::new(),
            base_wait: Duration::from_secs(15),
            poll_active: Duration::from_secs(60),
            poll_idle: Duration::from_secs(15 * 60),
            polls_at_once: 4,
            forges: Vec::new(),
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
    /// The data directory of the whole mesh, which is refused as a source of repositories.
    pub mesh_dir: PathBuf,
    /// Verifies callers' tokens.
    pub authenticator: Arc<Authenticator>,
    /// Receives events of the flow engine.
    pub flow_hooks: Arc<dyn Hooks>,
    /// Receives measurements of the watches.
    pub watch_observer: Arc<dyn Observer>,
}

/// Builds the service and starts its background work.
///
/// # Errors
/// When the database cannot be opened or git is missing.
pub async fn build(config: &Config, deps: Dependencies<'_>) -> Result<Service> {
    let dir = deps.data.path();
    let (mirrors, incoming, scratch) = (dir.join("mirrors"), dir.join("incoming"), dir.join("serving"));
    let access = dir.join("access");
    clear(&scratch)?;
    clear(&access)?;
    for path in [&mirrors, &incoming, &scratch, &access] {
        std::fs::create_dir_all(path).map_err(Error::internal)?;
    }
    let keys = Keys::load(&config.secret_keys, &dir.join(SECRETS_KEY_FILE), &deps.env).await?;
    let migrations = [&store::MIGRATIONS, &foundry_flow::MIGRATIONS];
    let database = Database::open(&config.store_url, dir, "repo", &migrations, &deps.env).await?;
    database.supervise(&deps.tasks);
    if config.allow_local_paths {
        tracing::info!(
            "local paths are allowed as repositories (repo.allow_local_paths); disable this if users are not trusted"
        );
    }
    let urls = UrlPolicy {
        allow_local: config.allow_local_paths,
        allow_private_addresses: config.allow_private_addresses,
        allow_http: config.allow_http,
        allowed_hosts: parsed("repo.allowed_hosts", &config.allowed_hosts, |text| text.parse())?,
        network: network::network(&config.network, dir)?,
        lfs_hosts: parsed("repo.lfs_hosts", &config.lfs_hosts, |text| text.parse())?,
        ..UrlPolicy::embedded(&deps.mesh_dir)
    };
    let allow_findings =
        parsed("repo.allow_findings", &config.allow_findings, |text| AllowedFinding::parse(text, &urls))?;
    let unusable = |what: &'static str, why: String| Error::precondition("NETWORK_UNUSABLE", what, why);
    let hosts = config.forges.iter().map(|text| text.parse()).collect::<Result<Vec<ForgeHost>, _>>();
    let forge_hosts = hosts.and_then(|hosts| ForgeHosts::new(&hosts));
    let forge_hosts = forge_hosts.map_err(|e| unusable("repo.forges", e.to_string()))?;
    let forges = Forges::new(&config.network).map_err(|e| unusable("repo.network", e.to_string()))?;
    let cx = Arc::new(Context {
        hub: database.hub("repo", &deps.env, &deps.tasks, deps.watch_observer.clone()),
        store: database.store.clone(),
        env: deps.env.clone(),
        git: Git::detect().await?,
        urls,
        broker: broker::Broker { keys, directory: access },
        forge_hosts,
        forges: Arc::new(forges),
        mirrors,
        incoming,
        max_bundle_bytes: config.max_bundle_bytes,
        base_wait: config.base_wait,
        fetch_wait: FETCH_WAIT,
        plan_share: PLAN_SHARE,
        allow_findings,
        pace: Pace { active: config.poll_active, idle: config.poll_idle, at_once: config.polls_at_once },
        reads: tokio::sync::Semaphore::new(context::CONCURRENT_READS),
        comparisons: comparison::Comparisons::default(),
        serving: Serving::new(scratch, deps.tasks.clone()),
        app_tokens: app_tokens::AppTokens::default(),
        refusals: domain::webhook::Refusals::default(),
        authenticator: deps.authenticator.clone(),
    });
    let (store, keys) = (cx.store.clone(), cx.broker.keys.clone());
    let reencrypted = reencrypt_at_start(store, keys, &store::SECRETS, cx.env.clone(), deps.tasks.clone());
    deps.tasks.spawn("secrets under older keys", reencrypted);
    sweep_incoming(&cx).await?;
    flow::import::enqueue_waiting(&cx).await?;
    flow::background::ensure(&cx).await?;
    flow::forget_deliveries::ensure(&cx).await?;
    let options = Options { hooks: deps.flow_hooks.clone(), ..Options::default() };
    let owned = OwnedDataDirectory::held_by(deps.data);
    let engine = database.start_engine(&deps.env, &deps.tasks, flow::bindings(&cx), options, &owned).await?;
    let routes = Routes::new(RepoServiceServer::new(rpc::Rpc(cx.clone())));
    let names = [repo_service_server::SERVICE_NAME];
    let service = served("repo", &names, routes, rpc::Rpc(cx.clone()), deps.authenticator);
    let finish = |limit| finish_flows(engine, limit);
    Ok(on_database(service, &cx.store, &cx.hub, &deps.env, deps.tasks, finish))
}

/// The entries of a setting, or which of them cannot be used and why.
fn parsed<T, E: std::fmt::Display>(
    setting: &'static str,
    entries: &[String],
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Vec<T>> {
    let entries = entries.iter().zip(1..).map(|(entry, n)| {
        parse(entry).map_err(|e| {
            let text = format!("entry {n} of {setting} {e}");
            Error::precondition("REPOSITORY_SETTING_UNUSABLE", setting, text)
        })
    });
    entries.collect()
}

/// Removes what operations have left in a process that was killed.
fn clear(scratch: &Path) -> Result<()> {
    match std::fs::remove_dir_all(scratch) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::internal(e)),
        _ => Ok(()),
    }
}

/// Removes leftovers of broken streams and of finished imports.
async fn sweep_incoming(cx: &Context) -> Result<()> {
    let waiting = store::works::waiting(&cx.store).await?;
    let wanted: Vec<PathBuf> =
        waiting.iter().map(|w| flow::import::bundle_path(&cx.incoming, &w.task_id, w.received)).collect();
    let mut entries = tokio::fs::read_dir(&cx.incoming).await.map_err(Error::internal)?;
    while let Some(entry) = entries.next_entry().await.map_err(Error::internal)? {
        let path = entry.path();
        if !wanted.iter().any(|w| Path::new(w) == path) {
            tokio::fs::remove_file(&path).await.map_err(Error::internal)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_of_a_setting_that_cannot_be_used_is_named_by_its_number() {
        let entries = ["git.example.org".to_owned(), "https://user:secret@example.org".to_owned()];
        let parse = |text: &str| text.parse::<foundry_git::AllowedHost>();
        let refused = parsed("repo.allowed_hosts", &entries, parse).unwrap_err();
        assert_eq!(refused.reason(), "REPOSITORY_SETTING_UNUSABLE");
        assert!(refused.message().starts_with("entry 2 of repo.allowed_hosts must be a host"), "{refused}");
        assert!(!refused.message().contains("secret"), "{refused}");
        assert_eq!(parsed("repo.allowed_hosts", &entries[..1], parse).unwrap().len(), 1);
    }
}
