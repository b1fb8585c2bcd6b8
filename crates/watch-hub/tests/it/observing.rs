//! The calls that an observer gets from hubs and consumers.
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::script::*;
use crate::support::*;
use foundry_core::{Code, Tasks};
use foundry_store::{DialectSql, WriteSet};
use foundry_testkit::{Log, test_env};
use foundry_watch::{Beginning, ConsumerConfig, Observer, Reconnect};
use foundry_watch_hub::HubConfig;
use tonic::Status;

/// Records its calls.
#[derive(Debug, Default)]
struct Record(Mutex<Vec<String>>);

impl Record {
    fn say(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Observer for Record {
    fn opened(&self, view: &'static str, beginning: Beginning) {
        self.say(format!("{view} opened {beginning:?}"));
    }

    fn closed(&self, view: &'static str) {
        self.say(format!("{view} closed"));
    }

    fn reconnected(&self, view: &'static str, why: Reconnect) {
        self.say(format!("{view} {why:?}"));
    }

    fn stalled(&self, view: &'static str, code: Code) {
        self.say(format!("{view} stalled {code:?}"));
    }
}

#[tokio::test]
async fn is_told_of_each_watch_that_opens_and_ends_and_where_it_began() {
    let (world, record) = (World::new().await, Arc::new(Record::default()));
    let hub = world.hub_with(HubConfig { observer: record.clone(), ..HubConfig::default() });
    let mut first = world.watch(&hub, None);
    assert_eq!(record.take(), ["WatchThings opened New"]);
    let last = until_caught_up(&mut first).await.pop().unwrap();
    drop(first);
    assert_eq!(record.take(), ["WatchThings closed"]);
    let token = bookmark(last).resume_token;
    let resumed = world.watch(&hub, Some((&token, 0)));
    let reset = world.watch(&hub, Some(("of another view", 0)));
    assert_eq!(record.take(), ["WatchThings opened Resumed", "WatchThings opened Reset"]);
    drop((resumed, reset));
    assert_eq!(record.take(), ["WatchThings closed", "WatchThings closed"]);
}

#[tokio::test]
async fn is_told_of_a_watch_that_ends_because_its_process_stops() {
    let (world, record) = (World::new().await, Arc::new(Record::default()));
    let hub = world.hub_with(HubConfig { observer: record.clone(), ..HubConfig::default() });
    let mut stream = caught_up(&world, &hub).await;
    record.take();
    world.tasks.cancellation().cancel();
    assert_eq!(end(&mut stream).await.unwrap_err().code(), Code::Unavailable);
    drop(stream);
    assert_eq!(record.take(), ["WatchThings closed"]);
}

#[tokio::test]
async fn is_told_why_a_consumer_opens_its_stream_again() {
    let (script, record) = (Arc::new(Script::default()), Arc::new(Record::default()));
    let (tasks, test) = (Tasks::new().0, test_env());
    let _running = run_clock(&test.clock, &tasks);
    let mut first = script.stream();
    first.hello(None);
    first.snapshot(5, &[]);
    first.bookmark(5);
    let config = ConsumerConfig::new("WatchThings").observed_by(record.clone());
    let mut consumer = script.consume(&tasks, &test.env, config);
    until(&mut consumer, "caught up 5").await;
    assert_eq!(record.take(), [""; 0], "the first stream is no reconnect");

    let mut second = script.stream();
    second.hello(Some(5));
    first.drain();
    until(&mut consumer, "connected true").await;
    assert_eq!(record.take(), ["WatchThings Drained"]);

    script.refuse(Status::resource_exhausted("too many"));
    let mut third = script.stream();
    third.hello(Some(5));
    second.fail(Status::unavailable("severed"));
    until(&mut consumer, "connected true").await;
    assert_eq!(record.take(), ["WatchThings Lost(Unavailable)", "WatchThings Lost(ResourceExhausted)"]);
}

#[tokio::test]
async fn is_told_of_a_consumer_without_progress_after_ten_seconds_and_then_once_a_minute() {
    let (script, record) = (Arc::new(Script::default()), Arc::new(Record::default()));
    let (tasks, test) = (Tasks::new().0, test_env());
    let _running = run_clock(&test.clock, &tasks);
    let mut first = script.stream();
    first.hello(None);
    first.snapshot(5, &[]);
    first.fail(Status::unavailable("severed"));
    for _ in 0..20 {
        script.refuse(Status::resource_exhausted("too many"));
    }
    let mut last = script.stream();
    last.hello(Some(5));
    last.bookmark(7);
    last.fail(Status::unavailable("severed"));
    script.refuse(Status::unavailable("away"));
    let mut next = script.stream();
    next.hello(Some(7));
    next.bookmark(8);
    let config = ConsumerConfig::new("WatchThings").observed_by(record.clone());
    let begun = test.env.clock.now();
    let mut consumer = script.consume(&tasks, &test.env, config);
    until(&mut consumer, "caught up 7").await;
    let minutes = test.env.clock.now().since(begun).as_secs() / 60;
    until(&mut consumer, "caught up 8").await;
    let stalls: Vec<_> = record.take().into_iter().filter(|line| line.contains("stalled")).collect();
    let reported = u64::try_from(stalls.len()).unwrap();
    assert!(minutes > 0 && (1..=minutes + 1).contains(&reported), "{stalls:?} within {minutes} minutes");
    assert!(stalls.iter().all(|line| line == "WatchThings stalled ResourceExhausted"), "{stalls:?}");
}

#[tokio::test]
async fn is_told_of_a_feed_that_cannot_read_its_view_for_ten_seconds() {
    let log = Log::of_warnings();
    let (world, record) = (World::new().await, Arc::new(Record::default()));
    let hub = world.hub_with(HubConfig { observer: record.clone(), ..HubConfig::default() });
    let _stream = caught_up(&world, &hub).await;
    record.take();
    const HIDE: &str = "ALTER TABLE things RENAME TO hidden";
    world.store.write(DialectSql { sqlite: HIDE, postgres: HIDE }, &[]).await.unwrap();
    let mut news = WriteSet::new();
    news.scope(world.scope.clone());
    world.store.commit(news).await.unwrap();
    let failing = "a feed cannot read its view";
    let first_failure = async {
        while log.count(failing) == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), first_failure).await.expect("the view cannot be read");
    // From here on it sleeps between two attempts.
    let sleepers = world.clock.sleepers();
    let reported = || !record.0.lock().unwrap().is_empty();
    let (step, most) = (Duration::from_millis(500), Duration::from_secs(60));
    let passed = world.clock.advance_until(step, most, sleepers, reported).await;
    assert!((10..15).contains(&passed.as_secs()), "{passed:?}");
    assert_eq!(record.take(), ["WatchThings stalled Internal"]);
    assert_eq!(log.count(failing), 2, "the first failure and the report: {}", log.text());
    let stalled = hub.stalled(&world.scope, |_| true);
    let [("WatchThings", stalled)] = stalled.as_slice() else { panic!("{stalled:?}") };
    let lasted = world.env.clock.now().since(stalled.since);
    assert!(lasted >= Duration::from_secs(10) && stalled.attempts > 1, "{stalled:?} for {lasted:?}");
    assert!(!stalled.cause.is_empty());
    assert!(hub.stalled(&world.scope, |_| false).is_empty());

    const SHOW: &str = "ALTER TABLE hidden RENAME TO things";
    world.store.write(DialectSql { sqlite: SHOW, postgres: SHOW }, &[]).await.unwrap();
    let reads = || hub.stalled(&world.scope, |_| true).is_empty();
    world.clock.advance_until(step, most, sleepers, reads).await;
    assert!(reads(), "it reads again");
}

async fn until(consumer: &mut foundry_watch::Consumer<Thing>, wanted: &str) {
    while describe(&event(consumer).await) != wanted {}
}
