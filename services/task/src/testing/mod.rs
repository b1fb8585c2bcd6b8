//! The service on a real store, with fakes of the services it calls.
#![allow(missing_docs)]

pub mod provisioner;
pub mod repo;
pub mod upstream;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foundry_authn::{Authenticator, Caller, KeyRing, Revocations, StaticKeys, UserCaller};
use foundry_core::{Env, OrganizationId, RepositoryId, Tasks, Timestamp, UserId};
use foundry_flow::{Engine, NoHooks, OwnedDataDirectory};
use foundry_proto::common::v1::Role;
use foundry_proto::provisioner::v1::attachment_service_server::AttachmentServiceServer;
use foundry_proto::provisioner::v1::provisioner_service_server::ProvisionerServiceServer;
use foundry_proto::repo::v1::repo_service_server::RepoServiceServer;
use foundry_proto::task::v1::{
    CreateTaskRequest, CreateTaskResponse, GetTaskRequest, GetTaskResponse, Session,
};
use foundry_server::Upstream;
use foundry_service::Database;
use foundry_store::{Scope, Store, StoreOptions};
use foundry_watch::{NoObserver, Observer};
use tonic::service::Routes;

use crate::context::Context;
use crate::{Config, Parts, ops};
use provisioner::FakeProvisioner;
use repo::FakeRepo;

/// One organization with a member and a repository.
pub struct Tenant {
    pub organization: OrganizationId,
    pub caller: Caller,
    pub repository: RepositoryId,
}

/// The fakes and the database of one test; outlives restarts of the service.
pub struct World {
    pub env: Env,
    pub provisioner: FakeProvisioner,
    pub repo: FakeRepo,
    pub dir: tempfile::TempDir,
    pub url: String,
}

/// The service as one process runs it.
pub struct Running {
    pub cx: Arc<Context>,
    engine: Engine,
    tasks: Tasks,
}

impl World {
    pub async fn new() -> Self {
        let (env, dir) = (Env::system(), tempfile::tempdir().unwrap());
        let provisioner = FakeProvisioner::new(&env, dir.path()).await;
        let repo = FakeRepo::new(&env, dir.path()).await;
        let migrations = [&crate::store::MIGRATIONS, &foundry_flow::MIGRATIONS];
        let url = foundry_testkit::migrated_database_url(dir.path(), "task", async |url| {
            Store::connect(&url, &migrations, &Env::system(), StoreOptions::default()).await.unwrap();
        })
        .await;
        Self { env, provisioner, repo, dir, url }
    }

    pub async fn tenant(&self, role: Role) -> Tenant {
        let organization = OrganizationId::generate(&self.env);
        let caller = Caller::user(UserCaller {
            user_id: UserId::generate(&self.env),
            credential_id: "crd_1".into(),
            organizations: [(organization.clone(), role)].into(),
            revocations_rev: 0,
            expires_at: Timestamp::from_micros(i64::MAX),
        });
        let repository = RepositoryId::generate(&self.env);
        self.repo.add(&organization, &repository).await;
        Tenant { organization, caller, repository }
    }

    pub async fn start(&self) -> Running {
        self.start_observed(Arc::new(NoObserver)).await
    }

    pub async fn start_observed(&self, watch_observer: Arc<dyn Observer>) -> Running {
        let (tasks, _) = Tasks::new();
        let keys = KeyRing::new(Arc::new(StaticKeys(Vec::new())), self.env.clock.clone());
        let authenticator = Authenticator::new("task", keys, Revocations::none(), &self.env).unwrap();
        let migrations = [&crate::store::MIGRATIONS, &foundry_flow::MIGRATIONS];
        let database = Database::open(&self.url, self.dir.path(), "task", &migrations, &self.env).await;
        let parts = Parts {
            database: Database { exclusive: true, ..database.unwrap() },
            env: self.env.clone(),
            tasks: tasks.clone(),
            authenticator: Arc::new(authenticator),
            provisioner: Upstream::from_service(
                Routes::new(ProvisionerServiceServer::new(self.provisioner.clone()))
                    .add_service(AttachmentServiceServer::new(self.provisioner.clone())),
            ),
            repo: Upstream::from_service(RepoServiceServer::new(self.repo.clone())),
            flow_hooks: Arc::new(NoHooks),
            watch_observer,
        };
        let owned = OwnedDataDirectory::held_by(&self.dir);
        let (cx, engine) = crate::start(&Config::default(), parts, &owned).await.unwrap();
        Running { cx, engine, tasks }
    }
}

impl Running {
    pub async fn stop(self) {
        self.engine.shutdown(Duration::from_secs(2)).await;
        self.tasks.shutdown(Duration::from_secs(2)).await;
        self.cx.store.close().await;
    }

    /// Runs no flow any more; the rest of the service goes on.
    pub async fn halt_flows(&self) {
        self.engine.shutdown(Duration::from_secs(2)).await;
    }

    /// Stops at once, as a killed process does.
    pub async fn crash(self) {
        self.tasks.shutdown(Duration::ZERO).await;
        self.cx.store.close().await;
    }

    pub async fn create(&self, tenant: &Tenant, prompt: &str) -> CreateTaskResponse {
        let request = CreateTaskRequest {
            organization_id: tenant.organization.to_string(),
            repository_id: tenant.repository.to_string(),
            prompt: prompt.into(),
            ..CreateTaskRequest::default()
        };
        ops::create_task::create_task(&self.cx, &tenant.caller, request).await.unwrap()
    }

    pub async fn get(&self, tenant: &Tenant, task_id: &str) -> GetTaskResponse {
        let request = GetTaskRequest { task_id: task_id.into() };
        ops::get_task::get_task(&self.cx, &tenant.caller, request).await.unwrap()
    }

    /// Waits until a condition holds for a task and returns the task; panics after a minute.
    pub async fn until(
        &self,
        tenant: &Tenant,
        task_id: &str,
        holds: impl Fn(&GetTaskResponse) -> bool,
    ) -> GetTaskResponse {
        self.until_read(tenant, || self.get(tenant, task_id), holds).await
    }

    /// Reads after each change of the organization until a condition holds, and returns what was read; panics after
    /// a minute.
    pub async fn until_read<T: Debug, Reading: Future<Output = T>>(
        &self,
        tenant: &Tenant,
        read: impl Fn() -> Reading,
        holds: impl Fn(&T) -> bool,
    ) -> T {
        let mut hint = self.cx.store.subscribe(&Scope::organization(&tenant.organization));
        let mut last = None;
        let begun = Instant::now();
        // On a busy machine each read is slow: the limit is time, not a number of reads.
        while begun.elapsed() < Duration::from_secs(60) {
            let found = read().await;
            if holds(&found) {
                return found;
            }
            last = Some(found);
            // The hint may belong to another change, or be lost: read again either way.
            let _ = tokio::time::timeout(Duration::from_millis(50), hint.changed()).await;
        }
        panic!("never held of {last:#?}");
    }

    pub async fn until_session(
        &self,
        tenant: &Tenant,
        task_id: &str,
        session_id: &str,
        holds: impl Fn(&Session) -> bool,
    ) -> Session {
        let find = |t: &GetTaskResponse| t.sessions.iter().find(|s| s.session_id == session_id).cloned();
        let found = self.until(tenant, task_id, |t| find(t).is_some_and(|s| holds(&s))).await;
        find(&found).unwrap()
    }
}
