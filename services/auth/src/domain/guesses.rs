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
    /// Checks that a user may try a code.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` after too many wrong ones.
    pub(crate) fn check(&self, user: &UserId, now: Timestamp) -> Result<()> {
        let mut all = foundry_core::lock(&self.0);
        let Some(wrong) = all.get_mut(user) else {
            if all.len() < MAX_USERS {
                return Ok(());
            }
            all.retain(|_, wrong| wrong.back().is_some_and(|at| now.since(*at) < WINDOW));
            return if all.len() < MAX_USERS { Ok(()) } else { Err(too_many(MAX_WRONG, WINDOW)) };
        };
        while wrong.front().is_some_and(|at| now.since(*at) >= WINDOW) {
            wrong.pop_front();
        }
        match wrong.front() {
            Some(oldest) if wrong.len() >= MAX_WRONG => {
                Err(too_many(wrong.len(), oldest.plus(WINDOW).since(now)))
            }
            _ => Ok(()),
        }
    }

    /// Counts a wrong code.
    pub(crate) fn note(&self, user: &UserId, now: Timestamp) {
        foundry_core::lock(&self.0).entry(user.clone()).or_default().push_back(now);
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
            guesses.check(&mallory, now).unwrap();
            guesses.note(&mallory, now);
        }
        assert_eq!(guesses.check(&mallory, now).unwrap_err().reason(), "LIMIT_REACHED");
        assert!(guesses.check(&alice, now).is_ok());
        assert!(guesses.check(&mallory, now.plus(WINDOW)).is_ok());
    }

    #[test]
    fn users_without_end_are_not_remembered_and_do_not_get_past_it() {
        let test = foundry_testkit::test_env();
        let (guesses, now) = (Guesses::default(), test.env.clock.now());
        for _ in 0..MAX_USERS {
            guesses.note(&UserId::generate(&test.env), now);
        }
        let another = UserId::generate(&test.env);
        assert!(guesses.check(&another, now).is_err());
        assert!(guesses.check(&another, now.plus(WINDOW)).is_ok());
    }
}
