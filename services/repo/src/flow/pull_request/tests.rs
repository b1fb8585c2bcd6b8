//! From a private repository to an open pull request, at a forge with real Git repositories.

use std::time::Duration;

use base64::Engine as _;
use foundry_authn::Caller;
use foundry_core::{Env, Error, FlowId, TaskId};
use foundry_flow::Binding;
use foundry_flow::proofs::{World, prove};
use foundry_forge::{ForgeHost as Setting, ForgeHosts, ForgeKind};
use foundry_proto::common::v1::{ChecksState, PullRequestReview, PullRequestState, Role, SecretText};
use foundry_proto::repo::v1::create_repository_credential_request::Target;
use foundry_proto::repo::v1::{
    CreateRepositoryCredentialRequest, CreateRepositoryRequest, GetJobRequest, GetRepositoryOverviewRequest,
    Job, JobKind, JobState, PublishBranchRequest, PublishPullRequestRequest, PullRequestSync,
    PullRequestSyncStatus, RepositoryCredentialKind, RepositoryGithubApp,
};
use foundry_store::Store;
use foundry_testkit::{APP_KEY, ForgeHost, GitHubApp};

use crate::domain::work::Work;
use crate::flow::{bindings, publish::PUBLISH};
use crate::ops::create_repository::create_repository;
use crate::ops::create_repository_credential::create_repository_credential;
use crate::ops::get_job::get_job;
use crate::ops::get_repository_overview::get_repository_overview;
use crate::ops::import_work::import_work;
use crate::ops::publish_branch::publish_branch;
use crate::ops::publish_pull_request::publish_pull_request;
use crate::testing::{Fixture, git, stream};

/// A token that must be nowhere but in the header of calls.
pub const TOKEN: &str = "canary-token-0123456789-wxyz";

/// A service, and the work of a task on a private repository at a forge.
pub struct AtForge {
    pub f: Fixture,
    pub host: ForgeHost,
    pub repository: foundry_proto::repo::v1::Repository,
    task: TaskId,
}

impl AtForge {
    pub async fn new() -> Self {
        Self::of(ForgeKind::GitHub, "v3").await
    }

    async fn of(kind: ForgeKind, version: &str) -> Self {
        Self::knowing(|host| vec![Setting { host: host.host(), kind, api: host.api(version) }]).await
    }

    async fn knowing(forges: impl FnOnce(&ForgeHost) -> Vec<Setting>) -> Self {
        let mut f = Fixture::new().await;
        let remote = f.path().join("team/app.git");
        git(f.path(), &["clone", "-q", "--bare", f.origin.to_str().unwrap(), remote.to_str().unwrap()]);
        git(&remote, &["config", "http.receivepack", "true"]);
        f.origin = remote;
        let host = ForgeHost::start(f.path());
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("x-access-token:{TOKEN}"));
        host.require(TOKEN, &pair);
        f.with_forges(ForgeHosts::new(&forges(&host)).unwrap()).await;
        f.in_the_background().await;
        store_token(&f, &host, false).await;
        let request = CreateRepositoryRequest { url: host.git().url("team/app.git"), ..f.create() };
        let created = create_repository(&f.cx, &f.member, request).await.unwrap();
        f.engine.run_until_idle().await.unwrap();
        let task = TaskId::generate(&f.env.env);
        let this = Self { repository: created.repository.unwrap(), f, host, task };
        this.hand_over(&[("a.txt", "a\n")]).await;
        this
    }

    pub async fn hand_over(&self, files: &[(&str, &str)]) {
        let parts = self.f.work(&self.repository, &self.task, files);
        import_work(&self.f.cx, &Caller::service("provisioner"), stream(parts)).await.unwrap();
        self.f.engine.run_until_idle().await.unwrap();
    }

    /// Stores the token of the host another time.
    pub async fn store_credential(&self, replace: bool) {
        store_token(&self.f, &self.host, replace).await;
        self.f.engine.run_until_idle().await.unwrap();
    }

    pub async fn repository(&self) -> foundry_proto::repo::v1::Repository {
        let id = &self.repository.repository_id;
        self.f.cx.repository(&self.f.member, id, Role::Viewer).await.unwrap().to_proto()
    }

    pub async fn sync(&self) -> PullRequestSync {
        self.repository().await.pull_request_sync.unwrap_or_default()
    }

    pub async fn work(&self) -> Work {
        self.f.cx.work(&self.f.member, self.task.as_str(), Role::Viewer).await.unwrap()
    }

    pub fn request(&self) -> PublishPullRequestRequest {
        PublishPullRequestRequest {
            task_id: self.task.to_string(),
            message: "Add a file\n\nIt is needed.".to_owned(),
            ..Default::default()
        }
    }

    async fn job(&self, job_id: &str) -> Job {
        let request = GetJobRequest { job_id: job_id.to_owned() };
        get_job(&self.f.cx, &self.f.member, request).await.unwrap().job.unwrap()
    }

    pub async fn publish(&self, request: PublishPullRequestRequest) -> Job {
        let answer = publish_pull_request(&self.f.cx, &self.f.member, request).await.unwrap();
        self.f.engine.run_until_idle().await.unwrap();
        self.job(&answer.job.unwrap().job_id).await
    }

    pub async fn after(&self, seconds: u64) {
        self.f.env.clock.advance(Duration::from_secs(seconds));
        self.f.engine.run_until_idle().await.unwrap();
    }

    /// The pull request beside its branch in the overview.
    pub async fn in_overview(&self) -> Option<foundry_proto::common::v1::PullRequest> {
        let request = GetRepositoryOverviewRequest {
            repository_id: self.repository.repository_id.clone(),
            ..Default::default()
        };
        let overview = get_repository_overview(&self.f.cx, &self.f.member, request).await.unwrap();
        overview.branches.into_iter().find(|b| b.name == "feat/work").and_then(|b| b.pull_request)
    }
}

async fn store_token(f: &Fixture, host: &ForgeHost, replace: bool) {
    let credential = CreateRepositoryCredentialRequest {
        organization_id: f.organization.to_string(),
        target: Some(Target::Host(host.git().origin())),
        kind: RepositoryCredentialKind::Token.into(),
        secret: Some(SecretText { value: TOKEN.to_owned() }),
        replace,
        ..Default::default()
    };
    create_repository_credential(&f.cx, &f.member, credential).await.unwrap();
}

fn state(job: &Job) -> (JobState, String) {
    (job.state(), job.condition.clone().unwrap_or_default().reason)
}

#[tokio::test]
async fn a_private_repository_gets_a_pull_request_whose_checks_and_reviews_are_followed() {
    for (kind, version) in [(ForgeKind::GitHub, "v3"), (ForgeKind::GitLab, "v4"), (ForgeKind::Gitea, "v1")] {
        let p = AtForge::of(kind, version).await;
        let job = p.publish(PublishPullRequestRequest { draft: true, ..p.request() }).await;
        assert_eq!(
            (state(&job), job.kind()),
            ((JobState::Done, String::new()), JobKind::PublishPullRequest),
            "{kind:?}"
        );
        let opened = job.branches[0].pull_request.clone().unwrap();
        assert_eq!(
            (opened.number, opened.state(), opened.draft),
            (1, PullRequestState::Open, true),
            "{kind:?}"
        );
        assert_eq!((opened.title.as_str(), opened.base.as_str()), ("Add a file", "main"));
        assert_eq!((&opened.commit, opened.branch.as_str()), (&job.branches[0].new_commit, "feat/work"));
        let (body, base, _) = p.host.pull_request("team/app", 1);
        let (body, mark) = foundry_forge::unmarked(&body);
        assert_eq!((body, base.as_str()), ("It is needed.", "main"));
        assert_eq!(mark, foundry_forge::mark(&job.job_id));
        p.host.check("team/app", "feat/work", "build", Some(true));
        p.host.review("team/app", 1, "ann", "APPROVED");
        p.after(90).await;
        let work = p.work().await;
        let followed = work.publication.unwrap().pull_request.unwrap();
        assert_eq!(followed.checks.clone().unwrap().state(), ChecksState::Passed, "{kind:?}");
        assert_eq!(followed.review(), PullRequestReview::Approved, "{kind:?}");
        assert_eq!(p.in_overview().await, Some(followed), "{kind:?}");
        let sync = p.sync().await;
        assert_eq!((sync.status(), sync.open_count), (PullRequestSyncStatus::Current, 1), "{kind:?}");
        assert_eq!((sync.host, sync.api_limit), (p.host.host(), 5_000));
        p.host.merge("team/app", 1);
        p.after(90).await;
        let merged = p.work().await.publication.unwrap().pull_request.unwrap();
        assert_eq!((merged.state(), p.sync().await.open_count), (PullRequestState::Merged, 0), "{kind:?}");
    }
}

#[tokio::test]
async fn publishing_again_keeps_one_pull_request_and_what_people_have_written_there() {
    let p = AtForge::new().await;
    p.publish(p.request()).await;
    let title = |title: &str| PublishPullRequestRequest { title: title.to_owned(), ..p.request() };
    p.publish(title("Chosen by hand")).await;
    p.hand_over(&[("a.txt", "a\n"), ("b.txt", "b\n")]).await;
    // The tree of these tests begins at the base each time.
    let again = p.publish(PublishPullRequestRequest { force: true, ..p.request() }).await;
    assert_eq!(state(&again), (JobState::Done, String::new()));
    assert_eq!(p.host.pull_requests("team/app"), [(1, "Chosen by hand".to_owned())]);
    assert_eq!(foundry_forge::unmarked(&p.host.pull_request("team/app", 1).0).0, "It is needed.");
    let body = PublishPullRequestRequest { body: "Why not.".to_owned(), ..p.request() };
    p.publish(body).await;
    assert_eq!(p.host.pull_requests("team/app"), [(1, "Chosen by hand".to_owned())]);
    p.host.retarget("team/app", 1, "develop");
    p.publish(title("Chosen again")).await;
    p.publish(title("Chosen by hand")).await;
    let (body, base, draft) = p.host.pull_request("team/app", 1);
    assert_eq!((foundry_forge::unmarked(&body).0, base.as_str(), draft), ("Why not.", "develop", false));
    let plan = p.publish(PublishPullRequestRequest { plan_only: true, ..title("Only planned") }).await;
    assert_eq!(
        (state(&plan), plan.branches[0].pull_request.clone()),
        ((JobState::Done, String::new()), None)
    );
    assert_eq!(p.host.pull_requests("team/app"), [(1, "Chosen by hand".to_owned())]);
}

#[tokio::test]
async fn a_host_without_a_forge_and_a_repository_without_a_token_are_refused_with_what_to_do() {
    let p = AtForge::knowing(|_| Vec::new()).await;
    let refused = publish_pull_request(&p.f.cx, &p.f.member, p.request()).await.unwrap_err();
    assert_eq!((refused.reason(), p.repository().await.pull_request_sync), ("FORGE_UNKNOWN", None));
    let plain = PublishBranchRequest { task_id: p.task.to_string(), ..Default::default() };
    let job = publish_branch(&p.f.cx, &p.f.member, plain).await.unwrap().job.unwrap();
    p.f.engine.run_until_idle().await.unwrap();
    assert_eq!(state(&p.job(&job.job_id).await), (JobState::Done, String::new()));

    let f = AtForge::new().await;
    let mut ws = foundry_store::WriteSet::new();
    ws.delete_where(&crate::store::credentials::CREDENTIALS, &[("kind", "token".into())]);
    f.f.cx.store.commit(ws).await.unwrap();
    let refused = publish_pull_request(&f.f.cx, &f.f.member, f.request()).await.unwrap_err();
    assert_eq!(refused.reason(), "FORGE_CREDENTIALS_REQUIRED");
    assert!(refused.message().contains("needs a token"), "{refused}");
}

#[tokio::test]
async fn a_refusal_of_the_host_is_typed_and_keeps_its_words_and_not_the_token() {
    for (status, reason) in [
        (401, "FORGE_CREDENTIALS_REFUSED"),
        (403, "FORGE_FORBIDDEN"),
        (404, "FORGE_NOT_FOUND"),
        (422, "FORGE_REJECTED"),
    ] {
        let p = AtForge::new().await;
        p.after(5).await;
        p.host.refuse(status, &format!("no: {TOKEN}"));
        let job = p.publish(p.request()).await;
        assert_eq!(state(&job), (JobState::Failed, reason.to_owned()));
        let condition = job.condition.unwrap();
        assert!(condition.message.contains("no: ***; the branch is published"), "{}", condition.message);
        assert!(!condition.next_action.is_empty());
        // The branch is there all the same.
        assert_eq!(p.work().await.publication.unwrap().branch, "feat/work");
    }
}

#[tokio::test]
async fn a_publication_takes_another_token_when_the_api_refuses_the_one_that_an_app_has_had() {
    let p = AtForge::new().await;
    p.host.install(GitHubApp {
        app_id: "Iv23a".to_owned(),
        installation_id: 77,
        repositories: vec!["app".to_owned()],
        expires_at: p.f.env.env.clock.now().plus(Duration::from_secs(3600)).to_string(),
        is_suspended: false,
    });
    let app = CreateRepositoryCredentialRequest {
        organization_id: p.f.organization.to_string(),
        target: Some(Target::Host(p.host.git().origin())),
        kind: RepositoryCredentialKind::GithubApp.into(),
        secret: Some(SecretText { value: APP_KEY.to_owned() }),
        github_app: Some(RepositoryGithubApp { app_id: "Iv23a".to_owned(), installation_id: 77 }),
        replace: true,
        ..Default::default()
    };
    create_repository_credential(&p.f.cx, &p.f.member, app).await.unwrap();
    p.after(5).await;
    let before = p.host.app_tokens();
    p.host.refuse(403, "Resource not accessible by integration");
    let job = p.publish(p.request()).await;
    assert_eq!(state(&job), (JobState::Done, String::new()));
    assert_eq!((before, p.host.app_tokens()), (1, 2));
}

#[tokio::test]
async fn a_host_that_passes_out_is_tried_again_and_a_spent_budget_is_waited_for() {
    let p = AtForge::new().await;
    p.host.break_off_creation();
    let started = publish_pull_request(&p.f.cx, &p.f.member, p.request()).await.unwrap().job.unwrap();
    p.f.engine.run_until_idle().await.unwrap();
    assert_eq!(state(&p.job(&started.job_id).await), (JobState::Running, "FORGE_UNREACHABLE".to_owned()));
    p.after(120).await;
    assert_eq!(state(&p.job(&started.job_id).await), (JobState::Done, String::new()));
    assert_eq!(p.host.pull_requests("team/app").len(), 1);

    p.host.leave_calls(0);
    let started = publish_pull_request(&p.f.cx, &p.f.member, p.request()).await.unwrap().job.unwrap();
    p.f.engine.run_until_idle().await.unwrap();
    assert_eq!(state(&p.job(&started.job_id).await), (JobState::Running, "FORGE_RATE_LIMITED".to_owned()));
    p.host.leave_calls(5_000);
    p.after(2 * 3600).await;
    assert_eq!(state(&p.job(&started.job_id).await), (JobState::Done, String::new()));
}

#[tokio::test]
async fn the_token_is_in_no_row_but_encrypted_and_in_no_address() {
    let p = AtForge::new().await;
    p.publish(p.request()).await;
    p.host.git().forbid();
    p.host.refuse(422, TOKEN);
    p.publish(p.request()).await;
    for (path, _) in p.host.git().requests() {
        assert!(!path.contains(TOKEN), "{path}");
    }
    let mut looked = 0;
    for sql in [
        "SELECT * FROM jobs",
        "SELECT * FROM flows",
        "SELECT * FROM repositories",
        "SELECT * FROM works",
        "SELECT * FROM pull_requests",
        "SELECT * FROM branch_overviews",
    ] {
        let rows = p.f.cx.store.query(sql, &[]).await.unwrap();
        looked += rows.len();
        assert!(!format!("{rows:?}").contains(TOKEN), "{sql}");
    }
    assert!(looked > 5);
}

#[tonic::async_trait]
impl World for AtForge {
    fn store(&self) -> &Store {
        &self.f.cx.store
    }
    fn env(&self) -> &Env {
        &self.f.env.env
    }
    fn advance(&self, d: Duration) {
        self.f.env.clock.advance(d);
    }
    fn flows(&self) -> Vec<Binding> {
        bindings(&self.f.cx).into_iter().filter(|b| b.kind() == PUBLISH.kind).collect()
    }
    async fn start(&self) -> Result<FlowId, Error> {
        let answer = publish_pull_request(&self.f.cx, &self.f.member, self.request()).await?;
        Ok(foundry_flow::unfinished(&self.f.cx.store, &PUBLISH, &answer.job.unwrap().job_id).await?.remove(0))
    }
    async fn effects(&self) -> Vec<String> {
        let remote = self.f.path().join("team/app.git");
        let refs = git(&remote, &["for-each-ref", "--format=%(refname)"]);
        let pulls = self.host.pull_requests("team/app").into_iter().map(|(n, title)| format!("{n} {title}"));
        refs.lines().map(str::to_owned).chain(pulls).collect()
    }
    async fn shown(&self) -> String {
        let rows = self.f.cx.store.query("SELECT job_id FROM jobs ORDER BY created_rev", &[]).await.unwrap();
        let mut shown = String::new();
        for row in &rows {
            let job = self.job(row.text("job_id").unwrap()).await;
            let number = job.branches[0].pull_request.as_ref().map(|p| p.number);
            shown.push_str(&format!("{:?} {number:?}; ", state(&job)));
        }
        let pull_request = self.work().await.publication.and_then(|p| p.pull_request);
        shown + &format!("{:?}", pull_request.map(|p| (p.number, p.title)))
    }
}

#[tokio::test]
async fn the_publication_of_a_pull_request_passes_all_proofs() {
    prove(&PUBLISH, AtForge::new).await;
}
