//! The service without its process: a real database, a provider in memory, a mock clock.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use foundry_authn::{Authenticator, Caller, KeyRing, Revocations, StaticKeys, UserCaller};
use foundry_core::{OrganizationId, RepositoryId, SessionId, TaskId, Tasks, Timestamp, UserId};
use foundry_flow::{Engine, Options};
use foundry_proto::common::v1::Role;
use foundry_proto::provisioner::v1 as p;
use foundry_sandbox::{
    AcpId, AgentInstall, Allocation, Class, CloneSource, ClonedRepo, Connection, DeathCause, Destroyed,
    Health, InstalledAgent, Isolation, LimitReport, LogStretch, Network, OwnedSandbox, PreparedRepo,
    Progress, Provider, ProviderError, RuntimeFacts, RuntimeKey, Sandbox as Handle, SandboxName, StartSpec,
    TapReadError, beneath, tap,
};
use foundry_service::Database;
use foundry_store::{Store, StoreOptions};
use foundry_testkit::{TestEnv, test_env};
use foundry_watch::Observer;

use crate::domain::{Sandbox, Session};
use crate::providers::Providers;
use crate::service::{Parts, assemble};
use crate::shared::Shared;
use crate::store::{sandboxes, sessions};
use crate::{Config, flow, ops};

pub mod agent;
pub mod profiles;
// Shared with the integration tests, which use more of it.
#[allow(dead_code)]
#[path = "../tests/it/repo.rs"]
pub mod repo;

/// Sandboxes that exist in memory only.
#[derive(Clone, Default)]
pub struct FakeProvider(Arc<Mutex<FakeHost>>, Arc<tokio::sync::watch::Sender<bool>>);

/// The host as the service sees it: its sandboxes and runtimes, and the faults to inject.
#[derive(Default)]
pub struct FakeHost {
    pub sandboxes: BTreeMap<SandboxName, Timestamp>,
    pub runtimes: BTreeMap<SandboxName, RuntimeFacts>,
    /// All runtimes that were ever started.
    pub started: Vec<String>,
    /// Calls that never return.
    pub hanging: BTreeSet<&'static str>,
    /// Calls that fail for good.
    pub failing: BTreeSet<&'static str>,
    /// Calls that fail, and may be made again.
    pub flaky: BTreeSet<&'static str>,
    /// Port and HOME of the sandboxes' runtime; without it, nothing answers.
    pub runtime: Option<(u16, PathBuf)>,
    /// The commit that clones are at.
    pub head: Option<String>,
    /// Whether it is still unknown how sandboxes are isolated.
    pub undecided: bool,
    /// What is reported of the limits of every sandbox.
    pub limits: LimitReport,
}

impl FakeProvider {
    pub fn host(&self) -> std::sync::MutexGuard<'_, FakeHost> {
        self.0.lock().unwrap()
    }

    pub fn names(&self) -> Vec<String> {
        self.host().sandboxes.keys().map(ToString::to_string).collect()
    }

    /// Kills the runtime of a sandbox.
    pub fn kill(&self, id: &str) {
        self.host().runtimes.remove(&id.parse().unwrap());
    }

    /// Completes while a call hangs.
    pub async fn until_hung(&self) {
        self.1.subscribe().wait_for(|hung| *hung).await.unwrap();
    }

    async fn inject_fault(&self, call: &'static str) -> Result<(), ProviderError> {
        if self.host().hanging.contains(call) {
            self.1.send_replace(true);
            let _until_given_up = Hung(&self.1);
            std::future::pending::<()>().await;
        }
        if self.host().failing.contains(call) {
            return Err(ProviderError::new(Class::Capacity, "DISK_FULL", "the disk is full"));
        }
        if self.host().flaky.contains(call) {
            return Err(ProviderError::new(Class::Capacity, "DISK_FULL", "the disk is full").retryable());
        }
        Ok(())
    }
}

/// Marks a call as hanging until its caller gives up.
struct Hung<'a>(&'a tokio::sync::watch::Sender<bool>);

impl Drop for Hung<'_> {
    fn drop(&mut self) {
        self.0.send_replace(false);
    }
}

#[async_trait]
impl Provider for FakeProvider {
    fn name(&self) -> &'static str {
        "local"
    }

    async fn allocate(&self, name: &SandboxName) -> Result<Allocation, ProviderError> {
        self.inject_fault("allocate").await?;
        if self.host().undecided {
            return Err(ProviderError::new(Class::Timeout, "ISOLATION_UNDECIDED", "not known").retryable());
        }
        let at = *self.host().sandboxes.entry(name.clone()).or_default();
        let isolation = Isolation::None { reason: "in memory".into() };
        Ok(Allocation { sandbox: name.clone(), allocated_at: at, isolation, network: Network::Host })
    }

    async fn prepare_repo(
        &self,
        _: &SandboxName,
        _: &dyn CloneSource,
    ) -> Result<PreparedRepo, ProviderError> {
        self.inject_fault("prepare_repo").await?;
        let head = self.host().head.clone();
        let head = head.unwrap_or_else(|| "0123456789012345678901234567890123456789".to_owned());
        let cloned = ClonedRepo { head, branch: "b".into(), git: None };
        Ok(PreparedRepo { cloned, workspace: "/workspace".into() })
    }

    async fn install_agent(
        &self,
        _: &SandboxName,
        _: &AgentInstall,
        _: &Progress,
    ) -> Result<InstalledAgent, ProviderError> {
        self.inject_fault("install_agent").await?;
        Ok(InstalledAgent { foundry: "/foundry".into(), ..InstalledAgent::default() })
    }

    async fn start_agent(&self, spec: &StartSpec) -> Result<RuntimeFacts, ProviderError> {
        self.inject_fault("start_agent").await?;
        let mut host = self.host();
        if let Some(running) = host.runtimes.get(&spec.name) {
            return Ok(running.clone());
        }
        host.started.push(spec.runtime_instance.clone());
        let facts = serde_json::from_value(serde_json::json!({
            "sandbox": spec.name, "runtime_instance": spec.runtime_instance, "home": "/home/agent",
            "workspace": "/workspace", "isolation": {"kind": "none", "reason": "in memory"},
        }));
        let facts: RuntimeFacts = facts.unwrap();
        host.runtimes.insert(spec.name.clone(), facts.clone());
        Ok(facts)
    }

    async fn probe(&self, facts: &RuntimeFacts) -> Result<Health, ProviderError> {
        self.inject_fault("probe").await?;
        Ok(match self.host().runtimes.get(&facts.sandbox) {
            Some(running) if running == facts => Health::Alive,
            _ => Health::Dead { cause: DeathCause::Killed { signal: 9 } },
        })
    }

    async fn limits(&self, _: &RuntimeFacts) -> Result<LimitReport, ProviderError> {
        Ok(self.host().limits.clone())
    }

    async fn destroy(&self, name: &SandboxName) -> Result<Destroyed, ProviderError> {
        self.inject_fault("destroy").await?;
        let mut host = self.host();
        host.runtimes.remove(name);
        match host.sandboxes.remove(name) {
            Some(_) => Ok(Destroyed::Removed),
            None => Ok(Destroyed::AlreadyGone),
        }
    }

    async fn list_owned(&self) -> Result<Vec<OwnedSandbox>, ProviderError> {
        let host = self.host();
        let owned = host.sandboxes.iter().map(|(name, at)| OwnedSandbox {
            name: name.clone(),
            allocated_at: Some(*at),
            runtime: host.runtimes.get(name).cloned(),
        });
        Ok(owned.collect())
    }

    fn open(&self, facts: &RuntimeFacts) -> Result<Arc<dyn Handle>, ProviderError> {
        let (port, home) = self.host().runtime.clone().unwrap_or_else(|| (1, "/nowhere".into()));
        Ok(Arc::new(FakeHandle { port, home, key: facts.key.clone() }))
    }
}

/// A sandbox whose runtime is the one of the fixture, and whose HOME is a directory here.
struct FakeHandle {
    port: u16,
    home: PathBuf,
    key: RuntimeKey,
}

#[async_trait]
impl Handle for FakeHandle {
    async fn connect(&self) -> std::io::Result<Box<dyn Connection>> {
        Ok(Box::new(tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await?))
    }

    fn key(&self) -> &RuntimeKey {
        &self.key
    }

    async fn read_log(&self, acp: &AcpId, offset: u64) -> Result<LogStretch, TapReadError> {
        tap::read_file(&self.home, acp, offset)
    }

    async fn take_file(&self, path: &str, destination: &Path, max_bytes: u64) -> Result<u64, ProviderError> {
        beneath::copy_out(self.home.clone(), path.to_owned(), destination.to_owned(), max_bytes).await
    }
}

/// A service whose flows and clock the test drives.
pub struct Fixture {
    pub env: TestEnv,
    pub shared: Arc<Shared>,
    pub engine: Engine,
    pub provider: FakeProvider,
    pub repo: repo::FakeRepo,
    pub organization: OrganizationId,
    pub user: UserId,
    /// The task service.
    pub task: Caller,
    /// A viewer of the organization.
    pub member: Caller,
    /// An owner of another organization.
    pub stranger: Caller,
    pub dir: tempfile::TempDir,
}

impl Fixture {
    pub async fn new() -> Self {
        Self::observed(Arc::new(foundry_watch::NoObserver)).await
    }

    pub async fn observed(watch_observer: Arc<dyn Observer>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let env = test_env();
        let migrations = [&foundry_flow::MIGRATIONS, &crate::store::MIGRATIONS];
        let url = foundry_testkit::migrated_database_url(dir.path(), "provisioner", async |url| {
            Store::connect(&url, &migrations, &foundry_core::Env::system(), StoreOptions::default())
                .await
                .unwrap();
        })
        .await;
        let options = StoreOptions { clock: Some(env.env.clock.clone()), ..StoreOptions::default() };
        let database = Database::open_with(options, &url, dir.path(), "provisioner", &migrations, &env.env)
            .await
            .unwrap();
        let store = database.store.clone();
        let (tasks, _) = Tasks::new();
        let keys = KeyRing::new(Arc::new(StaticKeys(Vec::new())), env.env.clock.clone());
        let authenticator = Authenticator::new("provisioner", keys, Revocations::none(), &env.env).unwrap();
        let provider = FakeProvider::default();
        let repo = repo::FakeRepo::new(dir.path());
        let parts = Parts {
            env: env.env.clone(),
            tasks,
            authenticator: Arc::new(authenticator),
            repo: repo.upstream(),
            attachments: crate::attachments::Attachments::open("", &dir.path().join("attachments"), &env.env)
                .unwrap(),
            bundles: dir.path().join("bundles"),
            watch_observer,
            profiles: profiles::profiles(&env.env, dir.path()).await,
        };
        let providers = Providers::of(vec![Arc::new(provider.clone())]);
        let shared = assemble(Config::default(), parts, &database, providers).unwrap();
        let engine =
            Engine::new(store, env.env.clone(), flow::bindings(&shared), Options::default()).unwrap();
        let organization = OrganizationId::generate(&env.env);
        let user = |of: &OrganizationId, role| {
            Caller::user(UserCaller {
                user_id: UserId::generate(&env.env),
                credential_id: "crd".to_owned(),
                organizations: BTreeMap::from([(of.clone(), role)]),
                revocations_rev: 0,
                expires_at: Timestamp::from_micros(i64::MAX),
            })
        };
        let member = user(&organization, Role::Viewer);
        let stranger = user(&OrganizationId::generate(&env.env), Role::Owner);
        let task = Caller::service("task");
        let user = UserId::generate(&env.env);
        Self { env, shared, engine, provider, repo, organization, user, task, member, stranger, dir }
    }

    /// A user who may store files in the organization.
    pub fn writer(&self) -> Caller {
        Caller::user(UserCaller {
            user_id: self.user.clone(),
            credential_id: "crd".to_owned(),
            organizations: BTreeMap::from([(self.organization.clone(), Role::Member)]),
            revocations_rev: 0,
            expires_at: Timestamp::from_micros(i64::MAX),
        })
    }

    /// Changes settings; only possible before anything else holds the shared parts.
    pub fn configure(&mut self, change: impl FnOnce(&mut Config)) {
        // The engine's flows hold the shared parts, so it is replaced by one without flows.
        let store = self.shared.store.clone();
        self.engine = Engine::new(store, self.env.env.clone(), Vec::new(), Options::default()).unwrap();
        change(&mut Arc::get_mut(&mut self.shared).unwrap().config);
    }

    pub fn wanted(&self) -> p::EnsureSandboxRequest {
        p::EnsureSandboxRequest {
            organization_id: self.organization.to_string(),
            task_id: TaskId::generate(&self.env.env).to_string(),
            repository_id: RepositoryId::generate(&self.env.env).to_string(),
            branch: "feat/x".into(),
            ..p::EnsureSandboxRequest::default()
        }
    }

    /// Requests a sandbox.
    pub async fn ensure(&self) -> Sandbox {
        let answer = ops::ensure_sandbox::ensure_sandbox(&self.shared, &self.task, self.wanted()).await;
        let id = answer.unwrap().sandbox.unwrap().sandbox_id;
        self.sandbox(&id).await
    }

    pub async fn sandbox(&self, id: &str) -> Sandbox {
        sandboxes::find(&self.shared.store, &id.parse().unwrap()).await.unwrap().unwrap()
    }

    /// Requests a session.
    pub async fn session(&self, sandbox: &Sandbox) -> Session {
        let request = p::CreateAgentSessionRequest {
            sandbox_id: sandbox.sandbox_id.to_string(),
            session_id: SessionId::generate(&self.env.env).to_string(),
            ..p::CreateAgentSessionRequest::default()
        };
        let answer = ops::create_agent_session::create_agent_session(&self.shared, &self.task, request).await;
        let id = answer.unwrap().agent_session.unwrap().session_id;
        sessions::find(&self.shared.store, &id.parse().unwrap()).await.unwrap().unwrap()
    }

    /// Brings a session to the state at the end of its flow, without an agent.
    pub async fn made_ready(&self, session: &Session) -> Session {
        let mut ws = foundry_store::WriteSet::new();
        foundry_flow::request_cancel(&mut ws, &session.flow_id.parse().unwrap());
        sessions::update(&mut ws, session, vec![("state", "ready".into()), ("acp_session", "s1".into())]);
        self.shared.store.commit(ws).await.unwrap();
        self.again(session).await
    }

    pub async fn again(&self, session: &Session) -> Session {
        sessions::find(&self.shared.store, &session.session_id).await.unwrap().unwrap()
    }

    pub async fn run(&self) {
        self.engine.run_until_idle().await.unwrap();
    }
}
