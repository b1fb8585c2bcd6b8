//! What a stream registers once, and not for each frame.
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use crate::support::*;
use foundry_core::{Clock, Env, Timestamp};
use foundry_testkit::{MockClock, TestEnv, test_env};
use foundry_watch::{AuthorizationEvent, StreamAuthorization};
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};

/// A heartbeat when none is asked for.
const HEARTBEAT: Duration = Duration::from_secs(15);

#[derive(Clone, Default)]
struct Polls(Arc<AtomicUsize>);

impl Polls {
    fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A permission that never changes.
struct Silent(Polls);

impl StreamAuthorization for Silent {
    fn caller(&self) -> Option<String> {
        None
    }

    fn events(self: Box<Self>) -> BoxStream<'static, AuthorizationEvent> {
        let events = futures::stream::poll_fn(move |_| {
            self.0.add();
            Poll::Pending
        });
        events.boxed()
    }
}

/// A clock that counts how often timers of heartbeats are polled.
struct Timers(Arc<MockClock>, Polls);

#[async_trait::async_trait]
impl Clock for Timers {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    async fn sleep(&self, d: Duration) {
        let mut sleep = self.0.sleep(d);
        let counted = std::future::poll_fn(|cx| {
            if d == HEARTBEAT {
                self.1.add();
            }
            sleep.as_mut().poll(cx)
        });
        counted.await;
    }
}

#[tokio::test]
async fn a_frame_polls_neither_the_permission_nor_the_heartbeat() {
    let TestEnv { env, clock } = test_env();
    let (events, beats) = (Polls::default(), Polls::default());
    let env = Env { clock: Arc::new(Timers(Arc::clone(&clock), beats.clone())), ..env };
    let world = World::with_env(env, clock).await;
    let hub = world.hub();
    let mut stream = hub.watch(world.view(None), None, Silent(events.clone())).unwrap();
    until_caught_up(&mut stream).await;
    assert!(stream.next().now_or_never().is_none());
    assert_eq!((events.count(), beats.count()), (1, 1));
    // As many as may be sent at once.
    for content in 0..8 {
        world.put(&[("a", Some("red"), &[content])]).await;
        assert_eq!(changes(&frame(&mut stream).await.1).len(), 1);
    }
    assert_eq!((events.count(), beats.count()), (1, 1));
    world.clock.advance(HEARTBEAT);
    bookmark(frame(&mut stream).await.1);
    assert!(beats.count() > 1, "the heartbeat goes on");
}
