//! Flows that run from the commit that creates them.
use std::sync::Arc;
use std::time::Duration;

use crate::common::{Bench, ENTITIES, JOB, SEVEN, job, project, seven};
use foundry_core::{FlowId, Tasks};
use foundry_flow::{
    Binding, Engine, Flow, FlowStatus, NewFlow, Options, Outcome, OwnedDataDirectory, Starter, Status,
};
use foundry_store::{DialectSql, Guard, WriteSet};
use tokio::sync::Semaphore;

on_both_databases! {
    runs_from_the_commit_on_without_a_claim,
    is_found_by_the_sweeper_when_the_wake_up_is_lost,
    is_only_enqueued_where_no_engine_runs_or_has_room,
    is_not_held_up_by_another_that_cannot_be_read,
    goes_behind_those_that_wait_for_room,
    a_commit_that_never_comes_takes_its_room_for_seconds_only,
    goes_on_in_the_next_process_when_this_one_dies_before_it_began,
    is_given_back_by_a_drain_that_begins_before_its_commit_has_come,
}

const SHORT: Duration = Duration::from_secs(5);

/// A started engine, and what creates its flows. Its loops sleep on the clock.
async fn started(bench: &Bench, flow: Binding, ignore_wake_ups: bool) -> (Engine, Starter, Tasks) {
    let starter = Starter::default();
    let options = Options { starter: starter.clone(), ignore_wake_ups, ..Options::default() };
    let engine = Engine::new(bench.store.clone(), bench.env().clone(), vec![flow], options).unwrap();
    let (tasks, _failures) = Tasks::new();
    engine.start(&tasks);
    bench.time.clock.wait_for_sleepers(2).await;
    (engine, starter, tasks)
}

/// The write set that creates a flow and its entity, as a handler makes it.
fn creation<C>(
    bench: &Bench,
    starter: &Starter,
    flow: &'static Flow<C>,
    entity: &str,
) -> (FlowId, WriteSet, Option<FlowStatus>) {
    let id = FlowId::generate(bench.env());
    let mut ws = WriteSet::new();
    ws.insert(&ENTITIES, [entity.into(), "".into(), "queued".into(), 0.into(), "".into(), "".into()]);
    let begun = starter.enqueue(&mut ws, NewFlow::new(flow, id.clone(), entity, entity));
    if let Some(begun) = &begun {
        ws.merge(project(begun));
    }
    (id, ws, begun)
}

async fn runs_from_the_commit_on_without_a_claim(bench: Bench) {
    let (_engine, starter, tasks) = started(&bench, seven(&bench.ledger), false).await;
    let before = bench.store.stats();
    let (id, ws, begun) = creation(&bench, &starter, &SEVEN, "e1");
    bench.store.commit(ws).await.unwrap();
    let end = bench.until(&id, |f| f.status == Status::Done).await;
    let begun = begun.unwrap();
    assert_eq!((begun.status, begun.stage.as_str(), begun.attempt), (Status::Running, "one", 1));
    assert_eq!(end.epoch, 1);
    // A commit is counted a moment after it can be read.
    assert!(tasks.shutdown(SHORT).await);
    // The creation, and the end of each stage.
    let after = bench.store.stats();
    assert_eq!((after.batches - before.batches, after.one_by_one - before.one_by_one), (8, 0));
}

async fn is_found_by_the_sweeper_when_the_wake_up_is_lost(bench: Bench) {
    let (_engine, starter, tasks) = started(&bench, seven(&bench.ledger), true).await;
    let (id, ws, begun) = creation(&bench, &starter, &SEVEN, "e1");
    assert!(begun.is_some());
    bench.store.commit(ws).await.unwrap();
    bench.advance(Duration::from_secs(2));
    let end = bench.until(&id, |f| f.status == Status::Done).await;
    assert_eq!(end.epoch, 1);
    assert!(tasks.shutdown(SHORT).await);
}

async fn is_only_enqueued_where_no_engine_runs_or_has_room(bench: Bench) {
    let (id, ws, begun) = creation(&bench, &Starter::default(), &JOB, "e0");
    assert!(begun.is_none());
    bench.store.commit(ws).await.unwrap();
    assert_eq!(bench.flow(&id).await.status, Status::Ready);

    let (engine, starter, tasks) = started(&bench, job(|_| Box::pin(async { Outcome::done() })), false).await;
    bench.until(&id, |f| f.status == Status::Done).await;
    // It is let go of a moment after its end can be read; then the loop sleeps again, its claim is over.
    while !engine.active().is_empty() {
        tokio::task::yield_now().await;
    }
    bench.time.clock.wait_for_sleepers(2).await;
    // The limit of the kind is two.
    let flows: Vec<_> = (1..=3).map(|n| creation(&bench, &starter, &JOB, &format!("e{n}"))).collect();
    let begun: Vec<bool> = flows.iter().map(|(_, _, begun)| begun.is_some()).collect();
    assert_eq!(begun, [true, true, false]);
    for (id, ws, _) in flows {
        bench.store.commit(ws).await.unwrap();
        bench.until(&id, |f| f.status == Status::Done).await;
    }
    assert!(tasks.shutdown(SHORT).await);
}

async fn is_not_held_up_by_another_that_cannot_be_read(bench: Bench) {
    let (engine, starter, tasks) = started(&bench, seven(&bench.ledger), true).await;
    let mut ids = Vec::new();
    for n in 0..3 {
        let (id, ws, begun) = creation(&bench, &starter, &SEVEN, &format!("e{n}"));
        assert!(begun.is_some());
        bench.store.commit(ws).await.unwrap();
        ids.push(id);
    }
    const DAMAGE: &str = "UPDATE flows SET input = $1 WHERE flow_id = $2";
    let damage = DialectSql { sqlite: DAMAGE, postgres: DAMAGE };
    bench.store.write(damage, &[vec![0xff].into(), (&ids[1]).into()]).await.unwrap();
    bench.advance(Duration::from_secs(2));
    for id in [&ids[0], &ids[2]] {
        bench.until(id, |f| f.status == Status::Done).await;
    }
    // The one that cannot be read is not held: no driver would let go of it.
    while !engine.active().is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(tasks.shutdown(SHORT).await);
}

async fn goes_behind_those_that_wait_for_room(bench: Bench) {
    let finish = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&finish);
    let waiting = job(move |_| {
        let gate = Arc::clone(&gate);
        Box::pin(async move {
            gate.acquire().await.unwrap().forget();
            Outcome::done()
        })
    });
    let (engine, starter, tasks) = started(&bench, waiting, false).await;
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(bench.start(&JOB, &format!("e{n}")).await);
    }
    // The limit of the kind is two; the third waits.
    while engine.active().len() < 2 {
        tokio::task::yield_now().await;
    }
    finish.add_permits(1);
    let (last, ws, begun) = creation(&bench, &starter, &JOB, "e3");
    assert!(begun.is_none(), "it overtakes one that waits");
    bench.store.commit(ws).await.unwrap();
    finish.add_permits(3);
    for id in ids.iter().chain([&last]) {
        bench.until(id, |f| f.status == Status::Done).await;
    }
    assert!(tasks.shutdown(SHORT).await);
}

async fn a_commit_that_never_comes_takes_its_room_for_seconds_only(bench: Bench) {
    let (_engine, starter, tasks) =
        started(&bench, job(|_| Box::pin(async { Outcome::done() })), false).await;
    for n in 0..4 {
        let (id, mut ws, begun) = creation(&bench, &starter, &JOB, &format!("e{n}"));
        assert!(begun.is_some());
        if n < 2 {
            // The creator knows.
            starter.forget(&id);
        }
        ws.guard(Guard::exists(&ENTITIES, &[("entity_id", "absent".into())]));
        bench.store.commit(ws).await.unwrap_err();
    }
    let (id, ws, begun) = creation(&bench, &starter, &JOB, "e2");
    assert!(begun.is_none(), "there is room");
    bench.store.commit(ws).await.unwrap();
    // The sweeper looks for what may have come.
    bench.advance(Duration::from_secs(6));
    bench.until(&id, |f| f.status == Status::Done).await;
    let roomy = async {
        while creation(&bench, &starter, &JOB, "e3").2.is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), roomy).await.unwrap();
    assert!(tasks.shutdown(SHORT).await);
}

async fn goes_on_in_the_next_process_when_this_one_dies_before_it_began(bench: Bench) {
    let (_engine, starter, tasks) = started(&bench, seven(&bench.ledger), false).await;
    let (id, ws, begun) = creation(&bench, &starter, &SEVEN, "e1");
    assert!(begun.is_some());
    assert!(tasks.shutdown(SHORT).await);
    bench.store.commit(ws).await.unwrap();
    let next = bench.engine(vec![seven(&bench.ledger)]);
    next.recover(&OwnedDataDirectory::held_by(&())).await.unwrap();
    assert_eq!(next.run_until_idle().await.unwrap(), 1);
    let end = bench.flow(&id).await;
    assert_eq!((end.status, end.epoch), (Status::Done, 3));
}

async fn is_given_back_by_a_drain_that_begins_before_its_commit_has_come(bench: Bench) {
    let (engine, starter, tasks) = started(&bench, seven(&bench.ledger), false).await;
    let (id, ws, begun) = creation(&bench, &starter, &SEVEN, "e1");
    assert!(begun.is_some());
    let commit = async {
        // The drain has begun, and the claiming loop has ended: no more is granted.
        while creation(&bench, &starter, &SEVEN, "e2").2.is_some_and(|begun| {
            starter.forget(&begun.flow_id);
            true
        }) {
            tokio::task::yield_now().await;
        }
        bench.store.commit(ws).await.unwrap();
    };
    let (drained, ()) = tokio::join!(engine.shutdown(SHORT), commit);
    assert!(drained.abandoned.is_empty(), "{drained:?}");
    let given_back = bench.flow(&id).await;
    assert_eq!(given_back.status, Status::Ready, "{given_back:?}");
    assert!(tasks.shutdown(SHORT).await);
}
