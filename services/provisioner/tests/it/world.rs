//! The whole service on a temporary directory, with the real runtime and the demo agent, called as the task service
//! calls it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use foundry_authn::{
    Authenticator, IdentityLayer, KeyRing, Revocations, ServiceIdentity, Signer, StaticKeys,
};
use foundry_core::{Env, MessageId, OrganizationId, RepositoryId, SessionId, TaskId, Tasks};
use foundry_fault_provider::FaultProvider;
use foundry_proto::common::v1::{TranscriptPart, transcript_part::Body};
use foundry_proto::provisioner::v1 as p;
use foundry_proto::provisioner::v1::provisioner_service_client::ProvisionerServiceClient;
use foundry_provisioner::{Config, Dependencies, Survivors, build};
use foundry_sandbox::Provider;
use foundry_sandbox_local::IsolationMode;
use foundry_server::testing::TestServer;
use foundry_server::{DataDirectory, Upstream};
use foundry_watch::{Consumer, ConsumerConfig};

use crate::repo::FakeRepo;

pub type Client = ProvisionerServiceClient<Upstream>;

/// The binary in place of `foundry`: an example of this crate, built with its tests.
pub fn program() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let program = exe.parent().unwrap().parent().unwrap().join("examples/foundry-internal");
    assert!(program.is_file(), "build the examples too: cargo build --workspace --examples");
    program
}

pub struct World {
    pub dir: tempfile::TempDir,
    pub env: Env,
    pub repo: FakeRepo,
    pub organization: OrganizationId,
    pub config: Config,
    task: ServiceIdentity,
}

/// One run of the service, from start to stop.
pub struct Life {
    pub server: TestServer,
    pub client: Client,
    pub survivors: Survivors,
    data: DataDirectory,
    env: Env,
    _tasks: Tasks,
}

impl World {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let env = Env::system();
        let repo = FakeRepo::new(dir.path());
        let faults = dir.path().join("faults");
        std::fs::create_dir(&faults).unwrap();
        let config = Config {
            foundry_program: Some(program()),
            tools_cache: Some(Path::new(env!("CARGO_TARGET_TMPDIR")).join("tools")),
            probe_interval: Duration::from_millis(300),
            local: foundry_provisioner::LocalSection {
                isolation: IsolationMode::Auto,
                min_free_bytes: 0,
                ..foundry_provisioner::LocalSection::default()
            },
            ..Config::default()
        };
        let key = Signer::generate_key(&env);
        let task = ServiceIdentity::new("task", &key, &env).unwrap();
        let organization = OrganizationId::generate(&env);
        Self { dir, env, repo, organization, config, task }
    }

    pub fn fault(&self, file: &str, content: &str) {
        std::fs::write(self.dir.path().join("faults").join(file), content).unwrap();
    }

    pub fn mend(&self, file: &str) {
        std::fs::remove_file(self.dir.path().join("faults").join(file)).unwrap();
    }

    pub async fn start(&self) -> Life {
        let env = self.env.clone();
        let (tasks, _) = Tasks::new();
        let data = DataDirectory::open(self.dir.path().join("data")).unwrap();
        let keys = KeyRing::new(Arc::new(StaticKeys(vec![self.task.published()])), env.clock.clone());
        let authenticator = Authenticator::new("provisioner", keys, Revocations::none(), &env).unwrap();
        let survivors = Survivors::default();
        let faults = self.dir.path().join("faults");
        let deps = Dependencies {
            env: env.clone(),
            tasks: tasks.clone(),
            data: &data,
            authenticator: Arc::new(authenticator),
            repo: self.repo.upstream(),
            further_providers: Arc::new(move |local, env| {
                let fault = FaultProvider::new(Arc::clone(local), faults.clone(), env.clone());
                vec![Arc::new(fault) as Arc<dyn Provider>]
            }),
            flow_hooks: Arc::new(foundry_flow::NoHooks),
            watch_observer: Arc::new(foundry_watch::NoObserver),
            environment: foundry_provisioner::EnvironmentKeys::default(),
            survivors: survivors.clone(),
        };
        let service = build(self.config.clone(), deps).await.unwrap();
        let server = TestServer::start(service).await.unwrap();
        let layer = IdentityLayer::new(self.task.clone(), "provisioner").unwrap();
        let client = ProvisionerServiceClient::new(server.local.clone().layer(layer));
        Life { server, client, survivors, data, env, _tasks: tasks }
    }

    pub async fn ensure(&self, life: &mut Life, provider: &str) -> p::Sandbox {
        let request = p::EnsureSandboxRequest {
            organization_id: self.organization.to_string(),
            task_id: TaskId::generate(&self.env).to_string(),
            repository_id: RepositoryId::generate(&self.env).to_string(),
            branch: "feat/story".into(),
            provider: provider.into(),
            ..p::EnsureSandboxRequest::default()
        };
        let sandbox = life.client.ensure_sandbox(request).await.unwrap().into_inner().sandbox.unwrap();
        // It is begun in the same commit.
        assert_eq!(sandbox.state(), p::SandboxState::Allocating);
        sandbox
    }

    pub async fn session(&self, life: &mut Life, sandbox: &p::Sandbox, policy: i32) -> p::AgentSession {
        let request = p::CreateAgentSessionRequest {
            sandbox_id: sandbox.sandbox_id.clone(),
            session_id: SessionId::generate(&self.env).to_string(),
            permission_policy: policy,
            ..p::CreateAgentSessionRequest::default()
        };
        life.client.create_agent_session(request).await.unwrap().into_inner().agent_session.unwrap()
    }
}

impl Life {
    /// Stops the service as a stop of the mesh would.
    pub async fn stop(self) {
        let survivors = self.survivors.clone();
        self.server.stop().await;
        drop(self.data);
        drop(survivors);
    }

    pub async fn sandbox(&mut self, id: &str) -> p::Sandbox {
        let request = p::GetSandboxRequest { sandbox_id: id.to_owned() };
        self.client.get_sandbox(request).await.unwrap().into_inner().sandbox.unwrap()
    }

    pub async fn sandbox_in(&mut self, id: &str, state: p::SandboxState) -> p::Sandbox {
        self.sandbox_when(id, &format!("{state:?}"), |s| s.state() == state).await
    }

    pub async fn sandbox_when(
        &mut self,
        id: &str,
        what: &str,
        holds: impl Fn(&p::Sandbox) -> bool,
    ) -> p::Sandbox {
        let clock = self.env.clock.clone();
        for _ in 0..1_200 {
            let sandbox = self.sandbox(id).await;
            if holds(&sandbox) {
                return sandbox;
            }
            clock.sleep(Duration::from_millis(50)).await;
        }
        panic!("the sandbox never became {what}: {:?}", self.sandbox(id).await);
    }

    /// Sends a prompt.
    pub async fn prompt(&mut self, session: &str, text: &str) -> String {
        let message = MessageId::generate(&self.env).to_string();
        let request = p::PromptAgentSessionRequest {
            session_id: session.to_owned(),
            message_id: message.clone(),
            text: text.to_owned(),
            ..p::PromptAgentSessionRequest::default()
        };
        self.client.prompt_agent_session(request).await.unwrap();
        message
    }

    /// Watches a session from its beginning until `enough` holds for what was received.
    pub async fn watch_until(&self, session: &str, what: &str, enough: impl Fn(&Seen) -> bool) -> Seen {
        let (tasks, _) = Tasks::new();
        let client = self.client.clone();
        let id = session.to_owned();
        let open = move |options| {
            let (mut client, session_id) = (client.clone(), id.clone());
            async move {
                let request =
                    p::WatchAgentSessionRequest { options: Some(options), session_id, after_offset: 0 };
                Ok(client.watch_agent_session(request).await?.into_inner())
            }
        };
        let mut consumer: Consumer<p::AgentSessionItem> =
            Consumer::start(&tasks, self.env.clone(), ConsumerConfig::new("story"), open);
        let mut seen = Seen::default();
        let looking = async {
            while !enough(&seen) {
                seen.take(consumer.next().await.unwrap());
            }
        };
        let ended = tokio::time::timeout(Duration::from_secs(60), looking).await;
        assert!(ended.is_ok(), "never: {what}; seen {seen:#?}");
        tasks.shutdown(Duration::from_secs(1)).await;
        seen
    }

    pub async fn session_in(&self, session: &str, state: p::AgentSessionState) -> Seen {
        self.watch_until(session, &format!("{state:?}"), |seen| seen.state() == state).await
    }
}

/// What a watch has received.
#[derive(Debug, Default)]
pub struct Seen {
    pub session: p::AgentSession,
    pub events: std::collections::BTreeMap<i64, TranscriptPart>,
}

impl Seen {
    fn take(&mut self, event: foundry_watch::Event<p::AgentSessionItem>) {
        for item in items(event) {
            match item.item {
                Some(p::agent_session_item::Item::AgentSession(session)) => self.session = session,
                Some(p::agent_session_item::Item::Event(event)) => {
                    let known = self.events.insert(event.offset, event.part.clone().unwrap());
                    assert!(known.is_none_or(|k| Some(k) == event.part), "an event changed");
                }
                None => {}
            }
        }
    }

    pub fn state(&self) -> p::AgentSessionState {
        self.session.state()
    }

    /// All messages of the agent, joined.
    pub fn words(&self) -> String {
        let text = |part: &TranscriptPart| match &part.body {
            Some(Body::AgentMessage(m)) => Some(m.text.clone()),
            _ => None,
        };
        self.events.values().filter_map(text).collect()
    }

    pub fn ends(&self) -> Vec<foundry_proto::common::v1::TurnEnd> {
        let end = |part: &TranscriptPart| match &part.body {
            Some(Body::TurnEnd(end)) => Some(end.clone()),
            _ => None,
        };
        self.events.values().filter_map(end).collect()
    }

    pub fn notices(&self) -> Vec<foundry_proto::common::v1::NoticeKind> {
        let notice = |part: &TranscriptPart| match &part.body {
            Some(Body::Notice(n)) => Some(n.kind()),
            _ => None,
        };
        self.events.values().filter_map(notice).collect()
    }

    /// Checks that offsets are contiguous from 1.
    pub fn assert_whole(&self) {
        let offsets: Vec<i64> = self.events.keys().copied().collect();
        let wanted: Vec<i64> = (1..=i64::try_from(offsets.len()).unwrap()).collect();
        assert_eq!(offsets, wanted);
        assert_eq!(self.session.last_offset, wanted.last().copied().unwrap_or(0));
    }
}

fn items(event: foundry_watch::Event<p::AgentSessionItem>) -> Vec<p::AgentSessionItem> {
    let changes = match event {
        foundry_watch::Event::Snapshot { rows, .. } => rows,
        foundry_watch::Event::Delta { changes, .. } => changes,
        _ => Vec::new(),
    };
    let item = |c: foundry_watch::Change<p::AgentSessionItem>| match c.op {
        foundry_watch::Op::Upsert(item) => Some(item),
        _ => None,
    };
    changes.into_iter().filter_map(item).collect()
}
