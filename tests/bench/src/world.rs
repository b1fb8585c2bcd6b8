//! The mesh under measurement: one process on a fresh data directory, its users, and their tasks.

use std::path::PathBuf;
use std::time::Duration;

use foundry_authn::ServiceIdentity;
use foundry_core::Env;
use foundry_proto::auth::v1::{ExchangeTokenRequest, SetMemberRequest};
use foundry_proto::common::v1::Role as MemberRole;
use foundry_proto::repo::v1::Repository;
use foundry_tests::faults::Faults;
use foundry_tests::story::{create_task, register};
use foundry_tests::{Caller, Mesh, Origin, Shape};
use futures::StreamExt as _;

use crate::databases::Databases;
use crate::result::Role;

/// Users who watch; each may have 256 watches.
const WATCHERS: [&str; 4] = ["bob", "cyd", "dan", "eve"];
/// Tasks that are created at the same time.
const CREATING: usize = 16;

/// A build of the product: its `foundry`, and `foundry-with-faults` in the same directory.
#[derive(Clone)]
pub struct Build {
    /// The mesh, or the build beside it.
    pub role: Role,
    /// Path of `foundry`.
    pub foundry: PathBuf,
}

/// What the sandbox provider does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// It waits for an event that does not come, without polling: sandboxes are requested but never created.
    Hangs,
    /// It makes sandboxes, in which the demo agent runs.
    Works,
}

/// A running mesh.
pub struct World {
    /// What it is in the comparison.
    pub role: Role,
    /// The running process and its data directory.
    pub mesh: Mesh,
    /// The organization's owner, at the gateway.
    pub owner: Caller,
    /// Ids of the tasks.
    pub tasks: Vec<String>,
    repository: Option<Repository>,
    people: Vec<Caller>,
    _faults: tempfile::TempDir,
}

impl World {
    /// Starts the mesh and signs in the owner.
    pub async fn start(build: &Build, databases: &Databases, provider: Provider) -> Self {
        Self::start_with(build, databases, provider, &[]).await
    }

    /// The same with further settings.
    pub async fn start_with(
        build: &Build,
        databases: &Databases,
        provider: Provider,
        further: &[&str],
    ) -> Self {
        let dir = tempfile::tempdir().expect("directory");
        let faults = Faults::none(dir.path());
        if provider == Provider::Hangs {
            faults.hang("allocate");
        }
        let settings = [
            "gateway.caller.requests_per_second=0",
            "gateway.anonymous.requests_per_second=0",
            "telemetry.log_filter=warn",
        ];
        let places = databases.settings();
        let settings: Vec<_> = settings
            .into_iter()
            .chain(places.iter().map(String::as_str))
            .chain(further.iter().copied())
            .collect();
        let mesh = Mesh::start_faulty_build(&build.foundry, Shape::Embedded, dir.path(), &settings);
        let owner = mesh.sign_in("ada").await;
        let (tasks, people) = (Vec::new(), Vec::new());
        Self { role: build.role, mesh, owner, tasks, repository: None, people, _faults: dir }
    }

    /// Registers a repository, creates tasks in it, and adds the watching users to the organization. Call it once.
    pub async fn populate(&mut self, tasks: usize) {
        let repository = register(&self.owner, &Origin::create(self.mesh.dir())).await;
        let creating = (0..tasks).map(|_| create_task(&self.owner, &repository, "say hello"));
        self.tasks = futures::stream::iter(creating)
            .buffer_unordered(CREATING)
            .map(|(task, _)| task.task_id)
            .collect()
            .await;
        for login in WATCHERS {
            let person = self.member(login).await;
            self.people.push(person);
        }
        self.repository = Some(repository);
    }

    /// A user who is a member of the organization.
    async fn member(&self, login: &str) -> Caller {
        let person = self.mesh.sign_in(login).await;
        let request = SetMemberRequest {
            request_id: String::new(),
            organization_id: self.owner.organization_id.clone(),
            login: login.to_owned(),
            role: MemberRole::Member.into(),
        };
        self.owner.auth().set_member(request).await.expect("membership");
        person
    }

    /// The repository of the tasks.
    ///
    /// # Panics
    /// Before [`World::populate`].
    pub fn repository(&self) -> &Repository {
        self.repository.as_ref().expect("a populated world")
    }

    /// Id of the only process.
    pub fn pid(&self) -> u32 {
        self.mesh.pids()[0]
    }

    /// The owner, on a new open connection to the gateway.
    pub async fn at_gateway(&self) -> Caller {
        let url = self.mesh.url("gateway");
        Caller::connected(&url, &self.owner.token, &self.owner.organization_id).await
    }

    /// The owner's access token, with which services can be called directly.
    pub async fn access_token(&self) -> String {
        self.exchanged(&self.owner).await
    }

    /// Access tokens of the watching users.
    pub async fn watching_tokens(&self) -> Vec<String> {
        let mut tokens = Vec::new();
        for person in &self.people {
            tokens.push(self.exchanged(person).await);
        }
        tokens
    }

    /// Access tokens of so many further users who watch.
    pub async fn more_watching_tokens(&self, users: usize) -> Vec<String> {
        let mut tokens = Vec::new();
        for user in 0..users {
            tokens.push(self.exchanged(&self.member(&format!("watcher-{user}")).await).await);
        }
        tokens
    }

    /// The owner, on a new open connection to the task service.
    pub async fn at_task(&self, access_token: &str) -> Caller {
        Caller::connected(&self.mesh.url("task"), access_token, &self.owner.organization_id).await
    }

    /// Exchanges a sign-in token as the gateway does, using the identity of this temporary mesh's gateway.
    async fn exchanged(&self, person: &Caller) -> String {
        let keys = self.mesh.data().join("keys");
        let gateway =
            ServiceIdentity::load_or_create(&keys, "gateway", &Env::system()).expect("its identity");
        let token = gateway.token("auth").expect("a token");
        let auth = Caller::with_token(&self.mesh.url("auth"), &token, &person.organization_id);
        let request = ExchangeTokenRequest { token: person.token.clone() };
        auth.auth().exchange_token(request).await.expect("an access token").into_inner().access_token
    }
}

/// Sleeps, so that started work settles or the mesh is measured at rest.
pub async fn settle(time: Duration) {
    tokio::time::sleep(time).await;
}
