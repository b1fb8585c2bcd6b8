//! Private repositories on real hosts: `git http-backend` with a password, and an sshd.

use base64::Engine as _;
use foundry_proto::common::v1::{Role, SecretText};
use foundry_proto::repo::v1::create_repository_credential_request::Target;
use foundry_proto::repo::v1::{
    CreateRepositoryCredentialRequest, CreateRepositoryRequest, ListRepositoryCredentialsRequest,
    RepositoryCredential, RepositoryCredentialKind as Kind, RepositoryCredentialState as State,
    RequestRepositoryRefreshRequest, TestRepositoryCredentialRequest,
};
use foundry_testkit::{GitHttp, Sshd};

use crate::domain::repository::{Repository, State as RepositoryState};
use crate::ops::create_repository::create_repository;
use crate::ops::create_repository_credential::create_repository_credential;
use crate::ops::list_repository_credentials::list_repository_credentials;
use crate::ops::request_repository_refresh::request_repository_refresh;
use crate::ops::test_repository_credential::test_repository_credential;
use crate::testing::Fixture;

const TOKEN: &str = "canary-token-0123456789-wxyz";

fn encoded(password: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(format!("x-access-token:{password}"))
}

/// Registers a URL and runs its synchronization.
async fn registered(f: &Fixture, url: String) -> String {
    let request = CreateRepositoryRequest { request_id: String::new(), url, ..f.create() };
    let created = create_repository(&f.cx, &f.member, request).await.unwrap();
    f.engine.run_until_idle().await.unwrap();
    created.repository.unwrap().repository_id
}

async fn repository(f: &Fixture, id: &str) -> Repository {
    f.cx.repository(&f.member, id, Role::Viewer).await.unwrap()
}

fn request(f: &Fixture, target: Target, kind: Kind, secret: &str) -> CreateRepositoryCredentialRequest {
    CreateRepositoryCredentialRequest {
        organization_id: f.organization.to_string(),
        target: Some(target),
        kind: kind.into(),
        secret: Some(SecretText { value: secret.to_owned() }),
        replace: true,
        ..Default::default()
    }
}

/// Stores a credential and runs what it starts.
async fn store(f: &Fixture, target: Target, kind: Kind, secret: &str) -> String {
    let stored =
        create_repository_credential(&f.cx, &f.member, request(f, target, kind, secret)).await.unwrap();
    f.engine.run_until_idle().await.unwrap();
    stored.repository_credential.unwrap().repository_credential_id
}

async fn shown(f: &Fixture) -> Vec<RepositoryCredential> {
    let request = ListRepositoryCredentialsRequest {
        organization_id: f.organization.to_string(),
        ..Default::default()
    };
    list_repository_credentials(&f.cx, &f.member, request).await.unwrap().repository_credentials
}

async fn refresh(f: &Fixture, id: &str) {
    let request = RequestRepositoryRefreshRequest { repository_id: id.to_owned(), ..Default::default() };
    request_repository_refresh(&f.cx, &f.member, request).await.unwrap();
    f.engine.run_until_idle().await.unwrap();
}

fn reason(repository: &Repository) -> (RepositoryState, &str) {
    (repository.state, repository.condition.reason.as_str())
}

#[tokio::test]
async fn a_private_repository_says_what_it_needs_and_synchronizes_by_itself_once_it_has_it() {
    let f = Fixture::new().await;
    let host = GitHttp::start(f.path());
    host.require(Some(&encoded(TOKEN)));
    let id = registered(&f, host.url("origin/.git")).await;
    let needs = repository(&f, &id).await;
    assert_eq!(reason(&needs), (RepositoryState::Error, "REPOSITORY_CREDENTIALS_REQUIRED"));
    assert!(needs.condition.next_action.contains("credential"), "{:?}", needs.condition);

    store(&f, Target::RepositoryId(id.clone()), Kind::Token, "canary-wrong-0123456789").await;
    let wrong = repository(&f, &id).await;
    assert_eq!(reason(&wrong), (RepositoryState::Error, "REPOSITORY_CREDENTIALS_REFUSED"));
    assert_eq!(shown(&f).await[0].state(), State::Failed);

    store(&f, Target::RepositoryId(id.clone()), Kind::Token, TOKEN).await;
    assert_eq!(reason(&repository(&f, &id).await), (RepositoryState::Ready, ""));
    let all = shown(&f).await;
    assert_eq!((all.len(), all[0].state(), all[0].hint.as_str()), (1, State::Working, "wxyz"));
    assert_eq!(all[0].origin, host.origin());
}

#[tokio::test]
async fn a_revoked_credential_is_shown_as_such_and_the_mirror_stays() {
    let f = Fixture::new().await;
    let host = GitHttp::start(f.path());
    host.require(Some(&encoded(TOKEN)));
    store(&f, Target::Host(host.origin()), Kind::Token, TOKEN).await;
    assert_eq!(shown(&f).await[0].state(), State::Untested);
    let id = registered(&f, host.url("origin/.git")).await;
    assert_eq!(
        (reason(&repository(&f, &id).await), shown(&f).await[0].state()),
        ((RepositoryState::Ready, ""), State::Working)
    );
    host.require(Some(&encoded("canary-other")));
    refresh(&f, &id).await;
    let refused = repository(&f, &id).await;
    assert_eq!(reason(&refused), (RepositoryState::Error, "REPOSITORY_CREDENTIALS_REFUSED"));
    // Other repositories of the host may still take it; only a test judges it.
    let all = shown(&f).await;
    assert_eq!((refused.branch_count, all[0].state()), (1, State::Working));
    let test = TestRepositoryCredentialRequest {
        repository_credential_id: all[0].repository_credential_id.clone(),
        ..Default::default()
    };
    test_repository_credential(&f.cx, &f.member, test).await.unwrap();
    f.engine.run_until_idle().await.unwrap();
    assert_eq!(shown(&f).await[0].state(), State::Failed);
}

#[tokio::test]
async fn the_own_credential_of_a_repository_goes_before_the_one_of_its_host_and_no_other_organization_uses_either()
 {
    let f = Fixture::new().await;
    let host = GitHttp::start(f.path());
    host.require(Some(&encoded(TOKEN)));
    store(&f, Target::Host(host.origin()), Kind::Token, "canary-of-the-host-0123").await;
    let id = registered(&f, host.url("origin/.git")).await;
    assert_eq!(reason(&repository(&f, &id).await).1, "REPOSITORY_CREDENTIALS_REFUSED");
    store(&f, Target::RepositoryId(id.clone()), Kind::Token, TOKEN).await;
    assert_eq!(repository(&f, &id).await.state, RepositoryState::Ready);

    store(&f, Target::Host(host.origin()), Kind::Token, TOKEN).await;
    let foreign = f.stranger.memberships()[0].organization_id.clone();
    let theirs = CreateRepositoryRequest {
        request_id: String::new(),
        organization_id: foreign.to_string(),
        url: host.url("origin/.git"),
        name: String::new(),
    };
    let created = create_repository(&f.cx, &f.stranger, theirs).await.unwrap().repository.unwrap();
    f.engine.run_until_idle().await.unwrap();
    let theirs = f.cx.repository(&f.stranger, &created.repository_id, Role::Viewer).await.unwrap();
    assert_eq!(reason(&theirs).1, "REPOSITORY_CREDENTIALS_REQUIRED");
}

#[tokio::test]
async fn a_redirect_takes_the_credential_to_no_other_host() {
    let f = Fixture::new().await;
    let (host, other) = (GitHttp::start(f.path()), GitHttp::start(f.path()));
    host.redirect(&other.origin());
    store(&f, Target::Host(host.origin()), Kind::Token, TOKEN).await;
    let id = registered(&f, host.url("origin/.git")).await;
    let refused = repository(&f, &id).await;
    assert_eq!(reason(&refused), (RepositoryState::Error, "GIT_REDIRECT_REFUSED"));
    assert!(host.requests().iter().any(|(_, sent)| sent.is_some()));
    assert_eq!(other.requests(), []);
}

#[tokio::test]
async fn a_deploy_key_opens_an_ssh_host_whose_key_is_recorded_and_a_changed_one_is_refused_until_it_is_accepted()
 {
    let f = Fixture::new().await;
    let dir = tempfile::tempdir().unwrap();
    let mut host = Sshd::start(dir.path());
    let id = registered(&f, host.url(&f.origin)).await;
    assert_eq!(
        reason(&repository(&f, &id).await),
        (RepositoryState::Error, "REPOSITORY_CREDENTIALS_REQUIRED")
    );

    let key = host.new_key();
    let credential = store(&f, Target::RepositoryId(id.clone()), Kind::SshKey, &key).await;
    assert_eq!(reason(&repository(&f, &id).await), (RepositoryState::Ready, ""));
    let all = shown(&f).await;
    assert_eq!((all[0].state(), all[0].origin.clone()), (State::Working, host.origin()));
    let recorded: Vec<_> = all[0].host_keys.iter().map(|k| (k.fingerprint.clone(), k.given)).collect();
    assert_eq!(recorded, [(host.fingerprint(), false)]);

    host.change_host_key();
    refresh(&f, &id).await;
    let changed = repository(&f, &id).await;
    assert_eq!(reason(&changed), (RepositoryState::Error, "REPOSITORY_HOST_KEY_CHANGED"));
    assert_eq!(shown(&f).await[0].state(), State::Failed);
    // A new deploy key is no reason to trust another host.
    let key = host.new_key();
    store(&f, Target::RepositoryId(id.clone()), Kind::SshKey, &key).await;
    assert_eq!(reason(&repository(&f, &id).await).1, "REPOSITORY_HOST_KEY_CHANGED");
    let request = |credential: &str| TestRepositoryCredentialRequest {
        repository_credential_id: credential.to_owned(),
        accept_host_key: true,
        ..Default::default()
    };
    let replaced = test_repository_credential(&f.cx, &f.member, request(&credential)).await.unwrap_err();
    assert_eq!(replaced.code(), foundry_core::Code::NotFound);
    let now = shown(&f).await[0].repository_credential_id.clone();
    test_repository_credential(&f.cx, &f.member, request(&now)).await.unwrap();
    f.engine.run_until_idle().await.unwrap();
    assert_eq!(reason(&repository(&f, &id).await), (RepositoryState::Ready, ""));
    assert_eq!(shown(&f).await[0].host_keys[0].fingerprint, host.fingerprint());

    host.new_key();
    refresh(&f, &id).await;
    assert_eq!(reason(&repository(&f, &id).await).1, "REPOSITORY_CREDENTIALS_REFUSED");
    assert_eq!(std::fs::read_dir(f.path().join("data/access")).unwrap().count(), 0, "a key was left behind");
}

#[tokio::test]
async fn a_credential_that_is_stored_while_a_synchronization_fails_without_it_is_used_at_once() {
    let f = Fixture::new().await;
    let host = GitHttp::start(f.path());
    host.require(Some(&encoded(TOKEN)));
    host.hold(true);
    let new =
        CreateRepositoryRequest { request_id: String::new(), url: host.url("origin/.git"), ..f.create() };
    let created = create_repository(&f.cx, &f.member, new).await.unwrap().repository.unwrap();
    let stored = async {
        let waiting = host.clone();
        tokio::task::spawn_blocking(move || waiting.wait_for_request(0)).await.unwrap();
        let request = request(&f, Target::Host(host.origin()), Kind::Token, TOKEN);
        create_repository_credential(&f.cx, &f.member, request).await.unwrap();
        host.hold(false);
    };
    let (ran, ()) = tokio::join!(f.engine.run_until_idle(), stored);
    ran.unwrap();
    f.env.clock.advance(std::time::Duration::from_secs(2));
    f.engine.run_until_idle().await.unwrap();
    assert_eq!(reason(&repository(&f, &created.repository_id).await), (RepositoryState::Ready, ""));
}

#[tokio::test]
async fn a_failure_is_not_recorded_once_another_credential_is_stored() {
    let f = Fixture::new().await;
    let id = registered(&f, "http://127.0.0.1:1/x".to_owned()).await;
    let target = |own: bool| match own {
        true => Target::RepositoryId(id.clone()),
        false => Target::Host("http://127.0.0.1:1".to_owned()),
    };
    // The first one, and another, for the host; then the same for the repository.
    for own in [false, false, true, true] {
        let repository = repository(&f, &id).await;
        let remote = crate::broker::remote(&f.cx, &repository).await.unwrap();
        let may_fail = async || {
            let mut ws = foundry_store::WriteSet::new();
            ws.scope(foundry_store::Scope::organization(&f.organization));
            remote.is_newest(&mut ws, &repository);
            f.cx.store.commit(ws).await.is_ok()
        };
        assert!(may_fail().await);
        create_repository_credential(&f.cx, &f.member, request(&f, target(own), Kind::Token, TOKEN))
            .await
            .unwrap();
        assert!(!may_fail().await, "{own}");
    }
}

#[tokio::test]
async fn what_a_server_repeats_of_the_secret_is_not_in_the_log() {
    let f = Fixture::new().await;
    let log = foundry_testkit::Log::of_everything();
    let host = GitHttp::start(f.path());
    host.require(Some(&encoded("canary-other")));
    host.forbid();
    store(&f, Target::Host(host.origin()), Kind::Token, TOKEN).await;
    let id = registered(&f, host.url("origin/.git")).await;
    assert_eq!(reason(&repository(&f, &id).await).1, "REPOSITORY_CREDENTIALS_REFUSED");
    let log = log.text();
    assert!(log.contains("access denied to ***"), "{log}");
    assert!(!log.contains(TOKEN) && !log.contains(&encoded(TOKEN)), "{log}");
}
