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
