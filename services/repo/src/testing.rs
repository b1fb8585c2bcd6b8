//! The service in a temporary directory, with a real Git repository to mirror. Flows run only when the test runs them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use foundry_authn::{Authenticator, Caller, KeyRing, Revocations, StaticKeys, UserCaller};
use foundry_core::{OrganizationId, TaskId, Tasks, Timestamp, UserId};
use foundry_flow::Engine;
use foundry_git::{Git, UrlPolicy};
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::import_work_request::Part;
use foundry_proto::repo::v1::{CreateRepositoryRequest, ImportWorkHeader, ImportWorkRequest, Repository};
use foundry_service::Database;
use foundry_store::{Store, StoreOptions};
use foundry_testkit::{TestEnv, test_env};
use foundry_watch_hub::{Hub, HubConfig};

use crate::context::Context;
use crate::domain::sync::Pace;
use crate::serving::Serving;
use crate::{flow, ops, store};

/// The service, its flow engine, and callers; `stranger` is of another organization.
pub struct Fixture {
    pub cx: Arc<Context>,
    pub engine: Engine,
    pub organization: OrganizationId,
    pub member: Caller,
    pub stranger: Caller,
    pub origin: PathBuf,
    pub env: TestEnv,
    url: String,
    dir: tempfile::TempDir,
    serving_tasks: Tasks,
    tasks: Tasks,
}

/// Runs git in a directory and returns its trimmed output.
pub fn git(dir: &Path, args: &[&str]) -> String {
    let out = Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@example.invalid", "-c", "init.defaultBranch=main"])
        .args(args)
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(out.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

fn member_of(env: &TestEnv, organization: &OrganizationId) -> Caller {
    with_role(env, organization, Role::Owner)
}

fn with_role(env: &TestEnv, organization: &OrganizationId, role: Role) -> Caller {
    Caller::user(UserCaller {
        user_id: UserId::generate(&env.env),
        credential_id: "crd".to_owned(),
        organizations: BTreeMap::from([(organization.clone(), role)]),
        revocations_rev: 0,
        expires_at: Timestamp::from_micros(i64::MAX),
    })
}

/// What one process has.
async fn context(
    dir: &Path,
    url: &str,
    env: &TestEnv,
    (tasks, serving_tasks): (&Tasks, &Tasks),
    forge_hosts: foundry_forge::ForgeHosts,
) -> Arc<Context> {
    Arc::new(owned(dir, url, env, (tasks, serving_tasks), forge_hosts).await)
}

async fn owned(
    dir: &Path,
    url: &str,
    env: &TestEnv,
    (tasks, serving_tasks): (&Tasks, &Tasks),
    forge_hosts: foundry_forge::ForgeHosts,
) -> Context {
    let migrations = [&store::MIGRATIONS, &foundry_flow::MIGRATIONS];
    let options = StoreOptions { clock: Some(env.env.clock.clone()), ..StoreOptions::default() };
    let database = Database::open_with(options, url, dir, "repo", &migrations, &env.env).await.unwrap();
    let store = database.store;
    let keys = KeyRing::new(Arc::new(StaticKeys(Vec::new())), env.env.clock.clone());
    let authenticator = Authenticator::new("repo", keys, Revocations::none(), &env.env).unwrap();
    Context {
        hub: Hub::new(store.clone(), env.env.clone(), tasks.clone(), HubConfig::default()),
        store,
        env: env.env.clone(),
        git: Git::detect().await.unwrap(),
        // Hosts of tests are on this machine and have no certificate.
        urls: UrlPolicy {
            allow_private_addresses: true,
            allow_http: true,
            ..UrlPolicy::embedded(dir.join("data"))
        },
        broker: crate::broker::Broker {
            keys: foundry_secrets::Keys::load(&[], &dir.join("data/secrets.key"), &env.env).await.unwrap(),
            directory: dir.join("data/access"),
        },
        forge_hosts,
        forges: Arc::new(
            foundry_forge::Forges::new(&foundry_http_client::NetworkSettings::default()).unwrap(),
        ),
        mirrors: dir.join("data/mirrors"),
        incoming: dir.join("data/incoming"),
        max_bundle_bytes: 1 << 20,
        allow_findings: Vec::new(),
        base_wait: std::time::Duration::from_secs(15),
        // The engine of these tests runs only between the calls.
        fetch_wait: std::time::Duration::ZERO,
        plan_share: std::time::Duration::from_secs(30),
        pace: Pace {
            active: std::time::Duration::from_secs(60),
            idle: std::time::Duration::from_secs(900),
            at_once: 4,
        },
        reads: tokio::sync::Semaphore::new(crate::context::CONCURRENT_READS),
        comparisons: crate::comparison::Comparisons::default(),
        serving: Serving::new(dir.join("data/serving"), serving_tasks.clone()),
        app_tokens: crate::app_tokens::AppTokens::default(),
        refusals: crate::domain::webhook::Refusals::default(),
        authenticator: Arc::new(authenticator),
    }
}

impl Fixture {
    /// What `foundry verify` finds of this service.
    pub async fn damaged(&self) -> Vec<foundry_store::Unreadable> {
        foundry_store::verify(&self.url, &store::ENCODED).await.unwrap()
    }

    /// Starts a service with an origin of one commit on `main`.
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let env = test_env();
        let origin = dir.path().join("origin");
        std::fs::create_dir(&origin).unwrap();
        git(&origin, &["init", "-q"]);
        std::fs::write(origin.join("README.md"), "hello\n").unwrap();
        git(&origin, &["add", "."]);
        git(&origin, &["commit", "-q", "-m", "first"]);
        let migrations = [&store::MIGRATIONS, &foundry_flow::MIGRATIONS];
        let url = foundry_testkit::migrated_database_url(dir.path(), "repo", async |url| {
            Store::connect(&url, &migrations, &foundry_core::Env::system(), StoreOptions::default())
                .await
                .unwrap();
        })
        .await;
        for sub in ["data/mirrors", "data/incoming", "data/serving", "data/access"] {
            std::fs::create_dir_all(dir.path().join(sub)).unwrap();
        }
        let ((tasks, _), (serving_tasks, _)) = (Tasks::new(), Tasks::new());
        let cx = context(dir.path(), &url, &env, (&tasks, &serving_tasks), Default::default()).await;
        let flows = flow::bindings(&cx);
        let store = cx.store.clone();
        let engine = Engine::new(store, env.env.clone(), flows, foundry_flow::Options::default()).unwrap();
        let (organization, other) = (OrganizationId::generate(&env.env), OrganizationId::generate(&env.env));
        let (member, stranger) = (member_of(&env, &organization), member_of(&env, &other));
        Self { cx, engine, organization, member, stranger, origin, env, url, dir, serving_tasks, tasks }
    }

    /// Another member of the organization.
    pub fn other_member(&self, role: Role) -> Caller {
        with_role(&self.env, &self.organization, role)
    }

    /// Waits until no answer from a mirror is being made.
    pub async fn tasks_end(&self) {
        while !self.serving_tasks.is_empty() {
            tokio::task::yield_now().await;
        }
    }

    /// The service of another process on the same database.
    pub async fn beside(&self) -> Arc<Context> {
        self.knowing(Default::default()).await
    }

    async fn knowing(&self, forges: foundry_forge::ForgeHosts) -> Arc<Context> {
        context(self.path(), &self.url, &self.env, (&self.tasks, &self.serving_tasks), forges).await
    }

    /// Restarts the service with these forges.
    pub async fn with_forges(&mut self, forges: foundry_forge::ForgeHosts) {
        self.cx = self.knowing(forges).await;
        let (store, flows) = (self.cx.store.clone(), flow::bindings(&self.cx));
        self.engine =
            Engine::new(store, self.env.env.clone(), flows, foundry_flow::Options::default()).unwrap();
    }

    /// Restarts the service so that an action records each branch that it has made.
    pub async fn recording_each_branch(&mut self) {
        self.restarted(|cx| cx.plan_share = std::time::Duration::ZERO).await;
    }

    /// Restarts the service with something else in its context.
    pub async fn restarted(&mut self, change: impl FnOnce(&mut Context)) {
        let (tasks, forges) = ((&self.tasks, &self.serving_tasks), Default::default());
        let mut cx = owned(self.path(), &self.url, &self.env, tasks, forges).await;
        change(&mut cx);
        self.cx = Arc::new(cx);
        let (store, flows) = (self.cx.store.clone(), flow::bindings(&self.cx));
        self.engine =
            Engine::new(store, self.env.env.clone(), flows, foundry_flow::Options::default()).unwrap();
    }

    /// The temporary directory, removed with the fixture.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The request that registers the origin.
    pub fn create(&self) -> CreateRepositoryRequest {
        CreateRepositoryRequest {
            request_id: "create".to_owned(),
            organization_id: self.organization.to_string(),
            url: self.origin.display().to_string(),
            name: String::new(),
        }
    }

    /// Registers and mirrors the origin.
    pub async fn mirrored(&self) -> Repository {
        let created =
            ops::create_repository::create_repository(&self.cx, &self.member, self.create()).await.unwrap();
        self.engine.run_until_idle().await.unwrap();
        let id = created.repository.unwrap().repository_id;
        self.cx.repository(&self.member, &id, Role::Viewer).await.unwrap().to_proto()
    }

    /// Starts what a service does by itself, which a test without it does not see.
    pub async fn in_the_background(&self) {
        flow::background::ensure(&self.cx).await.unwrap();
        self.engine.run_until_idle().await.unwrap();
    }

    /// A bundle of work on top of the origin's `main`, as the parts of its upload stream.
    pub fn work(
        &self,
        repository: &Repository,
        task: &TaskId,
        files: &[(&str, &str)],
    ) -> Vec<ImportWorkRequest> {
        self.work_merging(repository, task, None, files)
    }

    /// The same, after a merge of a branch.
    pub fn work_merging(
        &self,
        repository: &Repository,
        task: &TaskId,
        branch: Option<&str>,
        files: &[(&str, &str)],
    ) -> Vec<ImportWorkRequest> {
        let tree = tempfile::tempdir_in(self.path()).unwrap();
        git(tree.path(), &["clone", "-q", self.origin.to_str().unwrap(), "."]);
        let base = git(tree.path(), &["rev-parse", "HEAD"]);
        if let Some(branch) = branch {
            git(tree.path(), &["merge", "-q", "--no-edit", "--no-ff", &format!("origin/{branch}")]);
        }
        for (name, text) in files {
            std::fs::write(tree.path().join(name), text).unwrap();
        }
        git(tree.path(), &["add", "-A"]);
        git(tree.path(), &["commit", "-q", "-m", "work"]);
        let head = git(tree.path(), &["rev-parse", "HEAD"]);
        let reference = format!("refs/foundry/work/{task}");
        git(tree.path(), &["update-ref", &reference, &head]);
        git(tree.path(), &["bundle", "create", "-q", "work.bundle", &format!("^{base}"), &reference]);
        let bundle = std::fs::read(tree.path().join("work.bundle")).unwrap();
        self.handed_over(repository, task, &base, &head, bundle)
    }

    /// A header and the bundle in chunks of 64 KiB.
    pub fn handed_over(
        &self,
        repository: &Repository,
        task: &TaskId,
        base: &str,
        head: &str,
        bundle: Vec<u8>,
    ) -> Vec<ImportWorkRequest> {
        let header = ImportWorkHeader {
            organization_id: self.organization.to_string(),
            task_id: task.to_string(),
            repository_id: repository.repository_id.clone(),
            base_commit: base.to_owned(),
            head_commit: head.to_owned(),
            bundle_size: i64::try_from(bundle.len()).unwrap(),
            branch: "feat/work".to_owned(),
            ..ImportWorkHeader::default()
        };
        let mut parts = vec![ImportWorkRequest { part: Some(Part::Header(header)) }];
        parts.extend(
            bundle.chunks(64 << 10).map(|c| ImportWorkRequest { part: Some(Part::Chunk(c.to_vec().into())) }),
        );
        parts
    }
}

/// The parts as a network stream.
pub fn stream(
    parts: Vec<ImportWorkRequest>,
) -> impl futures::Stream<Item = Result<ImportWorkRequest, tonic::Status>> + Send {
    futures::stream::iter(parts.into_iter().map(Ok))
}
