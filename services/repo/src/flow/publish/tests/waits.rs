//! What ends the wait for an import.

use super::*;

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
