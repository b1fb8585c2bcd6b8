//! What a plan leaves out, what a run takes over from it, and what it waits for.

use std::time::Duration;

use foundry_store::WriteSet;

use foundry_core::TaskId;

use super::tasks::hand_over_on;
use super::turns::at;
use super::*;
use crate::store::branch_overviews::BRANCH_OVERVIEWS;
use crate::store::repositories::REPOSITORIES;

fn tips(job: &Job) -> Vec<&str> {
    job.branches.iter().map(|b| b.new_commit.as_str()).collect()
}

#[tokio::test]
async fn a_run_of_a_plan_pushes_the_very_commits_that_the_plan_has_shown() {
    let s = Stacked::of(3).await;
    s.main_moves();
    let plan = RunRepositoryActionRequest { plan_only: true, ..s.request(JobKind::RestackRepo, "") };
    let plan = s.run_request(plan).await;
    assert_eq!(states(&plan), "s1=PLANNED s2=PLANNED s3=PLANNED");
    s.f.env.clock.advance(Duration::from_secs(3));
    // What has nothing to do with the plan does not outdate it.
    s.sh(&format!("git checkout -q -b other main; {C} --allow-empty -m other; git push -q origin other"));
    let run = |name: &str| RunRepositoryActionRequest {
        plan_job_id: plan.job_id.clone(),
        committer_name: name.to_owned(),
        ..s.request(JobKind::RestackRepo, "")
    };
    let before = s.refs();
    let done = s.run_request(run("Grace")).await;
    assert_eq!((state(&done), tips(&done)), ((JobState::Done, ""), tips(&plan)), "{}", message(&done));
    assert_eq!(s.tip("s3"), plan.branches[2].new_commit);
    // Somebody else makes commits of their own.
    assert_eq!(state(&s.undo(&done).await), (JobState::Done, ""));
    assert_eq!(s.refs(), before);
    let done = s.run_request(run("Ada")).await;
    assert_eq!(state(&done), (JobState::Done, ""), "{}", message(&done));
    assert!(s.is_stack(&["main", "s1", "s2", "s3"]) && tips(&done) != tips(&plan));
    assert_eq!(git(&s.remote, &["log", "-1", "--format=%cn", "s3"]), "Ada");
}

#[tokio::test]
async fn a_plan_that_is_recorded_branch_by_branch_ends_as_one_that_is_not() {
    let mut f = Fixture::new().await;
    f.recording_each_branch().await;
    let url = f.path().join("remote.git").to_str().unwrap().to_owned();
    let s = Stacked::at(f, url, 4).await;
    s.squash_merge("s1");
    let job = s.run(JobKind::RestackRepo, "").await;
    assert_eq!(state(&job), (JobState::Done, ""), "{}", message(&job));
    assert_eq!(states(&job), "s1=SKIPPED s2=PUSHED s3=PUSHED s4=PUSHED");
    assert!(s.is_stack(&["main", "s2", "s3", "s4"]));
    for branch in &job.branches {
        assert_eq!(s.kept(&job, branch), branch.old_commit);
    }
}

#[tokio::test]
async fn half_an_hour_bounds_all_attempts_of_a_plan_also_those_that_fail() {
    let s = Stacked::of(1).await;
    s.main_moves();
    at(&s, "https://foundry-no-such-host.invalid/x").await;
    let id = s.begin(s.request(JobKind::RestackSubtree, "s1")).await;
    s.f.engine.run_until_idle().await.unwrap();
    assert_eq!(state(&s.job(&id).await).0, JobState::Running);
    at(&s, s.remote.to_str().unwrap()).await;
    s.f.env.clock.advance(Duration::from_secs(31 * 60));
    s.f.engine.run_until_idle().await.unwrap();
    let job = s.job(&id).await;
    assert_eq!(state(&job), (JobState::Failed, "PLAN_TOO_LARGE"), "{}", message(&job));
}

#[tokio::test]
async fn a_long_lived_branch_with_merges_stays_as_it_is_unless_it_is_named() {
    let s = Stacked::of(1).await;
    s.sh(&format!(
        "git checkout -q -b develop main; echo d > d; git add .; {C} -m d1; git checkout -q -b side; echo e > e; git add .; {C} -m side
         git checkout -q develop; {C} --allow-empty -m d2; git merge -q --no-ff --no-edit side
         git checkout -q -b feature; echo f > f; git add .; {C} -m feature; git push -q origin develop feature"
    ));
    s.refresh().await;
    // That a task works on it, and another one has published to it, does not make it a task's.
    let task = TaskId::generate(&s.f.env.env);
    hand_over_on(&s, &task, "develop").await;
    s.sh(&format!("git checkout -q develop; echo more >> d; {C} -a -m d3; git push -q origin develop"));
    s.main_moves();
    let develop = s.tip("develop");
    let job = s.run(JobKind::RestackRepo, "").await;
    assert_eq!(state(&job), (JobState::Done, ""), "{}", message(&job));
    assert_eq!(states(&job), "develop=SKIPPED feature=PUSHED");
    assert!(job.branches[0].note.contains("1 merge commit"), "{}", job.branches[0].note);
    assert_eq!((s.tip("develop"), s.own("feature", "develop")), (develop, "feature".into()));
    let named = s.run(JobKind::RestackSubtree, "develop").await;
    assert_eq!(states(&named), "develop=PUSHED feature=PUSHED", "{}", message(&named));
    assert_eq!(git(&s.remote, &["rev-list", "--count", "--merges", "main..feature"]), "0");
}

/// As the repository is right after it was registered: the branches are known, and the stacks are not.
async fn without_overview(s: &Stacked) {
    let mut ws = WriteSet::new();
    let key = [("repository_id", s.repository.as_str().into())];
    ws.update_where(&REPOSITORIES, &key, &[("overview_time", 0.into())]);
    ws.delete_where(&BRANCH_OVERVIEWS, &key);
    s.f.cx.store.commit(ws).await.unwrap();
}

#[tokio::test]
async fn a_restack_right_after_the_repository_was_added_waits_for_the_first_overview() {
    let s = Stacked::of(2).await;
    s.main_moves();
    without_overview(&s).await;
    let id = s.begin(s.request(JobKind::RestackRepo, "")).await;
    s.f.engine.run_until_idle().await.unwrap();
    let waiting = s.job(&id).await;
    assert_eq!(state(&waiting), (JobState::Queued, "OVERVIEW_PENDING"));
    assert_eq!(waiting.condition.unwrap().waiting_on, "the first overview");
    let mut ws = WriteSet::new();
    crate::flow::overview::want(&s.f.cx, &mut ws, &s.repository.parse().unwrap());
    s.f.cx.store.commit(ws).await.unwrap();
    s.f.in_the_background().await;
    let job = s.job(&id).await;
    assert_eq!((state(&job), states(&job)), ((JobState::Done, ""), "s1=PUSHED s2=PUSHED".into()));
}

#[tokio::test]
async fn later_jobs_wait_for_one_whose_branches_are_not_known_yet() {
    let s = Stacked::of(2).await;
    s.main_moves();
    without_overview(&s).await;
    let first = s.begin(s.request(JobKind::RestackRepo, "")).await;
    s.f.engine.run_until_idle().await.unwrap();
    assert_eq!(state(&s.job(&first).await), (JobState::Queued, "OVERVIEW_PENDING"));
    // From now on the stacks are known, and the first job has not looked again.
    let mut ws = WriteSet::new();
    let key = [("repository_id", s.repository.as_str().into())];
    ws.update_where(&REPOSITORIES, &key, &[("overview_time", s.f.env.env.clock.now().into())]);
    s.f.cx.store.commit(ws).await.unwrap();
    let second = s.begin(s.request(JobKind::RebaseBranch, "s2")).await;
    s.f.engine.run_until_idle().await.unwrap();
    let queued = s.job(&second).await;
    assert_eq!(state(&queued), (JobState::Queued, "JOB_QUEUED"));
    assert!(message(&queued).contains(&first), "{}", message(&queued));
    // One that changes nothing at the remote does not wait; the synchronization after it brings the overview.
    let register = s.begin(s.request(JobKind::RegisterExistingBranch, "s1")).await;
    s.f.in_the_background().await;
    s.f.env.clock.advance(Duration::from_secs(31));
    s.f.engine.run_until_idle().await.unwrap();
    for id in [register, first, second] {
        assert_eq!(state(&s.job(&id).await), (JobState::Done, ""));
    }
}

#[tokio::test]
async fn no_job_waits_for_a_plan_whose_branches_are_not_known_yet() {
    let s = Stacked::of(2).await;
    s.main_moves();
    without_overview(&s).await;
    let mut plan = s.request(JobKind::RestackRepo, "");
    plan.plan_only = true;
    let plan = s.begin(plan).await;
    s.f.engine.run_until_idle().await.unwrap();
    assert_eq!(state(&s.job(&plan).await), (JobState::Queued, "OVERVIEW_PENDING"));
    let mut ws = WriteSet::new();
    let key = [("repository_id", s.repository.as_str().into())];
    ws.update_where(&REPOSITORIES, &key, &[("overview_time", s.f.env.env.clock.now().into())]);
    s.f.cx.store.commit(ws).await.unwrap();
    let job = s.begin(s.request(JobKind::RebaseBranch, "s2")).await;
    s.f.engine.run_until_idle().await.unwrap();
    let job = s.job(&job).await;
    assert!(!message(&job).contains(&plan), "{}", message(&job));
}

#[tokio::test]
async fn a_restack_that_is_requested_while_the_first_overview_is_half_done_runs_once_it_is_whole() {
    let s = Stacked::of(2).await;
    s.main_moves();
    let mut ws = WriteSet::new();
    let key = [("repository_id", s.repository.as_str().into())];
    ws.update_where(&REPOSITORIES, &key, &[("overview_time", 0.into())]);
    s.f.cx.store.commit(ws).await.unwrap();
    let id = s.begin(s.request(JobKind::RestackRepo, "")).await;
    s.f.engine.run_until_idle().await.unwrap();
    assert_eq!(state(&s.job(&id).await), (JobState::Queued, "OVERVIEW_PENDING"));
    let mut ws = WriteSet::new();
    crate::flow::overview::want(&s.f.cx, &mut ws, &s.repository.parse().unwrap());
    s.f.cx.store.commit(ws).await.unwrap();
    s.f.in_the_background().await;
    let job = s.job(&id).await;
    assert_eq!((state(&job), states(&job)), ((JobState::Done, ""), "s1=PUSHED s2=PUSHED".into()));
}

#[tokio::test]
async fn a_restack_does_not_wait_for_ever_for_an_overview() {
    let s = Stacked::of(2).await;
    without_overview(&s).await;
    let id = s.begin(s.request(JobKind::RestackRepo, "")).await;
    for _ in 0..22 {
        s.f.engine.run_until_idle().await.unwrap();
        s.f.env.clock.advance(Duration::from_secs(31));
    }
    assert_eq!(state(&s.job(&id).await), (JobState::Failed, "OVERVIEW_PENDING"));
}

#[tokio::test]
async fn an_action_that_fails_for_a_reason_of_no_text_of_its_own_asks_to_run_it_again() {
    let s = Stacked::of(1).await;
    std::fs::rename(&s.remote, s.remote.with_extension("away")).unwrap();
    let id = s.begin(s.request(JobKind::SyncRepo, "")).await;
    for _ in 0..10 {
        s.f.engine.run_until_idle().await.unwrap();
        s.f.env.clock.advance(Duration::from_secs(61));
    }
    let job = s.job(&id).await;
    assert_eq!(state(&job).0, JobState::Failed);
    let next = &job.condition.as_ref().unwrap().next_action;
    assert!(next.contains("run the action again"), "{}: {next}", state(&job).1);
}

#[test]
fn no_action_asks_its_user_to_publish() {
    for reason in [
        "BRANCH_DELETED",
        "BRANCH_MOVED",
        "BRANCH_PROTECTED",
        "DEFAULT_BRANCH_REFUSED",
        "PUSH_DECLINED",
        "PUSH_FORBIDDEN",
        "PUSH_LFS_OBJECTS_MISSING",
        "PUSH_NOT_FAST_FORWARD",
        "PUSH_SECRET_FOUND",
        "PUSH_TOO_LARGE",
        "PUSH_UNSIGNED",
        "PUSH_WORKFLOW_REFUSED",
        "REPOSITORY_REMOVED",
    ] {
        let next = crate::flow::action::next_action(reason).unwrap_or_else(|| panic!("{reason} has none"));
        assert!(!next.contains("publish"), "{reason}: {next}");
    }
}
