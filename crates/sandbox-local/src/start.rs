//! Starting the runtime of a sandbox, or adopting a running one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use foundry_sandbox::process::{Mark, Presence};
use foundry_sandbox::wire::{Forward, INSTANCE_VARIABLE, Proxy, Start};
use foundry_sandbox::{
    Class, ClonedRepo, Health, PROXY_PORT, Provider as _, ProviderError, RuntimeFacts, RuntimeKey,
    SandboxName, StartSpec,
};
use rustix::fs::{FlockOperation, flock};
use tokio::io::AsyncWriteExt as _;

use crate::bwrap::{self, Mounts};
use crate::destroy::is_locked;
use crate::launch::{LaunchAnswer, LaunchSpec};
use crate::layout::{Layout, read_json};
use crate::limits::Bounds;
use crate::place::{Listen, Place};
use crate::{LocalProvider, Record, Transport, blocking, network, tail};

/// How often a start is attempted.
const ATTEMPTS: u32 = 3;
const POLL: Duration = Duration::from_millis(50);
/// How long a start or an end by another process may take.
const SETTLE: Duration = Duration::from_secs(10);
/// How long the launcher itself may take.
const LAUNCH_LIMIT: Duration = Duration::from_secs(20);

/// The paths of a sandbox as it sees them itself.
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
    pub(crate) async fn start(&self, spec: &StartSpec) -> Result<RuntimeFacts, ProviderError> {
        let layout = self.layout(&spec.name);
        self.record(&spec.name)?;
        // Held from the check for a runtime to the answer of a new one: in between, another worker would take the
        // starting runtime for a left-over and kill it.
        let _turn = self.start_lock(&layout, self.config.start_limit + LAUNCH_LIMIT).await?;
        let record = self.record(&spec.name)?;
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
                LaunchAnswer::Started(facts) => *facts,
                LaunchAnswer::Failed(reason) => {
                    last = Some(self.start_failed(&layout, &reason));
                    continue;
                }
                // Another worker was faster: its runtime is the result.
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
                    let message = format!("the runtime did not respond within {limit} s: {reason}");
                    return Err(
                        ProviderError::new(Class::Timeout, "RUNTIME_START_TIMEOUT", message).retryable()
                    );
                }
            }
        }
        Err(last.unwrap_or_else(|| self.start_failed(&layout, "another start did not finish")))
    }

    /// The running runtime, if there is one. One that is alive and never answers is killed.
    async fn adopt(&self, spec: &StartSpec, layout: &Layout) -> Result<Option<RuntimeFacts>, ProviderError> {
        let mut waited = Duration::ZERO;
        loop {
            let facts = read_json::<RuntimeFacts>(&layout.facts());
            let runs =
                |f: &RuntimeFacts| Place::of(f).is_some_and(|p| p.process.presence() == Presence::Running);
            match facts.filter(runs) {
                Some(facts) if matches!(self.until_ready(&facts).await?, Health::Alive) => {
                    return Ok(Some(facts));
                }
                // Another worker is just starting one, or the last one is just ending.
                None if is_locked(layout) && waited < SETTLE => {
                    self.env.clock.sleep(POLL).await;
                    waited += POLL;
                }
                // Processes of a dead runtime may still run, if its supervisor was killed.
                _ => {
                    self.end_processes(&spec.name).await?;
                    return Ok(None);
                }
            }
        }
    }

    /// A supervisor that was killed while it ended processes has left a ban on new ones, which nobody else lifts.
    pub(crate) fn found_alive(&self, name: &SandboxName, layout: &Layout) -> Health {
        if !is_locked(layout) {
            for group in self.groups(name) {
                group.lift_ban(&self.config.limits);
            }
        }
        Health::Alive
    }

    async fn until_ready(&self, facts: &RuntimeFacts) -> Result<Health, ProviderError> {
        // Measured by the clock: probing a hung runtime takes seconds.
        let until = self.env.clock.now().plus(self.config.start_limit);
        loop {
            let health = self.probe(facts).await?;
            if !matches!(health, Health::Unknown { .. }) || self.env.clock.now() >= until {
                return Ok(health);
            }
            self.env.clock.sleep(POLL).await;
        }
    }

    fn plan(&self, spec: &StartSpec, record: &Record, layout: &Layout) -> Result<LaunchSpec, ProviderError> {
        let inside = inside(record, layout);
        let key = RuntimeKey::generate(&self.env);
        let facts = RuntimeFacts {
            sandbox: spec.name.clone(),
            runtime_instance: spec.runtime_instance.clone(),
            key: key.clone(),
            home: inside.home.clone(),
            workspace: inside.workspace.clone(),
            isolation: record.isolation.clone(),
            network: record.network.clone(),
            place: serde_json::Value::Null,
        };
        let bubblewrap = record.isolation.is_bubblewrap();
        let proxy = self.config.network_socket.as_deref().filter(|_| record.network.is_own());
        let proxy = proxy.map(|at| Proxy { socket: network::socket_inside(at), port: PROXY_PORT });
        let env = environment(spec, &inside, self.shared.environment(bubblewrap, proxy.is_some()));
        let sockets = [&self.config.model_socket, &self.config.network_socket];
        let mesh = sockets.into_iter().flatten().find_map(|socket| socket.parent());
        let mut argv = Vec::new();
        if bubblewrap {
            let mounts = Mounts {
                layout,
                tools: &self.config.tools,
                binary: &self.config.foundry_binary,
                mesh,
                extra: &self.config.extra_read_only,
                shared: &self.shared,
            };
            argv.push(text(&self.config.bwrap));
            let pairs: Vec<_> = env.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
            argv.extend(bwrap::arguments(&mounts, record.uid, &record.network, &pairs));
            if let Some(uid) = record.uid {
                let uid = uid.to_string();
                argv.extend([bwrap::BINARY, "internal", "become", &uid, &uid, "--"].map(str::to_owned));
            }
        }
        argv.push(text(&self.foundry_inside(record)));
        argv.extend(["internal", "runtime", "--listen", "inherited"].map(str::to_owned));
        let forward = self.config.model_socket.as_ref().map(|socket| {
            Forward::Socket(match socket.file_name() {
                Some(name) if bubblewrap => Path::new(bwrap::MESH).join(name),
                _ => socket.clone(),
            })
        });
        let start = Start {
            key,
            sandbox: spec.name.clone(),
            instance: spec.runtime_instance.clone(),
            isolated: bubblewrap,
            directories: vec![inside.workspace],
            forward,
            proxy,
            git: read_json::<ClonedRepo>(&layout.repo_record()).and_then(|cloned| cloned.git),
        };
        let listen = match self.config.transport {
            Transport::Socket => Listen::Socket(layout.socket()),
            Transport::Loopback => Listen::Loopback,
        };
        Ok(LaunchSpec {
            argv,
            bubblewrap,
            env,
            cwd: if bubblewrap { PathBuf::from("/") } else { layout.workspace() },
            log: layout.log(),
            facts_file: layout.facts(),
            exit_file: layout.exit(),
            lock_file: layout.lock(),
            listen,
            start,
            facts,
            bounds: self.bounds(record, layout),
        })
    }

    fn bounds(&self, record: &Record, layout: &Layout) -> Bounds {
        Bounds {
            limits: self.config.limits.clone(),
            parents: self.parents.clone(),
            name: self.group_name(&record.name),
            group_file: layout.group(),
            report_file: layout.limits(),
            places: vec![layout.workspace(), layout.home(), layout.tmp()],
            own_user: record.uid.is_some(),
        }
    }

    /// Our own binary, as the sandbox sees it.
    pub(crate) fn foundry_inside(&self, record: &Record) -> PathBuf {
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
            .map_err(|e| ProviderError::io(format!("the launcher's output ({})", output.status), e.into()))
    }

    fn start_failed(&self, layout: &Layout, reason: &str) -> ProviderError {
        let log = std::fs::read(layout.log()).unwrap_or_default();
        let words = tail(&String::from_utf8_lossy(&log[log.len().saturating_sub(2_000)..]), 600);
        let message = format!("the runtime did not start: {reason}. Last output: {words}");
        ProviderError::new(Class::Provider, "RUNTIME_START_FAILED", message).retryable()
    }

    /// Ends every process of a sandbox; see [`crate::destroy`].
    pub(crate) async fn end_processes(&self, name: &SandboxName) -> Result<(), ProviderError> {
        let (layout, name, groups) = (self.layout(name), name.clone(), self.groups(name));
        blocking("ending the sandbox's processes", move || {
            crate::destroy::end_processes(&layout, &name, &groups)
        })
        .await
    }
}

/// The whole environment inside: nothing of the mesh's own, and no secret.
fn environment(
    spec: &StartSpec,
    inside: &Inside,
    network: BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let home = text(&inside.home);
    let mut env = BTreeMap::from([
        ("HOME".to_owned(), home.clone()),
        ("USER".to_owned(), "agent".to_owned()),
        ("LOGNAME".to_owned(), "agent".to_owned()),
        ("SHELL".to_owned(), "/bin/sh".to_owned()),
        ("LANG".to_owned(), "C.UTF-8".to_owned()),
        ("TERM".to_owned(), "dumb".to_owned()),
        ("PATH".to_owned(), format!("{home}/.local/bin:/usr/local/bin:/usr/bin:/bin")),
    ]);
    env.extend(network);
    env.extend(spec.env.clone());
    env.insert(Mark::VARIABLE.to_owned(), spec.name.to_string());
    env.insert(INSTANCE_VARIABLE.to_owned(), spec.runtime_instance.clone());
    env
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// PATH alone: the launcher must find bwrap, and needs nothing else of the mesh's environment.
fn search_path() -> std::ffi::OsString {
    std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into())
}

/// An operating-system lock on starting the runtime of one sandbox; released with its holder.
pub(crate) struct StartLock(std::fs::File);

impl Drop for StartLock {
    fn drop(&mut self) {
        // Unlocked explicitly: a child that is just being forked holds a copy of the file.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

impl LocalProvider {
    /// Takes the lock, waiting up to `limit` for another holder.
    pub(crate) async fn start_lock(
        &self,
        layout: &Layout,
        limit: Duration,
    ) -> Result<StartLock, ProviderError> {
        let io = |e| ProviderError::io("locking the start of the runtime", e);
        let path = layout.start_lock();
        let file =
            std::fs::File::options().create(true).truncate(false).write(true).open(path).map_err(io)?;
        let mut waited = Duration::ZERO;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(StartLock(file)),
                Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) if waited < limit => {}
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    let message =
                        format!("another worker has been starting this runtime for {} s", limit.as_secs());
                    let error = ProviderError::new(Class::Timeout, "RUNTIME_START_TIMEOUT", message);
                    return Err(error.retryable());
                }
                Err(e) => return Err(io(e.into())),
            }
            self.env.clock.sleep(POLL).await;
            waited += POLL;
        }
    }
}
