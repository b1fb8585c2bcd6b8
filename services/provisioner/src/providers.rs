//! The providers by name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use foundry_core::{Env, Error};
use foundry_sandbox::{Network, Provider, ProviderError};
use foundry_sandbox_local::{LocalConfig, LocalProvider};

use crate::service::FurtherProviders;
use crate::{Config, egress, models};

/// The providers that are configured.
pub struct Providers {
    all: BTreeMap<&'static str, Entry>,
    /// Whether an upstream proxy resolves the names that sandboxes want.
    upstream: bool,
}

struct Entry {
    provider: Result<Arc<dyn Provider>, ProviderError>,
    said: Said,
    /// Whether it only wraps another provider and has no sandboxes of its own.
    wraps: bool,
}

/// What is said of a provider's sandboxes to people.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// How they are kept apart.
    pub isolation: String,
    /// What new ones may reach.
    pub network: String,
    /// What each may take, and how that is enforced.
    pub limits: String,
}

impl Providers {
    /// Opens all that are configured; one that cannot be used says why when it is asked for.
    pub async fn open(config: &Config, data_dir: &Path, env: &Env, further: &FurtherProviders) -> Self {
        let mut all = BTreeMap::new();
        let upstream = config.network.proxy_url().is_ok_and(|url| url.is_some());
        let (local, said) = match open_local(config, data_dir, env).await {
            Ok(local) => {
                let said = Said {
                    isolation: isolation_text(local.isolation()),
                    network: described(local.network(), local.network_note(), upstream),
                    limits: local.limits_text(),
                };
                (Ok(Arc::new(local) as Arc<dyn Provider>), said)
            }
            Err(e) => {
                tracing::error!(reason = e.reason, message = e.message, "the local provider cannot be used");
                (Err(e), Said::default())
            }
        };
        if let Ok(local) = &local {
            for provider in further(local, env) {
                let name = provider.name();
                all.insert(name, Entry { provider: Ok(provider), said: said.clone(), wraps: true });
            }
        }
        all.insert("local", Entry { provider: local, said, wraps: false });
        Self { all, upstream }
    }

    /// What a sandbox may reach, for people.
    pub fn network_text(&self, network: &Network) -> String {
        described(network, None, self.upstream)
    }

    /// Exactly these. For tests.
    #[cfg(test)]
    pub fn of(list: Vec<Arc<dyn Provider>>) -> Self {
        let entry =
            |p: Arc<dyn Provider>| (p.name(), Entry { provider: Ok(p), said: Said::default(), wraps: false });
        Self { all: list.into_iter().map(entry).collect(), upstream: false }
    }

    /// A provider that can be used.
    ///
    /// # Errors
    /// `PROVIDER_UNKNOWN` naming those there are, or why it cannot be used.
    pub fn get(&self, name: &str) -> Result<&Arc<dyn Provider>, Error> {
        match self.all.get(name).map(|e| &e.provider) {
            Some(Ok(provider)) => Ok(provider),
            Some(Err(e)) => {
                Err(Error::precondition("PROVIDER_UNAVAILABLE", name, format!("{}: {}", e.reason, e.message)))
            }
            None => {
                let known = self.all.keys().copied().collect::<Vec<_>>().join(", ");
                let text = format!("there is no provider {name:?}; the providers are {known}");
                Err(Error::precondition("PROVIDER_UNKNOWN", "provider", text))
            }
        }
    }

    /// Name, what is said of its sandboxes, and why it cannot be used, of each.
    pub fn describe(&self) -> impl Iterator<Item = (&'static str, &Said, Option<&ProviderError>)> {
        self.all.iter().map(|(name, e)| (*name, &e.said, e.provider.as_ref().err()))
    }

    /// Those that can be used and are a place of their own.
    pub fn usable(&self) -> impl Iterator<Item = &Arc<dyn Provider>> {
        self.all.values().filter(|e| !e.wraps).filter_map(|e| e.provider.as_ref().ok())
    }
}

async fn open_local(config: &Config, data_dir: &Path, env: &Env) -> Result<LocalProvider, ProviderError> {
    let program = match &config.foundry_program {
        Some(program) => program.clone(),
        None => std::env::current_exe().map_err(|e| ProviderError::io("finding this program", e))?,
    };
    let root = config.local.root.clone().unwrap_or_else(|| data_dir.join("sandboxes"));
    let mut local = LocalConfig::new(root, program, tools_cache(config, data_dir));
    local.npm = config.npm.clone();
    local.model_socket = Some(models::socket(data_dir));
    local.network_socket = Some(egress::socket(data_dir));
    local.network = config.local.network.as_ref().map(|setting| setting.0.clone());
    local.ca_file = config.network.ca_file.clone();
    local.isolation = config.local.isolation;
    local.bwrap = config.local.bwrap.clone();
    local.min_free_bytes = config.local.min_free_bytes;
    local.extra_read_only = config.local.extra_read_only.clone();
    local.limits = config.local.limits.clone();
    LocalProvider::new(local, env.clone()).await
}

fn tools_cache(config: &Config, data_dir: &Path) -> PathBuf {
    if let Some(cache) = &config.tools_cache {
        return cache.clone();
    }
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .map_or_else(|| data_dir.join("tools"), |cache| cache.join("foundry/tools"))
}

/// A network for people, with the reason when it is not the one that is usual.
fn described(network: &Network, note: Option<&str>, upstream: bool) -> String {
    let text = foundry_egress::describe(network, upstream);
    note.map_or_else(|| text.clone(), |reason| format!("{text}, since {reason}"))
}

/// How a sandbox is kept apart, for people.
pub fn isolation_text(isolation: &foundry_sandbox::Isolation) -> String {
    match isolation {
        foundry_sandbox::Isolation::Bubblewrap { version, .. } => format!("bubblewrap ({version})"),
        foundry_sandbox::Isolation::None { reason } => format!("none: {reason}"),
    }
}
