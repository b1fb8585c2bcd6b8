//! A provider on a throw-away root with the real runtime, and waiting without sleeping blindly.
#![allow(dead_code, clippy::unwrap_used)] // each test binary uses its part; shared test code

use std::path::{Path, PathBuf};
use std::time::Duration;

use foundry_core::Env;
use foundry_sandbox::acp::{AcpEvent, Update};
use foundry_sandbox::{
    AcpId, AgentCredentials, AgentKind, CloneFuture, ClonedRepo, Conversation, IsolationMode, LocalConfig,
    LocalProvider, Provider as _, RequestId, RuntimeClient, RuntimeFacts, SandboxName, StartSpec, TapBody,
    TapCursor, TapEvent, TapFollower, TapReader, Tools, ToolsConfig,
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

/// An open conversation with the demo agent, followed from its beginning.
pub struct Talk {
    pub acp: AcpId,
    pub session: String,
    pub client: RuntimeClient,
    pub follower: TapFollower,
}

pub async fn open(provider: &LocalProvider, facts: &RuntimeFacts, acp: &str, attempt: &str) -> Talk {
    open_with(provider, facts, acp, attempt, AgentKind::Demo, &AgentCredentials::default()).await
}

pub async fn open_with(
    provider: &LocalProvider,
    facts: &RuntimeFacts,
    acp: &str,
    attempt: &str,
    agent: AgentKind,
    credentials: &AgentCredentials,
) -> Talk {
    let acp: AcpId = acp.parse().unwrap();
    let client = RuntimeClient::new(facts, Env::system()).unwrap();
    let home = provider.host_home(&facts.sandbox).unwrap();
    let conversation = Conversation {
        client: &client,
        host_home: &home,
        acp: &acp,
        agent,
        credentials,
        workspace: facts.workspace.clone(),
        attempt,
    };
    let opened = conversation.open(&Env::system()).await.unwrap();
    let wakeups = client.wakeups(&acp, Duration::from_millis(500));
    let reader = TapReader::new(&home, &acp);
    let follower = TapFollower::new(
        reader,
        TapCursor::default(),
        Some(wakeups),
        Duration::from_millis(500),
        Env::system(),
    );
    Talk { acp, session: opened.session_id, client, follower }
}

impl Talk {
    /// One turn: the events up to the answer to this prompt, or up to the agent's end.
    pub async fn turn(&mut self, id: &str, text: &str) -> Vec<TapEvent> {
        let request = RequestId(id.to_owned());
        let post = self.client.prompt(&self.acp, &request, &self.session, text);
        let meaning = |e: &TapEvent| match &e.body {
            TapBody::Message { direction, json } => Some(AcpEvent::parse(*direction, json.clone())),
            _ => None,
        };
        let ended = |events: &[TapEvent]| {
            let asked =
                |e: &TapEvent| matches!(meaning(e), Some(AcpEvent::Asked { id: found, .. }) if found == id);
            let after = events.iter().skip_while(|e| !asked(e));
            after.into_iter().any(|e| match meaning(e) {
                Some(AcpEvent::Answered { id: found, .. }) => found == id,
                _ => matches!(e.body, TapBody::Exited { .. }),
            })
        };
        let collect = async {
            let mut events = Vec::new();
            while !ended(&events) {
                events.extend(self.follower.next().await.unwrap().events);
            }
            events
        };
        // The POST is kept until the log has the answer; its own fate does not matter.
        tokio::pin!(post, collect);
        tokio::select! {
            events = &mut collect => events,
            _ = async { let _ = post.await; std::future::pending::<()>().await } => unreachable!(),
        }
    }

    /// What the agent said in a turn.
    pub async fn said(&mut self, id: &str, text: &str) -> String {
        words(&self.turn(id, text).await)
    }
}

/// The agent's words in these events.
pub fn words(events: &[TapEvent]) -> String {
    let chunk = |e: &TapEvent| match &e.body {
        TapBody::Message { direction, json } => match AcpEvent::parse(*direction, json.clone()) {
            AcpEvent::Updated { update: Update::MessageChunk(chunk), .. } => {
                Some(chunk.content.text().to_owned())
            }
            _ => None,
        },
        _ => None,
    };
    events.iter().filter_map(chunk).collect()
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
