//! Starting the runtime of a sandbox, or adopting the one that runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;

use super::bwrap::{self, Mounts};
use super::destroy::is_locked;
use super::layout::{Layout, read_json};
use super::{LocalProvider, Record, blocking};
use crate::facts::{Health, RuntimeFacts};
use crate::launch::{LaunchAnswer, LaunchSpec};
use crate::process::{Mark, Presence};
use crate::provider::{Provider as _, StartSpec};
use crate::tools::tail;
use crate::{Class, ProviderError};

/// Tells the tap which start of the runtime it belongs to.
pub(crate) const INSTANCE: &str = "FOUNDRY_RUNTIME_INSTANCE";

/// How often a start is tried when the port was taken in between.
const ATTEMPTS: u32 = 3;
const POLL: Duration = Duration::from_millis(50);
/// How long a start or an end by somebody else may take to settle.
const SETTLE: Duration = Duration::from_secs(10);
/// How long the launcher itself may take.
const LAUNCH_LIMIT: Duration = Duration::from_secs(20);

/// The paths as the sandbox sees them.
pub(crate) struct Inside {
    pub home: PathBuf,
    pub workspace: PathBuf,
}

pub(crate) fn inside(record: &Record, layout: &Layout) -> Inside {
    if record.isolation.is_bubblewrap() {
        Inside { home: bwrap::HOME.into(), workspace: bwrap::WORKSPACE.into() }
    } else {
        Inside { home: layout.home(), workspace: layout.workspace() }
    }
}

impl LocalProvider {
    pub(super) async fn start(&self, spec: &StartSpec) -> Result<RuntimeFacts, ProviderError> {
        let record = self.record(&spec.name)?;
        let layout = self.layout(&spec.name);
        if !layout.workspace().is_dir() {
            let message = format!("sandbox {} has no work tree yet", spec.name);
            return Err(ProviderError::new(Class::Provider, "REPO_NOT_PREPARED", message));
        }
        if let Some(facts) = self.adopt(spec, &layout).await? {
            return Ok(facts);
        }
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let planned = self.plan(spec, &record, &layout)?;
            let facts = match self.launch(&planned).await? {
                LaunchAnswer::Started(facts) => facts,
                LaunchAnswer::Failed(reason) => {
                    last = Some(self.start_failed(&layout, &reason));
                    continue;
                }
                // Another worker was faster: its runtime is the answer.
                LaunchAnswer::Busy => match self.adopt(spec, &layout).await? {
                    Some(facts) => return Ok(facts),
                    None => continue,
                },
            };
            match self.until_ready(&facts).await? {
                Health::Alive => return Ok(facts),
                Health::Dead { cause } => last = Some(self.start_failed(&layout, &cause.to_string())),
                Health::Unknown { reason } => {
                    self.end_processes(&spec.name).await?;
                    let limit = self.config.start_limit.as_secs();
                    let message = format!("the runtime did not answer within {limit} s: {reason}");
                    return Err(
                        ProviderError::new(Class::Timeout, "RUNTIME_START_TIMEOUT", message).retryable()
                    );
                }
            }
        }
        Err(last.unwrap_or_else(|| self.start_failed(&layout, "another start never came to an end")))
    }

    /// The runtime that runs already, if one does. One that lives and never answers is ended.
    async fn adopt(&self, spec: &StartSpec, layout: &Layout) -> Result<Option<RuntimeFacts>, ProviderError> {
        let mut waited = Duration::ZERO;
        loop {
            let facts = read_json::<RuntimeFacts>(&layout.facts());
            match facts.filter(|f| f.process().presence() == Presence::Running) {
                Some(facts) if matches!(self.until_ready(&facts).await?, Health::Alive) => {
                    return Ok(Some(facts));
                }
                // Another worker is just starting one, or the last one is just ending.
                None if is_locked(layout) && waited < SETTLE => {
                    self.env.clock.sleep(POLL).await;
                    waited += POLL;
                }
                // What a dead runtime left may still run, when its supervisor was killed.
                _ => {
                    self.end_processes(&spec.name).await?;
                    return Ok(None);
                }
            }
        }
    }

    async fn until_ready(&self, facts: &RuntimeFacts) -> Result<Health, ProviderError> {
        let mut waited = Duration::ZERO;
        loop {
            let health = self.probe(facts).await?;
            if !matches!(health, Health::Unknown { .. }) || waited >= self.config.start_limit {
                return Ok(health);
            }
            self.env.clock.sleep(POLL).await;
            waited += POLL;
        }
    }

    fn plan(&self, spec: &StartSpec, record: &Record, layout: &Layout) -> Result<LaunchSpec, ProviderError> {
        let runtime = self.tools.sandbox_agent()?;
        let inside = inside(record, layout);
        let mut secret = [0u8; 24];
        self.env.random.fill(&mut secret);
        let facts = RuntimeFacts {
            sandbox: spec.name.clone(),
            runtime_instance: spec.runtime_instance.clone(),
            pid: 0,
            start_time_ticks: 0,
            boot_id: String::new(),
            port: free_port().map_err(|e| ProviderError::io("finding a free port", e))?,
            token: hex::encode(secret),
            home: inside.home.clone(),
            workspace: inside.workspace.clone(),
            foundry: self.foundry_inside(record),
            isolation: record.isolation.clone(),
        };
        let env = environment(spec, &inside);
        let bubblewrap = record.isolation.is_bubblewrap();
        let mut argv = Vec::new();
        if bubblewrap {
            let mounts = Mounts {
                layout,
                tools: self.tools.cache(),
                binary: &self.config.foundry_binary,
                runtime: &runtime,
                extra: &self.config.extra_read_only,
            };
            argv.push(text(&self.config.bwrap));
            let pairs: Vec<_> = env.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
            argv.extend(bwrap::arguments(&mounts, record.uid, &pairs));
            if let Some(uid) = record.uid {
                let uid = uid.to_string();
                argv.extend([bwrap::BINARY, "internal", "become", &uid, &uid, "--"].map(str::to_owned));
            }
            argv.push(bwrap::RUNTIME.to_owned());
        } else {
            argv.push(text(&runtime));
        }
        let port = facts.port.to_string();
        argv.extend(
            ["server", "--no-telemetry", "--token", &facts.token, "--host", "127.0.0.1", "--port", &port]
                .map(str::to_owned),
        );
        Ok(LaunchSpec {
            argv,
            bubblewrap,
            env,
            cwd: if bubblewrap { PathBuf::from("/") } else { layout.workspace() },
            log: layout.log(),
            facts_file: layout.facts(),
            exit_file: layout.exit(),
            lock_file: layout.lock(),
            facts,
        })
    }

    /// HOME as the sandbox sees it.
    pub(super) fn inside_home(&self, record: &Record) -> PathBuf {
        inside(record, &self.layout(&record.name)).home
    }

    /// Our own binary as the sandbox sees it.
    pub(super) fn foundry_inside(&self, record: &Record) -> PathBuf {
        if record.isolation.is_bubblewrap() {
            bwrap::BINARY.into()
        } else {
            self.config.foundry_binary.clone()
        }
    }

    async fn launch(&self, spec: &LaunchSpec) -> Result<LaunchAnswer, ProviderError> {
        let io = |e| ProviderError::io("running the launcher", e);
        let input = serde_json::to_vec(spec).map_err(|e| io(e.into()))?;
        let mut child = tokio::process::Command::new(&self.config.foundry_binary)
            .args(["internal", "launch"])
            .env_clear()
            .env("PATH", search_path())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| {
                let binary = self.config.foundry_binary.display();
                let message = format!("the launcher {binary} cannot be run: {e}");
                ProviderError::new(Class::Configuration, "LAUNCHER_MISSING", message)
            })?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(&input).await.map_err(io)?;
        }
        let output = tokio::select! {
            output = child.wait_with_output() => output.map_err(io)?,
            () = self.env.clock.sleep(LAUNCH_LIMIT) => {
                let message = format!("the launcher took longer than {} s", LAUNCH_LIMIT.as_secs());
                return Err(ProviderError::new(Class::Timeout, "LAUNCH_TIMEOUT", message).retryable());
            }
        };
        serde_json::from_slice(&output.stdout)
            .map_err(|e| ProviderError::io(format!("the launcher's answer ({})", output.status), e.into()))
    }

    fn start_failed(&self, layout: &Layout, reason: &str) -> ProviderError {
        let log = std::fs::read(layout.log()).unwrap_or_default();
        let words = tail(&String::from_utf8_lossy(&log[log.len().saturating_sub(2_000)..]), 600);
        let message = format!("the runtime did not start: {reason}. Its last words: {words}");
        ProviderError::new(Class::Provider, "RUNTIME_START_FAILED", message).retryable()
    }

    /// Ends every process of a sandbox; see [`super::destroy`].
    pub(super) async fn end_processes(&self, name: &crate::SandboxName) -> Result<(), ProviderError> {
        let (layout, name) = (self.layout(name), name.clone());
        blocking("ending the sandbox's processes", move || super::destroy::end_processes(&layout, &name))
            .await
    }
}

/// The whole environment inside: nothing of the mesh's own, no secret.
fn environment(spec: &StartSpec, inside: &Inside) -> BTreeMap<String, String> {
    let home = text(&inside.home);
    let mut env = BTreeMap::from([
        ("HOME".to_owned(), home.clone()),
        ("USER".to_owned(), "agent".to_owned()),
        ("LOGNAME".to_owned(), "agent".to_owned()),
        ("SHELL".to_owned(), "/bin/sh".to_owned()),
        ("LANG".to_owned(), "C.UTF-8".to_owned()),
        ("TERM".to_owned(), "dumb".to_owned()),
        ("PATH".to_owned(), format!("{home}/.local/bin:/usr/local/bin:/usr/bin:/bin")),
        ("SANDBOX_AGENT_REQUIRE_PREINSTALL".to_owned(), "1".to_owned()),
    ]);
    env.extend(spec.env.clone());
    env.insert(Mark::VARIABLE.to_owned(), spec.name.to_string());
    env.insert(INSTANCE.to_owned(), spec.runtime_instance.clone());
    env
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The launcher needs to find bwrap, and nothing else of the mesh's environment.
fn search_path() -> std::ffi::OsString {
    std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into())
}

/// A port that was free a moment ago; a start that loses the race is tried again with another.
fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
