//! The consumer against scripted servers and against a hub.
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::support::script::*;
use crate::support::*;
use foundry_core::{Env, Tasks};
use foundry_testkit::{TestEnv, test_env};
use foundry_watch::{Consumer, ConsumerConfig, Event, Position, State};
use futures::FutureExt as _;
use tonic::Status;

struct Bench {
    script: Arc<Script>,
    tasks: Tasks,
    test: TestEnv,
}

impl Bench {
    fn new() -> Self {
        Self { script: Arc::new(Script::default()), tasks: Tasks::new().0, test: test_env() }
    }

    fn consume(&self, config: ConsumerConfig) -> Consumer<Thing> {
        self.script.consume(&self.tasks, &self.test.env, config)
    }
}

async fn expect(consumer: &mut Consumer<Thing>, expected: &[&str]) {
    for expected in expected {
        assert_eq!(describe(&event(consumer).await), *expected);
    }
}

#[tokio::test]
async fn shows_a_catch_up_only_when_its_last_page_came() {
    let bench = Bench::new();
    let mut stream = bench.script.stream();
    stream.hello(None);
    stream.snapshot(5, &[("a", 3), ("b", 5)]);
    stream.delta(7, &[("a", 6), ("c", 7)], true);
    stream.delta(9, &[("b", 9)], false);
    stream.bookmark(11);
    let mut consumer = bench.consume(ConsumerConfig::new("t"));
    let expected = ["connected false", "snapshot 5 [a@3 b@5]", "delta 9 [a@6 c@7 b@9]", "caught up 11"];
    expect(&mut consumer, &expected).await;
}

#[tokio::test]
async fn resumes_with_the_last_token_and_the_last_revision_after_a_lost_stream() {
    let bench = Bench::new();
    let _running = run_clock(&bench.test.clock, &bench.tasks);
    let mut stream = bench.script.stream();
    stream.hello(None);
    stream.snapshot(5, &[]);
    stream.delta(6, &[("a", 6)], false);
    stream.delta(8, &[("b", 8)], true); // cut off within a catch-up
    stream.fail(Status::unavailable("severed"));
    let mut next = bench.script.stream();
    next.hello(Some(6));
    next.delta(8, &[("b", 8), ("c", 8)], false);
    let mut consumer = bench.consume(ConsumerConfig::new("t"));
    let expected = [
        "connected false",
        "snapshot 5 []",
        "delta 6 [a@6]",
        "disconnected Unavailable",
        "connected true",
        "delta 8 [b@8 c@8]",
    ];
    expect(&mut consumer, &expected).await;
    assert_eq!(bench.script.token(1), ("token-5".to_owned(), 6));
}

#[tokio::test]
async fn starts_over_when_count_or_digest_of_a_snapshot_is_wrong() {
    for (count, digest) in [(2, foundry_watch::row_digest("a", 1)), (1, 42)] {
        let bench = Bench::new();
        let _running = run_clock(&bench.test.clock, &bench.tasks);
        let mut stream = bench.script.stream();
        stream.hello(None);
        stream.snapshot_with(5, &[("a", 1)], count, digest);
        let mut good = bench.script.stream();
        good.hello(None);
        good.snapshot(5, &[("a", 1), ("b", 2)]);
        let mut consumer = bench.consume(ConsumerConfig::new("t"));
        let expected =
            ["connected false", "disconnected DataLoss", "connected false", "snapshot 5 [a@1 b@2]"];
        expect(&mut consumer, &expected).await;
    }
}

#[tokio::test]
async fn starts_from_a_snapshot_when_each_stream_breaks_at_one_position_but_not_when_servers_go_away() {
    let bench = Bench::new();
    let _running = run_clock(&bench.test.clock, &bench.tasks);
    let mut stream = bench.script.stream();
    stream.hello(None);
    stream.snapshot(5, &[("a", 3)]);
    let mut consumer = bench.consume(ConsumerConfig::new("t"));
    expect(&mut consumer, &["connected false", "snapshot 5 [a@3]"]).await;
    for (times, status, code) in [
        (3, Status::unavailable("severed"), "disconnected Unavailable"),
        (2, Status::out_of_range("larger than a message may be"), "disconnected OutOfRange"),
    ] {
        for _ in 0..times {
            let mut next = bench.script.stream();
            next.hello(Some(5));
            std::mem::replace(&mut stream, next).fail(status.clone());
            expect(&mut consumer, &[code, "connected true"]).await;
        }
    }
    let mut whole = bench.script.stream();
    whole.hello(None);
    whole.snapshot(9, &[("a", 3), ("b", 9)]);
    stream.fail(Status::out_of_range("larger than a message may be"));
    let expected = ["disconnected OutOfRange", "connected false", "snapshot 9 [a@3 b@9]"];
    expect(&mut consumer, &expected).await;
    assert_eq!(bench.script.token(5), ("token-5".to_owned(), 5));
    assert_eq!(bench.script.token(6), (String::new(), 0));
}

#[tokio::test]
async fn notices_lost_frames_and_foreign_positions_and_resumes_from_what_was_good() {
    type Break = fn(&mut Feeder);
    let breaks: [Break; 3] = [
        |s| {
            s.skip();
            s.delta(7, &[("x", 7)], false);
        },
        |s| {
            s.at = 6;
            s.delta(7, &[("x", 7)], false);
        },
        |s| s.delta(7, &[("x", 4)], false),
    ];
    for break_it in breaks {
        let bench = Bench::new();
        let _running = run_clock(&bench.test.clock, &bench.tasks);
        let mut stream = bench.script.stream();
        stream.hello(None);
        stream.snapshot(5, &[]);
        break_it(&mut stream);
        let mut good = bench.script.stream();
        good.hello(Some(5));
        good.delta(7, &[("b", 7)], false);
        let mut consumer = bench.consume(ConsumerConfig::new("t"));
        let expected =
            ["connected false", "snapshot 5 []", "disconnected DataLoss", "connected true", "delta 7 [b@7]"];
        expect(&mut consumer, &expected).await;
    }
}

#[tokio::test]
async fn refuses_a_stream_that_resumes_after_its_position() {
    let bench = Bench::new();
    let _running = run_clock(&bench.test.clock, &bench.tasks);
    let mut ahead = bench.script.stream();
    ahead.hello(Some(9));
    let position = Position { rev: 7, resume_token: "t".into() };
    let mut consumer = bench.consume(ConsumerConfig::new("t").from_position(Some(position)));
    expect(&mut consumer, &["disconnected DataLoss"]).await;
}

#[tokio::test]
async fn opens_again_after_two_and_a_half_heartbeats_of_silence() {
    let bench = Bench::new();
    let mut stream = bench.script.stream();
    stream.hello(None);
    stream.snapshot(1, &[]);
    let mut consumer = bench.consume(ConsumerConfig::new("t"));
    expect(&mut consumer, &["connected false", "snapshot 1 []"]).await;
    bench.test.clock.wait_for_sleepers(1).await;
    bench.test.clock.advance(Duration::from_millis(37_400));
    assert!(consumer.next().now_or_never().is_none());
    let mut again = bench.script.stream();
    again.hello(Some(1));
    let _running = run_clock(&bench.test.clock, &bench.tasks);
    expect(&mut consumer, &["disconnected Unavailable", "connected true"]).await;
}

#[tokio::test]
async fn ends_for_good_on_what_no_retry_can_mend() {
    for status in [
        Status::permission_denied("no"),
        Status::invalid_argument("no"),
        Status::not_found("no"),
        Status::unimplemented("no"),
    ] {
        let bench = Bench::new();
        let code = status.code();
        bench.script.refuse(status);
        let mut consumer = bench.consume(ConsumerConfig::new("t"));
        assert_eq!(consumer.next().await.unwrap_err().code(), code);
        assert_eq!(consumer.next().await.unwrap_err().code(), code);
        assert_eq!(bench.script.opened(), 1);
    }
}

#[tokio::test]
async fn refreshes_its_credentials_once_and_retries_at_once() {
    let bench = Bench::new();
    bench.script.refuse(Status::unauthenticated("expired"));
    let mut stream = bench.script.stream();
    stream.hello(None);
    let refreshed = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&refreshed);
    let mut config = ConsumerConfig::new("t");
    config.refresh = Some(Arc::new(move || {
        counter.fetch_add(1, Ordering::SeqCst);
        async { Ok(()) }.boxed()
    }));
    let mut consumer = bench.consume(config);
    expect(&mut consumer, &["connected false"]).await;
    assert_eq!(refreshed.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn backs_off_after_three_resets_within_a_minute() {
    let bench = Bench::new();
    let mut stream = bench.script.stream();
    stream.hello(None);
    for rev in 1..=3 {
        stream.reset();
        stream.snapshot(rev, &[]);
    }
    let mut consumer = bench.consume(ConsumerConfig::new("t"));
    expect(&mut consumer, &["connected false"]).await;
    let disconnected = loop {
        if let Event::Disconnected { retry_in, .. } = event(&mut consumer).await {
            break retry_in;
        }
    };
    // Full jitter over thirty seconds, where a first failure would wait a quarter of one at most.
    assert!(disconnected > Duration::from_millis(250), "{disconnected:?}");
}

#[tokio::test]
async fn opens_the_next_stream_before_it_leaves_a_draining_one_and_shows_nothing_twice() {
    let bench = Bench::new();
    let mut old = bench.script.stream();
    old.hello(None);
    old.snapshot(5, &[]);
    let mut consumer = bench.consume(ConsumerConfig::new("t"));
    expect(&mut consumer, &["connected false", "snapshot 5 []"]).await;
    let mut new = bench.script.stream();
    old.drain();
    // The old stream is still used until the new one sends a frame.
    old.delta(6, &[("a", 6)], false);
    expect(&mut consumer, &["delta 6 [a@6]"]).await;
    new.hello(Some(5));
    expect(&mut consumer, &["connected true"]).await;
    new.delta(7, &[("a", 6), ("b", 7)], false);
    expect(&mut consumer, &["delta 7 [b@7]"]).await;
    // The old one is read to its end, and none of it is shown.
    assert!(old.is_read());
    old.delta(8, &[("z", 8)], false);
    new.delta(8, &[("c", 8)], false);
    expect(&mut consumer, &["delta 8 [c@8]"]).await;
}

#[tokio::test]
async fn keeps_reading_when_its_user_does_not() {
    let bench = Bench::new();
    let mut stream = bench.script.stream();
    stream.hello(None);
    stream.snapshot(1, &[]);
    let mut consumer = bench.consume(ConsumerConfig::new("t"));
    for rev in 2..=20_000 {
        stream.delta(rev, &[(["a", "b", "c"][usize::try_from(rev % 3).unwrap()], rev)], false);
    }
    stream.bookmark(20_000);
    let mut state = State::default();
    let mut events = 0;
    while state.position().rev < 20_000 {
        state.apply(&event(&mut consumer).await);
        events += 1;
        // The user is slow: the reader gets ahead.
        tokio::task::yield_now().await;
    }
    let versions: Vec<_> = state.rows().values().map(|(version, _)| *version).collect();
    assert_eq!(versions, [19_998, 19_999, 20_000]);
    assert!(events < 20_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn follows_a_view_through_drained_and_killed_hubs() {
    let world = World::with_env(Env::system(), Arc::default()).await;
    let current = Arc::new(std::sync::Mutex::new((world.hub(), world.tasks.clone())));
    let (hubs, view) = (Arc::clone(&current), world.view(None));
    let tasks = Tasks::new().0;
    let mut consumer: Consumer<Thing> =
        Consumer::start(&tasks, Env::system(), ConsumerConfig::new("t"), move |options| {
            let hub = hubs.lock().unwrap().0.clone();
            let stream = hub.watch(view.clone(), Some(options), foundry_watch::Unrestricted);
            async move { stream.map_err(Status::from) }
        });
    let mut state = State::default();
    let mut snapshots = 0;
    for round in 0..6 {
        let mut last = 0;
        for i in 0..20 {
            let (key, content) = (format!("k{}", i % 7), format!("{round}/{i}"));
            let color = if i % 5 == 4 { None } else { Some("red") };
            last = world.put(&[(&key, color, content.as_bytes())]).await;
        }
        while state.position().rev < last {
            let event = event(&mut consumer).await;
            snapshots += u32::from(matches!(event, Event::Snapshot { .. }));
            state.apply(&event);
        }
        let next_tasks = Tasks::new().0;
        let hub = foundry_watch_hub::Hub::new(
            world.store.clone(),
            Env::system(),
            next_tasks.clone(),
            Default::default(),
        );
        let (old, old_tasks) = std::mem::replace(&mut *current.lock().unwrap(), (hub, next_tasks));
        if round % 2 == 0 {
            // A client has half a second to reconnect, which may be too little on a busy machine; it reconnects all the
            // same.
            let _in_time = old.drain(Duration::from_secs(3)).await;
            let left = async {
                while old.watches() > 0 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(60), left).await.expect("the watch ends");
        }
        assert!(old_tasks.shutdown(Duration::from_secs(60)).await);
    }
    let rows = world.store.query("SELECT key, rev FROM things ORDER BY key", &[]).await.unwrap();
    let expected: Vec<_> =
        rows.iter().map(|r| (format!("thing/{}", r.text("key").unwrap()), r.int("rev").unwrap())).collect();
    let held: Vec<_> = state.rows().iter().map(|(k, (v, _))| (k.clone(), *v)).collect();
    assert_eq!(held, expected);
    assert_eq!(snapshots, 1, "every later stream went on from a position");
}
