//! Private repositories at a stand-in of GitHub that a GitHub App gives access to.

use std::time::Duration;

use foundry_core::{FlowId, RepositoryId};
use foundry_flow::NewFlow;
use foundry_forge::{ForgeHost as Setting, ForgeHosts, ForgeKind};
use foundry_proto::common::v1::{Role, SecretText};
use foundry_proto::repo::v1::create_repository_credential_request::Target;
use foundry_proto::repo::v1::{
    CreateRepositoryCredentialRequest, CreateRepositoryRequest, ListRepositoryCredentialsRequest,
    PullRequestSyncStatus, RepositoryCredential, RepositoryCredentialKind as Kind,
    RepositoryCredentialState as State, RepositoryGithubApp, RequestRepositoryRefreshRequest,
    TestRepositoryCredentialRequest,
};
use foundry_store::WriteSet;
use foundry_testkit::{APP_KEY, ForgeHost, GitHubApp};

use crate::domain::repository::{Repository, State as RepositoryState};
use crate::flow::pulls::PULLS;
use crate::ops::create_repository::create_repository;
use crate::ops::create_repository_credential::create_repository_credential;
use crate::ops::list_repository_credentials::list_repository_credentials;
use crate::ops::request_repository_refresh::request_repository_refresh;
use crate::ops::test_repository_credential::test_repository_credential;
use crate::testing::{Fixture, git};

/// A host that lets in the tokens of the app alone, and a repository there.
struct Scene {
    f: Fixture,
    host: ForgeHost,
    id: String,
}

impl Scene {
    async fn new() -> Self {
        let mut f = Fixture::new().await;
        for name in ["app", "other"] {
            let remote = f.path().join(format!("team/{name}.git"));
            git(f.path(), &["clone", "-q", "--bare", f.origin.to_str().unwrap(), remote.to_str().unwrap()]);
        }
        let host = ForgeHost::start(f.path());
        host.require("nobody", "nobody");
        let setting = Setting { host: host.host(), kind: ForgeKind::GitHub, api: host.api("v3") };
        f.with_forges(ForgeHosts::new(&[setting]).unwrap()).await;
        let scene = Self { f, host, id: String::new() };
        scene.install(|_| ());
        scene.store(false).await;
        let id = scene.register("team/app.git").await;
        Self { id, ..scene }
    }

    fn install(&self, change: impl FnOnce(&mut GitHubApp)) {
        let ends = self.f.env.env.clock.now().plus(Duration::from_secs(3600));
        let mut app = GitHubApp {
            app_id: "Iv23a".to_owned(),
            installation_id: 77,
            repositories: vec!["app".to_owned()],
            expires_at: ends.to_string(),
            is_suspended: false,
        };
        change(&mut app);
        self.host.install(app);
    }

    fn request(&self) -> CreateRepositoryCredentialRequest {
        CreateRepositoryCredentialRequest {
            organization_id: self.f.organization.to_string(),
            target: Some(Target::Host(self.host.git().origin())),
            kind: Kind::GithubApp.into(),
            secret: Some(SecretText { value: APP_KEY.to_owned() }),
            github_app: Some(RepositoryGithubApp { app_id: "Iv23a".to_owned(), installation_id: 77 }),
            ..Default::default()
        }
    }

    async fn store(&self, replace: bool) {
        let request = CreateRepositoryCredentialRequest { replace, ..self.request() };
        create_repository_credential(&self.f.cx, &self.f.member, request).await.unwrap();
        self.f.engine.run_until_idle().await.unwrap();
    }

    async fn register(&self, path: &str) -> String {
        let url = self.host.git().url(path);
        let request = CreateRepositoryRequest { request_id: String::new(), url, ..self.f.create() };
        let created = create_repository(&self.f.cx, &self.f.member, request).await.unwrap();
        self.f.engine.run_until_idle().await.unwrap();
        created.repository.unwrap().repository_id
    }

    async fn refresh(&self) {
        let request =
            RequestRepositoryRefreshRequest { repository_id: self.id.clone(), ..Default::default() };
        request_repository_refresh(&self.f.cx, &self.f.member, request).await.unwrap();
        self.f.engine.run_until_idle().await.unwrap();
    }

    /// Has the pull requests read now.
    async fn read_pulls(&self, id: &RepositoryId) {
        let flow = NewFlow::new(&PULLS, FlowId::generate(&self.f.env.env), id.as_str(), id.as_str());
        let mut ws = WriteSet::new();
        foundry_flow::enqueue(&mut ws, flow.organization(&self.f.organization));
        self.f.cx.store.commit(ws).await.unwrap();
        self.f.engine.run_until_idle().await.unwrap();
    }

    async fn use_it(&self, by_git: bool, id: &RepositoryId) {
        if by_git {
            self.refresh().await;
        } else {
            self.read_pulls(id).await;
        }
    }

    async fn test(&self) {
        let repository_credential_id = self.credential().await.repository_credential_id;
        let request = TestRepositoryCredentialRequest { repository_credential_id, ..Default::default() };
        test_repository_credential(&self.f.cx, &self.f.member, request).await.unwrap();
        self.f.engine.run_until_idle().await.unwrap();
    }

    async fn repository(&self, id: &str) -> Repository {
        self.f.cx.repository(&self.f.member, id, Role::Viewer).await.unwrap()
    }

    async fn state(&self) -> (RepositoryState, String) {
        let repository = self.repository(&self.id).await;
        (repository.state, repository.condition.reason)
    }

    async fn credential(&self) -> RepositoryCredential {
        let request = ListRepositoryCredentialsRequest {
            organization_id: self.f.organization.to_string(),
            ..Default::default()
        };
        let listed = list_repository_credentials(&self.f.cx, &self.f.member, request).await.unwrap();
        listed.repository_credentials[0].clone()
    }
}

fn ready() -> (RepositoryState, String) {
    (RepositoryState::Ready, String::new())
}

#[tokio::test]
async fn an_app_gets_a_token_for_the_repository_once_in_an_hour_and_it_is_in_no_table() {
    let s = Scene::new().await;
    assert_eq!((s.state().await, s.host.app_tokens()), (ready(), 1));
    let shown = s.credential().await;
    assert_eq!((shown.state(), shown.kind()), (State::Working, Kind::GithubApp));
    assert_eq!(shown.github_app.unwrap().installation_id, 77);
    for _ in 0..3 {
        s.refresh().await;
    }
    s.f.env.clock.advance(Duration::from_secs(3_299));
    s.refresh().await;
    assert_eq!(s.host.app_tokens(), 1, "the token is used again");
    s.f.env.clock.advance(Duration::from_secs(1));
    s.install(|_| ());
    s.refresh().await;
    assert_eq!((s.state().await, s.host.app_tokens()), (ready(), 2));
    for sql in [
        "SELECT * FROM repository_credentials",
        "SELECT * FROM repositories",
        "SELECT * FROM flows",
        "SELECT * FROM store_audit",
        "SELECT * FROM store_idempotency",
    ] {
        let rows = format!("{:?}", s.f.cx.store.query(sql, &[]).await.unwrap());
        assert!(!rows.contains("ghs_canary") && !rows.contains("PRIVATE KEY"), "{sql}");
    }
}

#[tokio::test]
async fn a_token_that_was_taken_back_is_shown_once_and_replaced_by_the_next_use() {
    let s = Scene::new().await;
    s.host.revoke_app_tokens();
    s.refresh().await;
    assert_eq!(s.state().await.1, "REPOSITORY_CREDENTIALS_REFUSED");
    s.refresh().await;
    assert_eq!(s.state().await, ready());
}

#[tokio::test]
async fn a_token_that_the_api_refuses_is_replaced_at_once() {
    let s = Scene::new().await;
    let id = s.id.parse().unwrap();
    for status in [401, 403] {
        let before = s.host.app_tokens();
        s.host.refuse(status, "Resource not accessible by integration");
        s.read_pulls(&id).await;
        let sync = s.repository(&s.id).await.pulls.sync.unwrap();
        assert_eq!((sync.status(), sync.stale), (PullRequestSyncStatus::Current, None), "{status}");
        assert_eq!(s.host.app_tokens(), before + 1, "{status}");
    }
    // One that was made for this reading is believed.
    let before = s.host.app_tokens();
    s.host.refuse_path("/pulls", 403);
    s.read_pulls(&id).await;
    let sync = s.repository(&s.id).await.pulls.sync.unwrap();
    assert_eq!((sync.stale.unwrap().reason.as_str(), s.host.app_tokens()), ("FORGE_FORBIDDEN", before + 1));
}

#[tokio::test]
async fn an_app_that_is_suspended_is_shown_at_its_credential_by_its_use_and_so_is_its_return() {
    let s = Scene::new().await;
    let id = s.id.parse().unwrap();
    for by_git in [true, false] {
        s.f.env.clock.advance(Duration::from_secs(3_600));
        s.install(|app| app.is_suspended = true);
        s.use_it(by_git, &id).await;
        let shown = s.credential().await;
        let condition = shown.condition.clone().unwrap_or_default();
        let found = (shown.state(), condition.reason.as_str());
        assert_eq!(found, (State::Failed, "GITHUB_APP_REFUSED"), "{by_git}");
        assert!(condition.next_action.contains("suspended") && condition.since_time.is_some());
        s.install(|_| ());
        s.use_it(by_git, &id).await;
        let shown = s.credential().await;
        assert_eq!(
            (shown.state(), shown.condition.unwrap_or_default().reason),
            (State::Working, String::new())
        );
    }
}

#[tokio::test]
async fn a_refused_key_and_a_repository_that_is_not_included_say_so_and_are_mended() {
    let s = Scene::new().await;
    s.install(|app| app.is_suspended = true);
    s.test().await;
    let failed = s.credential().await;
    let condition = failed.condition.clone().unwrap();
    assert_eq!((failed.state(), condition.reason.as_str()), (State::Failed, "GITHUB_APP_REFUSED"));
    assert!(condition.message.contains("suspended") && condition.next_action.contains("--replace"));
    // The test has taken the place of the token that the repository had.
    s.refresh().await;
    assert_eq!(s.state().await, (RepositoryState::Error, "GITHUB_APP_REFUSED".to_owned()));
    s.install(|_| ());
    s.store(true).await;
    assert_eq!((s.state().await, s.credential().await.state()), (ready(), State::Working));

    let other = s.register("team/other.git").await;
    let repository = s.repository(&other).await;
    assert_eq!(repository.condition.reason, "GITHUB_APP_NOT_INSTALLED");
    assert!(repository.condition.next_action.contains("installation"), "{:?}", repository.condition);
    assert_eq!(s.credential().await.state(), State::Working, "others are let in");
    s.install(|app| app.repositories.push("other".to_owned()));
    s.store(true).await;
    assert_eq!(s.repository(&other).await.state, RepositoryState::Ready);
}

#[tokio::test]
async fn a_public_repository_that_the_installation_does_not_include_is_fetched_and_fails_no_test() {
    let s = Scene::new().await;
    s.host.git().require(None);
    let other = s.register("team/other.git").await;
    assert_eq!(s.repository(&other).await.state, RepositoryState::Ready);
    // The one that is registered first is left out now.
    s.install(|app| app.repositories = vec!["other".to_owned()]);
    s.test().await;
    assert_eq!(s.credential().await.state(), State::Working);
    s.host.git().require(None);
    s.refresh().await;
    assert_eq!(s.state().await, ready());
    // None is included.
    s.install(|app| app.repositories.clear());
    s.test().await;
    let failed = s.credential().await;
    let reason = failed.condition.clone().unwrap().reason;
    assert_eq!((failed.state(), reason.as_str()), (State::Failed, "GITHUB_APP_NOT_INSTALLED"));
}

#[tokio::test]
async fn a_host_that_gives_no_token_for_a_moment_is_asked_again() {
    let s = Scene::new().await;
    s.f.env.clock.advance(Duration::from_secs(3_600));
    s.install(|_| ());
    s.host.refuse(502, "down");
    s.refresh().await;
    s.f.env.clock.advance(Duration::from_secs(60));
    s.f.engine.run_until_idle().await.unwrap();
    assert_eq!((s.state().await, s.host.app_tokens()), (ready(), 2));
}

#[tokio::test]
async fn only_a_host_that_is_known_as_github_has_apps() {
    let s = Scene::new().await;
    for host in ["git.example.org", "gitlab.com", "ssh://git@github.com"] {
        let request =
            CreateRepositoryCredentialRequest { target: Some(Target::Host(host.to_owned())), ..s.request() };
        let refused = create_repository_credential(&s.f.cx, &s.f.member, request).await.unwrap_err();
        assert_eq!(refused.code(), foundry_core::Code::InvalidArgument, "{host}");
    }
}
