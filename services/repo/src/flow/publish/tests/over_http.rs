//! Publications to real `git http-backend`, with a credential.

use base64::Engine as _;
use foundry_proto::common::v1::SecretText;
use foundry_proto::repo::v1::create_repository_credential_request::Target;
use foundry_proto::repo::v1::{CreateRepositoryCredentialRequest, RepositoryCredentialKind};
use foundry_testkit::GitHttp;

use super::*;
use crate::ops::create_repository_credential::create_repository_credential;

const TOKEN: &str = "canary-token-0123456789-wxyz";

fn encoded(password: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(format!("x-access-token:{password}"))
}

/// A private repository whose credential is stored.
async fn private() -> (Published, GitHttp) {
    let f = Fixture::new().await;
    let host = GitHttp::start(f.path());
    host.require(Some(&encoded(TOKEN)));
    let request = CreateRepositoryCredentialRequest {
        organization_id: f.organization.to_string(),
        target: Some(Target::Host(host.origin())),
        kind: RepositoryCredentialKind::Token.into(),
        secret: Some(SecretText { value: TOKEN.to_owned() }),
        ..CreateRepositoryCredentialRequest::default()
    };
    create_repository_credential(&f.cx, &f.member, request).await.unwrap();
    let url = host.url("remote.git");
    (Published::at(f, url).await, host)
}

#[tokio::test]
async fn a_private_repository_takes_the_work_with_the_stored_credential() {
    let (p, host) = private().await;
    let job = p.publish(|_| {}).await;
    assert_eq!(state(&job), (JobState::Done, ""), "{:?}", job.condition);
    assert_eq!(p.tip("feat/work"), job.branches[0].new_commit);
    assert!(host.requests().iter().any(|(path, sent)| path.ends_with("/git-receive-pack") && sent.is_some()));
}

#[tokio::test]
async fn a_plan_shows_that_the_credential_works() {
    use crate::store::credentials::{self, CREDENTIALS};

    let (p, host) = private().await;
    let mut ws = WriteSet::new();
    let is = [("organization_id", p.f.organization.as_str().into())];
    ws.update_where(&CREDENTIALS, &is, &[("state", "untested".into())]);
    p.f.cx.store.commit(ws).await.unwrap();
    assert_eq!(state(&p.publish(|r| r.plan_only = true).await), (JobState::Done, ""));
    let found = credentials::find_for(&p.f.cx.store, &p.f.organization, &host.origin()).await.unwrap();
    assert_eq!(found.unwrap().state, crate::domain::credential::State::Working);
}

#[tokio::test]
async fn a_hook_that_repeats_the_secret_does_not_get_it_into_the_job() {
    let (p, _host) = private().await;
    p.hook("pre-receive", &format!("echo 'denied: {TOKEN} {}'; exit 1", encoded(TOKEN)));
    let job = p.publish(|_| {}).await;
    assert_eq!(state(&job), (JobState::Failed, "PUSH_DECLINED"));
    let all = format!("{job:?}");
    assert!(all.contains("denied") && !all.contains("canary") && !all.contains(&encoded(TOKEN)), "{all}");
}

#[tokio::test]
async fn a_credential_that_may_only_read_or_is_revoked_is_named_as_such() {
    let (p, host) = private().await;
    let before = p.refs();
    git(&p.remote, &["config", "http.receivepack", "false"]);
    let job = p.publish(|_| {}).await;
    assert_eq!(state(&job), (JobState::Failed, "PUSH_FORBIDDEN"), "{:?}", job.condition);
    host.require(Some(&encoded("another")));
    let job = p.publish(|_| {}).await;
    assert_eq!(state(&job), (JobState::Failed, "REPOSITORY_CREDENTIALS_REFUSED"));
    assert!(job.condition.unwrap().next_action.contains("credential"));
    assert_eq!(p.refs(), before);
}

#[tokio::test]
async fn a_cancel_ends_a_job_whose_remote_hangs() {
    let (p, host) = private().await;
    let before = p.refs();
    host.hold(true);
    let seen = host.requests().len();
    let (tasks, _failures) = foundry_core::Tasks::new();
    p.f.engine.start(&tasks);
    let id = p.started(|_| {}).await;
    // The clock of the test stands still, or the attempt would be over at once.
    while host.requests().len() <= seen {
        tokio::task::yield_now().await;
    }
    let cancel = CancelJobRequest { job_id: id.clone(), ..CancelJobRequest::default() };
    cancel_job(&p.f.cx, &p.f.member, cancel).await.unwrap();
    while p.job(&id).await.state() != JobState::Cancelled {
        p.f.env.clock.advance(Duration::from_millis(1));
        tokio::task::yield_now().await;
    }
    host.hold(false);
    assert_eq!((state(&p.job(&id).await), p.refs()), ((JobState::Cancelled, "CANCELLED"), before));
    assert!(tasks.shutdown(Duration::from_secs(5)).await);
}
