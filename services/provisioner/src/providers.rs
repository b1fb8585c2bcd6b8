//! The providers by name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use foundry_core::{Env, Error};
use foundry_sandbox::{Provider, ProviderError};
use foundry_sandbox_local::{LocalConfig, LocalProvider};

use crate::service::FurtherProviders;
use crate::{Config, models};

/// The providers that are configured.
pub struct Providers(BTreeMap<&'static str, Entry>);

struct Entry {
    provider: Result<Arc<dyn Provider>, ProviderError>,
    isolation: String,
    limits: String,
    /// Whether it only wraps another provider and has no sandboxes of its own.
    wraps: bool,
}

impl Providers {
    /// Opens all that are configured; one that cannot be used says why when it is asked for.
    pub async fn open(config: &Config, data_dir: &Path, env: &Env, further: &FurtherProviders) -> Self {
        let mut all = BTreeMap::new();
        let (local, isolation, limits) = match open_local(config, data_dir, env).await {
            Ok(local) => {
                let (isolation, limits) = (isolation_text(local.isolation()), local.limits_text());
                (Ok(Arc::new(local) as Arc<dyn Provider>), isolation, limits)
            }
            Err(e) => {
                tracing::error!(reason = e.reason, message = e.message, "the local provider cannot be used");
                (Err(e), String::new(), String::new())
            }
        };
        if let Ok(local) = &local {
            for provider in further(local, env) {
                let (isolation, limits) = (isolation.clone(), limits.clone());
                let name = provider.name();
                all.insert(name, Entry { provider: Ok(provider), isolation, limits, wraps: true });
            }
        }
        all.insert("local", Entry { provider: local, isolation, limits, wraps: false });
        Self(all)
    }

    /// Exactly these. For tests.
    #[cfg(test)]
    pub fn of(list: Vec<Arc<dyn Provider>>) -> Self {
        let entry = |p: Arc<dyn Provider>| {
            let (isolation, limits) = (String::new(), String::new());
            (p.name(), Entry { provider: Ok(p), isolation, limits, wraps: false })
        };
        Self(list.into_iter().map(entry).collect())
    }

    /// A provider that can be used.
    ///
    /// # Errors
    /// `PROVIDER_UNKNOWN` naming those there are, or why it cannot be used.
    pub fn get(&self, name: &str) -> Result<&Arc<dyn Provider>, Error> {
        match self.0.get(name).map(|e| &e.provider) {
            Some(Ok(provider)) => Ok(provider),
            Some(Err(e)) => {
                Err(Error::precondition("PROVIDER_UNAVAILABLE", name, format!("{}: {}", e.reason, e.message)))
            }
            None => {
                let known = self.0.keys().copied().collect::<Vec<_>>().join(", ");
                let text = format!("there is no provider {name:?}; the providers are {known}");
                Err(Error::precondition("PROVIDER_UNKNOWN", "provider", text))
            }
        }
    }

    /// Name, how it isolates, how it limits, and why it cannot be used, of each.
    pub fn describe(&self) -> impl Iterator<Item = (&'static str, &str, &str, Option<&ProviderError>)> {
        self.0
            .iter()
            .map(|(name, e)| (*name, e.isolation.as_str(), e.limits.as_str(), e.provider.as_ref().err()))
    }

    /// Those that can be used and are a place of their own.
    pub fn usable(&self) -> impl Iterator<Item = &Arc<dyn Provider>> {
        self.0.values().filter(|e| !e.wraps).filter_map(|e| e.provider.as_ref().ok())
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

/// How a sandbox is kept apart, for people.
pub fn isolation_text(isolation: &foundry_sandbox::Isolation) -> String {
    match isolation {
        foundry_sandbox::Isolation::Bubblewrap { version, .. } => format!("bubblewrap ({version})"),
        foundry_sandbox::Isolation::None { reason } => format!("none: {reason}"),
    }
}
