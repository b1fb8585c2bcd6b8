//! The local provider: a working directory and a few processes of this host per sandbox. The default
//! of the embedded mesh; not a tenant boundary.
//!
//! Entry points: [`LocalProvider`], and [`run_internal`] for the hidden subcommands of the `foundry` binary
//! that start sandboxes.

mod bwrap;
mod destroy;
mod handle;
mod install;
mod java;
mod launch;
mod layout;
mod limits;
mod network;
mod place;
mod settle;
mod start;
mod users;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use foundry_core::{Env, Timestamp};
use foundry_runtime_client::RuntimeClient;
use foundry_sandbox::process::Presence;
use foundry_sandbox::{
    AgentInstall, Allocation, Class, CloneSource, DeathCause, Destroyed, Health, InstalledAgent, Isolation,
    LimitReport, Network, OwnedSandbox, PreparedRepo, Progress, Provider, ProviderError, RuntimeFacts,
    Sandbox, SandboxName, StartSpec,
};
use foundry_tool_cache::{NpmSettings, ToolCache};
use serde::{Deserialize, Serialize};

pub use limits::{LimitMode, Limits};

use launch::{ExitRecord, write_json};
use layout::{Layout, give_tree, make_dir, publish, read_json, remove_cut_clones, remove_tree};
use limits::{Group, Parents};
use network::{Decided, Shared};
use place::Place;
use users::Users;

/// Runs `foundry internal NAME ARGUMENTS…` when NAME is one of this crate's subcommands: `launch`, `supervise`,
/// `enter`, `become`. Returns the exit code, or none for any other name. Must be called before any thread or runtime is
/// started.
pub fn run_internal(name: &str, arguments: &[String]) -> Option<i32> {
    match name {
        "launch" => Some(launch::launch()),
        "supervise" => Some(launch::supervise()),
        "enter" => Some(limits::enter::enter(arguments)),
        "become" => Some(launch::become_user(arguments)),
        _ => None,
    }
}

/// Whether sandboxes must be isolated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IsolationMode {
    /// bubblewrap where it works, else no isolation and a warning.
    #[default]
    Auto,
    /// bubblewrap, or an error at the start of the provider.
    Require,
    /// No isolation, even where bubblewrap works.
    Off,
}

/// Settings of the local provider.
#[derive(Clone, Debug)]
pub struct LocalConfig {
    /// The directory of all sandboxes; created with mode 0700.
    pub root: PathBuf,
    /// Our own binary: launcher, runtime and demo agent are hidden subcommands of it.
    pub foundry_binary: PathBuf,
    /// The directory of installed tools, shared by all sandboxes of this host, which can only read it.
    pub tools: PathBuf,
    /// The npm that installs them.
    pub npm: PathBuf,
    /// The unix socket of the model gateway; its directory is visible in every sandbox and holds nothing else.
    pub model_socket: Option<PathBuf>,
    /// The unix socket of the proxy for sandboxes with a network of their own, in the same directory; none = they reach
    /// only models.
    pub network_socket: Option<PathBuf>,
    /// The network of new sandboxes; none = `public` where they can have networks of their own, else that of the host.
    pub network: Option<Network>,
    /// The operator's certificates, which programs inside trust in addition to the system's.
    pub ca_file: Option<PathBuf>,
    /// How the mesh reaches runtimes.
    pub transport: Transport,
    /// Whether sandboxes must be isolated.
    pub isolation: IsolationMode,
    /// The bubblewrap program.
    pub bwrap: PathBuf,
    /// First of the unprivileged user ids for sandboxes when the mesh runs as root, one for each.
    pub first_uid: u32,
    /// The number of these ids, which is then the most sandboxes there can be.
    pub uids: u32,
    /// How long a runtime may take until it answers.
    pub start_limit: Duration,
    /// `allocate` refuses below this much free disk.
    pub min_free_bytes: u64,
    /// Further host directories that sandboxes may read, at the same path.
    pub extra_read_only: Vec<PathBuf>,
    /// Time limits of the first trial of bubblewrap, and of the longest trial that follows it.
    pub trial_limit: (Duration, Duration),
    /// The limits of each sandbox.
    pub limits: Limits,
}

/// How the mesh reaches runtimes of the local provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// By a unix socket that is not visible in any sandbox.
    #[default]
    Socket,
    /// By a port of the loopback, as a runtime on another machine would be. For tests.
    Loopback,
}

impl LocalConfig {
    /// The defaults, with sandboxes below `root`, launched by `foundry_binary`, and tools in `tools`.
    pub fn new(
        root: impl Into<PathBuf>,
        foundry_binary: impl Into<PathBuf>,
        tools: impl Into<PathBuf>,
    ) -> Self {
        Self {
            root: root.into(),
            foundry_binary: foundry_binary.into(),
            tools: tools.into(),
            npm: PathBuf::from("npm"),
            model_socket: None,
            network_socket: None,
            network: None,
            ca_file: None,
            transport: Transport::Socket,
            isolation: IsolationMode::Auto,
            bwrap: PathBuf::from("bwrap"),
            first_uid: 64_000,
            uids: 1_500,
            start_limit: Duration::from_secs(30),
            min_free_bytes: 256 << 20,
            extra_read_only: Vec::new(),
            limits: Limits::default(),
            trial_limit: bwrap::TRIAL,
        }
    }
}

/// The record that `allocate` writes.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    name: SandboxName,
    allocated_at: Timestamp,
    /// The user inside; none = the host's own.
    uid: Option<u32>,
    isolation: Isolation,
    /// That of the host in records of older versions.
    #[serde(default)]
    network: Network,
}

/// Sandboxes as directories and processes of this host.
pub struct LocalProvider {
    config: LocalConfig,
    tools: ToolCache,
    env: Env,
    /// How new sandboxes are isolated; unset while that is not known.
    settled: OnceLock<Settled>,
    /// Where control groups can be made, or why they cannot.
    parents: Result<Parents, String>,
    shared: Shared,
}

/// How new sandboxes are isolated.
struct Settled {
    isolation: Isolation,
    network: Decided,
}

impl LocalProvider {
    /// Opens the root and determines the isolation available here; if it cannot, call [`LocalProvider::settle`] later.
    ///
    /// # Errors
    /// `ISOLATION_UNAVAILABLE` when it is required and does not work; `SANDBOX_IO` for an unusable root.
    pub async fn new(config: LocalConfig, env: Env) -> Result<Self, ProviderError> {
        // Resolved once with the mesh's PATH: later it is started with the PATH of the sandbox.
        let config = LocalConfig { bwrap: absolute(&config.bwrap), ..config };
        fs::create_dir_all(&config.root).map_err(|e| ProviderError::io("creating the sandbox root", e))?;
        make_dir(&config.root, 0o700).map_err(|e| ProviderError::io("securing the sandbox root", e))?;
        fs::create_dir_all(&config.tools).map_err(|e| ProviderError::io("creating the tool cache", e))?;
        let shared = Shared::make(&config.root, config.ca_file.as_deref())
            .map_err(|e| ProviderError::io("writing the network files of the sandboxes", e))?;
        let settings = NpmSettings { program: config.npm.clone(), ..NpmSettings::default() };
        let tools = ToolCache::new(&config.tools, settings, env.clone());
        let parents = match config.limits.mode {
            LimitMode::Measure => Err("switched off by configuration".to_owned()),
            LimitMode::Auto => blocking("looking for cgroups", || Ok(Parents::find())).await?,
        };
        let how = limits::enforcement(parents.as_ref().map_err(String::as_str));
        tracing::info!(limits = config.limits.describe(), how, "limits of each sandbox");
        let provider = Self { config, tools, env, settled: OnceLock::new(), parents, shared };
        match provider.settle().await {
            Err(e) if e.reason == "ISOLATION_UNDECIDED" => {
                tracing::error!(reason = e.reason, "{}", e.message)
            }
            settled => settled?,
        }
        Ok(provider)
    }

    /// The limits of new sandboxes and how they are enforced, as a text for users.
    pub fn limits_text(&self) -> String {
        let how = limits::enforcement(self.parents.as_ref().map_err(String::as_str));
        format!("{}; {how}", self.config.limits.describe())
    }

    /// Prefix of the names of all control groups of this root, which distinguishes them from those of other meshes.
    fn group_prefix(&self) -> String {
        let root = self.config.root.canonicalize().unwrap_or_else(|_| self.config.root.clone());
        let bytes = root.as_os_str().as_encoded_bytes();
        let hash = bytes
            .iter()
            .fold(0xcbf2_9ce4_8422_2325, |h: u64, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3));
        format!("foundry-{hash:016x}-")
    }

    fn group_name(&self, name: &SandboxName) -> String {
        format!("{}{name}", self.group_prefix())
    }

    /// The control groups that a sandbox may have: the recorded one, and the one a start would make now.
    fn groups(&self, name: &SandboxName) -> Vec<Group> {
        let written = read_json(&self.layout(name).group());
        let made = self.parents.as_ref().ok().map(|p| p.group(&self.group_name(name)));
        let mut groups: Vec<Group> = written.into_iter().chain(made).collect();
        groups.dedup();
        groups
    }

    /// How new sandboxes are isolated here; none while that is not known.
    pub fn isolation(&self) -> Option<&Isolation> {
        self.settled.get().map(|s| &s.isolation)
    }

    /// The network of new sandboxes; none while that is not known.
    pub fn network(&self) -> Option<&Network> {
        self.settled.get().map(|s| &s.network.network)
    }

    /// Why new sandboxes have the network of this host although that was not configured.
    pub fn network_note(&self) -> Option<&str> {
        self.settled.get()?.network.note.as_deref()
    }

    fn layout(&self, name: &SandboxName) -> Layout {
        Layout::new(&self.config.root, name)
    }

    /// The record of an allocated sandbox.
    fn record(&self, name: &SandboxName) -> Result<Record, ProviderError> {
        read_json(&self.layout(name).record()).ok_or_else(|| {
            let message = format!("the directory of sandbox {name} no longer exists on this host");
            ProviderError::new(Class::Provider, "SANDBOX_MISSING", message)
        })
    }

    /// A text that no other call uses.
    fn unique(&self) -> String {
        let mut random = [0u8; 6];
        self.env.random.fill(&mut random);
        hex::encode(random)
    }

    /// The users for sandboxes, one for each, where they do not run as the host's own user.
    fn users(&self, isolation: &Isolation) -> Option<Users> {
        let Isolation::Bubblewrap { uid: Some(first), .. } = isolation else { return None };
        Some(Users { first: *first, count: self.config.uids })
    }
}

/// The absolute path of a program, found as a shell would; a program that is not found keeps its name.
fn absolute(program: &Path) -> PathBuf {
    let path = std::env::var_os("PATH").filter(|_| program.components().count() == 1).unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(program));
    found
        .into_iter()
        .find(|place| place.is_absolute() && place.is_file())
        .unwrap_or_else(|| program.to_owned())
}

/// Runs file work off the runtime's threads.
async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, ProviderError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|e| ProviderError::io(what, e)),
        Err(e) => Err(ProviderError::io(what, std::io::Error::other(e))),
    }
}

fn make_sandbox(new: &Path, layout: &Layout, record: &Record) -> std::io::Result<()> {
    let parts = Layout { dir: new.to_owned() };
    make_dir(new, 0o700)?;
    for (dir, mode) in [(parts.home(), 0o700), (parts.tmp(), 0o700), (parts.etc(), 0o755)] {
        make_dir(&dir, mode)?;
        if let (Some(uid), true) = (record.uid, dir != parts.etc()) {
            std::os::unix::fs::lchown(&dir, Some(uid), Some(uid))?;
        }
    }
    make_dir(&new.join("log"), 0o700)?;
    let uid = record.uid.unwrap_or_else(|| rustix::process::getuid().as_raw());
    let gid = record.uid.unwrap_or_else(|| rustix::process::getgid().as_raw());
    let root_line = if uid == 0 { "" } else { "root:x:0:0:root:/:/usr/sbin/nologin\n" };
    let home = bwrap::HOME;
    fs::write(
        parts.etc().join("passwd"),
        format!(
            "{root_line}agent:x:{uid}:{gid}:agent:{home}:/bin/sh\nnobody:x:65534:65534::/:/usr/sbin/nologin\n"
        ),
    )?;
    fs::write(parts.etc().join("group"), format!("root:x:0:\nagent:x:{gid}:\nnogroup:x:65534:\n"))?;
    write_json(&parts.record(), record)?;
    if !publish(new, &layout.dir)? && read_json::<Record>(&layout.record()).is_none() {
        return Err(std::io::Error::other(
            "the sandbox's directory has no readable record: destroy it first",
        ));
    }
    Ok(())
}

#[async_trait]
impl Provider for LocalProvider {
    fn name(&self) -> &'static str {
        "local"
    }

    async fn allocate(&self, name: &SandboxName) -> Result<Allocation, ProviderError> {
        let allocation = |r: Record| Allocation {
            sandbox: r.name,
            allocated_at: r.allocated_at,
            isolation: r.isolation,
            network: r.network,
        };
        if let Ok(record) = self.record(name) {
            return Ok(allocation(record));
        }
        let Settled { isolation, network } = self.settled()?;
        let disk = rustix::fs::statvfs(&self.config.root)
            .map_err(|e| ProviderError::io("checking the free disk space", e.into()))?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free < self.config.min_free_bytes {
            let message = format!(
                "the sandbox disk has {} MiB free; a new sandbox needs {} MiB",
                free >> 20,
                self.config.min_free_bytes >> 20
            );
            return Err(ProviderError::new(Class::Capacity, "DISK_LOW", message).retryable());
        }
        let users = self.users(isolation);
        let mut record = Record {
            name: name.clone(),
            allocated_at: self.env.clock.now(),
            uid: None,
            isolation: isolation.clone(),
            network: network.network.clone(),
        };
        let new = self.config.root.join(format!(".new-{name}-{}", self.unique()));
        let (root, layout) = (self.config.root.clone(), self.layout(name));
        let make = move || {
            let Some(users) = users else { return make_sandbox(&new, &layout, &record).map(Ok) };
            let _choosing = Users::lock(&root)?;
            match users.free(&root, &record.name)? {
                // Another worker may have been faster.
                Err(_) if layout.record().exists() => return Ok(Ok(())),
                Err(none) => return Ok(Err(none)),
                Ok(user) => record.uid = Some(user),
            }
            make_sandbox(&new, &layout, &record).map(Ok)
        };
        blocking("allocating the sandbox", make).await??;
        // When two workers allocate at once, one record remains, and is the answer to both.
        self.record(name).map(allocation)
    }

    async fn prepare_repo(
        &self,
        name: &SandboxName,
        source: &dyn CloneSource,
    ) -> Result<PreparedRepo, ProviderError> {
        let record = self.record(name)?;
        let layout = self.layout(name);
        let workspace = start::inside(&record, &layout).workspace;
        let prepared = |layout: &Layout| {
            let cloned = read_json(&layout.repo_record())?;
            Some(PreparedRepo { cloned, workspace: workspace.clone() })
        };
        if let Some(prepared) = prepared(&layout) {
            return Ok(prepared);
        }
        // A unique name, since a worker that lost its lease may still be writing to an earlier one.
        let new = layout.dir.join(format!("repo.new-{}", self.unique()));
        let made = new.clone();
        blocking("preparing the directory of the clone", move || make_dir(&made, 0o700)).await?;
        let cloned = source.clone_into(&new.join("workspace")).await;
        let (place, directory) = (layout.repo(), layout.dir.clone());
        blocking("changing the owner of the work tree", move || {
            let Ok(cloned) = &cloned else {
                return remove_tree(&new).map(|()| cloned.map(drop));
            };
            write_json(&new.join("repo.json"), cloned)?;
            if let Some(uid) = record.uid {
                give_tree(&new.join("workspace"), uid)?;
            }
            publish(&new, &place)?;
            remove_cut_clones(&directory).map(Ok)
        })
        .await??;
        prepared(&layout).ok_or_else(|| {
            ProviderError::new(Class::Provider, "SANDBOX_MISSING", "the clone has disappeared")
        })
    }

    async fn install_agent(
        &self,
        name: &SandboxName,
        agent: &AgentInstall,
        progress: &Progress,
    ) -> Result<InstalledAgent, ProviderError> {
        let record = self.record(name)?;
        self.install(&record, agent, progress).await
    }

    async fn start_agent(&self, spec: &StartSpec) -> Result<RuntimeFacts, ProviderError> {
        self.start(spec).await
    }

    async fn probe(&self, facts: &RuntimeFacts) -> Result<Health, ProviderError> {
        let layout = self.layout(&facts.sandbox);
        let dead = |cause| Ok(Health::Dead { cause });
        let Some(place) = Place::of(facts) else {
            // A runtime of an older version, to which this version cannot talk.
            return dead(DeathCause::Gone);
        };
        match place.process.presence() {
            Presence::EarlierBoot => return dead(DeathCause::MachineRebooted),
            Presence::Gone | Presence::Recycled if !layout.dir.exists() => {
                return dead(DeathCause::DirectoryMissing);
            }
            presence @ (Presence::Gone | Presence::Recycled) => {
                let ended = read_json::<ExitRecord>(&layout.exit())
                    .filter(|e| e.runtime_instance == facts.runtime_instance);
                return dead(match ended {
                    Some(ExitRecord { out_of_memory: true, .. }) => DeathCause::OutOfMemory,
                    Some(ExitRecord { signal: Some(signal), .. }) => DeathCause::Killed { signal },
                    Some(ExitRecord { code: Some(code), .. }) => DeathCause::Exited { code },
                    _ if presence == Presence::Recycled => DeathCause::PidRecycled,
                    _ => DeathCause::Gone,
                });
            }
            Presence::Running => {}
        }
        match RuntimeClient::new(self.open(facts)?, self.env.clone()).health().await {
            Ok(()) => Ok(self.found_alive(&facts.sandbox, &layout)),
            Err(e) => Ok(Health::Unknown { reason: e.to_string() }),
        }
    }

    async fn limits(&self, facts: &RuntimeFacts) -> Result<LimitReport, ProviderError> {
        Ok(read_json(&self.layout(&facts.sandbox).limits()).unwrap_or_default())
    }

    async fn destroy(&self, name: &SandboxName) -> Result<Destroyed, ProviderError> {
        self.remove(name).await
    }

    async fn list_owned(&self) -> Result<Vec<OwnedSandbox>, ProviderError> {
        let root = self.config.root.clone();
        let prefix = self.group_prefix();
        let parents = self.parents.clone();
        blocking("listing the sandboxes", move || {
            let mut found = Vec::new();
            for entry in fs::read_dir(&root)? {
                let file_name = entry?.file_name();
                let Some(name) = file_name.to_str().and_then(|n| n.parse::<SandboxName>().ok()) else {
                    continue;
                };
                let layout = Layout::new(&root, &name);
                let record = read_json::<Record>(&layout.record());
                found.push(OwnedSandbox {
                    allocated_at: record.map(|r| r.allocated_at),
                    runtime: read_json(&layout.facts()),
                    name,
                });
            }
            // A control group without a sandbox is a left-over.
            let groups = parents.map(|p| p.names(&prefix)).unwrap_or_default();
            for name in groups.iter().filter_map(|g| g.strip_prefix(&prefix)?.parse::<SandboxName>().ok()) {
                if !found.iter().any(|f: &OwnedSandbox| f.name == name) {
                    found.push(OwnedSandbox { name, allocated_at: None, runtime: None });
                }
            }
            found.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(found)
        })
        .await
    }

    fn open(&self, facts: &RuntimeFacts) -> Result<Arc<dyn Sandbox>, ProviderError> {
        Ok(Arc::new(handle::LocalSandbox {
            address: Place::of(facts).map(|place| place.address),
            key: facts.key.clone(),
            home: self.layout(&facts.sandbox).home(),
        }))
    }
}

/// The last `max` bytes of a text, at a character boundary, on one line.
pub(crate) fn tail(text: &str, max: usize) -> String {
    let text = text.trim();
    let mut from = text.len().saturating_sub(max);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    text[from..].replace('\n', " | ")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn cuts_a_tail_at_a_character() {
        assert_eq!(tail("aä\nb", 3), " | b");
    }

    #[tokio::test]
    async fn each_sandbox_has_a_user_of_its_own_until_it_is_destroyed() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: sandboxes have users of their own where the mesh runs as root");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        let mut config = LocalConfig::new(&root, "/foundry", dir.path().join("tools"));
        config.bwrap = bwrap::tests::stuck(dir.path(), 0, "exit 0");
        (config.first_uid, config.uids) = (64_000, 8);
        let provider = LocalProvider::new(config, Env::system()).await.unwrap();
        let names: Vec<SandboxName> = (1..=9).map(|n| format!("sbx_{n}").parse().unwrap()).collect();
        // All need one of few users and are allocated at once.
        let made = futures::future::join_all(names[..8].iter().map(|name| provider.allocate(name))).await;
        made.into_iter().for_each(|one| drop(one.unwrap()));
        let user = |name: &SandboxName| fs::metadata(root.join(name.as_str()).join("home")).unwrap().uid();
        let users: std::collections::BTreeSet<u32> = names[..8].iter().map(user).collect();
        assert_eq!(users, (64_000..64_008).collect(), "two share a user");

        let refused = provider.allocate(&names[8]).await.unwrap_err();
        assert_eq!(
            (refused.reason, refused.class, refused.retryable),
            ("SANDBOX_USERS_TAKEN", Class::Capacity, true)
        );
        assert!(!root.join("sbx_9").exists(), "half a sandbox is left");
        let before = user(&names[4]);
        provider.allocate(&names[4]).await.unwrap();
        assert_eq!(user(&names[4]), before, "it was made before");
        provider.destroy(&names[4]).await.unwrap();
        provider.allocate(&names[8]).await.unwrap();
        assert_eq!(user(&names[8]), before);
    }

    #[tokio::test]
    async fn what_could_not_be_found_out_at_the_start_is_found_out_later_and_what_runs_is_reached() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = LocalConfig::new(dir.path().join("root"), "/foundry", dir.path().join("tools"));
        // It hangs in both trials of the start.
        config.bwrap = bwrap::tests::stuck(dir.path(), 2, "exit 0");
        config.trial_limit = (Duration::from_millis(700), Duration::from_millis(1_400));
        let provider = LocalProvider::new(config, bwrap::tests::env(dir.path())).await.unwrap();
        let name: SandboxName = "sbx_1".parse().unwrap();
        let refused = provider.allocate(&name).await.unwrap_err();
        assert_eq!((refused.reason, refused.retryable), ("ISOLATION_UNDECIDED", true));
        assert_eq!(provider.isolation(), None);
        let facts = serde_json::from_value(serde_json::json!({
            "sandbox": name, "runtime_instance": "run1", "home": "/home/agent", "workspace": "/workspace",
            "isolation": {"kind": "none", "reason": "made before"},
        }));
        assert!(provider.open(&facts.unwrap()).is_ok());
        provider.settle().await.unwrap();
        assert!(provider.allocate(&name).await.unwrap().isolation.is_bubblewrap());
    }
}
