//! What calls under way may still use of a limit: parallel calls must not all pass on the same sum.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use memchr::memchr2;
use tokio::sync::Notify;

use crate::access::{Access, Limit, Unit, Usage};

/// What is expected to be written by a call that sets no bound.
const WRITTEN: u64 = 8_192;
/// A window of a request without a space or an escape is a picture or a file, which costs few tokens.
const WINDOW: usize = 1024;
/// Bytes of a token, roughly, in all languages that people write and program in.
const TOKEN: u64 = 4;

/// Roughly how many tokens a request is.
pub(crate) fn tokens_of(request: &[u8]) -> u64 {
    let is_text = |window: &&[u8]| window.len() < WINDOW || memchr2(b' ', b'\\', window).is_some();
    let bytes: usize = request.chunks(WINDOW).filter(is_text).map(<[u8]>::len).sum();
    (bytes as u64).div_ceil(TOKEN)
}

/// What all calls under way may still use, by limit.
#[derive(Clone, Default)]
pub(crate) struct Reserved(Arc<Inner>);

#[derive(Default)]
struct Inner {
    amounts: Mutex<HashMap<Key, u64>>,
    freed: Notify,
}

type Key = (String, String, bool);

/// A call's share; ends when it is dropped.
pub(crate) struct Reservation {
    all: Reserved,
    amounts: Vec<(Key, u64)>,
}

fn key(access: &Access, limit: &Limit) -> Key {
    (access.owner.organization.clone(), limit.scope.clone(), limit.unit == Unit::Tokens)
}

impl Reserved {
    /// A share for a call that reads and writes so much; none while what is under way may use up a limit. A call that is
    /// alone always gets one: how much it uses is known only afterwards.
    pub(crate) fn take(
        &self,
        access: &Access,
        model: &str,
        read: u64,
        written: Option<u64>,
    ) -> Option<Reservation> {
        let expected = Usage { input: read, output: written.unwrap_or(WRITTEN), ..Usage::default() };
        let expected = expected.priced(&access.prices, model);
        let mut amounts = self.lock();
        let full = access.limits.iter().any(|limit| {
            let others = amounts.get(&key(access, limit)).copied().unwrap_or(0);
            others > 0 && limit.used.saturating_add(others) >= limit.maximum
        });
        if full {
            return None;
        }
        let mut own = Vec::with_capacity(access.limits.len());
        for limit in &access.limits {
            let amount = match limit.unit {
                Unit::Tokens => expected.tokens(),
                Unit::Micros => expected.cost_micros.unwrap_or(0),
            };
            let key = key(access, limit);
            let sum = amounts.entry(key.clone()).or_default();
            *sum = sum.saturating_add(amount);
            own.push((key, amount));
        }
        drop(amounts);
        Some(Reservation { all: self.clone(), amounts: own })
    }

    /// Completes when some call has ended; to be made before [`Reserved::take`] is asked.
    pub(crate) fn freed(&self) -> tokio::sync::futures::Notified<'_> {
        self.0.freed.notified()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, u64>> {
        // No panic can leave the map half changed.
        self.0.amounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut amounts = self.all.lock();
        for (key, amount) in &self.amounts {
            match amounts.get_mut(key) {
                Some(sum) if *sum > *amount => *sum -= *amount,
                _ => drop(amounts.remove(key)),
            }
        }
        drop(amounts);
        self.all.0.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_in_a_request_are_not_taken_for_words() {
        let words = "some words of a person ".repeat(100);
        assert_eq!(tokens_of(words.as_bytes()), words.len() as u64 / 4);
        let picture = format!("{words}{}", "QUJD".repeat(500_000));
        assert!(tokens_of(picture.as_bytes()) < 1_200, "{}", tokens_of(picture.as_bytes()));
        assert_eq!(tokens_of(br#"{"model":"m"}"#), 4);
    }
}
