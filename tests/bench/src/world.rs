//! The mesh under measurement: one process on a fresh data directory, its users, and their tasks.

use std::time::Duration;

use foundry_authn::ServiceIdentity;
use foundry_core::Env;
use foundry_proto::auth::v1::{ExchangeTokenRequest, SetMemberRequest};
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::Repository;
use foundry_tests::faults::Faults;
use foundry_tests::story::{create_task, register};
use foundry_tests::{Caller, Mesh, Origin, Shape};

/// Users who watch; each may have 256 watches.
const WATCHERS: [&str; 4] = ["bob", "cyd", "dan", "eve"];

/// A running mesh. Its sandbox provider hangs, so sandboxes are requested but never created.
pub struct World {
    /// The running processes and their data directory.
    pub mesh: Mesh,
    /// The organization's owner, at the gateway.
    pub owner: Caller,
    people: Vec<Caller>,
    _faults: tempfile::TempDir,
}

impl World {
    /// Starts the mesh and signs in the owner.
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().expect("directory");
        Faults::none(dir.path()).hang("allocate");
        let settings = [
            "gateway.caller.requests_per_second=0",
            "gateway.anonymous.requests_per_second=0",
            "telemetry.log_filter=warn",
        ];
        let mesh = Mesh::start_faulty(Shape::Embedded, dir.path(), &settings);
        let owner = mesh.sign_in("ada").await;
        Self { mesh, owner, people: Vec::new(), _faults: dir }
    }

    /// Registers a repository, creates tasks in it, and adds the watching users to the organization.
    pub async fn populate(&mut self, tasks: usize) -> (Repository, Vec<String>) {
        let repository = register(&self.owner, &Origin::create(self.mesh.dir())).await;
        let mut ids = Vec::new();
        for _ in 0..tasks {
            ids.push(create_task(&self.owner, &repository, "say hello").await.0.task_id);
        }
        for login in WATCHERS {
            let person = self.mesh.sign_in(login).await;
            let request = SetMemberRequest {
                request_id: String::new(),
                organization_id: self.owner.organization_id.clone(),
                login: login.to_owned(),
                role: Role::Member.into(),
            };
            self.owner.auth().set_member(request).await.expect("membership");
            self.people.push(person);
        }
        (repository, ids)
    }

    /// Id of the only process.
    pub fn pid(&self) -> u32 {
        self.mesh.pids()[0]
    }

    /// The owner, on a new connection to the gateway.
    pub fn at_gateway(&self) -> Caller {
        Caller::with_token(&self.mesh.url("gateway"), &self.owner.token, &self.owner.organization_id)
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

    /// The owner, on a new connection to the task service.
    pub fn at_task(&self, access_token: &str) -> Caller {
        Caller::with_token(&self.mesh.url("task"), access_token, &self.owner.organization_id)
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
