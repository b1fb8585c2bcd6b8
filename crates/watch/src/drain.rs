//! The end of a server's streams in a drain: each is asked to reconnect at a time of its own, and ends cleanly a moment
//! later.

use std::sync::Arc;
use std::time::Duration;

use foundry_core::{Env, Timestamp, sleep_until};
use futures::future::BoxFuture;
use tokio::sync::watch;

/// For a stream's end to reach its client.
const FAREWELL: Duration = Duration::from_millis(250);
/// Longest time over which the reconnects are spread.
const MAX_SPREAD: Duration = Duration::from_secs(3);
/// Reconnects per second that a drain with few streams aims at, so that it is short.
const RECONNECTS_PER_SECOND: u32 = 500;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Serve,
    Drain { spread: Duration, deadline: Timestamp },
}

/// Counts the streams of a server and ends them together. Cloning shares it.
#[derive(Clone)]
pub struct Drain(Arc<Shared>);

struct Shared {
    orders: watch::Sender<Order>,
    open: watch::Sender<usize>,
    env: Env,
    overlap: Duration,
}

impl Drain {
    /// Of a server without streams. A drained stream stays open for `overlap` after its client was to open the next one.
    pub fn new(env: Env, overlap: Duration) -> Self {
        let (orders, open) = (watch::Sender::new(Order::Serve), watch::Sender::new(0));
        Self(Arc::new(Shared { orders, open, env, overlap }))
    }

    /// Whether no stream may be opened any more.
    pub fn has_begun(&self) -> bool {
        *self.0.orders.borrow() != Order::Serve
    }

    /// How many streams are open.
    pub fn open_streams(&self) -> usize {
        *self.0.open.borrow()
    }

    /// The end of a new stream, which is open as long as this lives.
    pub fn stream(&self) -> StreamEnd {
        self.0.open.send_modify(|n| *n += 1);
        StreamEnd { drain: Arc::clone(&self.0), orders: self.0.orders.subscribe(), end: None }
    }

    /// Ends all streams. The reconnects are spread over `spread` at most: 3 s at most, and less when few are open. False
    /// when some did not end in time because nobody reads them; they end with their connections.
    pub async fn drain(&self, spread: Duration) -> bool {
        let Shared { orders, open, env, overlap } = &*self.0;
        let count = u32::try_from(*open.borrow()).unwrap_or(u32::MAX).min(10_000);
        let enough = Duration::from_secs(1) * count / RECONNECTS_PER_SECOND;
        let spread = spread.min(MAX_SPREAD).min(enough);
        let deadline = env.clock.now().plus(spread + *overlap);
        orders.send_if_modified(|order| {
            let first = *order == Order::Serve;
            if first {
                *order = Order::Drain { spread, deadline };
            }
            first
        });
        let mut open = open.subscribe();
        tokio::select! {
            biased;
            // The sender lives as long as `self`.
            _ = open.wait_for(|n| *n == 0) => true,
            () = env.clock.sleep(spread + *overlap + FAREWELL) => false,
        }
    }
}

/// The message to the client of a drained stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainNotice {
    /// When it should open its next stream, from now on.
    pub reconnect_after: Duration,
    /// When this stream ends.
    pub deadline: Timestamp,
}

/// The end of one stream.
pub struct StreamEnd {
    drain: Arc<Shared>,
    orders: watch::Receiver<Order>,
    end: Option<BoxFuture<'static, ()>>,
}

impl StreamEnd {
    /// Waits for the drain: first what to tell the client, then, when it had the time to reconnect, none. May be dropped
    /// and called again.
    pub async fn next(&mut self) -> Option<DrainNotice> {
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
                        // Cannot be: the sender lives in `self`.
                        std::future::pending::<()>().await;
                    }
                }
            }
        };
        let Env { clock, random } = &self.drain.env;
        let reconnect_after = spread.mul_f64(random.fraction());
        let deadline = clock.now().plus(reconnect_after + self.drain.overlap).min(deadline);
        self.end = Some(sleep_until(clock, deadline));
        Some(DrainNotice { reconnect_after, deadline })
    }
}

impl Drop for StreamEnd {
    fn drop(&mut self) {
        self.drain.open.send_modify(|n| *n = n.saturating_sub(1));
    }
}
