//! The end of streams in a drain: each is told to go elsewhere, at a time of its own, and ends
//! well a moment later.

use std::sync::Arc;
use std::time::Duration;

use foundry_core::{Env, Timestamp};
use foundry_proto::edge::v1 as wire;
use futures::future::BoxFuture;
use tokio::sync::watch;

/// How long a drained stream goes on after its client was to open the next one: a connection elsewhere, with one
/// more attempt if the first leads back here. A client that has moved earlier ends it.
const OVERLAP: Duration = Duration::from_secs(1);
/// For a stream's end to reach its client.
const FAREWELL: Duration = Duration::from_millis(250);
/// Longest time over which the reconnects are spread.
const MAX_SPREAD: Duration = Duration::from_secs(3);
/// Reconnects per second that a drain with few streams aims at, so that it is short.
const RECONNECTS_PER_SECOND: u32 = 500;

/// What all streams are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Serve,
    Drain { spread: Duration, deadline: Timestamp },
}

/// Tells all streams; cloning shares it.
#[derive(Clone)]
pub(crate) struct Orders {
    orders: Arc<watch::Sender<Order>>,
    /// How many streams are open.
    open: Arc<watch::Sender<usize>>,
    env: Env,
}

impl Orders {
    pub(crate) fn new(env: Env) -> Self {
        Self {
            orders: Arc::new(watch::Sender::new(Order::Serve)),
            open: Arc::new(watch::Sender::new(0)),
            env,
        }
    }

    /// Whether no stream may be opened any more.
    pub(crate) fn is_draining(&self) -> bool {
        *self.orders.borrow() != Order::Serve
    }

    /// The ending of one stream.
    pub(crate) fn ending(&self) -> Ending {
        self.open.send_modify(|n| *n += 1);
        Ending {
            orders: self.orders.subscribe(),
            open: Arc::clone(&self.open),
            env: self.env.clone(),
            end: None,
        }
    }

    /// Ends all streams, their reconnects spread over this time at most.
    pub(crate) async fn drain(&self, spread: Duration) {
        let open = u32::try_from(*self.open.borrow()).unwrap_or(u32::MAX).min(10_000);
        let enough = Duration::from_secs(1) * open / RECONNECTS_PER_SECOND;
        let spread = spread.min(MAX_SPREAD).min(enough);
        let deadline = self.env.clock.now().plus(spread + OVERLAP);
        self.orders.send_if_modified(|order| {
            let first = *order == Order::Serve;
            if first {
                *order = Order::Drain { spread, deadline };
            }
            first
        });
        let mut open = self.open.subscribe();
        tokio::select! {
            biased;
            // The sender lives in this value.
            _ = open.wait_for(|n| *n == 0) => {}
            // Whom nobody reads ends with its connection.
            () = self.env.clock.sleep(spread + OVERLAP + FAREWELL) => {}
        }
    }
}

/// The end of one stream.
pub(crate) struct Ending {
    orders: watch::Receiver<Order>,
    open: Arc<watch::Sender<usize>>,
    env: Env,
    end: Option<BoxFuture<'static, ()>>,
}

impl Ending {
    /// First what tells the client to go elsewhere; then, when it had the time, none.
    pub(crate) async fn next(&mut self) -> Option<wire::Drain> {
        if let Some(end) = &mut self.end {
            end.await;
            return None;
        }
        let (spread, deadline) = loop {
            let order = *self.orders.borrow_and_update();
            match order {
                Order::Drain { spread, deadline } => break (spread, deadline),
                Order::Serve => {
                    if self.orders.changed().await.is_err() {
                        // The edge is gone; its tasks end the stream.
                        std::future::pending::<()>().await;
                    }
                }
            }
        };
        let now = self.env.clock.now();
        let reconnect_after = spread.mul_f64(self.env.random.fraction());
        let own_end = now.plus(reconnect_after + OVERLAP).min(deadline);
        let clock = Arc::clone(&self.env.clock);
        self.end = Some(Box::pin(async move { clock.sleep(own_end.since(now)).await }));
        Some(wire::Drain {
            reconnect_after: Some(proto_duration(reconnect_after)),
            deadline_time: Some(own_end.to_proto()),
        })
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.open.send_modify(|n| *n = n.saturating_sub(1));
    }
}

/// A span of time as the protobuf type.
pub(crate) fn proto_duration(d: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(d.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(d.subsec_nanos()).unwrap_or(0),
    }
}
