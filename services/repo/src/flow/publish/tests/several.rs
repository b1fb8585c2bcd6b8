//! What is remembered of publications to several branches, and what stops one.

use foundry_proto::common::v1::{WorkNotice, WorkNoticeKind};

use super::*;
use crate::store::publications::PUBLICATIONS;

/// Writes the work otherwise than its flows would.
async fn change(p: &Published, change: impl FnOnce(&mut Work)) {
    let mut work = p.work().await;
    change(&mut work);
    let mut ws = WriteSet::new();
    let rev = ws.scope(Scope::organization(&p.f.organization));
    works::save(&mut ws, rev, &work);
    p.f.cx.store.commit(ws).await.unwrap();
}

async fn forget_publications(p: &Published) {
    let mut ws = WriteSet::new();
    ws.delete_where(&PUBLICATIONS, &[("task_id", p.task.as_str().into())]);
    p.f.cx.store.commit(ws).await.unwrap();
}

#[tokio::test]
async fn what_a_task_has_published_is_known_of_each_branch() {
    for by_an_older_binary in [false, true] {
        let p = Published::new().await;
        p.publish(|_| {}).await;
        if by_an_older_binary {
            forget_publications(&p).await;
        }
        let second = p.publish(|r| r.to_branch = "feat/second".into()).await;
        assert_eq!(state(&second), (JobState::Done, ""));
        assert_eq!(p.work().await.publication.unwrap().branch, "feat/second");
        // The first is still the task's own.
        p.somebody_pushes("feat/work");
        p.refresh().await;
        assert_eq!(state(&p.publish(|_| {}).await), (JobState::Failed, "PUBLISH_NEEDS_FORCE"));
        git(&p.remote, &["update-ref", "-d", "refs/heads/feat/work"]);
        for known in [false, true] {
            if known {
                p.refresh().await;
            }
            assert_eq!(state(&p.publish(|_| {}).await), (JobState::Failed, "BRANCH_DELETED"));
        }
        assert_eq!(state(&p.publish(|r| r.force = true).await), (JobState::Done, ""));
    }
}

#[tokio::test]
async fn a_plan_of_a_forced_push_names_what_is_lost_and_keeps_nothing() {
    let p = Published::new().await;
    let first = p.publish(|_| {}).await.branches[0].new_commit.clone();
    // The fixture makes another commit on the base: the agent has rewritten its history.
    p.hand_over(&[("b.txt", "b\n")]).await;
    let plan = p.publish(|r| (r.force, r.plan_only) = (true, true)).await;
    let [lost] = plan.branches[0].lost_commits.as_slice() else { panic!("{plan:?}") };
    assert_eq!((&lost.commit, plan.branches[0].lost_count), (&first, 1));
    let mirror = p.f.cx.mirror_path(&p.work().await.repository_id);
    assert_eq!(git(&mirror, &["for-each-ref", "refs/foundry/replaced"]), "", "a plan replaces nothing");
}

#[tokio::test]
async fn a_single_commit_that_was_not_made_is_not_remembered_as_one() {
    let p = Published::new().await;
    p.publish(|_| {}).await;
    let nothing = p.publish(|r| r.squash = true).await;
    assert!(nothing.branches[0].note.contains("stay as they are"), "{nothing:?}");
    assert!(!nothing.branches[0].single_commit && !p.work().await.publication.unwrap().squash);
    let next = p.publish(|_| {}).await;
    assert_eq!(next.branches[0].note, "");
    // One that was made, and whose record was lost, is one.
    let forced = p.publish(|r| (r.squash, r.force) = (true, true)).await;
    assert!(forced.branches[0].single_commit && forced.branches[0].rewrites, "{forced:?}");
    forget_publications(&p).await;
    change(&p, |work| work.publication = None).await;
    let again = p.publish(|r| r.squash = true).await;
    assert_eq!((again.branches[0].note.as_str(), again.branches[0].single_commit), ("", true));
    assert!(p.work().await.publication.unwrap().squash);
}

#[tokio::test]
async fn conflict_markers_are_pushed_neither_by_force_nor_by_a_job_that_was_there_before_them() {
    let p = Published::new().await;
    let waiting = p.started(|r| r.force = true).await;
    let stopped = WorkNotice {
        kind: WorkNoticeKind::Operation.into(),
        count: 1,
        detail: "rebase".to_owned(),
        ..WorkNotice::default()
    };
    change(&p, |work| work.notices = vec![stopped]).await;
    p.f.engine.run_until_idle().await.unwrap();
    assert_eq!(state(&p.job(&waiting).await), (JobState::Failed, "WORK_IN_CONFLICT"));
    let request = p.request(|r| r.force = true);
    let refused = publish_branch(&p.f.cx, &p.f.member, request).await.unwrap_err();
    assert_eq!((refused.reason(), p.pushes()), ("WORK_IN_CONFLICT", 0));
    let plan = p.publish(|r| r.plan_only = true).await;
    assert_eq!(state(&plan), (JobState::Done, ""));
    let [refusal] = plan.branches[0].refusals.as_slice() else { panic!("{plan:?}") };
    assert_eq!(refusal.reason, "WORK_IN_CONFLICT");
    assert!(refusal.next_action.contains("--conflicts"), "{refusal:?}");
    let plan = p.publish(|r| (r.plan_only, r.allow_conflicts) = (true, true)).await;
    assert!(plan.branches[0].refusals.is_empty(), "{plan:?}");
    let allowed = p.publish(|r| r.allow_conflicts = true).await;
    assert_eq!((state(&allowed), p.pushes()), ((JobState::Done, ""), 1));
}
