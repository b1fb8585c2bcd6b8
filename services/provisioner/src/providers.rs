//! The sandbox providers by name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use foundry_core::{Env, Error};
use foundry_sandbox::{Network, Provider, ProviderError};
use foundry_sandbox_local::{LocalConfig, LocalProvider};

use crate::{Config, egress, models};

/// Makes further providers on top of the local one.
pub type FurtherProviders = Arc<dyn Fn(&Arc<dyn Provider>, &Env) -> Vec<Arc<dyn Provider>> + Send + Sync>;

/// For a mesh that has the local provider alone.
pub fn no_further_providers() -> FurtherProviders {
    Arc::new(|_, _| Vec::new())
}

/// The providers that are configured.
pub struct Providers {
    all: BTreeMap<&'static str, Entry>,
    /// The local provider, in which all sandboxes are.
    local: Option<Arc<LocalProvider>>,
    /// Whether an upstream proxy resolves the host names that sandboxes ask for.
    upstream: bool,
}

struct Entry {
    provider: Result<Arc<dyn Provider>, ProviderError>,
    /// Whether it only wraps another provider and has no sandboxes of its own.
    wraps: bool,
}

/// A provider's sandboxes, described for people.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// How sandboxes are isolated from the host.
    pub isolation: String,
    /// Network access of new sandboxes.
    pub network: String,
    /// Resource limits of a sandbox, and how they are enforced.
    pub limits: String,
}

/// Why a provider cannot make sandboxes.
#[derive(Clone, Debug)]
pub struct Unusable {
    /// Stable name of the cause, in UPPER_SNAKE_CASE.
    pub reason: &'static str,
    /// Explanation for people.
    pub message: String,
    /// Whether it may pass without anybody changing anything, so that it is tried again.
    pub retryable: bool,
}

/// First and longest pause before an undecided isolation is tried again.
const TRY_AGAIN: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));

impl Providers {
    /// Opens all configured providers; for one that cannot be used, [`get`](Self::get) returns the reason.
    pub async fn open(config: &Config, data_dir: &Path, env: &Env, further: &FurtherProviders) -> Self {
        let mut all = BTreeMap::new();
        let upstream = config.network.proxy_url().is_ok_and(|url| url.is_some());
        let opened = open_local(config, data_dir, env).await.map(Arc::new).inspect_err(|e| {
            tracing::error!(reason = e.reason, message = e.message, "the local provider cannot be used");
        });
        let of_its_own = opened.as_ref().ok().cloned();
        let local = opened.map(|local| local as Arc<dyn Provider>);
        if let Ok(local) = &local {
            for provider in further(local, env) {
                let name = provider.name();
                all.insert(name, Entry { provider: Ok(provider), wraps: true });
            }
        }
        all.insert("local", Entry { provider: local, wraps: false });
        Self { all, local: of_its_own, upstream }
    }

    /// Detects what could not be detected when the service started; ends when that is done.
    pub async fn settle(&self, env: &Env) {
        let Some(local) = &self.local else { return };
        let mut pause = TRY_AGAIN.0;
        while local.decided().is_err() {
            env.clock.sleep(pause).await;
            pause = (pause * 2).min(TRY_AGAIN.1);
            if let Err(e) = local.settle().await {
                tracing::warn!(reason = e.reason, message = e.message, "sandboxes still cannot be created");
            }
        }
    }

    /// The network access of a sandbox, for people.
    pub fn network_text(&self, network: &Network) -> String {
        described(network, None, self.upstream)
    }

    /// Exactly these providers. For tests.
    #[cfg(test)]
    pub fn of(list: Vec<Arc<dyn Provider>>) -> Self {
        let entry = |p: Arc<dyn Provider>| (p.name(), Entry { provider: Ok(p), wraps: false });
        Self { all: list.into_iter().map(entry).collect(), local: None, upstream: false }
    }

    /// A provider that can be used.
    ///
    /// # Errors
    /// `PROVIDER_UNKNOWN` naming the providers, or `PROVIDER_UNAVAILABLE` with the reason.
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

    /// Each provider's name, its sandboxes for people, and why it cannot be used, if so.
    pub fn describe(&self) -> impl Iterator<Item = (&'static str, Said, Option<Unusable>)> {
        let unusable = |e: &ProviderError| Unusable {
            reason: e.reason,
            message: e.message.clone(),
            retryable: e.retryable,
        };
        let undecided = self.local.as_ref().and_then(|local| local.decided().err());
        self.all.iter().map(move |(name, e)| {
            let error = e.provider.as_ref().err().or(undecided.as_ref());
            (*name, self.said(), error.map(unusable))
        })
    }

    /// The same for all providers, because all sandboxes are in the local one.
    fn said(&self) -> Said {
        let Some(local) = &self.local else { return Said::default() };
        let network = local.network().map(|n| described(n, local.network_note(), self.upstream));
        Said {
            isolation: local.isolation().map(isolation_text).unwrap_or_default(),
            network: network.unwrap_or_default(),
            limits: local.limits_text(),
        }
    }

    /// The usable providers that have sandboxes of their own.
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

/// The network access for people, with the reason when it is not the usual one.
fn described(network: &Network, note: Option<&str>, upstream: bool) -> String {
    let text = foundry_egress::describe(network, upstream);
    note.map_or_else(|| text.clone(), |reason| format!("{text}, because {reason}"))
}

/// The isolation of a sandbox, for people.
pub fn isolation_text(isolation: &foundry_sandbox::Isolation) -> String {
    match isolation {
        foundry_sandbox::Isolation::Bubblewrap { version, .. } => format!("bubblewrap ({version})"),
        foundry_sandbox::Isolation::None { reason } => format!("none: {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use foundry_core::SystemRandom;
    use foundry_testkit::MockClock;

    use super::*;

    /// How long a trial of bubblewrap may take in these tests.
    const TRIAL: Duration = Duration::from_secs(1);

    /// A bubblewrap that hangs as long as there is a file `slow`, and records when it is tried.
    struct Slow {
        dir: tempfile::TempDir,
        clock: Arc<MockClock>,
    }

    impl Slow {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let script = format!(
                "#!/bin/sh\ncase \"$*\" in --version) echo 'bubblewrap 9.9'; exit 0;; esac\n\
                 echo x >> {0}/tried\n[ -e {0}/slow ] && exec sleep 600\nexit 0\n",
                dir.path().display()
            );
            fs::write(dir.path().join("slow"), "").unwrap();
            fs::write(dir.path().join("bwrap"), script).unwrap();
            fs::set_permissions(dir.path().join("bwrap"), fs::Permissions::from_mode(0o755)).unwrap();
            Self { dir, clock: Arc::new(MockClock::default()) }
        }

        fn tried(&self) -> usize {
            fs::read_to_string(self.dir.path().join("tried")).unwrap_or_default().lines().count()
        }

        /// Waits until it hangs for the n-th time, and lets the time of that trial pass.
        async fn hangs(&self, n: usize) {
            let hangs = async {
                while self.tried() < n {
                    tokio::task::yield_now().await;
                }
                self.clock.wait_for_sleepers(1).await;
            };
            tokio::time::timeout(Duration::from_secs(20), hangs).await.expect("not tried");
            assert_eq!(self.tried(), n);
            self.clock.advance(TRIAL);
            // Until what follows the trial sleeps.
            yields().await;
        }
    }

    async fn yields() {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn how_sandboxes_are_kept_apart_is_tried_to_find_out_ever_more_rarely_until_it_is_known() {
        let slow = Slow::new();
        let env = Env { clock: slow.clock.clone(), random: Arc::new(SystemRandom) };
        let path = slow.dir.path();
        let mut config = LocalConfig::new(path.join("root"), "/foundry", path.join("tools"));
        config.bwrap = path.join("bwrap");
        config.trial_limit = (TRIAL, TRIAL);
        let (local, ()) = tokio::join!(LocalProvider::new(config, env.clone()), slow.hangs(1));
        let local = Arc::new(local.unwrap());
        assert_eq!(local.decided().unwrap_err().reason, "ISOLATION_UNDECIDED");
        let providers = Providers { all: BTreeMap::new(), local: Some(Arc::clone(&local)), upstream: false };
        let steps = async {
            for (n, pause) in [10, 20, 40, 80, 160, 300, 300].into_iter().enumerate() {
                slow.clock.wait_for_sleepers(1).await;
                slow.clock.advance(Duration::from_secs(pause - 1));
                yields().await;
                assert_eq!((slow.tried(), slow.clock.sleepers()), (n + 1, 1), "tried before {pause} s");
                slow.clock.advance(Duration::from_secs(1));
                slow.hangs(n + 2).await;
            }
            assert!(local.decided().is_err());
            fs::remove_file(path.join("slow")).unwrap();
            slow.clock.wait_for_sleepers(1).await;
            slow.clock.advance(TRY_AGAIN.1);
        };
        let (settled, ()) =
            tokio::join!(tokio::time::timeout(Duration::from_secs(60), providers.settle(&env)), steps);
        settled.expect("it is known, and still looked for");
        assert!(local.isolation().unwrap().is_bubblewrap());
        assert_eq!(slow.tried(), 9);
    }
}
