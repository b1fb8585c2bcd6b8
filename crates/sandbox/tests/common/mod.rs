//! A provider on a throw-away root with the real runtime, and waiting without sleeping blindly.
#![allow(dead_code, clippy::unwrap_used)] // each test binary uses its part; shared test code

use std::path::{Path, PathBuf};
use std::time::Duration;

use foundry_core::Env;
use foundry_sandbox::{
    AgentKind, CloneFuture, ClonedRepo, IsolationMode, LocalConfig, LocalProvider, Provider as _,
    RuntimeClient, RuntimeFacts, SandboxName, StartSpec, Tools, ToolsConfig,
};

/// The binary that stands for `foundry`.
pub fn binary() -> PathBuf {
    env!("CARGO_BIN_EXE_foundry-sandbox-internal").into()
}

/// The real runtime, installed once from npm into cargo's target directory.
pub async fn tools() -> Tools {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tools");
    let tools = Tools::new(ToolsConfig::new(cache), Env::system());
    tools.ensure_sandbox_agent().await.unwrap();
    tools
}

pub struct Host {
    pub dir: tempfile::TempDir,
    pub mode: IsolationMode,
}

impl Host {
    pub fn new(mode: IsolationMode) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), mode }
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("data/sandboxes")
    }

    /// A provider as a freshly started mesh would open it.
    pub async fn provider(&self) -> LocalProvider {
        let mut config = LocalConfig::new(self.root(), binary());
        config.isolation = self.mode;
        config.min_free_bytes = 0;
        LocalProvider::open(config, tools().await, Env::system()).await.unwrap()
    }
}

/// A name no other test uses, since sandboxes are found by it on the whole host.
pub fn name() -> SandboxName {
    foundry_core::SandboxId::generate(&Env::system()).as_str().parse().unwrap()
}

/// A clone source that needs no git.
pub fn source() -> impl Fn(PathBuf) -> CloneFuture + Send + Sync {
    |destination: PathBuf| {
        Box::pin(async move {
            std::fs::create_dir(&destination).unwrap();
            std::fs::write(destination.join("README.md"), "hello\n").unwrap();
            Ok(ClonedRepo { head: "abc".into(), branch: "main".into() })
        })
    }
}

pub fn start_spec(name: &SandboxName, instance: &str) -> StartSpec {
    StartSpec { name: name.clone(), runtime_instance: instance.into(), env: Default::default() }
}

/// All stages up to a running runtime with the demo agent in its slot.
pub async fn ready(provider: &LocalProvider, name: &SandboxName) -> (RuntimeFacts, RuntimeClient) {
    provider.allocate(name).await.unwrap();
    provider.prepare_repo(name, &source()).await.unwrap();
    provider.install_agent(name, AgentKind::Demo).await.unwrap();
    let facts = provider.start_agent(&start_spec(name, "run1")).await.unwrap();
    let client = RuntimeClient::new(&facts, Env::system()).unwrap();
    (facts, client)
}

/// Asks until it holds; fails loudly after 30 s.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    for _ in 0..1_500 {
        tick.tick().await;
        if let Some(found) = ask().await {
            return found;
        }
    }
    panic!("never happened: {what}");
}

/// The processes of the host that carry the sandbox's mark, zombies left out.
pub fn processes_of(name: &SandboxName) -> Vec<i32> {
    let mark = format!("FOUNDRY_SANDBOX={name}");
    let carries = |pid: &i32| {
        std::fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|env| env.split(|b| *b == 0).any(|e| e == mark.as_bytes()))
    };
    let numbers = std::fs::read_dir("/proc").unwrap().flatten();
    numbers.filter_map(|e| e.file_name().to_str()?.parse().ok()).filter(carries).collect()
}
