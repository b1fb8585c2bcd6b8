//! Exchanges that ignore the cache: for a caller who was refused although its user may just have gained the right.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use foundry_core::Timestamp;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use tonic::{Code, Status};

use super::{Exchange, MAX_TOKENS, Outcome, REPEAT_AFTER, TokenHash, hash};

type Pending = Shared<BoxFuture<'static, Outcome>>;

/// The newest forced exchange of each token.
pub(super) type ForcedExchanges = Mutex<HashMap<TokenHash, Begun>>;

pub(super) struct Begun {
    at: Timestamp,
    outcome: Pending,
}

impl Exchange {
    /// How many exchanges have begun: one with a higher number reflects the present state.
    pub(crate) fn begun(&self) -> u64 {
        self.0.begun.load(Ordering::SeqCst)
    }

    /// Completes when an exchange of this token that began after that number is in the cache. All waiting callers
    /// share one exchange, and there is at most one per second.
    ///
    /// # Errors
    /// As [`Exchange::exchange`]; the cached entry stays, unless auth refuses the token.
    pub(crate) async fn exchange_since(&self, token: &str, begun: u64) -> Result<(), Status> {
        let key = hash(token);
        loop {
            let now = self.0.clock.now();
            let (pending, wait) = {
                // Consistent after every change, even if a holder panicked.
                let mut forced = foundry_core::lock(&self.0.forced);
                let last = forced.get(&key);
                let until = last.map_or(now, |last| last.at.plus(REPEAT_AFTER));
                match last {
                    Some(last) if last.outcome.peek().is_none() => (Some(last.outcome.clone()), None),
                    Some(Begun { outcome, .. }) if knows(outcome, begun) => return Ok(()),
                    Some(_) if now < until => (None, Some(until.since(now))),
                    _ => {
                        if forced.len() >= MAX_TOKENS {
                            forced.retain(|_, old| now < old.at.plus(REPEAT_AFTER));
                        }
                        let outcome = self.clone().ask_again(key, token.to_owned()).boxed().shared();
                        forced.insert(key, Begun { at: now, outcome: outcome.clone() });
                        (Some(outcome), None)
                    }
                }
            };
            if let Some(pending) = pending
                && pending.await?.number > begun
            {
                return Ok(());
            }
            if let Some(wait) = wait {
                self.0.clock.sleep(wait).await;
            }
        }
    }

    async fn ask_again(self, key: TokenHash, token: String) -> Outcome {
        let outcome = self.ask(token).await;
        // A failure does not invalidate the cached entry.
        if !matches!(&outcome, Err(status) if status.code() != Code::Unauthenticated) {
            self.remember(key, &outcome);
        }
        outcome
    }
}

fn knows(outcome: &Pending, begun: u64) -> bool {
    matches!(outcome.peek(), Some(Ok(exchanged)) if exchanged.number > begun)
}
