//! A provider on a temporary root with the real runtime, and waiting without blind sleeps.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use foundry_agents::{Catalogue, Launch, Places, Profile, launch};
use foundry_core::Env;
use foundry_runtime_client::{
    Conversation, ExecOutput, ExecSpec, LogFollower, RemoteSandbox, RequestId, RuntimeClient,
};
use foundry_sandbox::acp::{AcpEvent, Update};
use foundry_sandbox::{
    AcpId, AgentInstall, CloneFuture, ClonedRepo, Health, ProcessRef, Provider as _, ProviderError,
    RuntimeFacts, Sandbox, SandboxName, StartSpec, TapBody, TapCursor, TapEvent, TapReader,
};
use foundry_sandbox_local::{IsolationMode, Limits, LocalConfig, LocalProvider, Transport};

/// The binary that serves as `foundry`.
pub fn binary() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let program = exe.parent().unwrap().parent().unwrap().join("examples/foundry-sandbox-internal");
    assert!(program.is_file(), "build the examples too: cargo build --workspace --examples");
    program
}

/// The combinations of isolation and transport under test.
pub const WAYS: [(IsolationMode, Transport); 3] = [
    (IsolationMode::Auto, Transport::Socket),
    (IsolationMode::Auto, Transport::Loopback),
    (IsolationMode::Off, Transport::Socket),
];

pub struct Host {
    pub dir: tempfile::TempDir,
    pub mode: IsolationMode,
    pub transport: Transport,
    pub limits: Limits,
}

impl Host {
    pub fn new(mode: IsolationMode) -> Self {
        Self::by((mode, Transport::Socket))
    }

    pub fn by((mode, transport): (IsolationMode, Transport)) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), mode, transport, limits: Limits::default() }
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("data/sandboxes")
    }

    /// The entries of the root besides the files that all sandboxes share.
    pub fn left(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.root()).unwrap().map(|e| e.unwrap().file_name());
        names.filter_map(|n| n.into_string().ok()).filter(|n| n != ".network").collect()
    }

    pub fn config(&self) -> LocalConfig {
        let mut config = LocalConfig::new(self.root(), binary(), self.dir.path().join("tools"));
        config.isolation = self.mode;
        config.transport = self.transport;
        config.min_free_bytes = 0;
        config.limits = self.limits.clone();
        config
    }

    /// A provider as a freshly started mesh would open it.
    pub async fn provider(&self) -> LocalProvider {
        LocalProvider::new(self.config(), Env::system()).await.unwrap()
    }

    /// The handle of a sandbox; over TCP, one that has nothing but address and key.
    pub fn handle(&self, provider: &LocalProvider, facts: &RuntimeFacts) -> Arc<dyn Sandbox> {
        if self.transport == Transport::Socket {
            return provider.open(facts).unwrap();
        }
        let address = facts.place["address"]["tcp"].as_str().unwrap().to_owned();
        let (key, home) = (facts.key.clone(), facts.home.clone());
        Arc::new(RemoteSandbox::new(address, key, home, Env::system()))
    }

    pub fn client(&self, provider: &LocalProvider, facts: &RuntimeFacts) -> RuntimeClient {
        RuntimeClient::new(self.handle(provider, facts), Env::system())
    }
}

/// The process whose end is the end of the sandbox.
pub fn process(facts: &RuntimeFacts) -> ProcessRef {
    serde_json::from_value(facts.place["process"].clone()).unwrap()
}

/// A unique name, since sandboxes are found by it on the whole host.
pub fn name() -> SandboxName {
    foundry_core::SandboxId::generate(&Env::system()).as_str().parse().unwrap()
}

/// A clone source that needs no git.
pub fn source() -> impl Fn(PathBuf) -> CloneFuture + Send + Sync {
    |destination: PathBuf| {
        Box::pin(async move {
            std::fs::create_dir(&destination).unwrap();
            std::fs::write(destination.join("README.md"), "hello\n").unwrap();
            Ok(ClonedRepo { head: "abc".into(), branch: "main".into(), git: None })
        })
    }
}

pub fn start_spec(name: &SandboxName, instance: &str) -> StartSpec {
    StartSpec { name: name.clone(), runtime_instance: instance.into(), env: Default::default() }
}

/// The demo agent, installed.
pub async fn installed(provider: &LocalProvider, name: &SandboxName) -> Places {
    let demo = AgentInstall { name: "demo".into(), ..AgentInstall::default() };
    let i = provider.install_agent(name, &demo, &|_| {}).await.unwrap();
    Places { foundry: i.foundry, installed: i.installed, node: i.node }
}

/// All stages up to a running runtime.
pub async fn ready(
    host: &Host,
    provider: &LocalProvider,
    name: &SandboxName,
) -> (RuntimeFacts, RuntimeClient) {
    provider.allocate(name).await.unwrap();
    provider.prepare_repo(name, &source()).await.unwrap();
    installed(provider, name).await;
    let facts = provider.start_agent(&start_spec(name, "run1")).await.unwrap();
    let client = host.client(provider, &facts);
    (facts, client)
}

/// An open conversation with the demo agent, followed from its beginning.
pub struct Talk {
    pub acp: AcpId,
    pub session: String,
    pub client: RuntimeClient,
    pub follower: LogFollower,
}

pub async fn open(
    host: &Host,
    provider: &LocalProvider,
    facts: &RuntimeFacts,
    acp: &str,
    attempt: &str,
) -> Talk {
    let plain =
        launch(Catalogue::new(Default::default()).unwrap().get("demo").unwrap(), None, &Profile::default());
    open_with(host, provider, facts, (acp, attempt), &plain.unwrap()).await.unwrap()
}

pub async fn open_with(
    host: &Host,
    provider: &LocalProvider,
    facts: &RuntimeFacts,
    (acp, attempt): (&str, &str),
    launch: &Launch,
) -> Result<Talk, ProviderError> {
    let acp: AcpId = acp.parse().unwrap();
    let client = host.client(provider, facts);
    let catalogue = Catalogue::new(Default::default()).unwrap();
    let places = installed(provider, &facts.sandbox).await;
    let conversation = Conversation {
        client: &client,
        acp: &acp,
        agent: "demo",
        command: catalogue.get("demo").unwrap().command(&places),
        launch,
        mcp_servers: &[],
        home: facts.home.clone(),
        workspace: facts.workspace.clone(),
        attempt,
        earlier: None,
        chosen: &[],
    };
    let opened = conversation.open(&Env::system()).await?;
    let reader = TapReader::new(Arc::clone(client.sandbox()), &acp);
    let follower = LogFollower::new(
        reader,
        acp.clone(),
        TapCursor::default(),
        Some(client.clone()),
        Duration::from_millis(500),
        Env::system(),
    );
    Ok(Talk { acp, session: opened.session_id, client, follower })
}

impl Talk {
    /// One turn: the events up to the answer to this prompt, or up to the agent's end.
    pub async fn turn(&mut self, id: &str, text: &str) -> Vec<TapEvent> {
        self.begin(id, text).await;
        self.end(id).await
    }

    /// Sends a prompt, and returns once the runtime has it.
    pub async fn begin(&self, id: &str, text: &str) {
        let request = RequestId(id.to_owned());
        self.client.prompt(&self.acp, &request, &self.session, text).await.unwrap();
    }

    /// The events up to the answer to this prompt, or up to the agent's end.
    pub async fn end(&mut self, id: &str) -> Vec<TapEvent> {
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
        let mut events = Vec::new();
        while !ended(&events) {
            events.extend(self.follower.next().await.unwrap().events);
        }
        events
    }

    /// The agent's messages in a turn.
    pub async fn said(&mut self, id: &str, text: &str) -> String {
        words(&self.turn(id, text).await)
    }
}

/// The agent's messages in these events.
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

pub fn sh(script: &str) -> ExecSpec {
    ExecSpec {
        argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
        limit: Duration::from_secs(20),
        max_output: 1 << 16,
        ..ExecSpec::default()
    }
}

pub async fn run(client: &RuntimeClient, script: &str) -> ExecOutput {
    client.exec(&sh(script)).await.unwrap()
}

/// Polls until there is a value; panics after 30 s.
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

/// Waits until the runtime answers, which takes a busy host longer than a probe waits; fails at once when it is dead.
pub async fn alive(provider: &LocalProvider, facts: &RuntimeFacts) {
    let answers = eventually("the runtime answers", async || match provider.probe(facts).await.unwrap() {
        Health::Alive => Some(()),
        Health::Unknown { .. } => None,
        dead @ Health::Dead { .. } => panic!("{dead:?}"),
    });
    // Each probe of a hung runtime takes seconds.
    let in_time = tokio::time::timeout(Duration::from_secs(60), answers).await;
    assert!(in_time.is_ok(), "the runtime lives and does not answer");
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
