//! What calls under way may still use of a limit: parallel calls must not all pass on the same sum.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use crate::access::{Access, Limit, Unit, Usage};

/// What is expected to be written by a call that sets no bound.
pub(crate) const WRITTEN: u64 = 8_192;
/// A window of a request that is all of base64's letters is of a picture or a file, which costs few tokens.
const WINDOW: usize = 1024;
/// Bytes of a token, roughly, in all languages that people write and program in.
const TOKEN: u64 = 4;
/// Bytes of a token of a picture or a file. It counts a little, for what looks like one may be text.
const PICTURE: u64 = 64 * TOKEN;

/// Roughly how many tokens a request is.
pub(crate) fn tokens_of(request: &[u8]) -> u64 {
    let letter = |b: &u8| b.is_ascii_alphanumeric() || b"+/=-_".contains(b);
    let (mut words, mut pictures) = (0, 0);
    for window in request.chunks(WINDOW) {
        let of_picture = window.len() == WINDOW && window.iter().all(letter);
        *(if of_picture { &mut pictures } else { &mut words }) += window.len() as u64;
    }
    words.div_ceil(TOKEN) + pictures.div_ceil(PICTURE)
}

/// What all calls under way may still use, by limit.
#[derive(Clone, Default)]
pub(crate) struct Reserved(Arc<Mutex<HashMap<Key, Shares>>>);

/// What the calls under way may use of one limit.
#[derive(Default)]
struct Shares {
    sum: u64,
    calls: usize,
    /// Told when one of them has ended.
    freed: Arc<Notify>,
}

type Key = (String, String, bool);

/// Why a call has no share yet.
pub(crate) struct Crowded {
    /// Whose limit it is that may be used up.
    pub(crate) scope: String,
    /// Completes when a call with a share of it has ended.
    pub(crate) freed: OwnedNotified,
}

/// A call's share; ends when it is dropped.
pub(crate) struct Reservation {
    all: Reserved,
    amounts: Vec<(Key, u64)>,
}

fn key(access: &Access, limit: &Limit) -> Key {
    (access.owner.organization.clone(), limit.scope.clone(), limit.unit == Unit::Tokens)
}

impl Reserved {
    /// A share for a call that reads and writes so much. A call that is alone always gets one: how much it uses is known
    /// only afterwards.
    ///
    /// # Errors
    /// While what is under way may use up a limit.
    pub(crate) fn take(
        &self,
        access: &Access,
        model: &str,
        read: u64,
        written: u64,
    ) -> Result<Reservation, Crowded> {
        let expected = Usage { input: read, output: written, ..Usage::default() };
        let expected = expected.priced(&access.prices, model);
        let mut amounts = self.lock();
        let full = access.limits.iter().find_map(|limit| {
            let others = amounts.get(&key(access, limit))?;
            let full = limit.used.saturating_add(others.sum) >= limit.maximum;
            full.then(|| (limit.scope.clone(), Arc::clone(&others.freed)))
        });
        if let Some((scope, freed)) = full {
            // Made under the lock: no end is missed.
            return Err(Crowded { scope, freed: freed.notified_owned() });
        }
        let mut own = Vec::with_capacity(access.limits.len());
        for limit in &access.limits {
            let amount = match limit.unit {
                Unit::Tokens => expected.tokens(),
                Unit::Micros => expected.cost_micros.unwrap_or(0),
            };
            let key = key(access, limit);
            let shares = amounts.entry(key.clone()).or_default();
            (shares.sum, shares.calls) = (shares.sum.saturating_add(amount), shares.calls + 1);
            own.push((key, amount));
        }
        drop(amounts);
        Ok(Reservation { all: self.clone(), amounts: own })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Shares>> {
        // No panic can leave the map half changed.
        foundry_core::lock(&self.0)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut amounts = self.all.lock();
        for (key, amount) in &self.amounts {
            let Some(shares) = amounts.get_mut(key) else { continue };
            shares.sum = shares.sum.saturating_sub(*amount);
            shares.freed.notify_waiters();
            shares.calls -= 1;
            if shares.calls == 0 {
                amounts.remove(key);
            }
        }
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
        let expected = (words.len() as u64 / 4) + 2_000_000 / 256;
        assert!(tokens_of(picture.as_bytes()).abs_diff(expected) < 512, "{}", tokens_of(picture.as_bytes()));
        assert_eq!(tokens_of(br#"{"model":"m"}"#), 4);
    }

    #[test]
    fn text_is_counted_though_it_has_no_space_and_no_escape() {
        for text in ["some\u{a0}words\u{a0}of\u{a0}a\u{a0}person,", "一个人写的话", "a.b,c;d", "(x)"] {
            let text = text.repeat(100_000 / text.len());
            assert_eq!(tokens_of(text.as_bytes()), (text.len() as u64).div_ceil(4), "{:.20}", text);
        }
        for text in ["_", "QUJD"] {
            let text = text.repeat(100_000 / text.len());
            assert!(tokens_of(text.as_bytes()) >= 100_000 / 256, "{:.20}", text);
        }
    }

    fn access(organization: &str) -> Access {
        let scope = "organization x".to_owned();
        Access {
            kind: crate::access::Kind::OpenAi,
            base_url: "http://127.0.0.1:1".parse().unwrap(),
            headers: Vec::new(),
            credential: crate::access::Credential::None,
            models: Vec::new(),
            owner: crate::access::Owner { organization: organization.to_owned(), ..Default::default() },
            held_until: None,
            limits: vec![Limit { scope, unit: Unit::Tokens, used: 0, maximum: 100 }],
            prices: Vec::new(),
        }
    }

    #[test]
    fn the_end_of_a_call_wakes_those_that_wait_for_the_same_limit_and_no_others() {
        use futures::FutureExt as _;
        let (reserved, ours, theirs) = (Reserved::default(), access("ours"), access("theirs"));
        let own = reserved.take(&ours, "m", 50, 50).ok().unwrap();
        let other = reserved.take(&theirs, "m", 50, 50).ok().unwrap();
        let waiting = reserved.take(&ours, "m", 1, 1).err().unwrap();
        drop(other);
        let mut waiting = Box::pin(waiting.freed);
        assert!(waiting.as_mut().now_or_never().is_none(), "another organization's call woke it");
        drop(own);
        assert!(waiting.as_mut().now_or_never().is_some());
        drop(reserved.take(&ours, "m", 1, 1).ok().unwrap());
        assert!(reserved.lock().is_empty(), "nothing is kept of limits without calls");
    }
}
