//! The engine's guarantees to a service, driven by hand with a clock that stands still.
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::common::{Bench, Code, ENTITIES, JOB, SEVEN, TWO, code, job, project, seven, two_stages};
use foundry_flow::{
    Flow, NOT_RETRYABLE, NewFlow, Outcome, Retry, Stage, Status, Woken, enqueue, find, request_cancel, retry,
    signal,
};
use foundry_store::{CommitError, WriteSet};

on_both_databases! {
    carries_a_flow_through_all_its_stages_and_shows_each_in_the_entity,
    repeats_a_failed_attempt_after_its_backoff_and_gives_up_when_the_budget_is_spent,
    takes_a_panic_for_a_failed_attempt_and_lives_on,
    says_the_class_of_a_failure_and_the_reason_of_a_wait_until_the_flow_goes_on,
    says_what_kind_of_failure_it_was_when_a_failed_flow_is_cancelled,
    takes_an_attempt_that_conflicts_with_the_database_for_a_failed_one,
    records_a_failure_also_when_the_entity_is_gone,
    fails_at_once_when_the_database_refuses_what_a_stage_records,
    wakes_a_waiting_flow_in_the_transaction_of_its_signal,
    keeps_a_signal_that_comes_before_the_wait_is_recorded,
    an_old_signal_wakes_a_flow_at_most_once,
    ends_a_wait_at_its_deadline,
    the_reason_of_a_wait_ends_with_it,
    a_stage_waits_by_its_own_clock_also_when_the_one_of_the_database_is_ahead,
    a_stage_sees_when_its_flow_began_by_its_own_clock,
    a_flow_that_is_to_begin_later_does_so_by_the_clock_of_the_database,
    goes_on_at_another_stage_when_a_stage_says_so,
    cancels_a_failed_flow,
    retries_a_failed_flow_only_and_keeps_one_unfinished_flow_per_key,
    parks_a_stage_it_does_not_know_and_a_newer_worker_goes_on,
    persists_progress_at_most_once_a_second_and_the_last_word_always,
    forgets_finished_flows_and_old_signals_after_their_retention,
    forgets_flows_of_a_kind_that_runs_often_sooner,
}

/// Counts its calls, and hands each its number from 1.
fn counted() -> (Arc<AtomicU32>, impl Fn() -> u32 + Clone) {
    let calls = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&calls);
    (calls, move || counter.fetch_add(1, Ordering::SeqCst) + 1)
}

async fn carries_a_flow_through_all_its_stages_and_shows_each_in_the_entity(bench: Bench) {
    let id = bench.start(&SEVEN, "e1").await;
    assert_eq!(bench.engine(vec![seven(&bench.ledger)]).run_until_idle().await.unwrap(), 1);
    let end = bench.flow(&id).await;
    assert_eq!((end.status, end.stage.as_str()), (Status::Done, "seven"));
    assert_eq!(end.state, serde_json::json!("seven"));
    assert_eq!(bench.ledger.existing().len(), 7);
    assert_eq!(bench.entity("e1").await, ("seven".to_owned(), "done".to_owned()));
}

async fn repeats_a_failed_attempt_after_its_backoff_and_gives_up_when_the_budget_is_spent(bench: Bench) {
    let engine = bench.engine(vec![job(|_| Box::pin(async { Outcome::retry("REMOTE_BUSY", "busy") }))]);
    let id = bench.start(&JOB, "e1").await;
    engine.run_until_idle().await.unwrap();
    let first = bench.flow(&id).await;
    assert_eq!((first.status, first.failures, first.reason.as_str()), (Status::Ready, 1, "REMOTE_BUSY"));
    assert!(first.due_time.unwrap() > bench.env().clock.now());
    assert_eq!(engine.run_until_idle().await.unwrap(), 0);
    for _ in 0..2 {
        bench.advance(Duration::from_secs(20));
        engine.run_until_idle().await.unwrap();
    }
    let end = bench.flow(&id).await;
    assert_eq!((end.status, end.failures, end.attempt), (Status::Failed, 3, 3));
    assert!(end.retryable());
    assert_eq!(bench.entity("e1").await, ("work".to_owned(), "failed".to_owned()));
}

async fn takes_a_panic_for_a_failed_attempt_and_lives_on(bench: Bench) {
    let (calls, count) = counted();
    let engine = bench.engine(vec![job(move |_| {
        let n = count();
        Box::pin(async move {
            assert!(n > 1, "planted panic");
            Outcome::done()
        })
    })]);
    let id = bench.start(&JOB, "e1").await;
    engine.run_until_idle().await.unwrap();
    let failed = bench.flow(&id).await;
    assert_eq!((failed.reason.as_str(), failed.message.as_str()), ("STAGE_PANICKED", "planted panic"));
    bench.advance(Duration::from_secs(5));
    engine.run_until_idle().await.unwrap();
    assert_eq!((bench.flow(&id).await.status, calls.load(Ordering::SeqCst)), (Status::Done, 2));
}

async fn says_the_class_of_a_failure_and_the_reason_of_a_wait_until_the_flow_goes_on(bench: Bench) {
    let (_, count) = counted();
    let engine = bench.engine(vec![job(move |_| {
        let n = count();
        Box::pin(async move {
            match n {
                1 => Outcome::retry("DISK_FULL", "no room").of_class("capacity"),
                2 => Outcome::wait("room", "for room").because("NO_ROOM_YET"),
                _ => Outcome::done(),
            }
        })
    })]);
    let id = bench.start(&JOB, "e1").await;
    engine.run_until_idle().await.unwrap();
    let failed = bench.flow(&id).await;
    assert_eq!((failed.class.as_str(), failed.reason.as_str()), ("capacity", "DISK_FULL"));
    assert_eq!(failed.text(), "capacity: no room");
    bench.advance(Duration::from_secs(5));
    engine.run_until_idle().await.unwrap();
    let waiting = bench.flow(&id).await;
    assert_eq!((waiting.class.as_str(), waiting.reason.as_str()), ("", "NO_ROOM_YET"));
    assert_eq!(waiting.text(), "for room");
    bench.commit(|ws| signal(ws, bench.env(), "room")).await;
    engine.run_until_idle().await.unwrap();
    let done = bench.flow(&id).await;
    assert_eq!((done.status, done.class.as_str(), done.text().as_str()), (Status::Done, "", ""));
}

async fn says_what_kind_of_failure_it_was_when_a_failed_flow_is_cancelled(bench: Bench) {
    let full = || Outcome::fail("DISK_FULL", "no room").of_class("capacity");
    let engine = bench.engine(vec![job(move |_| Box::pin(async move { full() }))]);
    let id = bench.start(&JOB, "e1").await;
    engine.run_until_idle().await.unwrap();
    bench.commit(|ws| request_cancel(ws, &id)).await;
    engine.run_until_idle().await.unwrap();
    let end = bench.flow(&id).await;
    assert_eq!((end.class.as_str(), end.reason.as_str()), ("", "CANCELLED"));
    assert_eq!(end.message, "cancelled at stage work (DISK_FULL: capacity: no room)");
}

async fn takes_an_attempt_that_conflicts_with_the_database_for_a_failed_one(bench: Bench) {
    let engine = bench.engine(vec![job(|_| {
        let mut ws = WriteSet::new();
        ws.update(&ENTITIES, &["nobody".into()], &[("status", "x".into())], &[]);
        Box::pin(async move { Outcome::done().recording(ws) })
    })]);
    let id = bench.start(&JOB, "e1").await;
    engine.run_until_idle().await.unwrap();
    let flow = bench.flow(&id).await;
    assert_eq!((flow.status, flow.reason.as_str()), (Status::Ready, "WRITE_CONFLICT"));
    assert_eq!(bench.entity("e1").await.1, "ready");
}

async fn records_a_failure_also_when_the_entity_is_gone(bench: Bench) {
    let engine = bench.engine(vec![job(|_| Box::pin(async { Outcome::fail("BROKEN", "for good") }))]);
    let id = bench.start(&JOB, "e1").await;
    bench.commit(|ws| _ = ws.delete(&ENTITIES, &["e1".into()], &[])).await;
    for _ in 0..3 {
        engine.run_until_idle().await.unwrap();
        bench.advance(Duration::from_secs(20));
    }
    assert_eq!(bench.flow(&id).await.status, Status::Failed);
}

async fn fails_at_once_when_the_database_refuses_what_a_stage_records(bench: Bench) {
    let engine = bench.engine(vec![job(|_| {
        let mut ws = WriteSet::new();
        ws.update(&ENTITIES, &["e1".into()], &[("progress", foundry_store::Value::Null)], &[]);
        Box::pin(async move { Outcome::done().recording(ws) })
    })]);
    let id = bench.start(&JOB, "e1").await;
    tokio::time::timeout(Duration::from_secs(20), engine.run_until_idle()).await.unwrap().unwrap();
    let end = bench.flow(&id).await;
    assert_eq!((end.status, end.reason.as_str(), end.attempt), (Status::Failed, "WRITE_REFUSED", 1));
    assert_eq!(bench.entity("e1").await.1, "failed");
}

async fn wakes_a_waiting_flow_in_the_transaction_of_its_signal(bench: Bench) {
    let engine = bench.engine(vec![job(|ctx| {
        let woken = ctx.woken();
        Box::pin(async move {
            if woken == Woken::Signal { Outcome::done() } else { Outcome::wait("answer", "for the answer") }
        })
    })]);
    let id = bench.start(&JOB, "e1").await;
    engine.run_until_idle().await.unwrap();
    let waiting = bench.flow(&id).await;
    assert_eq!((waiting.status, waiting.wait_key.as_deref()), (Status::Waiting, Some("answer")));
    assert_eq!(bench.entity("e1").await.1, "waiting");
    bench.advance(Duration::from_secs(100_000));
    assert_eq!(engine.run_until_idle().await.unwrap(), 0);
    bench.commit(|ws| signal(ws, bench.env(), "another")).await;
    assert_eq!(engine.run_until_idle().await.unwrap(), 0);
    bench.commit(|ws| signal(ws, bench.env(), "answer")).await;
    assert_eq!(bench.flow(&id).await.status, Status::Ready);
    engine.run_until_idle().await.unwrap();
    assert_eq!(bench.flow(&id).await.status, Status::Done);
}

async fn keeps_a_signal_that_comes_before_the_wait_is_recorded(bench: Bench) {
    let (store, env) = (bench.store.clone(), bench.env().clone());
    let (calls, count) = counted();
    let engine = bench.engine(vec![job(move |_| {
        let (store, env, n) = (store.clone(), env.clone(), count());
        Box::pin(async move {
            if n > 1 {
                return Outcome::done();
            }
            // The answer arrives after the stage has checked for it and before its wait is recorded.
            let mut ws = WriteSet::new();
            signal(&mut ws, &env, "answer");
            store.commit(ws).await.unwrap();
            Outcome::wait("answer", "for the answer")
        })
    })]);
    let id = bench.start(&JOB, "e1").await;
    engine.run_until_idle().await.unwrap();
    assert_eq!((bench.flow(&id).await.status, calls.load(Ordering::SeqCst)), (Status::Done, 2));
}

async fn an_old_signal_wakes_a_flow_at_most_once(bench: Bench) {
    let (calls, count) = counted();
    let engine = bench.engine(vec![job(move |_| {
        count();
        Box::pin(async { Outcome::wait("answer", "for the answer") })
    })]);
    bench.commit(|ws| signal(ws, bench.env(), "answer")).await;
    let id = bench.start(&JOB, "e1").await;
    engine.run_until_idle().await.unwrap();
    assert_eq!((bench.flow(&id).await.status, calls.load(Ordering::SeqCst)), (Status::Waiting, 2));
}

async fn the_reason_of_a_wait_ends_with_it(bench: Bench) {
    let engine = bench.engine(vec![job(|ctx| {
        let (woken, until) = (ctx.woken(), ctx.env().clock.now().plus(Duration::from_secs(30)));
        let shown = (ctx.flow().reason.clone(), ctx.flow().text());
        Box::pin(async move {
            match woken {
                Woken::Start => Outcome::wait("answer", "for the answer").until(until),
                Woken::Signal | Woken::Deadline if shown != (String::new(), String::new()) => {
                    Outcome::fail("STILL_SHOWN", format!("{shown:?}"))
                }
                Woken::Deadline => Outcome::wait("answer", "for the answer"),
                Woken::Signal => Outcome::retry("BUSY", "try later"),
                _ => Outcome::fail("SHOWN", format!("{shown:?}")),
            }
        })
    })]);
    let id = bench.start(&JOB, "e1").await;
    engine.run_until_idle().await.unwrap();
    bench.advance(Duration::from_secs(30));
    engine.run_until_idle().await.unwrap();
    bench.commit(|ws| signal(ws, bench.env(), "answer")).await;
    engine.run_until_idle().await.unwrap();
    assert_eq!(bench.flow(&id).await.reason, "BUSY");
    bench.advance(Duration::from_secs(3600));
    engine.run_until_idle().await.unwrap();
    let end = bench.flow(&id).await;
    assert_eq!((end.reason.as_str(), end.message.as_str()), ("SHOWN", r#"("BUSY", "try later")"#));
}

async fn ends_a_wait_at_its_deadline(bench: Bench) {
    let engine = bench.engine(vec![job(|ctx| {
        let (woken, deadline) = (ctx.woken(), ctx.env().clock.now().plus(Duration::from_secs(30)));
        Box::pin(async move {
            match woken {
                Woken::Deadline => Outcome::fail("NO_ANSWER", "nobody answered"),
                _ => Outcome::wait("answer", "for the answer").until(deadline),
            }
        })
    })]);
    let id = bench.start(&JOB, "e1").await;
    engine.run_until_idle().await.unwrap();
    bench.advance(Duration::from_secs(29));
    assert_eq!(engine.run_until_idle().await.unwrap(), 0);
    assert_eq!(bench.flow(&id).await.status, Status::Waiting);
    bench.advance(Duration::from_secs(1));
    engine.run_until_idle().await.unwrap();
    assert_eq!(bench.flow(&id).await.reason, "NO_ANSWER");
}

/// PostgreSQL's clock is a day ahead of the one of these tests.
async fn a_stage_waits_by_its_own_clock_also_when_the_one_of_the_database_is_ahead(bench: Bench) {
    let until = bench.env().clock.now().plus(Duration::from_secs(30));
    let (calls, count) = counted();
    let engine = bench.engine(vec![job(move |ctx| {
        let early = count() < 100 && ctx.env().clock.now() < until;
        Box::pin(async move {
            if early { Outcome::wait("answer", "for the answer").until(until) } else { Outcome::done() }
        })
    })]);
    let id = bench.start(&JOB, "e1").await;
    engine.run_until_idle().await.unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    bench.advance(Duration::from_secs(30));
    engine.run_until_idle().await.unwrap();
    assert_eq!((calls.load(Ordering::SeqCst), bench.flow(&id).await.status), (2, Status::Done));
}

async fn a_stage_sees_when_its_flow_began_by_its_own_clock(bench: Bench) {
    let engine = bench.engine(vec![job(|ctx| {
        let (now, flow) = (ctx.env().clock.now(), ctx.flow());
        let ages =
            [flow.started_time, flow.stage_started_time, flow.status_time].map(|at| now.since(at).as_secs());
        let later = [flow.started_time, flow.stage_started_time].map(|at| at.since(now).as_secs());
        let right = ages.iter().chain(&later).all(|seconds| *seconds < 60);
        Box::pin(async move {
            if right { Outcome::done() } else { Outcome::fail("OTHER_CLOCK", format!("{ages:?} {later:?}")) }
        })
    })]);
    let id = bench.start(&JOB, "e1").await;
    engine.run_until_idle().await.unwrap();
    assert_eq!(bench.flow(&id).await.message, "");
}

async fn a_flow_that_is_to_begin_later_does_so_by_the_clock_of_the_database(bench: Bench) {
    let engine = bench.engine(vec![job(|_| Box::pin(async { Outcome::done() }))]);
    let id = foundry_core::FlowId::generate(bench.env());
    let later = NewFlow::new(&JOB, id.clone(), "e1", "e1").after(Duration::from_secs(60));
    let entity = ["e1".into(), "".into(), "queued".into(), 0.into(), "".into(), "".into()];
    bench.commit(|ws| enqueue(ws.insert(&ENTITIES, entity), later)).await;
    assert_eq!(engine.run_until_idle().await.unwrap(), 0);
    bench.advance(Duration::from_secs(60));
    assert_eq!(engine.run_until_idle().await.unwrap(), 1);
    assert_eq!(bench.flow(&id).await.status, Status::Done);
}

async fn goes_on_at_another_stage_when_a_stage_says_so(bench: Bench) {
    let (starts, count) = counted();
    let (_, looks) = counted();
    let one = code(move |_| {
        count();
        Box::pin(async { Outcome::done() })
    });
    let two = code(move |_| {
        let vanished = looks() == 1;
        Box::pin(async move { if vanished { Outcome::goto("one") } else { Outcome::done() } })
    });
    let id = bench.start(&TWO, "e1").await;
    bench.engine(vec![two_stages(one, two)]).run_until_idle().await.unwrap();
    assert_eq!((bench.flow(&id).await.status, starts.load(Ordering::SeqCst)), (Status::Done, 2));
}

async fn cancels_a_failed_flow(bench: Bench) {
    let broken = || job(|_| Box::pin(async { Outcome::fail("BROKEN", "for good") }));
    let id = bench.start(&JOB, "e1").await;
    let engine = bench.engine(vec![broken()]);
    engine.run_until_idle().await.unwrap();
    bench.commit(|ws| request_cancel(ws, &id)).await;
    engine.run_until_idle().await.unwrap();
    let end = bench.flow(&id).await;
    assert_eq!((end.status, end.reason.as_str()), (Status::Cancelled, "CANCELLED"));
    assert!(end.message.contains("BROKEN"), "{}", end.message);
    // Again, when everything is over.
    bench.commit(|ws| request_cancel(ws, &id)).await;
    assert_eq!(engine.run_until_idle().await.unwrap(), 0);
}

async fn retries_a_failed_flow_only_and_keeps_one_unfinished_flow_per_key(bench: Bench) {
    let (_, count) = counted();
    let engine = bench.engine(vec![job(move |_| {
        let n = count();
        Box::pin(async move { if n == 1 { Outcome::fail("BROKEN", "once") } else { Outcome::done() } })
    })]);
    let id = bench.start(&JOB, "e1").await;
    let twin = foundry_core::FlowId::generate(bench.env());
    let mut second = WriteSet::new();
    enqueue(&mut second, NewFlow::new(&JOB, twin, "e1", "e1"));
    let refused = bench.store.commit(second).await.unwrap_err();
    assert!(matches!(refused, CommitError::Conflict { .. }), "{refused:?}");
    let mut early = WriteSet::new();
    retry(&mut early, &id);
    let refused = bench.store.commit(early).await.unwrap_err();
    assert!(matches!(refused, CommitError::GuardFailed { tag: Some(NOT_RETRYABLE), .. }), "{refused:?}");
    engine.run_until_idle().await.unwrap();
    assert_eq!(bench.flow(&id).await.status, Status::Failed);
    bench.commit(|ws| retry(ws, &id)).await;
    engine.run_until_idle().await.unwrap();
    assert_eq!(bench.flow(&id).await.status, Status::Done);
}

async fn parks_a_stage_it_does_not_know_and_a_newer_worker_goes_on(bench: Bench) {
    static NEWER: Flow<()> = Flow::new(
        "job",
        &[Stage::new("polish", Duration::from_secs(60), Retry::DEFAULT, |_, _| {
            Box::pin(async { Outcome::done() })
        })],
    );
    let older = bench.engine(vec![job(|_| Box::pin(async { Outcome::done() }))]);
    let id = bench.start(&NEWER, "e1").await;
    assert_eq!(older.run_until_idle().await.unwrap(), 0);
    assert_eq!(bench.flow(&id).await.status, Status::Ready, "another worker may know it");
    bench.advance(Duration::from_secs(6));
    assert_eq!(older.run_until_idle().await.unwrap(), 0);
    let parked = bench.flow(&id).await;
    assert_eq!((parked.status, parked.reason.as_str()), (Status::Parked, "STAGE_UNKNOWN"));
    assert_eq!(bench.entity("e1").await.1, "parked");
    bench.engine(vec![NEWER.bind(&Arc::new(())).projection(project)]).run_until_idle().await.unwrap();
    assert_eq!(bench.flow(&id).await.status, Status::Done);
}

async fn persists_progress_at_most_once_a_second_and_the_last_word_always(bench: Bench) {
    let (store, seen) = (bench.store.clone(), Arc::new(std::sync::Mutex::new(Vec::new())));
    let shown = Arc::clone(&seen);
    let engine = bench.engine(vec![job(move |ctx| {
        let (store, shown) = (store.clone(), Arc::clone(&shown));
        Box::pin(async move {
            for text in ["cloning 1 %", "cloning 50 %", "cloning 99 %"] {
                ctx.progress(text).await;
                let stored = find(&store, ctx.flow_id()).await.unwrap().unwrap().last_progress;
                shown.lock().unwrap().push(stored);
            }
            Outcome::done()
        })
    })]);
    let id = bench.start(&JOB, "e1").await;
    engine.run_until_idle().await.unwrap();
    assert_eq!(*seen.lock().unwrap(), ["cloning 1 %"; 3]);
    assert_eq!(bench.flow(&id).await.last_progress, "cloning 99 %");
}

async fn forgets_finished_flows_and_old_signals_after_their_retention(bench: Bench) {
    let engine = bench.engine(vec![job(|_| Box::pin(async { Outcome::done() }))]);
    let id = bench.start(&JOB, "e1").await;
    engine.run_until_idle().await.unwrap();
    bench.commit(|ws| signal(ws, bench.env(), "answer")).await;
    bench.advance(Duration::from_secs(6 * 24 * 3600));
    engine.sweep_once().await.unwrap();
    assert!(find(&bench.store, &id).await.unwrap().is_some());
    assert!(bench.store.query("SELECT * FROM flow_signals", &[]).await.unwrap().is_empty());
    bench.advance(Duration::from_secs(2 * 24 * 3600));
    engine.sweep_once().await.unwrap();
    assert!(find(&bench.store, &id).await.unwrap().is_none());
}

async fn forgets_flows_of_a_kind_that_runs_often_sooner(bench: Bench) {
    const LIMIT: Duration = Duration::from_secs(60);
    static OFTEN: Flow<Code> =
        Flow::new("often", &[Stage::new("work", LIMIT, Retry::DEFAULT, |code: &Arc<Code>, ctx| code(ctx))])
            .kept_for(Duration::from_secs(3600));
    let often = OFTEN.bind(&Arc::new(code(|_| Box::pin(async { Outcome::done() })))).projection(project);
    let engine = bench.engine(vec![job(|_| Box::pin(async { Outcome::done() })), often]);
    let (id, other) = (bench.start(&OFTEN, "e1").await, bench.start(&JOB, "e2").await);
    engine.run_until_idle().await.unwrap();
    for (minutes, there) in [(50, true), (20, false)] {
        bench.advance(Duration::from_secs(minutes * 60));
        engine.sweep_once().await.unwrap();
        assert_eq!(find(&bench.store, &id).await.unwrap().is_some(), there);
    }
    assert!(find(&bench.store, &other).await.unwrap().is_some());
}

#[tokio::test]
async fn what_runs_often_reads_no_more_flows_than_it_is_about() {
    let bench = Bench::sqlite().await;
    for (sql, index) in [
        // As a signal writes it.
        (
            "EXPLAIN QUERY PLAN UPDATE flows SET due_time = 1 WHERE wait_key = $1 AND status = $2",
            "flows_by_wait_key",
        ),
        (
            "EXPLAIN QUERY PLAN SELECT 1 FROM flows WHERE subject_id = $1 ORDER BY started_time DESC, flow_id DESC LIMIT 100",
            "flows_by_subject",
        ),
        // As the sweep looks for signals that were missed.
        (
            "EXPLAIN QUERY PLAN SELECT 1 FROM flows f JOIN flow_signals s ON s.wait_key = f.wait_key \
             WHERE f.wait_key IS NOT NULL AND f.status = 'waiting' AND s.nonce <> f.signal_seen",
            "flows_by_wait_key",
        ),
        // As a process asks for cancels of what it runs.
        (
            "EXPLAIN QUERY PLAN SELECT flow_id FROM flows \
             WHERE status = 'running' AND lease_owner = $1 AND cancel_requested = 1",
            "flows_cancelling",
        ),
    ] {
        let values = ["x".into(), "y".into()];
        let given = values.iter().take(sql.matches('$').count()).cloned().collect::<Vec<_>>();
        let plan = bench.store.query(sql, &given).await.unwrap();
        let plan: Vec<_> = plan.iter().map(|step| step.text("detail").unwrap().to_owned()).collect();
        assert!(plan[0].starts_with("SEARCH") && plan[0].contains(index), "{sql}: {plan:?}");
        assert!(plan[1..].iter().all(|step| step.starts_with("SEARCH")), "{sql}: {plan:?}");
    }
}
