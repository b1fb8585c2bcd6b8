//! The engine's loops: wake-ups, leases, cancel, limits and drain, with a clock that stands still.
use std::sync::Arc;
use std::time::Duration;

use crate::common::{Bench, JOB, SEVEN, TWO, code, job, seven, two_stages};
use foundry_core::Tasks;
use foundry_flow::{Outcome, OwnedDataDirectory, Status, Stop, request_cancel};
use tokio::sync::{Semaphore, mpsc};

on_both_databases! {
    starts_an_enqueued_flow_without_waiting_for_the_sweeper,
    stops_a_running_attempt_when_its_cancel_is_requested,
    drops_an_attempt_that_does_not_stop_for_its_cancel,
    counts_an_attempt_beyond_its_stage_timeout_as_failed,
    renews_its_leases_while_a_long_attempt_runs,
    stops_its_attempt_when_it_finds_that_the_lease_is_lost,
    runs_no_more_flows_of_a_kind_than_its_limit_and_then_the_next,
    a_drain_lets_a_stage_reach_its_boundary_and_leaves_the_next_to_another,
    a_drain_gives_back_what_does_not_end_in_time_without_counting_the_attempt,
}

const SHORT: Duration = Duration::from_secs(5);

async fn starts_an_enqueued_flow_without_waiting_for_the_sweeper(bench: Bench) {
    let engine = bench.engine(vec![seven(&bench.ledger)]);
    let (tasks, _failures) = Tasks::new();
    engine.start(&tasks);
    // Both loops sleep on the clock: the first sweep is over, and time stands still.
    bench.time.clock.wait_for_sleepers(2).await;
    let id = bench.start(&SEVEN, "e1").await;
    bench.until(&id, |f| f.status == Status::Done).await;
    assert_eq!(engine.shutdown(SHORT).await.abandoned, vec![]);
    assert!(tasks.shutdown(SHORT).await);
}

async fn stops_a_running_attempt_when_its_cancel_is_requested(bench: Bench) {
    let (begun, mut running) = mpsc::unbounded_channel();
    let engine = bench.engine(vec![job(move |ctx| {
        begun.send(()).unwrap();
        Box::pin(async move {
            ctx.cancellation().cancelled().await;
            Outcome::retry("STOPPED", format!("{:?}", ctx.stop_cause()))
        })
    })]);
    let (tasks, _failures) = Tasks::new();
    engine.start(&tasks);
    let id = bench.start(&JOB, "e1").await;
    running.recv().await.unwrap();
    bench.commit(|ws| request_cancel(ws, &id)).await;
    bench.until(&id, |f| f.status == Status::Cancelled).await;
    assert!(tasks.shutdown(SHORT).await);
}

async fn drops_an_attempt_that_does_not_stop_for_its_cancel(bench: Bench) {
    let (begun, mut running) = mpsc::unbounded_channel();
    let (stopping, mut stopped) = mpsc::unbounded_channel();
    let engine = bench.engine(vec![job(move |ctx| {
        begun.send(()).unwrap();
        let stopping = stopping.clone();
        Box::pin(async move {
            ctx.cancellation().cancelled().await;
            stopping.send(()).unwrap();
            std::future::pending().await
        })
    })]);
    let (tasks, _failures) = Tasks::new();
    engine.start(&tasks);
    let id = bench.start(&JOB, "e1").await;
    running.recv().await.unwrap();
    bench.commit(|ws| request_cancel(ws, &id)).await;
    stopped.recv().await.unwrap();
    // Sweeper, leases, and the attempt's grace period.
    bench.time.clock.wait_for_sleepers(3).await;
    bench.advance(Duration::from_secs(2));
    bench.until(&id, |f| f.status == Status::Cancelled).await;
    assert!(tasks.shutdown(SHORT).await);
}

async fn counts_an_attempt_beyond_its_stage_timeout_as_failed(bench: Bench) {
    let (begun, mut running) = mpsc::unbounded_channel();
    let engine = bench.engine(vec![job(move |ctx| {
        begun.send(()).unwrap();
        Box::pin(async move {
            ctx.cancellation().cancelled().await;
            Outcome::retry("STOPPED", "")
        })
    })]);
    let id = bench.start(&JOB, "e1").await;
    let driven = engine.run_until_idle();
    let time_passes = async {
        running.recv().await.unwrap();
        bench.time.clock.wait_for_sleepers(1).await;
        bench.advance(Duration::from_secs(60));
    };
    let (claims, ()) = futures::join!(driven, time_passes);
    assert_eq!(claims.unwrap(), 1);
    let flow = bench.flow(&id).await;
    assert_eq!((flow.status, flow.reason.as_str()), (Status::Ready, "STAGE_TIMED_OUT"));
}

async fn renews_its_leases_while_a_long_attempt_runs(bench: Bench) {
    let (begun, mut running) = mpsc::unbounded_channel();
    let finish = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&finish);
    let engine = bench.engine(vec![job(move |_| {
        begun.send(()).unwrap();
        let gate = Arc::clone(&gate);
        Box::pin(async move {
            gate.acquire().await.unwrap().forget();
            Outcome::done()
        })
    })]);
    let (tasks, _failures) = Tasks::new();
    engine.start(&tasks);
    let id = bench.start(&JOB, "e1").await;
    running.recv().await.unwrap();
    for _ in 0..10 {
        let lease = bench.flow(&id).await.due_time;
        let rounds = engine.renewals();
        bench.advance(Duration::from_secs(3));
        // After a round the loop sleeps again: nothing else runs on this thread in the meantime.
        while engine.renewals() == rounds {
            tokio::task::yield_now().await;
        }
        assert!(bench.flow(&id).await.due_time > lease);
    }
    finish.add_permits(1);
    let end = bench.until(&id, |f| f.status == Status::Done).await;
    assert_eq!((end.attempt, end.epoch), (1, 1));
    assert!(tasks.shutdown(SHORT).await);
}

async fn stops_its_attempt_when_it_finds_that_the_lease_is_lost(bench: Bench) {
    let (begun, mut running) = mpsc::unbounded_channel();
    let (stopping, mut stopped) = mpsc::unbounded_channel();
    let engine = bench.engine(vec![job(move |ctx| {
        begun.send(()).unwrap();
        let stopping = stopping.clone();
        Box::pin(async move {
            ctx.cancellation().cancelled().await;
            stopping.send(ctx.stop_cause()).unwrap();
            Outcome::done()
        })
    })]);
    let (tasks, _failures) = Tasks::new();
    engine.start(&tasks);
    let id = bench.start(&JOB, "e1").await;
    running.recv().await.unwrap();
    // The engine has claimed what was due and sleeps: it must not take the flow again itself.
    bench.time.clock.wait_for_sleepers(3).await;
    // Another process takes the flow, as if this one had been frozen for the length of a lease.
    let other = bench.engine(vec![job(|_| Box::pin(async { Outcome::fail("OTHER", "the other owner") }))]);
    other.recover(&OwnedDataDirectory::held_by(&())).await.unwrap();
    other.run_until_idle().await.unwrap();
    bench.time.clock.wait_for_sleepers(3).await;
    bench.advance(Duration::from_secs(3));
    assert_eq!(stopped.recv().await.unwrap(), Some(Stop::LeaseLost));
    while !engine.active().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.flow(&id).await.reason, "OTHER");
    assert!(tasks.shutdown(SHORT).await);
}

async fn runs_no_more_flows_of_a_kind_than_its_limit_and_then_the_next(bench: Bench) {
    let (begun, mut running) = mpsc::unbounded_channel();
    let finish = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&finish);
    let engine = bench.engine(vec![job(move |_| {
        begun.send(()).unwrap();
        let gate = Arc::clone(&gate);
        Box::pin(async move {
            gate.acquire().await.unwrap().forget();
            Outcome::done()
        })
    })]);
    let (tasks, _failures) = Tasks::new();
    engine.start(&tasks);
    bench.time.clock.wait_for_sleepers(2).await;
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(bench.start(&JOB, &format!("e{n}")).await);
    }
    for _ in 0..2 {
        running.recv().await.unwrap();
    }
    for _ in 0..5 {
        bench.until(&ids[4], |f| f.status == Status::Ready).await;
        assert_eq!((engine.active().len(), running.len()), (2, 0));
    }
    finish.add_permits(5);
    for id in &ids {
        bench.until(id, |f| f.status == Status::Done).await;
    }
    assert!(tasks.shutdown(SHORT).await);
}

async fn a_drain_lets_a_stage_reach_its_boundary_and_leaves_the_next_to_another(bench: Bench) {
    let (begun, mut running) = mpsc::unbounded_channel();
    let finish = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&finish);
    let first = code(move |_| {
        begun.send(()).unwrap();
        let gate = Arc::clone(&gate);
        Box::pin(async move {
            gate.acquire().await.unwrap().forget();
            Outcome::done()
        })
    });
    let done = || code(|_| Box::pin(async { Outcome::done() }));
    let engine = bench.engine(vec![two_stages(first, done())]);
    let (tasks, _failures) = Tasks::new();
    engine.start(&tasks);
    let id = bench.start(&TWO, "e1").await;
    running.recv().await.unwrap();
    let let_go = async {
        tokio::task::yield_now().await;
        finish.add_permits(1);
    };
    let (drained, ()) = futures::join!(engine.shutdown(SHORT), let_go);
    assert_eq!((drained.running, drained.ordered_to_release), (vec![id.clone()], vec![]));
    let left = bench.flow(&id).await;
    assert_eq!((left.status, left.stage.as_str(), left.attempt), (Status::Ready, "two", 0));
    assert!(tasks.shutdown(SHORT).await);
    let next = bench.engine(vec![two_stages(done(), done())]);
    next.run_until_idle().await.unwrap();
    assert_eq!(bench.flow(&id).await.status, Status::Done);
}

async fn a_drain_gives_back_what_does_not_end_in_time_without_counting_the_attempt(bench: Bench) {
    let (begun, mut running) = mpsc::unbounded_channel();
    let engine = bench.engine(vec![job(move |ctx| {
        begun.send(()).unwrap();
        Box::pin(async move {
            ctx.cancellation().cancelled().await;
            Outcome::retry("STOPPED", "")
        })
    })]);
    let (tasks, _failures) = Tasks::new();
    engine.start(&tasks);
    let id = bench.start(&JOB, "e1").await;
    running.recv().await.unwrap();
    let time_passes = async {
        // The drain limit less the grace period passes.
        tokio::task::yield_now().await;
        bench.advance(Duration::from_secs(6));
    };
    let (drained, ()) = futures::join!(engine.shutdown(Duration::from_secs(8)), time_passes);
    assert_eq!((drained.ordered_to_release, drained.abandoned), (vec![id.clone()], vec![]));
    let released = bench.flow(&id).await;
    assert_eq!((released.status, released.attempt, released.failures), (Status::Ready, 0, 0));
    assert!(tasks.shutdown(SHORT).await);
}
