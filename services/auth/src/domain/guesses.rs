//! Wrong user codes, counted for each user: a code is short enough to be guessed by who may try without end.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use foundry_core::{Error, Result, Timestamp, UserId};

/// Wrong codes of one user in [`WINDOW`] after which further ones are refused unread.
pub(crate) const MAX_WRONG: usize = 10;
pub(crate) const WINDOW: Duration = Duration::from_secs(600);
/// Most users that are remembered. Beyond, nobody else may guess until some have waited.
const MAX_USERS: usize = 10_000;

/// The wrong codes of the last minutes, in this process.
#[derive(Default)]
pub(crate) struct Guesses(Mutex<HashMap<UserId, VecDeque<Timestamp>>>);

impl Guesses {
    /// Counts a code that a user tries, as a wrong one until [`Guesses::take_back`]: of codes that are tried at the same time,
    /// none is looked up before it counts.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` after too many wrong ones.
    pub(crate) fn count(&self, user: &UserId, now: Timestamp) -> Result<()> {
        let mut all = foundry_core::lock(&self.0);
        if all.len() >= MAX_USERS && !all.contains_key(user) {
            all.retain(|_, tried| tried.back().is_some_and(|at| now.since(*at) < WINDOW));
            if all.len() >= MAX_USERS {
                return Err(too_many(MAX_WRONG, WINDOW));
            }
        }
        let tried = all.entry(user.clone()).or_default();
        while tried.front().is_some_and(|at| now.since(*at) >= WINDOW) {
            tried.pop_front();
        }
        match tried.front() {
            Some(oldest) if tried.len() >= MAX_WRONG => {
                Err(too_many(tried.len(), oldest.plus(WINDOW).since(now)))
            }
            _ => {
                tried.push_back(now);
                Ok(())
            }
        }
    }

    /// The code that was counted at this time was not wrong.
    pub(crate) fn take_back(&self, user: &UserId, counted: Timestamp) {
        let mut all = foundry_core::lock(&self.0);
        let Some(tried) = all.get_mut(user) else { return };
        if let Some(at) = tried.iter().position(|at| *at == counted) {
            tried.remove(at);
        }
        if tried.is_empty() {
            all.remove(user);
        }
    }
}

fn too_many(current: usize, wait: Duration) -> Error {
    Error::quota("wrong_user_codes", "user", current as u64, MAX_WRONG as u64)
        .retry_after(wait)
        .next_action("wait, then begin again with `foundry login --device` and type the code that it prints")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_guesses_ten_times_in_ten_minutes_and_others_go_on() {
        let test = foundry_testkit::test_env();
        let (guesses, now) = (Guesses::default(), test.env.clock.now());
        let [mallory, alice] = [0; 2].map(|_| UserId::generate(&test.env));
        for _ in 0..MAX_WRONG {
            guesses.count(&mallory, now).unwrap();
        }
        assert_eq!(guesses.count(&mallory, now).unwrap_err().reason(), "LIMIT_REACHED");
        assert!(guesses.count(&alice, now).is_ok());
        assert!(guesses.count(&mallory, now.plus(WINDOW)).is_ok());
    }

    #[test]
    fn right_codes_do_not_count_and_wrong_ones_stay_counted() {
        let test = foundry_testkit::test_env();
        let (guesses, now) = (Guesses::default(), test.env.clock.now());
        let alice = UserId::generate(&test.env);
        guesses.count(&alice, now).unwrap();
        for _ in 0..2 * MAX_WRONG {
            guesses.count(&alice, now).unwrap();
            guesses.take_back(&alice, now);
        }
        for _ in 1..MAX_WRONG {
            guesses.count(&alice, now).unwrap();
        }
        assert!(guesses.count(&alice, now).is_err());
    }

    #[test]
    fn users_without_end_are_not_remembered_and_do_not_get_past_it() {
        let test = foundry_testkit::test_env();
        let (guesses, now) = (Guesses::default(), test.env.clock.now());
        for _ in 0..MAX_USERS {
            guesses.count(&UserId::generate(&test.env), now).unwrap();
        }
        let another = UserId::generate(&test.env);
        assert!(guesses.count(&another, now).is_err());
        assert!(guesses.count(&another, now.plus(WINDOW)).is_ok());
    }
}
