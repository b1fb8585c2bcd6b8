//! A timer for the time since a server last sent something.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use foundry_core::{Env, Timestamp};
use futures::future::BoxFuture;

/// Measures the time since a server last sent something.
pub(crate) struct Silence {
    env: Env,
    /// The server's name for users.
    server: String,
    limit: Duration,
    /// When the silence began.
    last: Timestamp,
    waits: bool,
    timer: BoxFuture<'static, ()>,
}

impl Silence {
    pub(crate) fn new(env: &Env, server: String, limit: Duration) -> Self {
        let (env, last, timer) = (env.clone(), env.clock.now(), sleep(env, limit));
        Self { env, server, limit, last, waits: false, timer }
    }

    /// Resets the timer: the server sent something.
    pub(crate) fn broken(&mut self) {
        self.waits = false;
    }

    /// Ready once the silence has lasted for the limit. The timer is reset only when it fires, not for each piece.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.waits {
            // The clock is not read for each piece, only when there is none.
            (self.waits, self.last) = (true, self.env.clock.now());
        }
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let idle = self.env.clock.now().since(self.last);
            if idle >= self.limit {
                self.timer = Box::pin(futures::future::ready(()));
                return Poll::Ready(());
            }
            self.timer = sleep(&self.env, self.limit.saturating_sub(idle));
        }
    }

    /// Completes once the silence has lasted for the limit.
    pub(crate) async fn over(&mut self) {
        std::future::poll_fn(|cx| self.poll(cx)).await;
    }

    pub(crate) fn words(&self) -> String {
        format!("{} has sent nothing for {} s", self.server, self.limit.as_secs())
    }
}

fn sleep(env: &Env, d: Duration) -> BoxFuture<'static, ()> {
    let clock = env.clock.clone();
    Box::pin(async move { clock.sleep(d).await })
}
