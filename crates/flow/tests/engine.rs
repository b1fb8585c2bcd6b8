//! What the engine promises to a service, on SQLite with a clock that stands still.
#![allow(clippy::unwrap_used)] // the helpers are parts of tests

mod common;

use std::time::Duration;

use common::{Bench, SEVEN, seven};
use foundry_core::Tasks;
use foundry_flow::{Engine, Options, Status, find};

#[tokio::test]
async fn carries_a_flow_through_all_its_stages_and_shows_each_in_the_entity() {
    let bench = Bench::sqlite().await;
    let engine = Engine::new(
        bench.store.clone(),
        bench.env().clone(),
        vec![seven(&SEVEN, &bench.ledger)],
        Options::default(),
    )
    .unwrap();
    let id = bench.start(&SEVEN, "e1").await;
    assert_eq!(engine.run_until_idle().await.unwrap(), 1);
    let end = find(&bench.store, &id).await.unwrap().unwrap();
    assert_eq!((end.status, end.stage.as_str()), (Status::Done, "seven"));
    assert_eq!(end.state, serde_json::json!("seven"));
    assert_eq!(bench.ledger.existing().len(), 7);
    assert_eq!(bench.entity("e1").await, ("seven".to_owned(), "done".to_owned()));
}

#[tokio::test]
async fn starts_an_enqueued_flow_without_waiting_for_the_sweeper() {
    let bench = Bench::sqlite().await;
    let engine = Engine::new(
        bench.store.clone(),
        bench.env().clone(),
        vec![seven(&SEVEN, &bench.ledger)],
        Options::default(),
    )
    .unwrap();
    let (tasks, _failures) = Tasks::new();
    engine.start(&tasks);
    // Both loops sleep on the clock: the sweeper's first look is over, and time stands still.
    bench.time.clock.wait_for_sleepers(2).await;
    let id = bench.start(&SEVEN, "e1").await;
    let finished = async {
        while !find(&bench.store, &id).await.unwrap().unwrap().status.is_finished() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), finished).await.unwrap();
    let drained = engine.shutdown(Duration::from_secs(5)).await;
    assert_eq!(drained.abandoned, vec![]);
    assert!(tasks.shutdown(Duration::from_secs(5)).await);
}
