//! The mesh under measurement: one process on a fresh data directory, its people, and their tasks.

use std::time::Duration;

use foundry_authn::ServiceIdentity;
use foundry_core::Env;
use foundry_proto::auth::v1::{ExchangeTokenRequest, SetMemberRequest};
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::Repository;
use foundry_tests::faults::Faults;
use foundry_tests::story::{create_task, register};
use foundry_tests::{Caller, Mesh, Origin, Shape};

/// People who watch; one person may have 256 watches.
const WATCHERS: [&str; 4] = ["bob", "cyd", "dan", "eve"];

/// A running mesh. Sandboxes are asked for and never given: their provider hangs.
pub struct World {
    /// The mesh.
    pub mesh: Mesh,
    /// Owner of everything, at the gateway.
    pub owner: Caller,
    people: Vec<Caller>,
    _faults: tempfile::TempDir,
}

impl World {
    /// Starts the mesh and signs its people in.
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

    /// Registers a repository, creates tasks in it, and lets other people into the organization.
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

    /// The process.
    pub fn pid(&self) -> u32 {
        self.mesh.pids()[0]
    }

    /// The owner, with a connection of its own to the gateway.
    pub fn at_gateway(&self) -> Caller {
        Caller::with_token(&self.mesh.url("gateway"), &self.owner.token, &self.owner.organization_id)
    }

    /// The owner's access token, which services take without the gateway.
    pub async fn access_token(&self) -> String {
        self.exchanged(&self.owner).await
    }

    /// Access tokens of the people who watch.
    pub async fn watching_tokens(&self) -> Vec<String> {
        let mut tokens = Vec::new();
        for person in &self.people {
            tokens.push(self.exchanged(person).await);
        }
        tokens
    }

    /// The owner, with a connection of its own to the task service.
    pub fn at_task(&self, access_token: &str) -> Caller {
        Caller::with_token(&self.mesh.url("task"), access_token, &self.owner.organization_id)
    }

    /// Exchanges a session's token as the gateway does, with the identity of this throw-away mesh's own gateway.
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

/// Lets time pass, so that what was started settles or is measured at rest.
pub async fn settle(time: Duration) {
    tokio::time::sleep(time).await;
}
