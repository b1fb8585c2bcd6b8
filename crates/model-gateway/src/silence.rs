//! How long nothing has come from a server.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use foundry_core::{Env, Timestamp};
use futures::future::BoxFuture;

/// Measures how long nothing has come.
pub(crate) struct Silence {
    env: Env,
    /// The server, for people.
    server: String,
    limit: Duration,
    /// Since when nothing comes.
    last: Timestamp,
    waits: bool,
    timer: BoxFuture<'static, ()>,
}

impl Silence {
    /// Begins now.
    pub(crate) fn new(env: &Env, server: String, limit: Duration) -> Self {
        let (env, last, timer) = (env.clone(), env.clock.now(), sleep(env, limit));
        Self { env, server, limit, last, waits: false, timer }
    }

    /// Something came.
    pub(crate) fn broken(&mut self) {
        self.waits = false;
    }

    /// Ready once nothing has come for as long as the limit. The timer is reset only when it fires, not for
    /// each piece.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.waits {
            // The clock is not looked at for each piece, only when there is none.
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

    /// Completes once nothing has come for as long as the limit.
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
