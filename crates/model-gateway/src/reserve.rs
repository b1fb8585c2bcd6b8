//! What calls in progress may still use of a limit, so that parallel calls cannot all be admitted on the same
//! remainder.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use crate::access::{Access, Limit, Unit, Usage};

/// Tokens expected of a call that sets no bound.
pub(crate) const WRITTEN: u64 = 8_192;
/// A window of a request with nothing but base64 characters belongs to a picture or a file, which costs few tokens.
const WINDOW: usize = 1024;
/// Bytes per token, roughly, across natural and programming languages.
const TOKEN: u64 = 4;
/// Bytes per token of a picture or a file, which still count a little, since text may look like base64.
const PICTURE: u64 = 64 * TOKEN;

/// Rough number of tokens in a request.
pub(crate) fn tokens_of(request: &[u8]) -> u64 {
    let letter = |b: &u8| b.is_ascii_alphanumeric() || b"+/=-_".contains(b);
    let (mut words, mut pictures) = (0, 0);
    for window in request.chunks(WINDOW) {
        let of_picture = window.len() == WINDOW && window.iter().all(letter);
        *(if of_picture { &mut pictures } else { &mut words }) += window.len() as u64;
    }
    words.div_ceil(TOKEN) + pictures.div_ceil(PICTURE)
}

/// What all calls in progress may still use, by limit.
#[derive(Clone, Default)]
pub(crate) struct Reserved(Arc<Mutex<HashMap<Key, Shares>>>);

/// What the calls in progress may use of one limit.
#[derive(Default)]
struct Shares {
    sum: u64,
    calls: usize,
    /// Notified when one of them has ended.
    freed: Arc<Notify>,
}

type Key = (String, String, bool);

/// Why a call has no share yet.
pub(crate) struct Crowded {
    /// The owner of the limit that may be used up.
    pub(crate) scope: String,
    /// Completes when a call with a share of it has ended.
    pub(crate) freed: OwnedNotified,
}

/// A call's share of its limits; released on drop.
pub(crate) struct Reservation {
    all: Reserved,
    amounts: Vec<(Key, u64)>,
}

fn key(access: &Access, limit: &Limit) -> Key {
    (access.owner.organization.clone(), limit.scope.clone(), limit.unit == Unit::Tokens)
}

impl Reserved {
    /// A share for a call with this many tokens. A call that is alone always gets one: its usage is known only
    /// afterwards.
    ///
    /// # Errors
    /// While calls in progress may use up a limit.
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
            // Created under the lock, so that no notification is missed.
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
        // The map is whole after every change, so a panic leaves it usable.
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
