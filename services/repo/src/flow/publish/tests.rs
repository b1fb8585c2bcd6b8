//! Publications to a real repository, with real interference.

mod existing;
mod lfs;
mod over_http;
mod several;
mod unknown;
mod waits;

use std::path::PathBuf;

use foundry_authn::Caller;
use foundry_core::{FlowId, TaskId};
use foundry_flow::proofs::{World, prove};
use foundry_flow::{Binding, Status};
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::{
    CancelJobRequest, GetJobRequest, JobState, PublishBranchRequest, RequestRepositoryRefreshRequest,
};
use foundry_store::Store;

use super::*;
use crate::flow::bindings;
use crate::ops::cancel_job::cancel_job;
use crate::ops::get_job::get_job;
use crate::ops::import_work::import_work;
use crate::ops::publish_branch::publish_branch;
use crate::ops::request_repository_refresh::request_repository_refresh;
use crate::testing::{Fixture, git, stream};

/// A service with the work of one task, and a bare remote that counts the pushes that it accepts.
struct Published {
    f: Fixture,
    task: TaskId,
    repository: foundry_proto::repo::v1::Repository,
    remote: PathBuf,
}

impl Published {
    async fn new() -> Self {
        let f = Fixture::new().await;
        let url = f.path().join("remote.git").to_str().unwrap().to_owned();
        Self::at(f, url).await
    }

    /// With the remote registered by this URL.
    async fn at(mut f: Fixture, url: String) -> Self {
        let remote = f.path().join("remote.git");
        git(f.path(), &["clone", "-q", "--bare", f.origin.to_str().unwrap(), remote.to_str().unwrap()]);
        f.origin = remote.clone();
        let request = foundry_proto::repo::v1::CreateRepositoryRequest { url, ..f.create() };
        let created =
            crate::ops::create_repository::create_repository(&f.cx, &f.member, request).await.unwrap();
        f.engine.run_until_idle().await.unwrap();
        let (repository, task) = (created.repository.unwrap(), TaskId::generate(&f.env.env));
        let this = Self { f, task, repository, remote };
        this.hook("post-receive", "cat >> pushes");
        this.hand_over(&[("a.txt", "a\n")]).await;
        this
    }

    fn hook(&self, name: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.remote.join("hooks").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    async fn hand_over(&self, files: &[(&str, &str)]) {
        let parts = self.f.work(&self.repository, &self.task, files);
        import_work(&self.f.cx, &Caller::service("provisioner"), stream(parts)).await.unwrap();
        self.f.engine.run_until_idle().await.unwrap();
    }

    fn request(&self, change: impl FnOnce(&mut PublishBranchRequest)) -> PublishBranchRequest {
        let mut request = PublishBranchRequest {
            task_id: self.task.to_string(),
            message: "Add a file".to_owned(),
            ..PublishBranchRequest::default()
        };
        change(&mut request);
        request
    }

    async fn started(&self, change: impl FnOnce(&mut PublishBranchRequest)) -> String {
        let answer = publish_branch(&self.f.cx, &self.f.member, self.request(change)).await.unwrap();
        answer.job.unwrap().job_id
    }

    async fn job(&self, job_id: &str) -> foundry_proto::repo::v1::Job {
        let request = GetJobRequest { job_id: job_id.to_owned() };
        get_job(&self.f.cx, &self.f.member, request).await.unwrap().job.unwrap()
    }

    /// The job after everything that is due.
    async fn publish(&self, change: impl FnOnce(&mut PublishBranchRequest)) -> foundry_proto::repo::v1::Job {
        let id = self.started(change).await;
        self.f.engine.run_until_idle().await.unwrap();
        self.job(&id).await
    }

    async fn refresh(&self) {
        let request = RequestRepositoryRefreshRequest {
            repository_id: self.repository.repository_id.clone(),
            ..RequestRepositoryRefreshRequest::default()
        };
        request_repository_refresh(&self.f.cx, &self.f.member, request).await.unwrap();
        self.f.engine.run_until_idle().await.unwrap();
    }

    fn refs(&self) -> String {
        git(&self.remote, &["for-each-ref", "--format=%(refname) %(objectname)"])
    }

    fn tip(&self, branch: &str) -> String {
        git(&self.remote, &["rev-parse", &format!("refs/heads/{branch}")])
    }

    /// Pushes a commit to a branch as somebody else.
    fn somebody_pushes(&self, branch: &str) -> String {
        let tree = tempfile::tempdir_in(self.f.path()).unwrap();
        git(tree.path(), &["clone", "-q", self.remote.to_str().unwrap(), "."]);
        let _ = std::process::Command::new("git")
            .args(["checkout", "-q", branch])
            .current_dir(tree.path())
            .status();
        git(tree.path(), &["commit", "-q", "--allow-empty", "-m", "somebody else"]);
        git(tree.path(), &["push", "-q", "-f", "origin", &format!("HEAD:refs/heads/{branch}")]);
        self.tip(branch)
    }

    fn pushes(&self) -> usize {
        std::fs::read_to_string(self.remote.join("pushes")).unwrap_or_default().lines().count()
    }

    async fn work(&self) -> Work {
        self.f.cx.work(&self.f.member, self.task.as_str(), Role::Viewer).await.unwrap()
    }
}

fn state(job: &foundry_proto::repo::v1::Job) -> (JobState, &str) {
    (job.state(), job.condition.as_ref().map_or("", |c| c.reason.as_str()))
}

#[tonic::async_trait]
impl World for Published {
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
        let answer = publish_branch(&self.f.cx, &self.f.member, self.request(|_| {})).await?;
        Ok(foundry_flow::unfinished(&self.f.cx.store, &PUBLISH, &answer.job.unwrap().job_id).await?.remove(0))
    }
    async fn effects(&self) -> Vec<String> {
        let mirror = self.f.cx.mirror_path(&self.repository.repository_id.parse().unwrap());
        let named = |dir: &std::path::Path| git(dir, &["for-each-ref", "--format=%(refname)"]);
        let names = format!("{}\n{}\npushes {}", named(&self.remote), named(&mirror), self.pushes());
        names.lines().map(|line| line.replace(self.task.as_str(), "")).collect()
    }
    async fn shown(&self) -> String {
        let rows = self.f.cx.store.query("SELECT job_id FROM jobs ORDER BY created_rev", &[]).await.unwrap();
        let mut shown = String::new();
        for row in &rows {
            let job = self.job(row.text("job_id").unwrap()).await;
            let branch = &job.branches[0];
            shown.push_str(&format!(
                "{:?} {:?} {} {} {:?}; ",
                job.state(),
                branch.state(),
                branch.branch,
                branch.commit_count,
                job.condition.map(|c| c.reason)
            ));
        }
        let publication = self.work().await.publication;
        shown + &format!("{:?}", publication.map(|p| (p.branch, p.commits_since)))
    }
}

#[tokio::test]
async fn the_publication_passes_all_proofs() {
    prove(&PUBLISH, Published::new).await;
}

#[tokio::test]
async fn the_work_is_at_the_remote_and_the_service_knows_it() {
    let p = Published::new().await;
    let job = p.publish(|_| {}).await;
    assert_eq!(state(&job), (JobState::Done, ""));
    let branch = &job.branches[0];
    assert_eq!((branch.state(), branch.branch.as_str()), (JobBranchState::Pushed, "feat/work"));
    assert_eq!((branch.commit_count, branch.files_changed, branch.old_commit.as_str()), (1, 1, ""));
    assert_eq!(p.tip("feat/work"), branch.new_commit);
    let work = p.work().await;
    let publication = work.publication.clone().unwrap();
    assert_eq!((&publication.commit, publication.commits_since), (&branch.new_commit, 0));
    let id = work.repository_id.clone();
    let known = branches::find(&p.f.cx.store, &id, "feat/work").await.unwrap().unwrap();
    assert_eq!(known.commit_id, branch.new_commit);
    // A repeat brings nothing new, and new work continues it.
    assert_eq!(state(&p.publish(|_| {}).await), (JobState::Done, ""));
    assert_eq!(p.pushes(), 1);
    p.hand_over(&[("a.txt", "a\n"), ("b.txt", "b\n")]).await;
    assert_eq!(p.work().await.publication.unwrap().commits_since, 1);
    // The fixture makes another commit on the base: the agent has rewritten its history.
    assert_eq!(state(&p.publish(|_| {}).await), (JobState::Failed, "PUBLISH_NEEDS_FORCE"));
    let forced = p.publish(|r| r.force = true).await;
    assert_eq!(state(&forced), (JobState::Done, ""));
    assert!(forced.branches[0].rewrites);
    let mirror = p.f.cx.mirror_path(&id);
    let kept = format!("refs/foundry/replaced/{}", forced.job_id);
    assert_eq!(git(&mirror, &["rev-parse", &kept]), branch.new_commit);
}

#[tokio::test]
async fn a_plan_changes_nothing_and_names_what_would_be_pushed() {
    let p = Published::new().await;
    let before = p.refs();
    let job = p.publish(|r| r.plan_only = true).await;
    assert_eq!((state(&job), p.refs()), ((JobState::Done, ""), before));
    assert_eq!(job.branches[0].state(), JobBranchState::Planned);
    assert_eq!(job.branches[0].commits[0].subject, "work");
    assert!(p.work().await.publication.is_none());
}

#[tokio::test]
async fn a_push_by_somebody_else_is_a_refusal_that_names_both_commits_and_changes_nothing() {
    let p = Published::new().await;
    let ours = p.publish(|_| {}).await.branches[0].new_commit.clone();
    let theirs = p.somebody_pushes("feat/work");
    let before = p.refs();
    for force in [false, true] {
        let job = p.publish(|r| r.force = force).await;
        assert_eq!(state(&job), (JobState::Failed, "BRANCH_MOVED"));
        let message = job.condition.unwrap().message;
        assert!(message.contains(&ours) && message.contains(&theirs), "{message}");
        assert_eq!((&job.branches[0].found_commit, p.refs()), (&theirs, before.clone()));
    }
    // That the service knows it does not mean that the requester does.
    p.refresh().await;
    let refused = p.publish(|_| {}).await;
    assert_eq!(state(&refused), (JobState::Failed, "PUBLISH_NEEDS_FORCE"));
    assert_eq!(refused.branches[0].found_commit, theirs);
    let forced = |seen: &str| {
        let seen = seen.to_owned();
        p.publish(move |r| (r.force, r.expected_commit) = (true, seen))
    };
    for seen in ["", ours.as_str()] {
        let job = forced(seen).await;
        assert_eq!((state(&job), p.refs()), ((JobState::Failed, "BRANCH_MOVED"), before.clone()));
    }
    // Once it was seen, it may be replaced deliberately.
    let plan = p.publish(|r| (r.force, r.plan_only) = (true, true)).await;
    assert_eq!((state(&plan), &plan.branches[0].old_commit), ((JobState::Done, ""), &theirs));
    let forced = forced(&plan.branches[0].old_commit).await;
    assert_eq!((state(&forced), p.tip("feat/work")), ((JobState::Done, ""), ours));
}

#[tokio::test]
async fn a_push_between_plan_and_push_is_found_by_the_lease() {
    let p = Published::new().await;
    p.publish(|_| {}).await;
    p.hand_over(&[("a.txt", "changed\n")]).await;
    let tip = p.tip("feat/work");
    // The remote moves the branch itself while the push is on its way.
    let other = git(&p.remote, &["rev-parse", "refs/heads/main"]);
    p.hook(
        "pre-receive",
        &format!("env -u GIT_QUARANTINE_PATH git update-ref refs/heads/feat/work {other}; cat >/dev/null"),
    );
    let job = p.publish(|r| r.force = true).await;
    assert_eq!(state(&job), (JobState::Failed, "BRANCH_MOVED"));
    let message = job.condition.unwrap().message;
    assert!(message.contains(&tip) && message.contains(&other), "{message}");
    assert_eq!(p.tip("feat/work"), other);
}

#[tokio::test]
async fn a_published_branch_that_was_deleted_at_the_remote_is_made_again_only_with_force() {
    let p = Published::new().await;
    p.publish(|_| {}).await;
    git(&p.remote, &["update-ref", "-d", "refs/heads/feat/work"]);
    for known in [false, true] {
        if known {
            p.refresh().await;
        }
        let job = p.publish(|_| {}).await;
        assert_eq!(state(&job), (JobState::Failed, "BRANCH_DELETED"));
        let condition = job.condition.unwrap();
        assert!(condition.message.contains("merged or deleted"), "{condition:?}");
        assert!(condition.next_action.contains("another branch, or with force"), "{condition:?}");
    }
    assert_eq!(state(&p.publish(|r| r.force = true).await), (JobState::Done, ""));
    git(&p.remote, &["update-ref", "-d", "refs/heads/feat/work"]);
    assert_eq!(state(&p.publish(|r| r.to_branch = "feat/again".into()).await), (JobState::Done, ""));
}

#[tokio::test]
async fn a_publication_as_a_single_commit_is_remembered_until_the_commits_are_asked_for() {
    let p = Published::new().await;
    let commits = |range: &str| git(&p.remote, &["rev-list", "--count", "--no-merges", range]);
    p.publish(|r| r.squash = true).await;
    assert!(p.work().await.publication.unwrap().squash);
    p.hand_over(&[("a.txt", "a\n"), ("b.txt", "b\n")]).await;
    let again = p.publish(|_| {}).await;
    assert!(again.branches[0].note.contains("as a single commit"), "{again:?}");
    assert_eq!(commits("main..feat/work"), "2");
    assert!(p.work().await.publication.unwrap().squash);
    let both = p.request(|r| (r.squash, r.keep_commits) = (true, true));
    assert!(publish_branch(&p.f.cx, &p.f.member, both).await.is_err());
    p.hand_over(&[("a.txt", "a\n"), ("b.txt", "b\n"), ("c.txt", "c\n")]).await;
    let kept = p.publish(|r| (r.keep_commits, r.force) = (true, true)).await;
    assert_eq!((state(&kept), kept.branches[0].note.as_str()), ((JobState::Done, ""), ""));
    assert!(!p.work().await.publication.unwrap().squash);
    // What is there already is not made one.
    let late = p.publish(|r| r.squash = true).await;
    assert!(late.branches[0].note.contains("stay as they are"), "{late:?}");
    assert_eq!(late.branches[0].old_commit, late.branches[0].new_commit);
}

#[tokio::test]
async fn what_the_remote_says_about_a_push_is_kept() {
    let p = Published::new().await;
    p.hook("post-receive", "printf 'Create a pull request:\\n\\033[1m  https://git.example/new?x\\n'");
    let job = p.publish(|_| {}).await;
    assert_eq!(job.branches[0].remote_message, "Create a pull request:\nhttps://git.example/new?x");
}

#[tokio::test]
async fn neither_the_default_branch_nor_a_foreign_one_is_pushed_to_unless_that_is_named() {
    let p = Published::new().await;
    let before = p.refs();
    let refused = publish_branch(&p.f.cx, &p.f.member, p.request(|r| r.to_branch = "main".into())).await;
    assert_eq!(refused.unwrap_err().reason(), "DEFAULT_BRANCH_REFUSED");
    for name in ["-x", "refs/heads/x", "a b", "HEAD", "x..y"] {
        let refused = publish_branch(&p.f.cx, &p.f.member, p.request(|r| r.to_branch = name.into())).await;
        assert_eq!(refused.unwrap_err().reason(), "INVALID_FIELD", "{name}");
    }
    // The default branch has changed at the remote, and the mirror does not know it.
    git(&p.remote, &["branch", "feat/work"]);
    git(&p.remote, &["symbolic-ref", "HEAD", "refs/heads/feat/work"]);
    assert_eq!(state(&p.publish(|_| {}).await), (JobState::Failed, "DEFAULT_BRANCH_REFUSED"));
    git(&p.remote, &["symbolic-ref", "HEAD", "refs/heads/main"]);
    p.refresh().await;
    assert_eq!(state(&p.publish(|_| {}).await), (JobState::Failed, "BRANCH_NOT_OWNED"));
    assert_eq!(p.refs().lines().filter(|l| before.contains(l)).count(), 1);
    let named = p.publish(|r| r.to_branch = "feat/work".into()).await;
    assert_eq!(state(&named), (JobState::Done, ""));
    let taken = p.publish(|r| r.to_branch = "main/x".into()).await;
    assert_eq!(state(&taken), (JobState::Failed, "BRANCH_CONFLICT"));
}

#[tokio::test]
async fn a_refusal_keeps_the_words_of_the_host() {
    let p = Published::new().await;
    p.hook(
        "pre-receive",
        "echo 'error: GH006: Protected branch update failed for refs/heads/feat/work.'; exit 1",
    );
    let before = p.refs();
    let job = p.publish(|_| {}).await;
    assert_eq!(state(&job), (JobState::Failed, "BRANCH_PROTECTED"));
    assert!(job.branches[0].remote_message.starts_with("error: GH006: Protected branch update failed"));
    let condition = job.condition.unwrap();
    assert!(condition.message.contains("GH006") && !condition.next_action.is_empty(), "{condition:?}");
    assert_eq!((p.refs(), job.branches[0].state()), (before, JobBranchState::Refused));
}

#[tokio::test]
async fn a_second_job_on_the_branch_waits_for_the_first_and_a_cancel_lets_it_go_on() {
    let p = Published::new().await;
    let (first, second) = (p.started(|_| {}).await, p.started(|_| {}).await);
    let elsewhere = p.started(|r| r.to_branch = "elsewhere".into()).await;
    // The remote is away, so that the first one stays.
    let away = p.f.path().join("away.git");
    std::fs::rename(&p.remote, &away).unwrap();
    std::fs::write(&p.remote, "").unwrap();
    let waiting = async |id: &str| p.job(id).await.condition.unwrap().message;
    p.f.engine.run_until_idle().await.unwrap();
    assert_eq!(p.job(&first).await.state(), JobState::Failed);
    drop(elsewhere);
    std::fs::remove_file(&p.remote).unwrap();
    std::fs::rename(&away, &p.remote).unwrap();
    let (third, fourth) = (p.started(|_| {}).await, p.started(|_| {}).await);
    let cancel = CancelJobRequest { job_id: third.clone(), ..CancelJobRequest::default() };
    cancel_job(&p.f.cx, &p.f.member, cancel).await.unwrap();
    p.f.engine.run_until_idle().await.unwrap();
    assert_eq!(state(&p.job(&third).await), (JobState::Cancelled, "CANCELLED"));
    assert_eq!(p.job(&fourth).await.state(), JobState::Done);
    assert!(!waiting(&second).await.contains("comes first"));
}

#[tokio::test]
async fn a_queued_job_names_the_one_that_it_waits_for() {
    let p = Published::new().await;
    let (first, second) = (p.started(|_| {}).await, p.started(|_| {}).await);
    let id: JobId = second.parse().unwrap();
    let job = jobs::find(&p.f.cx.store, &id).await.unwrap().unwrap();
    assert_eq!(jobs::before(&p.f.cx.store, &job).await.unwrap().unwrap().as_str(), first);
    p.f.engine.run_until_idle().await.unwrap();
    assert_eq!(p.job(&second).await.state(), JobState::Done);
    assert_eq!(p.pushes(), 1);
}

#[tokio::test]
async fn a_push_that_arrived_before_a_cancel_is_the_tasks_own() {
    let p = Published::new().await;
    let id = p.started(|_| {}).await;
    // The hook ends the job while the push is on its way; the push itself arrives.
    let job = p.job(&id).await;
    let flow = foundry_flow::unfinished(&p.f.cx.store, &PUBLISH, &id).await.unwrap().remove(0);
    let mark = p.f.path().join("arrived");
    p.hook("post-receive", &format!("touch {}; sleep 1", mark.display()));
    let cancel = async {
        while !mark.exists() {
            tokio::task::yield_now().await;
        }
        let cancel = CancelJobRequest { job_id: job.job_id.clone(), ..CancelJobRequest::default() };
        cancel_job(&p.f.cx, &p.f.member, cancel).await.unwrap();
    };
    let (ran, ()) = futures::join!(p.f.engine.run_until_idle(), cancel);
    ran.unwrap();
    let ended = foundry_flow::find(&p.f.cx.store, &flow).await.unwrap().unwrap();
    if ended.status == Status::Cancelled {
        assert!(p.job(&id).await.condition.unwrap().message.contains("the remote may have"));
    }
    p.hook("post-receive", "cat >> pushes");
    p.hand_over(&[("more.txt", "more\n")]).await;
    let next = p.publish(|r| r.force = true).await;
    assert_eq!(state(&next), (JobState::Done, ""));
}

#[tokio::test]
async fn a_remote_that_cannot_be_reached_is_tried_again_visibly() {
    let mut p = Published::new().await;
    let cx = std::sync::Arc::get_mut(&mut p.f.cx);
    assert!(cx.is_none(), "the engine shares it");
    let mut ws = WriteSet::new();
    ws.update_where(
        &repositories::REPOSITORIES,
        &[("repository_id", p.repository.repository_id.as_str().into())],
        &[("url", "https://foundry-no-such-host.invalid/x".into())],
    );
    p.f.cx.store.commit(ws).await.unwrap();
    let job = p.publish(|_| {}).await;
    let condition = job.condition.clone().unwrap();
    assert_eq!(state(&job), (JobState::Running, "GIT_REMOTE_UNREACHABLE"));
    assert!(condition.next_attempt_time.is_some() && condition.max_attempts == 5, "{condition:?}");
    for _ in 0..5 {
        p.f.env.clock.advance(Duration::from_secs(61));
        p.f.engine.run_until_idle().await.unwrap();
    }
    assert_eq!(state(&p.job(&job.job_id).await), (JobState::Failed, "GIT_REMOTE_UNREACHABLE"));
}

#[tokio::test]
async fn a_push_whose_end_is_not_known_is_said_to_have_arrived_perhaps() {
    let p = Published::new().await;
    let job = p.publish(|_| {}).await;
    let job = jobs::find(&p.f.cx.store, &job.job_id.parse().unwrap()).await.unwrap().unwrap();
    let flow = foundry_flow::find(&p.f.cx.store, &job.flow_id).await.unwrap().unwrap();
    let said = |stage: &str, reason: &str| {
        let flow = FlowStatus { stage: stage.into(), reason: reason.into(), ..flow.clone() };
        let shown = condition(State::Failed, &flow);
        let is_open = shown.message.contains("the remote may have the new commit");
        assert_eq!(is_open, shown.next_action == PUBLISH_AGAIN);
        is_open
    };
    assert!(!said(PLANNING, "GIT_REMOTE_UNREACHABLE"));
    assert!(said(PUSHING, "GIT_REMOTE_UNREACHABLE"));
    assert!(!said(PUSHING, "BRANCH_PROTECTED") && !said(PUSHING, "REPOSITORY_CREDENTIALS_REFUSED"));
    assert!(said(RECORDING, "INTERNAL"));
}

#[tokio::test]
async fn strangers_neither_see_nor_start_nor_cancel_jobs_and_a_repeat_is_the_same_job() {
    let p = Published::new().await;
    let refused = publish_branch(&p.f.cx, &p.f.stranger, p.request(|_| {})).await.unwrap_err();
    assert_eq!(refused.code(), foundry_core::Code::NotFound);
    let request = p.request(|r| r.request_id = "one".into());
    let first = publish_branch(&p.f.cx, &p.f.member, request.clone()).await.unwrap();
    assert_eq!(publish_branch(&p.f.cx, &p.f.member, request).await.unwrap(), first);
    let job_id = first.job.unwrap().job_id;
    let get = get_job(&p.f.cx, &p.f.stranger, GetJobRequest { job_id: job_id.clone() }).await.unwrap_err();
    assert_eq!(get.code(), foundry_core::Code::NotFound);
    let cancel = CancelJobRequest { job_id, ..CancelJobRequest::default() };
    let cancel = cancel_job(&p.f.cx, &p.f.stranger, cancel).await.unwrap_err();
    assert_eq!(cancel.code(), foundry_core::Code::NotFound);
}

#[tokio::test]
async fn jobs_go_with_their_repository() {
    let p = Published::new().await;
    p.publish(|_| {}).await;
    let request = foundry_proto::repo::v1::DeleteRepositoryRequest {
        repository_id: p.repository.repository_id.clone(),
        ..Default::default()
    };
    crate::ops::delete_repository::delete_repository(&p.f.cx, &p.f.member, request).await.unwrap();
    p.f.engine.run_until_idle().await.unwrap();
    assert!(p.f.cx.store.query("SELECT job_id FROM jobs", &[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn nothing_is_pushed_from_a_repository_that_is_being_deleted() {
    let p = Published::new().await;
    let (id, before) = (p.started(|_| {}).await, p.refs());
    let mut ws = WriteSet::new();
    let repository = [("repository_id", p.repository.repository_id.as_str().into())];
    let deleting = repository::State::Deleting.as_str();
    ws.update_where(&repositories::REPOSITORIES, &repository, &[("state", deleting.into())]);
    p.f.cx.store.commit(ws).await.unwrap();
    p.f.engine.run_until_idle().await.unwrap();
    assert_eq!((state(&p.job(&id).await), p.refs()), ((JobState::Failed, "REPOSITORY_REMOVED"), before));
    let refused = publish_branch(&p.f.cx, &p.f.member, p.request(|_| {})).await.unwrap_err();
    assert_eq!(refused.reason(), "REPOSITORY_DELETING");
}

#[tokio::test]
async fn an_import_that_does_not_end_delays_a_job_only_for_a_while() {
    let p = Published::new().await;
    let mut ws = WriteSet::new();
    let rev = ws.scope(Scope::organization(&p.f.organization));
    let work = Work { state: work::State::Importing, ..p.work().await };
    works::save(&mut ws, rev, &work);
    p.f.cx.store.commit(ws).await.unwrap();
    let waits = p.publish(|_| {}).await;
    assert_eq!(state(&waits), (JobState::Queued, "WORK_IMPORTING"));
    p.f.env.clock.advance(IMPORT_WAIT);
    p.f.engine.run_until_idle().await.unwrap();
    let job = p.job(&waits.job_id).await;
    assert_eq!((state(&job), p.tip("feat/work")), ((JobState::Done, ""), job.branches[0].new_commit.clone()));
}

/// Keys of the changes of the watch after a revision, for the organization and for the repository; a `-` marks deleted ones.
async fn watched(p: &Published, after: i64) -> [Vec<String>; 2] {
    use foundry_watch_hub::View as _;
    let snapshot = p.f.cx.store.snapshot().await.unwrap();
    let repository = p.repository.repository_id.parse().unwrap();
    let mut all = Vec::new();
    for of in [None, Some(&repository)] {
        let view = crate::view::jobs::of(&p.f.organization, of);
        let found = view.changes_after(&snapshot, after, 100).await.unwrap();
        let name = |c: &foundry_watch::Change| {
            format!("{}{}", if c.op == foundry_watch::Op::Deleted { "-" } else { "" }, c.key)
        };
        all.push(found.changes.iter().map(name).collect());
    }
    all.try_into().unwrap()
}

#[tokio::test]
async fn the_watch_shows_each_change_of_a_job_and_its_removal() {
    let p = Published::new().await;
    let head = async || p.f.cx.store.head(&Scope::organization(&p.f.organization)).await.unwrap();
    let before = head().await;
    let id = p.started(|_| {}).await;
    let key = format!("job/{id}");
    assert_eq!(watched(&p, before).await, [vec![key.clone()], vec![key.clone()]]);
    let created = head().await;
    p.f.engine.run_until_idle().await.unwrap();
    assert_eq!(watched(&p, created).await, [vec![key.clone()], vec![key.clone()]]);
    let ended = head().await;
    let request = foundry_proto::repo::v1::DeleteRepositoryRequest {
        repository_id: p.repository.repository_id.clone(),
        ..Default::default()
    };
    crate::ops::delete_repository::delete_repository(&p.f.cx, &p.f.member, request).await.unwrap();
    p.f.engine.run_until_idle().await.unwrap();
    let gone = format!("-{key}");
    assert_eq!(watched(&p, ended).await, [vec![gone.clone()], vec![gone]]);
}

#[tokio::test]
async fn only_the_newest_jobs_of_a_repository_are_kept() {
    let p = Published::new().await;
    let first = p.publish(|r| r.plan_only = true).await;
    let id: JobId = first.job_id.parse().unwrap();
    let mut job = jobs::find(&p.f.cx.store, &id).await.unwrap().unwrap();
    for _ in 0..200 {
        let mut ws = WriteSet::new();
        let rev = ws.scope(Scope::organization(&p.f.organization));
        job.job_id = JobId::generate(&p.f.env.env);
        jobs::insert(&mut ws, rev, &job, &[]);
        p.f.cx.store.commit(ws).await.unwrap();
    }
    p.started(|_| {}).await;
    assert!(jobs::find(&p.f.cx.store, &id).await.unwrap().is_none());
}
