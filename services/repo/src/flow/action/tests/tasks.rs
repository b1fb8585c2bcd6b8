//! Branches that tasks have published.

use foundry_authn::Caller;
use foundry_core::TaskId;
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::PublishBranchRequest;
use foundry_proto::repo::v1::import_work_request::Part;

use super::*;
use crate::ops::import_work::import_work;
use crate::ops::publish_branch::publish_branch;
use crate::testing::stream;

async fn hand_over(s: &Stacked, task: &TaskId, files: &[(&str, &str)]) {
    let id = s.repository.clone();
    let repository = s.f.cx.repository(&s.f.member, &id, Role::Viewer).await.unwrap().to_proto();
    let parts = s.f.work(&repository, task, files);
    import_work(&s.f.cx, &Caller::service("provisioner"), stream(parts)).await.unwrap();
    s.f.engine.run_until_idle().await.unwrap();
}

async fn publish(s: &Stacked, task: &TaskId) -> Job {
    let request = PublishBranchRequest { task_id: task.to_string(), ..PublishBranchRequest::default() };
    let id = publish_branch(&s.f.cx, &s.f.member, request).await.unwrap().job.unwrap().job_id;
    s.f.engine.run_until_idle().await.unwrap();
    s.job(&id).await
}

#[tokio::test]
async fn later_work_of_a_task_is_published_onto_its_restacked_branch_and_takes_nothing_back() {
    let s = Stacked::of(1).await;
    let task = TaskId::generate(&s.f.env.env);
    hand_over(&s, &task, &[("a.txt", "a\n")]).await;
    assert_eq!(state(&publish(&s, &task).await), (JobState::Done, ""));
    s.main_moves();
    let job = s.run(JobKind::RebaseBranch, "feat/work").await;
    assert_eq!((state(&job), states(&job)), ((JobState::Done, ""), "feat/work=PUSHED".into()));
    let work = s.f.cx.work(&s.f.member, task.as_str(), Role::Viewer).await.unwrap();
    let publication = work.publication.unwrap();
    assert_eq!(publication.commit, s.tip("feat/work"));
    // By this the sandbox finds that nothing has changed there, and moves to what the branch has become.
    let mirror = s.f.cx.mirror_path(&s.repository.parse().unwrap());
    let tree = git(&mirror, &["rev-parse", &format!("{}^{{tree}}", publication.work_commit)]);
    assert_eq!(publication.work_tree, tree);
    // The agent goes on where it was, without what main has got.
    hand_over(&s, &task, &[("a.txt", "a\n"), ("b.txt", "b\n")]).await;
    for _ in 0..2 {
        let published = publish(&s, &task).await;
        assert_eq!(state(&published), (JobState::Done, ""), "{}", message(&published));
        assert_eq!(s.files("feat/work"), "README.md a.txt b.txt main.txt");
    }
    let before = s.tip("feat/work");
    hand_over(&s, &task, &[("a.txt", "a\n"), ("b.txt", "b\n"), ("main.txt", "other\n")]).await;
    let refused = publish(&s, &task).await;
    assert_eq!(
        (state(&refused), s.tip("feat/work")),
        ((JobState::Failed, "RESTACKED_WORK_CONFLICT"), before)
    );
    assert!(message(&refused).contains("main.txt"), "{}", message(&refused));
    // Undone, the publication is what it was.
    let undo = s.undo(&job).await;
    assert_eq!(state(&undo), (JobState::Failed, "BRANCH_MOVED"));
}

/// Hands over the commits of a task, made by a script at a commit, with what it started from; as on this branch of the remote
/// if there is one.
async fn bundled(s: &Stacked, task: &TaskId, (base, script): (&str, &str), on: Option<&str>) {
    s.sh(&format!(
        "git checkout -q --detach {base}; {script}
         git update-ref refs/foundry/work/{task} HEAD; git bundle create -q ../work.bundle ^{base} refs/foundry/work/{task}"
    ));
    let (head, bundle) = (s.sh("git rev-parse HEAD"), std::fs::read(s.f.path().join("work.bundle")).unwrap());
    let id = s.repository.clone();
    let repository = s.f.cx.repository(&s.f.member, &id, Role::Viewer).await.unwrap().to_proto();
    let mut parts = s.f.handed_over(&repository, task, base, &head, bundle);
    if let (Some(branch), Some(Part::Header(header))) = (on, &mut parts[0].part) {
        branch.clone_into(&mut header.branch);
        header.existing_branch = true;
    }
    import_work(&s.f.cx, &Caller::service("provisioner"), stream(parts)).await.unwrap();
    s.f.engine.run_until_idle().await.unwrap();
}

/// Hands over a commit of a task that works on a branch of the remote.
pub async fn hand_over_on(s: &Stacked, task: &TaskId, branch: &str) {
    let script = format!("echo own > own.txt; git add .; {C} -m own");
    bundled(s, task, (&s.tip(branch), &script), Some(branch)).await;
}

#[tokio::test]
async fn the_work_of_a_task_that_resolves_a_conflict_is_in_no_stack() {
    let s = Stacked::of(1).await;
    let task = TaskId::generate(&s.f.env.env);
    let base = s.tip("s1");
    let script = format!("echo r > resolved; git add .; {C} -m resolved");
    bundled(&s, &task, (&base, &script), None).await;
    let id = &s.repository;
    let shown = crate::store::branch_overviews::bases(&s.f.cx.store, &id.parse().unwrap()).await.unwrap();
    assert!(shown.values().any(|basis| basis.parent == "s1"), "the work stands on it: {shown:?}");
    s.main_moves();
    let before = s.refs();
    let job = s.run(JobKind::RestackRepo, "").await;
    // A branch that stands alone on the default branch is no stack.
    assert_eq!((state(&job), states(&job), s.refs()), ((JobState::Done, ""), String::new(), before));
}

#[tokio::test]
async fn the_work_of_a_task_on_an_existing_branch_is_published_onto_its_restacked_commits() {
    let s = Stacked::of(2).await;
    let task = TaskId::generate(&s.f.env.env);
    hand_over_on(&s, &task, "s1").await;
    // Twice: the second one finds the commits of the first.
    for _ in 0..2 {
        s.sh(&format!("git checkout -q main; date +%N >> main.txt; echo $$ >> main.txt; git add .; {C} -m moves; git push -q origin main"));
        let job = s.run(JobKind::RestackRepo, "").await;
        assert_eq!((state(&job), states(&job)), ((JobState::Done, ""), "s1=PUSHED s2=PUSHED".into()));
    }
    let restacked = s.tip("s1");
    let published = publish(&s, &task).await;
    assert_eq!(state(&published), (JobState::Done, ""), "{}", message(&published));
    assert_eq!(s.files("s1"), "README.md main.txt own.txt s1");
    assert_eq!(git(&s.remote, &["rev-parse", "s1^@"]), restacked, "one commit on what the restack has made");
    assert!(!published.branches[0].rewrites);
}

#[tokio::test]
async fn a_push_after_the_restack_is_not_taken_for_it() {
    let s = Stacked::of(2).await;
    let task = TaskId::generate(&s.f.env.env);
    hand_over_on(&s, &task, "s1").await;
    s.main_moves();
    assert_eq!(state(&s.run(JobKind::RestackRepo, "").await), (JobState::Done, ""));
    s.sh(&format!(
        "git fetch -q; git checkout -q -B s1 origin/s1; {C} --allow-empty -m theirs; git push -q origin s1"
    ));
    s.refresh().await;
    let theirs = s.tip("s1");
    let refused = publish(&s, &task).await;
    assert_eq!((state(&refused), s.tip("s1")), ((JobState::Failed, "PUBLISH_NEEDS_FORCE"), theirs));
}
