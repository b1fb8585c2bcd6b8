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
    dir: tempfile::TempDir,
    _tasks: Tasks,
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
    Caller::user(UserCaller {
        user_id: UserId::generate(&env.env),
        credential_id: "crd".to_owned(),
        organizations: BTreeMap::from([(organization.clone(), Role::Owner)]),
        revocations_rev: 0,
        expires_at: Timestamp::from_micros(i64::MAX),
    })
}

impl Fixture {
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
        let options = StoreOptions { clock: Some(env.env.clock.clone()), ..StoreOptions::default() };
        let database =
            Database::open_with(options, &url, dir.path(), "repo", &migrations, &env.env).await.unwrap();
        let store = database.store.clone();
        let (tasks, _) = Tasks::new();
        let keys = KeyRing::new(Arc::new(StaticKeys(Vec::new())), env.env.clock.clone());
        let authenticator = Authenticator::new("repo", keys, Revocations::none(), &env.env).unwrap();
        for sub in ["data/mirrors", "data/incoming"] {
            std::fs::create_dir_all(dir.path().join(sub)).unwrap();
        }
        let cx = Arc::new(Context {
            hub: Hub::new(store.clone(), env.env.clone(), tasks.clone(), HubConfig::default()),
            store: store.clone(),
            env: env.env.clone(),
            git: Git::detect().await.unwrap(),
            urls: UrlPolicy::embedded(dir.path().join("data")),
            mirrors: dir.path().join("data/mirrors"),
            incoming: dir.path().join("data/incoming"),
            max_bundle_bytes: 1 << 20,
            allow_findings: Vec::new(),
            base_wait: std::time::Duration::from_secs(15),
            reads: tokio::sync::Semaphore::new(crate::context::CONCURRENT_READS),
            authenticator: Arc::new(authenticator),
        });
        let flows = flow::bindings(&cx);
        let engine = Engine::new(store, env.env.clone(), flows, foundry_flow::Options::default()).unwrap();
        let (organization, other) = (OrganizationId::generate(&env.env), OrganizationId::generate(&env.env));
        let (member, stranger) = (member_of(&env, &organization), member_of(&env, &other));
        Self { cx, engine, organization, member, stranger, origin, env, dir, _tasks: tasks }
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

    /// A bundle of work on top of the origin's `main`, as the parts of its upload stream.
    pub fn work(
        &self,
        repository: &Repository,
        task: &TaskId,
        files: &[(&str, &str)],
    ) -> Vec<ImportWorkRequest> {
        let tree = tempfile::tempdir_in(self.path()).unwrap();
        git(tree.path(), &["clone", "-q", self.origin.to_str().unwrap(), "."]);
        let base = git(tree.path(), &["rev-parse", "HEAD"]);
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
            request_id: String::new(),
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
