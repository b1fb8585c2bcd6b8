//! The providers by name.

mod fault;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use foundry_core::{Env, Error};
use foundry_sandbox::{LocalConfig, LocalProvider, Provider, ProviderError, Tools, ToolsConfig};

use crate::Config;
pub use fault::FaultProvider;

/// The providers that are configured.
pub struct Providers(BTreeMap<&'static str, Entry>);

struct Entry {
    provider: Result<Arc<dyn Provider>, ProviderError>,
    isolation: String,
}

impl Providers {
    /// Opens all that are configured; one that cannot be used says why when it is asked for.
    pub async fn open(config: &Config, data_dir: &Path, env: &Env) -> Self {
        let mut all = BTreeMap::new();
        let (local, isolation) = match open_local(config, data_dir, env).await {
            Ok(local) => {
                let isolation = describe(&local);
                (Ok(Arc::new(local) as Arc<dyn Provider>), isolation)
            }
            Err(e) => {
                tracing::error!(reason = e.reason, message = e.message, "the local provider cannot be used");
                (Err(e), String::new())
            }
        };
        if let (true, Some(directory), Ok(local)) =
            (config.enable_fault_provider, &config.fault_directory, &local)
        {
            tracing::warn!("the provider `fault` is enabled: it is for tests only");
            let fault = FaultProvider::new(Arc::clone(local), directory.clone(), env.clone());
            let provider: Result<Arc<dyn Provider>, ProviderError> = Ok(Arc::new(fault));
            all.insert("fault", Entry { provider, isolation: isolation.clone() });
        }
        all.insert("local", Entry { provider: local, isolation });
        Self(all)
    }

    /// Exactly these. For tests.
    #[cfg(test)]
    pub fn of(list: Vec<Arc<dyn Provider>>) -> Self {
        let entry = |p: Arc<dyn Provider>| (p.name(), Entry { provider: Ok(p), isolation: String::new() });
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

    /// Name, how it isolates, and why it cannot be used, of each.
    pub fn describe(&self) -> impl Iterator<Item = (&'static str, &str, Option<&ProviderError>)> {
        self.0.iter().map(|(name, e)| (*name, e.isolation.as_str(), e.provider.as_ref().err()))
    }

    /// Those that can be used and are a place of their own: the fault provider only wraps one.
    pub fn usable(&self) -> impl Iterator<Item = &Arc<dyn Provider>> {
        let wraps = |name: &str| name == "fault" && self.0.contains_key("local");
        self.0.iter().filter(move |(n, _)| !wraps(n)).filter_map(|(_, e)| e.provider.as_ref().ok())
    }
}

async fn open_local(config: &Config, data_dir: &Path, env: &Env) -> Result<LocalProvider, ProviderError> {
    let program = match &config.foundry_program {
        Some(program) => program.clone(),
        None => std::env::current_exe().map_err(|e| ProviderError::io("finding this program", e))?,
    };
    let root = config.local.root.clone().unwrap_or_else(|| data_dir.join("sandboxes"));
    let mut local = LocalConfig::new(root, program);
    local.isolation = config.local.isolation;
    local.bwrap = config.local.bwrap.clone();
    local.min_free_bytes = config.local.min_free_bytes;
    local.extra_read_only = config.local.extra_read_only.clone();
    let mut tools = ToolsConfig::new(tools_cache(config, data_dir));
    tools.sandbox_agent = config.sandbox_agent.clone();
    tools.npm = config.npm.clone();
    LocalProvider::open(local, Tools::new(tools, env.clone()), env.clone()).await
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

fn describe(local: &LocalProvider) -> String {
    isolation_text(local.isolation())
}

/// How a sandbox is kept apart, for people.
pub fn isolation_text(isolation: &foundry_sandbox::Isolation) -> String {
    match isolation {
        foundry_sandbox::Isolation::Bubblewrap { version, .. } => format!("bubblewrap ({version})"),
        foundry_sandbox::Isolation::None { reason } => format!("none: {reason}"),
    }
}
