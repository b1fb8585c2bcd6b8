//! Crashes, repeats and cancels at every point of the flows of one or two stages; those of a longer flow are with its tests.

use std::time::Duration;

use base64::Engine as _;
use foundry_authn::Caller;
use foundry_core::{Env, Error, FlowId, RepositoryId, TaskId};
use foundry_flow::proofs::{World, prove};
use foundry_flow::{Binding, Engine, Flow, Options};
use foundry_proto::common::v1::SecretText;
use foundry_proto::repo::v1::create_repository_credential_request::Target;
use foundry_proto::repo::v1::{
    CreateRepositoryCredentialRequest, CreateRepositoryRequest, DeleteRepositoryRequest, Repository,
    RepositoryCredentialKind, RequestRepositoryRefreshRequest,
};
use foundry_store::{Store, WriteSet};
use foundry_testkit::GitHttp;

use crate::context::Context;
use crate::flow::{
    bindings, check::CHECK, collect, collect::COLLECT, delete::DELETE, import::IMPORT, sync::SYNC,
};
use crate::ops::create_repository::create_repository;
use crate::ops::create_repository_credential::create_repository_credential;
use crate::ops::delete_repository::delete_repository;
use crate::ops::import_work::import_work;
use crate::ops::request_repository_refresh::request_repository_refresh;
use crate::store::repositories;
use crate::testing::{Fixture, git, stream};

/// What a proof needs to know of one flow; [`Of`] makes a world of it.
#[tonic::async_trait]
pub trait Case: Send + Sync {
    fn flow(&self) -> &'static Flow<Context>;
    fn fixture(&self) -> &Fixture;
    /// Begins the flow, and returns its subject.
    async fn begin(&self) -> Result<String, Error>;
    async fn effects(&self) -> Vec<String>;
    async fn shown(&self) -> String;
}

/// The world of a case: other flows that it begins stay where they are.
pub struct Of<C>(pub C);

#[tonic::async_trait]
impl<C: Case> World for Of<C> {
    fn store(&self) -> &Store {
        &self.0.fixture().cx.store
    }
    fn env(&self) -> &Env {
        &self.0.fixture().env.env
    }
    fn advance(&self, d: Duration) {
        self.0.fixture().env.clock.advance(d);
    }
    fn flows(&self) -> Vec<Binding> {
        only(self.0.fixture(), self.0.flow())
    }
    async fn start(&self) -> Result<FlowId, Error> {
        let subject = self.0.begin().await?;
        Ok(foundry_flow::unfinished(self.store(), self.0.flow(), &subject).await?.remove(0))
    }
    async fn effects(&self) -> Vec<String> {
        self.0.effects().await
    }
    async fn shown(&self) -> String {
        self.0.shown().await
    }
}

fn only(f: &Fixture, flow: &Flow<Context>) -> Vec<Binding> {
    bindings(&f.cx).into_iter().filter(|b| b.kind() == flow.kind).collect()
}

/// An engine that runs nothing else.
pub fn engine_of(f: &Fixture, flow: &Flow<Context>) -> Engine {
    let store = f.cx.store.clone();
    Engine::new(store, f.env.env.clone(), only(f, flow), Options::default()).unwrap()
}

/// The column `line` of a query.
pub async fn lines(f: &Fixture, sql: &'static str) -> Vec<String> {
    let rows = f.cx.store.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| row.text("line").unwrap().to_owned()).collect()
}

/// How many synchronizations of a repository have not ended.
pub async fn synchronizations(f: &Fixture, id: &str) -> String {
    let all = foundry_flow::unfinished(&f.cx.store, &SYNC, id).await.unwrap();
    format!("{} synchronizations", all.len())
}

/// The refs of a repository with their trees: commits differ between two worlds.
pub fn refs(dir: &std::path::Path, below: &str) -> Vec<String> {
    let listed = git(dir, &["for-each-ref", "--format=%(refname) %(tree)", below]);
    listed.lines().map(str::to_owned).collect()
}

/// The names in a directory, without an id that is different in each world.
fn names(dir: &std::path::Path, id: &str) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    entries.map(|e| e.unwrap().file_name().into_string().unwrap().replace(id, "")).collect()
}

const BRANCHES: &str = "SELECT name || ' ' || subject AS line FROM branches ORDER BY name";
const REPOSITORY: &str = "SELECT state || ' ' || CASE WHEN stale_since > 0 THEN stale_reason ELSE '' END \
     || ' ' || default_branch || ' ' || branch_count || ' ' || sync_source || ' ' || polling AS line FROM repositories";

/// A synchronization: the first one, or one that finds other branches.
struct Synchronization {
    f: Fixture,
    again: Option<String>,
}

impl Synchronization {
    async fn first() -> Of<Self> {
        Of(Self { f: Fixture::new().await, again: None })
    }

    async fn next() -> Of<Self> {
        let f = Fixture::new().await;
        git(&f.origin, &["branch", "gone"]);
        let id = f.mirrored().await.repository_id;
        git(&f.origin, &["branch", "-q", "-D", "gone"]);
        git(&f.origin, &["commit", "-q", "--allow-empty", "-m", "second"]);
        git(&f.origin, &["branch", "new"]);
        f.env.clock.advance(Duration::from_secs(60));
        Of(Self { f, again: Some(id) })
    }
}

#[tonic::async_trait]
impl Case for Synchronization {
    fn flow(&self) -> &'static Flow<Context> {
        &SYNC
    }
    fn fixture(&self) -> &Fixture {
        &self.f
    }
    async fn begin(&self) -> Result<String, Error> {
        let Some(id) = self.again.clone() else {
            let created = create_repository(&self.f.cx, &self.f.member, self.f.create()).await?;
            return Ok(created.repository.unwrap().repository_id);
        };
        let request = RequestRepositoryRefreshRequest { repository_id: id.clone(), ..Default::default() };
        request_repository_refresh(&self.f.cx, &self.f.member, request).await?;
        Ok(id)
    }
    async fn effects(&self) -> Vec<String> {
        let id = lines(&self.f, "SELECT repository_id AS line FROM repositories").await.remove(0);
        let mirror = self.f.cx.mirror_path(&id.parse().unwrap());
        let mut all = names(&self.f.cx.mirrors, &id);
        all.extend(refs(&mirror, "refs/"));
        all.push(format!("main as at the remote: {}", {
            git(&mirror, &["rev-parse", "main"]) == git(&self.f.origin, &["rev-parse", "main"])
        }));
        all.push(synchronizations(&self.f, &id).await);
        all
    }
    async fn shown(&self) -> String {
        format!("{:?} {:?}", lines(&self.f, REPOSITORY).await, lines(&self.f, BRANCHES).await)
    }
}

#[tokio::test]
async fn the_first_synchronization_passes_all_proofs() {
    prove(&SYNC, Synchronization::first).await;
}

#[tokio::test]
async fn a_synchronization_that_finds_other_branches_passes_all_proofs() {
    prove(&SYNC, Synchronization::next).await;
}

/// The import of the second version of a work.
struct Import {
    f: Fixture,
    repository: Repository,
    task: TaskId,
}

impl Import {
    async fn new() -> Of<Self> {
        let f = Fixture::new().await;
        let this = Self { repository: f.mirrored().await, task: TaskId::generate(&f.env.env), f };
        this.hand_over(&[("a.txt", "a\n")]).await.unwrap();
        this.f.engine.run_until_idle().await.unwrap();
        Of(this)
    }

    async fn hand_over(&self, files: &[(&str, &str)]) -> Result<(), Error> {
        let parts = self.f.work(&self.repository, &self.task, files);
        import_work(&self.f.cx, &Caller::service("provisioner"), stream(parts)).await.map(drop)
    }
}

#[tonic::async_trait]
impl Case for Import {
    fn flow(&self) -> &'static Flow<Context> {
        &IMPORT
    }
    fn fixture(&self) -> &Fixture {
        &self.f
    }
    async fn begin(&self) -> Result<String, Error> {
        self.hand_over(&[("a.txt", "other\n"), ("b.txt", "b\n")]).await?;
        Ok(self.task.to_string())
    }
    async fn effects(&self) -> Vec<String> {
        let mirror = self.f.cx.mirror_path(&self.repository.repository_id.parse().unwrap());
        let task = self.task.as_str();
        let mut all = names(&self.f.cx.incoming, task);
        all.extend(refs(&mirror, "refs/").iter().map(|line| line.replace(task, "")));
        all.extend(
            lines(&self.f, "SELECT version || ' ' || path AS line FROM work_changes ORDER BY version, path")
                .await,
        );
        all.extend(lines(&self.f, "SELECT '' || version AS line FROM work_versions ORDER BY version").await);
        all
    }
    async fn shown(&self) -> String {
        let work = crate::store::works::find(&self.f.cx.store, &self.task).await.unwrap().unwrap();
        let (counts, reason) = ((work.files_changed, work.additions, work.deletions), work.condition.reason);
        format!("{:?} {} {} {counts:?} {reason}", work.state, work.version, work.received)
    }
}

#[tokio::test]
async fn an_import_passes_all_proofs() {
    prove(&IMPORT, Import::new).await;
}

/// The deletion of a repository with a work and a credential.
struct Deletion {
    f: Fixture,
    id: String,
}

/// How much there is of what belongs to a repository.
const ROWS: &str = "SELECT 'repositories ' || count(*) AS line FROM repositories \
     UNION ALL SELECT 'branches ' || count(*) AS line FROM branches \
     UNION ALL SELECT 'branch_overviews ' || count(*) AS line FROM branch_overviews \
     UNION ALL SELECT 'jobs ' || count(*) AS line FROM jobs \
     UNION ALL SELECT 'works ' || count(*) AS line FROM works \
     UNION ALL SELECT 'work_changes ' || count(*) AS line FROM work_changes \
     UNION ALL SELECT 'work_versions ' || count(*) AS line FROM work_versions \
     UNION ALL SELECT 'repository_credentials ' || count(*) AS line FROM repository_credentials \
     UNION ALL SELECT 'pull_requests ' || count(*) AS line FROM pull_requests";

impl Deletion {
    async fn new() -> Of<Self> {
        let Of(Import { f, repository, .. }) = Import::new().await;
        f.in_the_background().await;
        let id = repository.repository_id;
        let action = foundry_proto::repo::v1::RunRepositoryActionRequest {
            repository_id: id.clone(),
            kind: foundry_proto::repo::v1::JobKind::SyncRepo.into(),
            committer_name: "Grace".to_owned(),
            committer_email: "grace@example.com".to_owned(),
            ..Default::default()
        };
        crate::ops::run_repository_action::run_repository_action(&f.cx, &f.member, action).await.unwrap();
        f.engine.run_until_idle().await.unwrap();
        Of(Self { f, id })
    }
}

#[tonic::async_trait]
impl Case for Deletion {
    fn flow(&self) -> &'static Flow<Context> {
        &DELETE
    }
    fn fixture(&self) -> &Fixture {
        &self.f
    }
    async fn begin(&self) -> Result<String, Error> {
        let request = DeleteRepositoryRequest { repository_id: self.id.clone(), ..Default::default() };
        delete_repository(&self.f.cx, &self.f.member, request).await?;
        Ok(self.id.clone())
    }
    async fn effects(&self) -> Vec<String> {
        names(&self.f.cx.mirrors, &self.id)
    }
    async fn shown(&self) -> String {
        lines(&self.f, ROWS).await.join(", ")
    }
}

#[tokio::test]
async fn a_deletion_passes_all_proofs() {
    let Of(deletion) = Box::pin(Deletion::new()).await;
    let before = lines(&deletion.f, ROWS).await;
    for table in ["repositories", "branches", "branch_overviews", "jobs", "works", "work_changes"] {
        assert!(!before.contains(&format!("{table} 0")), "there is nothing to delete: {before:?}");
    }
    prove(&DELETE, Deletion::new).await;
}

/// The collection of a mirror with a version that no branch has, what is kept of a job that is gone, and many packs.
struct Collection {
    f: Fixture,
    id: RepositoryId,
    /// The commit of the first version of a work.
    earlier: String,
    task: TaskId,
}

impl Collection {
    async fn new() -> Of<Self> {
        let Of(import) = Import::new().await;
        let id: RepositoryId = import.repository.repository_id.parse().unwrap();
        let mirror = import.f.cx.mirror_path(&id);
        let earlier = git(&mirror, &["rev-parse", &format!("refs/foundry/work/{}", import.task)]);
        import.hand_over(&[("b.txt", "b\n")]).await.unwrap();
        import.f.engine.run_until_idle().await.unwrap();
        git(&mirror, &["update-ref", "refs/foundry/jobs/job_gone/0/old", "main"]);
        let aged = std::process::Command::new("find")
            .args(["objects", "-type", "f", "-exec", "touch", "-d", "2 months ago", "{}", "+"])
            .current_dir(&mirror)
            .status();
        assert!(aged.unwrap().success());
        let Import { f, task, .. } = import;
        Of(Self { f, id, earlier, task })
    }
}

#[tonic::async_trait]
impl Case for Collection {
    fn flow(&self) -> &'static Flow<Context> {
        &COLLECT
    }
    fn fixture(&self) -> &Fixture {
        &self.f
    }
    async fn begin(&self) -> Result<String, Error> {
        let repository = repositories::find(&self.f.cx.store, &self.id).await?.unwrap();
        let mut ws = WriteSet::new();
        collect::schedule(&self.f.cx, &mut ws, &repository).await?;
        self.f.cx.store.commit(ws).await?;
        Ok(self.id.to_string())
    }
    async fn effects(&self) -> Vec<String> {
        let mirror = self.f.cx.mirror_path(&self.id);
        git(&mirror, &["fsck", "--no-dangling"]);
        // What is kept is named by commits, which differ between two worlds.
        let named = |line: &String| match line.strip_prefix("refs/foundry/keep/") {
            Some(kept) => kept.split_once(' ').map(|(_, tree)| format!("kept {tree}")).unwrap(),
            None => line.replace(self.task.as_str(), ""),
        };
        let mut all: Vec<_> = refs(&mirror, "refs/").iter().map(named).collect();
        all.push(format!("the earlier version is a {}", git(&mirror, &["cat-file", "-t", &self.earlier])));
        let packs = git(&mirror, &["count-objects", "-v"]);
        all.extend(packs.lines().find(|line| line.starts_with("packs")).map(str::to_owned));
        all
    }
    async fn shown(&self) -> String {
        lines(&self.f, REPOSITORY).await.join(" ")
    }
}

#[tokio::test]
async fn a_collection_passes_all_proofs() {
    prove(&COLLECT, Collection::new).await;
}

const GOOD: &str = "good-token-0123";

/// The test of a credential that a private repository waits for.
struct Check {
    f: Fixture,
    host: GitHttp,
    id: String,
}

impl Check {
    async fn new() -> Of<Self> {
        let f = Fixture::new().await;
        let host = GitHttp::start(f.path());
        host.require(Some(
            &base64::engine::general_purpose::STANDARD.encode(format!("x-access-token:{GOOD}")),
        ));
        let new = CreateRepositoryRequest { url: host.url("origin/.git"), ..f.create() };
        let id = create_repository(&f.cx, &f.member, new).await.unwrap().repository.unwrap().repository_id;
        f.engine.run_until_idle().await.unwrap();
        assert_eq!(synchronizations(&f, &id).await, "0 synchronizations");
        Of(Self { f, host, id })
    }
}

#[tonic::async_trait]
impl Case for Check {
    fn flow(&self) -> &'static Flow<Context> {
        &CHECK
    }
    fn fixture(&self) -> &Fixture {
        &self.f
    }
    async fn begin(&self) -> Result<String, Error> {
        let request = CreateRepositoryCredentialRequest {
            organization_id: self.f.organization.to_string(),
            target: Some(Target::Host(self.host.origin())),
            kind: RepositoryCredentialKind::Token.into(),
            secret: Some(SecretText { value: GOOD.to_owned() }),
            ..Default::default()
        };
        let stored = create_repository_credential(&self.f.cx, &self.f.member, request).await?;
        Ok(stored.repository_credential.unwrap().repository_credential_id)
    }
    /// A synchronization is begun, however often the stage that begins it runs (another one may be wanted after it then); no
    /// key is left behind. Nothing here runs it, so it may be parked.
    async fn effects(&self) -> Vec<String> {
        let mut all = names(&self.f.path().join("data/access"), "");
        let is_begun = foundry_flow::is_held(&self.f.cx.store, &SYNC, &self.id).await.unwrap();
        all.push(format!("a synchronization: {is_begun}"));
        all
    }
    async fn shown(&self) -> String {
        let sql = "SELECT state AS line FROM repositories \
             UNION ALL SELECT 'credential ' || state AS line FROM repository_credentials";
        lines(&self.f, sql).await.join(", ")
    }
}

#[tokio::test]
async fn the_test_of_a_credential_passes_all_proofs() {
    prove(&CHECK, Check::new).await;
}
