//! Works of tasks on branches that the remote has.

use foundry_proto::repo::v1::import_work_request::Part;
use foundry_proto::repo::v1::{
    BranchOverview, GetCloneSourceRequest, GetCloneSourceResponse, GetRepositoryOverviewRequest, Job,
    ReleaseCloneRequest,
};

use super::*;
use crate::ops::get_clone_source::get_clone_source;
use crate::ops::get_repository_overview::get_repository_overview;
use crate::ops::release_clone::release_clone;

/// A remote with a branch `feature-x`, one commit ahead of main.
async fn published() -> Published {
    let p = Box::pin(Published::new()).await;
    p.somebody_pushes("feature-x");
    p.refresh().await;
    p
}

/// Hands over a commit of the task on a branch of the remote that it works on, with what somebody has pushed there since its
/// base if `pulls`.
async fn works_on(p: &Published, branch: &str, base: &str, pulls: bool) -> String {
    let tree = tempfile::tempdir_in(p.f.path()).unwrap();
    git(tree.path(), &["clone", "-q", p.remote.to_str().unwrap(), "."]);
    let start = if pulls { format!("origin/{branch}") } else { base.to_owned() };
    git(tree.path(), &["checkout", "-q", "-B", "work", &start]);
    std::fs::write(tree.path().join("own.txt"), "own\n").unwrap();
    git(tree.path(), &["add", "-A"]);
    git(tree.path(), &["commit", "-q", "-m", "own"]);
    let head = git(tree.path(), &["rev-parse", "HEAD"]);
    let name = format!("refs/foundry/work/{}", p.task);
    git(tree.path(), &["update-ref", &name, &head]);
    git(tree.path(), &["bundle", "create", "-q", "work.bundle", &format!("^{base}"), &name]);
    let bundle = std::fs::read(tree.path().join("work.bundle")).unwrap();
    let mut parts = p.f.handed_over(&p.repository, &p.task, base, &head, bundle);
    let Some(Part::Header(header)) = &mut parts[0].part else { panic!("no header") };
    header.branch = branch.to_owned();
    header.existing_branch = true;
    import_work(&p.f.cx, &Caller::service("provisioner"), stream(parts)).await.unwrap();
    p.f.engine.run_until_idle().await.unwrap();
    head
}

fn reason(job: &Job) -> &str {
    job.condition.as_ref().map_or("", |c| c.reason.as_str())
}

#[tokio::test]
async fn the_work_goes_to_its_branch_unnamed_and_unforced() {
    let p = published().await;
    let base = p.tip("feature-x");
    let head = works_on(&p, "feature-x", &base, false).await;
    assert_eq!(p.work().await.files_changed, 1, "only what is new since the tip of the branch");
    let job = p.publish(|_| {}).await;
    assert_eq!(state(&job), (JobState::Done, ""));
    assert_eq!((job.branches[0].branch.as_str(), job.branches[0].rewrites), ("feature-x", false));
    assert_eq!(p.tip("feature-x"), head);
    // As a single commit it stands on the tip, not on what the branch was made from.
    let p = published().await;
    let base = p.tip("feature-x");
    works_on(&p, "feature-x", &base, false).await;
    assert_eq!(state(&p.publish(|r| r.squash = true).await), (JobState::Done, ""));
    assert_eq!(git(&p.remote, &["rev-parse", "feature-x~1"]), base);
}

#[tokio::test]
async fn what_somebody_pushed_to_the_branch_is_never_replaced_unasked() {
    let p = published().await;
    let base = p.tip("feature-x");
    works_on(&p, "feature-x", &base, false).await;
    let theirs = p.somebody_pushes("feature-x");
    let job = p.publish(|_| {}).await;
    assert_eq!(state(&job), (JobState::Failed, "BRANCH_MOVED"));
    assert!(job.condition.as_ref().unwrap().message.contains(&theirs), "{job:?}");
    // The background synchronization has seen the push; the requester has not.
    p.refresh().await;
    assert_eq!(reason(&p.publish(|_| {}).await), "PUBLISH_NEEDS_FORCE");
    assert_eq!(reason(&p.publish(|r| r.force = true).await), "BRANCH_MOVED");
    assert_eq!(p.tip("feature-x"), theirs);
    // Once the agent has pulled, it is a fast-forward.
    let head = works_on(&p, "feature-x", &base, true).await;
    assert_eq!(state(&p.publish(|_| {}).await), (JobState::Done, ""));
    assert_eq!(p.tip("feature-x"), head);
}

#[tokio::test]
async fn a_branch_that_was_deleted_is_not_made_again_unasked() {
    let p = published().await;
    let base = p.tip("feature-x");
    works_on(&p, "feature-x", &base, false).await;
    git(&p.remote, &["branch", "-D", "feature-x"]);
    for _ in 0..2 {
        let job = p.publish(|_| {}).await;
        assert_eq!(state(&job), (JobState::Failed, "BRANCH_DELETED"));
        p.refresh().await;
    }
    assert_eq!(state(&p.publish(|r| r.force = true).await), (JobState::Done, ""));
}

#[tokio::test]
async fn the_default_branch_gets_the_work_of_a_task_on_it_if_its_host_agrees() {
    let p = published().await;
    let base = p.tip("main");
    let head = works_on(&p, "main", &base, false).await;
    p.hook("update", "echo 'GH006: Protected branch update failed' >&2; exit 1");
    let job = p.publish(|_| {}).await;
    assert_eq!(state(&job), (JobState::Failed, "BRANCH_PROTECTED"));
    assert!(job.branches[0].remote_message.contains("GH006"), "{job:?}");
    std::fs::remove_file(p.remote.join("hooks/update")).unwrap();
    // Commits of it are never replaced.
    let theirs = p.somebody_pushes("main");
    p.refresh().await;
    let forced = p.publish(|r| (r.force, r.expected_commit) = (true, theirs.clone())).await;
    assert_eq!(state(&forced), (JobState::Failed, "DEFAULT_BRANCH_REFUSED"));
    git(&p.remote, &["update-ref", "refs/heads/main", &base]);
    p.refresh().await;
    assert_eq!(state(&p.publish(|_| {}).await), (JobState::Done, ""));
    assert_eq!(p.tip("main"), head);
    // No other branch of the task's choice is the default one.
    let named = p.request(|r| r.to_branch = "feature-x".to_owned());
    assert!(publish_branch(&p.f.cx, &p.f.member, named).await.is_ok());
}

async fn source(
    p: &Published,
    sandbox: &foundry_core::SandboxId,
    branch: &str,
) -> Result<GetCloneSourceResponse> {
    let request = GetCloneSourceRequest {
        organization_id: p.f.organization.to_string(),
        repository_id: p.repository.repository_id.clone(),
        task_id: p.task.to_string(),
        sandbox_id: sandbox.to_string(),
        branch: branch.to_owned(),
        base_branch: branch.to_owned(),
        branch_chosen: true,
        existing_branch: true,
    };
    let first = get_clone_source(&p.f.cx, &Caller::service("provisioner"), request.clone()).await;
    assert_eq!(first.unwrap_err().reason(), "BASE_BEING_FETCHED");
    p.f.engine.run_until_idle().await.unwrap();
    get_clone_source(&p.f.cx, &Caller::service("provisioner"), request).await
}

async fn owner(p: &Published, branch: &str) -> String {
    overview(p, branch).await.task_id
}

async fn overview(p: &Published, branch: &str) -> BranchOverview {
    p.f.engine.run_until_idle().await.unwrap();
    let request = GetRepositoryOverviewRequest {
        repository_id: p.repository.repository_id.clone(),
        ..GetRepositoryOverviewRequest::default()
    };
    let overview = get_repository_overview(&p.f.cx, &p.f.member, request).await.unwrap();
    overview.branches.into_iter().find(|b| b.name == branch).unwrap()
}

#[tokio::test]
async fn a_task_starts_at_the_newest_tip_of_its_branch_and_is_shown_as_the_owner() {
    let f = Fixture::new().await;
    let url = f.path().join("remote.git").to_str().unwrap().to_owned();
    let mut p = Published::at(f, url).await;
    p.task = TaskId::generate(&p.f.env.env);
    p.somebody_pushes("feature-x");
    p.refresh().await;
    p.f.in_the_background().await;
    assert_eq!(owner(&p, "feature-x").await, "");
    let pushed_since = p.somebody_pushes("feature-x");
    p.f.env.clock.advance(Duration::from_secs(60));
    let sandbox = foundry_core::SandboxId::generate(&p.f.env.env);
    let from = source(&p, &sandbox, "feature-x").await.unwrap();
    assert_eq!((from.base_commit.as_str(), from.work_commit.as_str()), (pushed_since.as_str(), ""));
    assert!(from.base.unwrap().notices.is_empty(), "the branch is no conflict with itself");
    assert_eq!(owner(&p, "feature-x").await, p.task.to_string());
    // What the branch had before is merged; of the task itself, nothing is published.
    git(&p.remote, &["update-ref", "refs/heads/main", &pushed_since]);
    p.refresh().await;
    p.f.in_the_background().await;
    let shown = overview(&p, "feature-x").await;
    assert_eq!((shown.merged, shown.unpublished), (false, true));
    let request = ReleaseCloneRequest { sandbox_id: sandbox.to_string() };
    release_clone(&p.f.cx, &Caller::service("provisioner"), request).await.unwrap();
    let shown = overview(&p, "feature-x").await;
    assert_eq!((shown.task_id.as_str(), shown.merged, shown.unpublished), ("", true, false));
    // One that is gone by the time of its start.
    git(&p.remote, &["branch", "-D", "feature-x"]);
    p.f.env.clock.advance(Duration::from_secs(60));
    let sandbox = foundry_core::SandboxId::generate(&p.f.env.env);
    assert_eq!(source(&p, &sandbox, "feature-x").await.unwrap_err().reason(), "BRANCH_NOT_FOUND");
}

#[tokio::test]
async fn the_branch_of_another_open_task_is_pushed_to_only_by_force() {
    let p = published().await;
    let (other, sandbox) = (TaskId::generate(&p.f.env.env), foundry_core::SandboxId::generate(&p.f.env.env));
    let repository = p.repository.repository_id.parse().unwrap();
    let repository = crate::store::repositories::find(&p.f.cx.store, &repository).await.unwrap().unwrap();
    let to = |r: &mut PublishBranchRequest| r.to_branch = "feature-x".to_owned();
    let late = p.started(to).await;
    let mut ws = WriteSet::new();
    crate::store::clones::hold(&mut ws, (&sandbox, &other), &repository, ("", "feature-x"));
    p.f.cx.store.commit(ws).await.unwrap();
    let refused = publish_branch(&p.f.cx, &p.f.member, p.request(to)).await.unwrap_err();
    assert_eq!(
        (refused.reason(), refused.code()),
        ("BRANCH_HAS_TASK", foundry_core::Code::FailedPrecondition)
    );
    assert!(refused.message().contains(other.as_str()), "{}", refused.message());
    // The other task came after the request.
    p.f.engine.run_until_idle().await.unwrap();
    let late = p.job(&late).await;
    assert_eq!(state(&late), (JobState::Failed, "BRANCH_HAS_TASK"));
    assert!(late.condition.unwrap().message.contains(other.as_str()));
    // A plan says so, also of a branch that the remote does not have.
    let (second, free) = (foundry_core::SandboxId::generate(&p.f.env.env), "feat/free");
    let mut ws = WriteSet::new();
    crate::store::clones::hold(&mut ws, (&second, &other), &repository, ("", free));
    p.f.cx.store.commit(ws).await.unwrap();
    let plan = p.publish(|r| (r.to_branch, r.plan_only) = (free.to_owned(), true)).await;
    let refusals: Vec<&str> = plan.branches[0].refusals.iter().map(|c| c.reason.as_str()).collect();
    assert_eq!((state(&plan), refusals), ((JobState::Done, ""), vec!["BRANCH_HAS_TASK"]));
    let seen = p.tip("feature-x");
    let forced = |r: &mut PublishBranchRequest| {
        to(r);
        (r.force, r.expected_commit) = (true, seen.clone());
    };
    assert_eq!(state(&p.publish(forced).await), (JobState::Done, ""));
    // Once its sandbox is destroyed, the task does not count any more.
    let request = ReleaseCloneRequest { sandbox_id: sandbox.to_string() };
    release_clone(&p.f.cx, &Caller::service("provisioner"), request).await.unwrap();
    assert_eq!(state(&p.publish(to).await), (JobState::Done, ""));
}

#[tokio::test]
async fn after_its_branch_was_made_again_only_what_the_task_has_changed_counts_as_its_own() {
    let p = Box::pin(Published::new()).await;
    let tree = tempfile::tempdir_in(p.f.path()).unwrap();
    git(tree.path(), &["clone", "-q", p.remote.to_str().unwrap(), "."]);
    git(tree.path(), &["checkout", "-q", "-b", "feature-x"]);
    let pushed = |shared: &str| {
        std::fs::write(tree.path().join("shared.txt"), shared).unwrap();
        std::fs::write(tree.path().join("other.txt"), "other\n").unwrap();
        git(tree.path(), &["add", "-A"]);
        git(tree.path(), &["commit", "-q", "-m", "theirs"]);
        git(tree.path(), &["push", "-q", "-f", "origin", "feature-x"]);
    };
    pushed("one\n");
    p.refresh().await;
    let base = p.tip("feature-x");
    // What a sandbox started from is kept.
    let mirror = p.f.cx.mirror_path(&p.repository.repository_id.parse().unwrap());
    git(&mirror, &["update-ref", "refs/foundry/base/test", &base]);
    // As after a restack onto a parent that was changed: no merge of both is without conflicts.
    git(tree.path(), &["reset", "-q", "--hard", "HEAD~1"]);
    pushed("two\n");
    p.refresh().await;
    let again = p.tip("feature-x");
    works_on(&p, "feature-x", &base, true).await;
    let work = p.work().await;
    let merged: Vec<_> = work.merged_from.iter().map(|m| (m.branch.as_str(), m.commit.as_str())).collect();
    assert_eq!((work.files_changed, merged), (1, vec![("feature-x", again.as_str())]));
    let request =
        foundry_proto::repo::v1::StreamWorkPatchRequest { task_id: p.task.to_string(), ..Default::default() };
    let patch =
        crate::ops::stream_work_patch::stream_work_patch(&p.f.cx, &p.f.member, request).await.unwrap();
    let parts: Vec<_> = futures::TryStreamExt::try_collect(patch).await.unwrap();
    let bytes: Vec<u8> = parts
        .into_iter()
        .filter_map(|part: foundry_proto::repo::v1::StreamWorkPatchResponse| match part.part? {
            foundry_proto::repo::v1::stream_work_patch_response::Part::Chunk(chunk) => Some(chunk.to_vec()),
            _ => None,
        })
        .flatten()
        .collect();
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.contains("own.txt") && !text.contains("shared.txt"), "{text}");
    // Once the branch has gone on without the task, that stays so.
    p.somebody_pushes("feature-x");
    p.refresh().await;
    let tip = p.tip("feature-x");
    git(&p.remote, &["update-ref", "refs/heads/feature-x", &again]);
    works_on(&p, "feature-x", &base, true).await;
    git(&p.remote, &["update-ref", "refs/heads/feature-x", &tip]);
    assert_eq!(p.work().await.files_changed, 1);
}

#[tokio::test]
async fn a_task_whose_published_work_was_replaced_by_that_of_another_one_says_so() {
    let mut p = Box::pin(Published::new()).await;
    let first = p.task.clone();
    assert_eq!(state(&p.publish(|_| {}).await), (JobState::Done, ""));
    let second = TaskId::generate(&p.f.env.env);
    p.task = second.clone();
    p.hand_over(&[("b.txt", "b\n")]).await;
    let tip = p.tip("feat/work");
    let to = |r: &mut PublishBranchRequest| {
        (r.force, r.to_branch, r.expected_commit) = (true, "feat/work".to_owned(), tip.clone());
    };
    let job = p.publish(to).await;
    assert_eq!((state(&job), job.branches[0].rewrites), ((JobState::Done, ""), true));
    let request =
        foundry_proto::repo::v1::UndoJobRequest { job_id: job.job_id.clone(), ..Default::default() };
    let refused = crate::ops::undo_job::undo_job(&p.f.cx, &p.f.member, request).await.unwrap_err();
    let next = format!("`foundry task fetch {second} --replaced {}`", job.job_id);
    assert!(format!("{refused:?}").contains(&next), "{refused:?}");
    let replaced = async |p: &Published, task: &TaskId| {
        let work = works::find(&p.f.cx.store, task).await.unwrap().unwrap();
        let kept = publications::find(&p.f.cx.store, &work, "feat/work").await.unwrap().unwrap();
        let newest = work.publication.unwrap();
        assert_eq!(newest.replaced_by, kept.replaced_by);
        newest.replaced_by
    };
    assert_eq!(replaced(&p, &first).await, second.as_str());
    assert_eq!(replaced(&p, &second).await, "");
    // The first one takes the branch back.
    p.task = first.clone();
    let tip = p.tip("feat/work");
    let job = p.publish(|r| (r.force, r.expected_commit) = (true, tip)).await;
    assert_eq!(state(&job), (JobState::Done, ""));
    assert_eq!((replaced(&p, &first).await, replaced(&p, &second).await), (String::new(), first.to_string()));
}

#[tokio::test]
async fn what_somebody_else_has_taken_from_a_branch_is_not_said_to_be_replaced_by_the_next_task() {
    let mut p = Box::pin(Published::new()).await;
    let first = p.task.clone();
    assert_eq!(state(&p.publish(|_| {}).await), (JobState::Done, ""));
    // Somebody brings the branch back to another commit on top of main.
    let again = git(&p.remote, &["commit-tree", "-p", "main", "-m", "theirs", "main^{tree}"]);
    git(&p.remote, &["update-ref", "refs/heads/feat/work", &again]);
    p.refresh().await;
    p.task = TaskId::generate(&p.f.env.env);
    p.hand_over(&[("b.txt", "b\n")]).await;
    let to = |r: &mut PublishBranchRequest| {
        (r.force, r.to_branch, r.expected_commit) = (true, "feat/work".to_owned(), again.clone());
    };
    let job = p.publish(to).await;
    assert_eq!((state(&job), job.branches[0].rewrites), ((JobState::Done, ""), true));
    let work = works::find(&p.f.cx.store, &first).await.unwrap().unwrap();
    assert_eq!(work.publication.unwrap().replaced_by, "");
}
