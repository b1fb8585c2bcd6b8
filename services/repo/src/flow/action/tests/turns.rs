//! Jobs that wait for others, and cancels.

use foundry_store::WriteSet;

use super::*;
use crate::store::repositories::REPOSITORIES;

/// Has the remote at another URL.
pub async fn at(s: &Stacked, url: &str) {
    let mut ws = WriteSet::new();
    let is = [("repository_id", s.repository.as_str().into())];
    ws.update_where(&REPOSITORIES, &is, &[("url", url.into())]);
    s.f.cx.store.commit(ws).await.unwrap();
}

#[tokio::test]
async fn a_second_job_on_the_stack_waits_for_the_first_and_another_stack_does_not() {
    let s = Stacked::new().await;
    s.main_moves();
    s.sh(&format!("git checkout -q -b t1 main; {C} --allow-empty -m t1; git push -q origin t1"));
    s.refresh().await;
    let first = s.begin(s.request(JobKind::RestackSubtree, "s1")).await;
    let second = s.begin(s.request(JobKind::RebaseBranch, "s6")).await;
    let other = s.begin(s.request(JobKind::RebaseBranch, "t1")).await;
    // The remote cannot be reached, so that the first one stays.
    let url = s.remote.to_str().unwrap();
    at(&s, "https://foundry-no-such-host.invalid/x").await;
    s.f.engine.run_until_idle().await.unwrap();
    let queued = s.job(&second).await;
    assert_eq!(state(&queued), (JobState::Queued, "JOB_QUEUED"));
    assert!(message(&queued).contains(&first), "{}", message(&queued));
    assert_eq!(s.job(&other).await.state(), JobState::Running);
    let cancel = CancelJobRequest { job_id: first.clone(), ..CancelJobRequest::default() };
    cancel_job(&s.f.cx, &s.f.member, cancel).await.unwrap();
    at(&s, url).await;
    for _ in 0..10 {
        s.f.env.clock.advance(std::time::Duration::from_secs(61));
        s.f.engine.run_until_idle().await.unwrap();
    }
    assert_eq!(state(&s.job(&first).await), (JobState::Cancelled, "CANCELLED"));
    assert_eq!(state(&s.job(&second).await), (JobState::Done, ""));
    assert_eq!(state(&s.job(&other).await), (JobState::Done, ""));
}

#[tokio::test]
async fn two_registrations_at_once_form_no_circle() {
    let s = Stacked::of(1).await;
    s.sh(&format!(
        "for b in t1 t2; do git checkout -q -b $b main; {C} --allow-empty -m $b; git push -q origin $b; done"
    ));
    s.refresh().await;
    let on = |branch: &str, parent: &str| RunRepositoryActionRequest {
        parent: parent.to_owned(),
        ..s.request(JobKind::RegisterExistingBranch, branch)
    };
    let url = s.remote.to_str().unwrap();
    at(&s, "https://foundry-no-such-host.invalid/x").await;
    let (first, second) = (s.begin(on("t1", "t2")).await, s.begin(on("t2", "t1")).await);
    s.f.engine.run_until_idle().await.unwrap();
    let queued = s.job(&second).await;
    assert_eq!(state(&queued), (JobState::Queued, "JOB_QUEUED"));
    assert!(message(&queued).contains(&first), "{}", message(&queued));
    at(&s, url).await;
    for _ in 0..10 {
        s.f.env.clock.advance(std::time::Duration::from_secs(61));
        s.f.engine.run_until_idle().await.unwrap();
    }
    assert_eq!(state(&s.job(&first).await), (JobState::Done, ""));
    assert_eq!(state(&s.job(&second).await), (JobState::Failed, "STACK_CIRCLE"));
}
