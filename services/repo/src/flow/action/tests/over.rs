//! The same over real transports: local paths, `git http-backend` with and without a credential, and a real sshd.

use base64::Engine as _;
use foundry_proto::common::v1::SecretText;
use foundry_proto::repo::v1::create_repository_credential_request::Target;
use foundry_proto::repo::v1::{CreateRepositoryCredentialRequest, RepositoryCredentialKind};
use foundry_testkit::{GitHttp, Sshd};

use super::*;
use crate::ops::create_repository_credential::create_repository_credential;

/// Stores a credential for a host.
async fn allow(f: &Fixture, origin: String, kind: RepositoryCredentialKind, secret: &str) {
    let request = CreateRepositoryCredentialRequest {
        organization_id: f.organization.to_string(),
        target: Some(Target::Host(origin)),
        kind: kind.into(),
        secret: Some(SecretText { value: secret.to_owned() }),
        ..CreateRepositoryCredentialRequest::default()
    };
    create_repository_credential(&f.cx, &f.member, request).await.unwrap();
}

/// The whole story: a squash-merged bottom and middle, a conflict, somebody else's pushes and deletion in the middle of the stack and
/// of a push, undos; with exact ends.
async fn story(s: &Stacked) {
    s.squash_merge("s1");
    let before = s.refs();
    let job = s.run(JobKind::RestackRepo, "").await;
    assert_eq!(state(&job), (JobState::Done, ""), "{}", message(&job));
    assert_eq!(states(&job), "s1=SKIPPED s2=PUSHED s3=PUSHED s4=PUSHED s5=PUSHED s6=PUSHED");
    assert!(s.is_stack(&["main", "s2", "s3", "s4", "s5", "s6"]));
    let undo = s.undo(&job).await;
    assert_eq!((state(&undo), s.refs()), ((JobState::Done, ""), before));
    s.sh(&format!(
        "git checkout -q main; echo other > s4; git add .; {C} -m 'main has s4'; git push -q origin main"
    ));
    let before = s.refs();
    let job = s.run(JobKind::RestackRepo, "").await;
    assert_eq!((state(&job), s.refs()), ((JobState::Failed, "RESTACK_CONFLICT"), before));
    s.sh(&format!("git checkout -q main; git rm -q s4; {C} -m 'main has no s4'; git push -q origin main"));
    for interference in ["update-ref refs/heads/s5 refs/heads/main", "update-ref -d refs/heads/s3"] {
        s.hook("pre-receive", &format!("env -u GIT_QUARANTINE_PATH git {interference}; cat >/dev/null"));
        let names = ["s2", "s4", "s6"].map(|name| s.tip(name));
        let job = s.run(JobKind::RestackRepo, "").await;
        assert_eq!(state(&job), (JobState::Failed, "BRANCH_MOVED"), "{}", message(&job));
        assert_eq!(["s2", "s4", "s6"].map(|name| s.tip(name)), names);
        s.hook("pre-receive", "exit 0");
        git(&s.remote, &["update-ref", "refs/heads/s5", &job.branches[4].old_commit]);
    }
    let job = s.run(JobKind::RestackRepo, "").await;
    assert_eq!(state(&job), (JobState::Done, ""), "{}", message(&job));
    assert!(s.is_stack(&["main", "s2"]) && s.is_stack(&["s4", "s5", "s6"]));
    // Somebody pushes other commits to the middle, by force.
    s.sh(&format!(
        "git fetch -q; git checkout -q -B s5 origin/s5; echo more >> s5; {C} --amend -a -m 's5 two'; git push -q -f origin s5"
    ));
    let theirs = s.tip("s5");
    let job = s.run(JobKind::RestackRepo, "").await;
    assert_eq!((state(&job), s.tip("s5")), ((JobState::Done, ""), theirs), "{}", message(&job));
    assert!(s.is_stack(&["s4", "s5", "s6"]));
    // The middle is squash-merged with all below it.
    s.sh("git fetch -q; git checkout -q -B s5 origin/s5");
    s.squash_merge("s5");
    let (before, others) = (s.refs(), ["s2", "s4", "s5"].map(|name| s.tip(name)));
    let job = s.run(JobKind::RestackRepo, "").await;
    assert_eq!(state(&job), (JobState::Done, ""), "{}", message(&job));
    assert_eq!(states(&job), "s2=SKIPPED s4=SKIPPED s5=SKIPPED s6=PUSHED");
    assert!(s.is_stack(&["main", "s6"]));
    assert_eq!(["s2", "s4", "s5"].map(|name| s.tip(name)), others);
    let undo = s.undo(&job).await;
    assert_eq!((state(&undo), s.refs()), ((JobState::Done, ""), before));
}

#[tokio::test]
async fn a_stack_at_a_local_path() {
    story(&Stacked::new().await).await;
}

#[tokio::test]
async fn a_stack_behind_http_without_a_credential() {
    let f = Fixture::new().await;
    let host = GitHttp::start(f.path());
    let url = host.url("remote.git");
    let s = Stacked::at(f, url, 6).await;
    git(&s.remote, &["config", "http.receivepack", "true"]);
    story(&s).await;
    let requests = host.requests();
    assert!(requests.iter().any(|(path, _)| path.ends_with("/git-receive-pack")));
    assert!(requests.iter().all(|(_, sent)| sent.is_none()), "{requests:?}");
}

#[tokio::test]
async fn a_stack_behind_http_with_a_credential() {
    let f = Fixture::new().await;
    let host = GitHttp::start(f.path());
    let token = "canary-token-0123456789-wxyz";
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("x-access-token:{token}"));
    host.require(Some(&encoded));
    allow(&f, host.origin(), RepositoryCredentialKind::Token, token).await;
    let url = host.url("remote.git");
    let s = Stacked::at(f, url, 6).await;
    story(&s).await;
    assert!(host.requests().iter().any(|(path, sent)| path.ends_with("/git-receive-pack") && sent.is_some()));
}

#[tokio::test]
async fn a_stack_behind_ssh_with_a_key() {
    let f = Fixture::new().await;
    let dir = f.path().join("sshd");
    std::fs::create_dir(&dir).unwrap();
    let host = Sshd::start(dir);
    allow(&f, host.origin(), RepositoryCredentialKind::SshKey, &host.new_key()).await;
    let url = host.url(&f.path().join("remote.git"));
    story(&Stacked::at(f, url, 6).await).await;
}
