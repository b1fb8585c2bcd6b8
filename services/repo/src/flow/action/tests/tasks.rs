//! Branches that tasks have published.

use foundry_authn::Caller;
use foundry_core::TaskId;
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::PublishBranchRequest;

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

#[tokio::test]
async fn the_work_of_a_task_that_resolves_a_conflict_is_in_no_stack() {
    let s = Stacked::of(1).await;
    let task = TaskId::generate(&s.f.env.env);
    let base = s.tip("s1");
    s.sh(&format!(
        "git checkout -q --detach {base}; echo r > resolved; git add .; {C} -m resolved
         git update-ref refs/foundry/work/{task} HEAD; git bundle create -q ../work.bundle ^{base} refs/foundry/work/{task}"
    ));
    let (head, bundle) = (s.sh("git rev-parse HEAD"), std::fs::read(s.f.path().join("work.bundle")).unwrap());
    let id = s.repository.clone();
    let repository = s.f.cx.repository(&s.f.member, &id, Role::Viewer).await.unwrap().to_proto();
    let parts = s.f.handed_over(&repository, &task, &base, &head, bundle);
    import_work(&s.f.cx, &Caller::service("provisioner"), stream(parts)).await.unwrap();
    s.f.engine.run_until_idle().await.unwrap();
    let shown = crate::store::branch_overviews::bases(&s.f.cx.store, &id.parse().unwrap()).await.unwrap();
    assert!(shown.values().any(|basis| basis.parent == "s1"), "the work stands on it: {shown:?}");
    s.main_moves();
    let before = s.refs();
    let job = s.run(JobKind::RestackRepo, "").await;
    // A branch that stands alone on the default branch is no stack.
    assert_eq!((state(&job), states(&job), s.refs()), ((JobState::Done, ""), String::new(), before));
}
