//! What ends the wait for an import.

use foundry_store::Table;

use super::*;

/// The engine's own table, to say what its flows are at.
const FLOWS: Table = Table::new("flows", &["flow_id", "status", "due_time", "ready_time"], &["flow_id"]);

#[tokio::test]
async fn an_import_that_fails_wakes_the_job_that_waits_for_it() {
    let p = Published::new().await;
    let mut ws = WriteSet::new();
    let rev = ws.scope(Scope::organization(&p.f.organization));
    let work = Work { state: work::State::Importing, ..p.work().await };
    works::save(&mut ws, rev, &work);
    p.f.cx.store.commit(ws).await.unwrap();
    let waits = p.publish(|_| {}).await;
    assert_eq!(state(&waits), (JobState::Queued, "WORK_IMPORTING"));
    let id: JobId = waits.job_id.parse().unwrap();
    let job = jobs::find(&p.f.cx.store, &id).await.unwrap().unwrap();
    let flow = foundry_flow::find(&p.f.cx.store, &job.flow_id).await.unwrap().unwrap();
    // As the engine shows it when the import fails.
    let failed = FlowStatus { subject_id: p.task.to_string(), transition: Some(Transition::Failed), ..flow };
    let shown = crate::flow::import::Shown(p.f.env.env.clone()).project(&failed);
    p.f.cx.store.commit(shown).await.unwrap();
    p.f.engine.run_until_idle().await.unwrap();
    assert_eq!(state(&p.job(&waits.job_id).await), (JobState::Done, ""));
}

#[tokio::test]
async fn a_job_that_has_waited_long_for_an_import_says_that_it_leaves_it_out() {
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
    assert_eq!(state(&job), (JobState::Done, ""));
    assert!(job.branches[0].note.contains("newer work of the task is still being imported"), "{job:?}");
}

#[tokio::test]
async fn a_plan_sees_a_branch_beside_which_the_remote_cannot_have_another_one() {
    let p = Published::new().await;
    p.somebody_pushes("feat/other");
    p.refresh().await;
    for (to, other) in [("feat", "feat/other"), ("feat/other/below", "feat/other")] {
        let plan = p.publish(|r| (r.to_branch, r.plan_only) = (to.to_owned(), true)).await;
        let refusals = &plan.branches[0].refusals;
        let said: Vec<_> = refusals.iter().map(|c| (c.reason.as_str(), c.message.contains(other))).collect();
        assert_eq!((state(&plan), said), ((JobState::Done, ""), vec![("BRANCH_CONFLICT", true)]));
    }
    let plan = p.publish(|r| (r.to_branch, r.plan_only) = ("feat/others".to_owned(), true)).await;
    assert!(plan.branches[0].refusals.is_empty(), "{plan:?}");
}

/// Jobs on three branches of a remote that cannot be reached.
async fn three_on_a_dead_remote(p: &Published) -> Vec<Job> {
    let mut ws = WriteSet::new();
    let is = [("repository_id", p.repository.repository_id.as_str().into())];
    let set = [("url", "https://foundry-no-such-host.invalid/x".into())];
    ws.update_where(&repositories::REPOSITORIES, &is, &set);
    p.f.cx.store.commit(ws).await.unwrap();
    let mut started = Vec::new();
    for branch in ["a", "b", "c"] {
        started.push(stored(p, &p.started(|r| r.to_branch = branch.into()).await).await);
    }
    started
}

async fn stored(p: &Published, id: &str) -> Job {
    jobs::find(&p.f.cx.store, &id.parse().unwrap()).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_job_is_queued_behind_three_of_its_organization_and_goes_on_when_one_of_them_waits_for_its_next_attempt()
 {
    let p = Published::new().await;
    let dead = three_on_a_dead_remote(&p).await;
    let next = p.started(|r| r.to_branch = "d".into()).await;
    let before = async |job: &Job| jobs::heads_before(&p.f.cx.store, job).await.unwrap();
    assert_eq!((before(&dead[2]).await, before(&stored(&p, &next).await).await), (2, 3));
    // It looks first, and is woken by the attempts that fail.
    let mut ws = WriteSet::new();
    let later = p.f.cx.env.clock.now().plus(Duration::from_secs(1));
    for job in &dead {
        let flow = [("flow_id", job.flow_id.as_str().into())];
        ws.update_where(&FLOWS, &flow, &[("due_time", later.into()), ("ready_time", later.into())]);
    }
    let is = [("repository_id", p.repository.repository_id.as_str().into())];
    p.f.cx.store.commit(ws).await.unwrap();
    p.f.engine.run_until_idle().await.unwrap();
    assert_eq!(state(&p.job(&next).await), (JobState::Queued, "JOB_QUEUED"));
    p.f.env.clock.advance(Duration::from_secs(1));
    p.f.engine.run_until_idle().await.unwrap();
    for job in &dead {
        let job = p.job(job.job_id.as_str()).await;
        assert_eq!(state(&job), (JobState::Running, "GIT_REMOTE_UNREACHABLE"));
    }
    assert_eq!(before(&stored(&p, &next).await).await, 0);
    assert_eq!(state(&p.job(&next).await), (JobState::Running, "GIT_REMOTE_UNREACHABLE"));
    let mut ws = WriteSet::new();
    ws.update_where(&repositories::REPOSITORIES, &is, &[("url", p.repository.url.as_str().into())]);
    p.f.cx.store.commit(ws).await.unwrap();
    p.f.env.clock.advance(Duration::from_secs(61));
    p.f.engine.run_until_idle().await.unwrap();
    assert_eq!(state(&p.job(&next).await), (JobState::Done, ""));
}

#[tokio::test]
async fn a_further_attempt_takes_its_turn_among_those_that_are_at_work() {
    let p = Published::new().await;
    let dead = three_on_a_dead_remote(&p).await;
    let again = p.publish(|r| r.to_branch = "d".into()).await;
    assert_eq!(state(&again), (JobState::Running, "GIT_REMOTE_UNREACHABLE"));
    let mut ws = WriteSet::new();
    for job in &dead {
        let flow = [("flow_id", job.flow_id.as_str().into())];
        let lease = p.f.cx.env.clock.now().plus(Duration::from_secs(600));
        ws.update_where(&FLOWS, &flow, &[("status", "running".into()), ("due_time", lease.into())]);
    }
    p.f.cx.store.commit(ws).await.unwrap();
    p.f.env.clock.advance(Duration::from_secs(61));
    p.f.engine.run_until_idle().await.unwrap();
    let waits = p.job(&again.job_id).await;
    assert_eq!(waits.condition.unwrap().reason, "JOB_QUEUED");
}

#[tokio::test]
async fn a_plan_does_not_wait_for_a_push_to_the_same_branch() {
    let p = Published::new().await;
    let mut ws = WriteSet::new();
    let first = stored(&p, &p.started(|_| {}).await).await;
    let later = p.f.cx.env.clock.now().plus(Duration::from_secs(1));
    let flow = [("flow_id", first.flow_id.as_str().into())];
    ws.update_where(&FLOWS, &flow, &[("due_time", later.into()), ("ready_time", later.into())]);
    p.f.cx.store.commit(ws).await.unwrap();
    let plan = p.publish(|r| r.plan_only = true).await;
    assert_eq!(state(&plan), (JobState::Done, ""));
    let push = p.publish(|_| {}).await;
    assert_eq!(state(&push), (JobState::Queued, "JOB_QUEUED"));
}
