//! Parents that git-spice has recorded, and what is kept of removed jobs.

use foundry_store::WriteSet;

use super::*;
use crate::store::{branch_overviews, branch_parents, jobs, repositories};

#[tokio::test]
async fn parents_of_git_spice_are_taken_over_where_no_user_has_given_one() {
    let s = Stacked::of(3).await;
    s.sh(&format!(
        "git checkout -q --orphan data; git rm -q -rf .; mkdir branches; mkdir branches/x
         echo '{{\"base\":{{\"name\":\"s1\",\"hash\":\"{0}\"}},\"upstream\":{{\"branch\":\"s3\"}}}}' > branches/s3
         echo '{{\"base\":{{\"name\":\"s1\",\"hash\":\"{0}\"}}}}' > branches/s2
         echo '{{\"base\":{{\"name\":\"-evil\"}}}}' > branches/x/y; echo nonsense > branches/s1; echo '{{}}' > repo
         git add .; {C} -m data; git push -q origin HEAD:refs/spice/data",
        "0".repeat(40)
    ));
    let given = RunRepositoryActionRequest {
        parent: "main".into(),
        ..s.request(JobKind::RegisterExistingBranch, "s2")
    };
    assert_eq!(state(&s.run_request(given).await), (JobState::Done, ""));
    let job = s.run(JobKind::SyncRepo, "").await;
    assert_eq!(state(&job), (JobState::Done, ""), "{}", message(&job));
    let id = s.repository.parse().unwrap();
    let parents = branch_parents::all(&s.f.cx.store, &id).await.unwrap();
    let mut parents: Vec<_> = parents.iter().map(|(b, p)| format!("{b} on {p}")).collect();
    parents.sort();
    assert_eq!(parents, ["s2 on main", "s3 on s1"]);
    let overview = branch_overviews::bases(&s.f.cx.store, &id).await.unwrap();
    assert_eq!((overview["s2"].parent.as_str(), overview["s3"].parent.as_str()), ("main", "s1"));
}

#[tokio::test]
async fn what_a_removed_job_kept_goes_with_the_garbage() {
    let s = Stacked::of(2).await;
    s.main_moves();
    let (first, second) = (s.run(JobKind::RestackRepo, "").await, s.run(JobKind::RestackRepo, "").await);
    let id = s.repository.parse().unwrap();
    let mirror = s.f.cx.mirror_path(&id);
    let kept = || git(&mirror, &["for-each-ref", "--format=%(refname)", "refs/foundry/jobs/"]);
    assert!(kept().contains(&first.job_id) && kept().contains(&second.job_id));
    let mut ws = WriteSet::new();
    let rev = ws.scope(foundry_store::Scope::organization(&s.f.organization));
    let job = jobs::find(&s.f.cx.store, &first.job_id.parse().unwrap()).await.unwrap().unwrap();
    jobs::remove(&mut ws, rev, &job);
    let repository = repositories::find(&s.f.cx.store, &id).await.unwrap().unwrap();
    crate::flow::collect::schedule(&s.f.cx, &mut ws, &repository).await.unwrap();
    s.f.cx.store.commit(ws).await.unwrap();
    s.f.engine.run_until_idle().await.unwrap();
    assert!(!kept().contains(&first.job_id) && kept().contains(&second.job_id), "{}", kept());
}

/// The parents that were given to branches.
async fn given(s: &Stacked) -> String {
    let parents = branch_parents::all(&s.f.cx.store, &s.repository.parse().unwrap()).await.unwrap();
    let mut parents: Vec<_> = parents.iter().map(|(b, p)| format!("{b} on {p}")).collect();
    parents.sort();
    parents.join(", ")
}

async fn shown_parent(s: &Stacked, branch: &str) -> String {
    let id = s.repository.parse().unwrap();
    branch_overviews::parent(&s.f.cx.store, &id, branch).await.unwrap()
}

fn to(s: &Stacked, kind: JobKind, branch: &str, parent: &str) -> RunRepositoryActionRequest {
    RunRepositoryActionRequest { parent: parent.into(), ..s.request(kind, branch) }
}

#[tokio::test]
async fn an_undo_brings_the_fork_points_back_after_the_lowest_branch_was_amended() {
    let s = Stacked::of(3).await;
    s.sh(&format!(
        "git checkout -q s1; echo x > amended; git add .; {C} --amend -m 's1 two'; git push -q -f origin s1"
    ));
    s.refresh().await;
    let before = s.refs();
    let job = s.run(JobKind::RestackSubtree, "s1").await;
    assert_eq!(states(&job), "s1=SKIPPED s2=PUSHED s3=PUSHED", "{}", message(&job));
    let undo = s.undo(&job).await;
    assert_eq!((state(&undo), s.refs()), ((JobState::Done, ""), before));
    assert_eq!((shown_parent(&s, "s2").await, shown_parent(&s, "s3").await), ("s1".into(), "s2".into()));
    let again = s.run(JobKind::RestackSubtree, "s1").await;
    assert_eq!(states(&again), "s1=SKIPPED s2=PUSHED s3=PUSHED", "{}", message(&again));
    assert!(s.is_stack(&["s1", "s2", "s3"]), "{}", s.own("s2", "s1"));
}

#[tokio::test]
async fn an_undo_leaves_the_branch_that_was_amended_since_and_brings_those_above_it_back() {
    let s = Stacked::of(3).await;
    let before = ["s2", "s3"].map(|name| s.tip(name));
    s.main_moves();
    let job = s.run(JobKind::RestackSubtree, "s1").await;
    assert_eq!(states(&job), "s1=PUSHED s2=PUSHED s3=PUSHED", "{}", message(&job));
    s.sh(&format!(
        "git fetch -q; git checkout -q -B s1 origin/s1; echo x > amended; git add .; {C} --amend -m 's1 two'
         git push -q -f origin s1"
    ));
    let amended = s.tip("s1");
    let refused = s.undo(&job).await;
    assert_eq!(
        (state(&refused), states(&refused).as_str()),
        ((JobState::Failed, "BRANCH_MOVED"), "s1=REFUSED s2=PLANNED s3=PLANNED")
    );
    assert!(
        message(&refused).ends_with("2 other branches can be brought back without it"),
        "{}",
        message(&refused)
    );
    let undo = s.undo_of(&job, &["s2", "s3"]).await;
    assert_eq!((state(&undo), states(&undo).as_str()), ((JobState::Done, ""), "s2=PUSHED s3=PUSHED"));
    assert_eq!((["s2", "s3"].map(|name| s.tip(name)), s.tip("s1")), (before, amended));
    let request = UndoJobRequest {
        job_id: job.job_id.clone(),
        branches: vec!["other".to_owned()],
        ..UndoJobRequest::default()
    };
    let unknown = undo_job(&s.f.cx, &s.f.member, request).await.unwrap_err();
    assert!(unknown.message().contains("other"), "{}", unknown.message());
    let request = UndoJobRequest {
        job_id: job.job_id.clone(),
        branches: vec!["s2".to_owned(); 201],
        ..UndoJobRequest::default()
    };
    let many = undo_job(&s.f.cx, &s.f.member, request).await.unwrap_err();
    assert!(many.message().contains("at most 200"), "{}", many.message());
}

#[tokio::test]
async fn an_undo_brings_the_given_parents_back() {
    let s = Stacked::of(3).await;
    let moved = s.run_request(to(&s, JobKind::ReparentBranch, "s3", "main")).await;
    assert_eq!((state(&moved), given(&s).await), ((JobState::Done, ""), "s3 on main".into()));
    let undo = s.undo(&moved).await;
    assert_eq!((state(&undo), given(&s).await), ((JobState::Done, ""), String::new()));
    assert_eq!(shown_parent(&s, "s3").await, "s2");
    let again = s.undo(&undo).await;
    assert_eq!((state(&again), given(&s).await), ((JobState::Done, ""), "s3 on main".into()));
    assert_eq!(shown_parent(&s, "s3").await, "main");
    // Over one that was given before.
    s.undo(&again).await;
    s.run_request(to(&s, JobKind::RegisterExistingBranch, "s3", "s2")).await;
    let moved = s.run_request(to(&s, JobKind::ReparentBranch, "s3", "s1")).await;
    assert_eq!(given(&s).await, "s3 on s1");
    s.undo(&moved).await;
    assert_eq!(given(&s).await, "s3 on s2");
    // What somebody has given since stays.
    let moved = s.run_request(to(&s, JobKind::ReparentBranch, "s3", "main")).await;
    s.run_request(to(&s, JobKind::RegisterExistingBranch, "s3", "s1")).await;
    s.undo(&moved).await;
    assert_eq!(given(&s).await, "s3 on s1");
}

#[tokio::test]
async fn a_plan_says_where_each_parent_is_known_from() {
    let s = Stacked::of(3).await;
    s.main_moves();
    s.run_request(to(&s, JobKind::RegisterExistingBranch, "s2", "s1")).await;
    let job = s.run(JobKind::RestackRepo, "").await;
    let sources: Vec<_> = job.branches.iter().map(|b| (b.old_parent.as_str(), b.parent_source())).collect();
    use foundry_proto::repo::v1::ParentSource::{Commits, User};
    assert_eq!(sources, [("main", Commits), ("s1", User), ("s2", Commits)]);
}

#[tokio::test]
async fn a_given_parent_is_forgotten_when_it_is_gone_and_merged_but_not_when_it_was_only_deleted() {
    let s = Stacked::of(3).await;
    for (branch, parent) in [("s2", "s1"), ("s3", "s2")] {
        s.run_request(to(&s, JobKind::RegisterExistingBranch, branch, parent)).await;
    }
    s.squash_merge("s1");
    s.refresh().await;
    assert_eq!(given(&s).await, "s2 on s1, s3 on s2", "it is still there");
    s.sh("git push -q origin :s1");
    s.refresh().await;
    assert_eq!(given(&s).await, "s3 on s2");
    s.sh("git push -q origin :s2");
    s.refresh().await;
    assert_eq!(given(&s).await, "s3 on s2");
}
