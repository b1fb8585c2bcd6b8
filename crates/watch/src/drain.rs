//! Ends a server's streams in a drain: each client is asked to reconnect at a random time, and its stream ends cleanly
//! a moment later.

use std::sync::Arc;
use std::time::Duration;

use foundry_core::{Env, OnWake, Timestamp, sleep_until};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Time for a stream's end to reach its client.
const FAREWELL: Duration = Duration::from_millis(250);
/// Longest time over which reconnects are spread.
const MAX_SPREAD: Duration = Duration::from_secs(3);
/// Target rate of reconnects for a drain with few streams, which keeps it short.
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
    /// For a server without streams so far. A drained stream stays open for `overlap` after the time at which its
    /// client should open the next one.
    pub fn new(env: Env, overlap: Duration) -> Self {
        let (orders, open) = (watch::Sender::new(Order::Serve), watch::Sender::new(0));
        Self(Arc::new(Shared { orders, open, env, overlap }))
    }

    /// Whether the drain has begun, so that no stream may be opened.
    pub fn has_begun(&self) -> bool {
        *self.0.orders.borrow() != Order::Serve
    }

    /// How many streams are open.
    pub fn open_streams(&self) -> usize {
        *self.0.open.borrow()
    }

    /// Registers a new stream, which counts as open until the returned value is dropped.
    pub fn stream(&self) -> StreamEnd {
        self.0.open.send_modify(|n| *n += 1);
        StreamEnd { drain: Arc::clone(&self.0), orders: self.0.orders.subscribe(), end: None }
    }

    /// Ends all streams. The reconnects are spread over `spread` at most: 3 s at most, and less when few are open.
    /// False when some did not end in time because their clients do not read; they end with their connections.
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
    /// When the client should open its next stream, from now on.
    pub reconnect_after: Duration,
    /// When this stream ends.
    pub deadline: Timestamp,
}

/// A step towards the end of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndStep {
    /// The process stops: the stream ends now, with an error.
    Stopped,
    /// The client is to be notified.
    Notice(DrainNotice),
    /// The stream was notified and its time is over: it ends well.
    Over,
}

/// The end of one stream.
pub struct StreamEnd {
    drain: Arc<Shared>,
    orders: watch::Receiver<Order>,
    end: Option<BoxFuture<'static, ()>>,
}

impl StreamEnd {
    /// The steps to the end of the stream, by a drain or by this token, whichever comes first; the stream counts as open
    /// until they are dropped. A stream waits for them for as long as it lives, so they are registered once, not for each
    /// of its frames.
    pub fn steps(self, stop: CancellationToken) -> OnWake<BoxStream<'static, EndStep>> {
        let steps = futures::stream::unfold((self, stop), |(mut end, stop)| async move {
            let step = tokio::select! {
                biased;
                () = stop.cancelled() => EndStep::Stopped,
                notice = end.next() => notice.map_or(EndStep::Over, EndStep::Notice),
            };
            Some((step, (end, stop)))
        });
        OnWake::new(steps.boxed())
    }

    /// Waits for the drain: first returns the notice for the client, then, after the time to reconnect, `None`. May be
    /// dropped and called again.
    async fn next(&mut self) -> Option<DrainNotice> {
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
                        // Cannot happen: the sender is a field of `self`.
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
