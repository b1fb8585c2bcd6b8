//! What this process cannot take in, and why: the events of a session into its transcript, or what another service
//! reports of an organization. Each process follows all of them, so each can explain them.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use foundry_core::{OrganizationId, SessionId, Timestamp, lock};
use foundry_proto::common::v1::Condition;
use foundry_watch_hub::StalledFeed;

/// After failing for this long, a consumer counts as stalled.
const STALLED: Duration = Duration::from_secs(10);
const NEXT: &str = "none needed: it is retried automatically; if it persists, see the log";

/// What a consumer of this process follows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Followed {
    /// The agent's events of a session.
    Events(SessionId),
    /// What a watch reports of an organization, by the name of its rpc.
    Watch(OrganizationId, &'static str),
}

impl From<&SessionId> for Followed {
    fn from(session: &SessionId) -> Self {
        Self::Events(session.clone())
    }
}

/// The consumers whose last attempt failed.
#[derive(Default)]
pub struct Stalls(Mutex<HashMap<Followed, Failing>>);

struct Failing {
    since: Timestamp,
    attempts: i32,
    cause: String,
}

impl Stalls {
    /// Records a failure of a consumer.
    pub fn failed(&self, followed: impl Into<Followed>, now: Timestamp, cause: &str) {
        let mut failing = lock(&self.0);
        let failing = failing.entry(followed.into()).or_insert_with(|| Failing {
            since: now,
            attempts: 0,
            cause: String::new(),
        });
        failing.attempts = failing.attempts.saturating_add(1);
        cause.clone_into(&mut failing.cause);
    }

    /// Records that a consumer has gone on, or is not needed any more.
    pub fn progressed(&self, followed: impl Into<Followed>) {
        lock(&self.0).remove(&followed.into());
    }

    /// The condition of what a consumer follows, once it has failed for 10 s.
    pub fn condition(&self, followed: impl Into<Followed>, now: Timestamp) -> Option<Condition> {
        let (followed, failing) = (followed.into(), lock(&self.0));
        let failing = failing.get(&followed).filter(|f| now.since(f.since) >= STALLED)?;
        let (reason, what) = match followed {
            Followed::Events(_) => {
                ("TRANSCRIPT_STALLED", "the agent's events cannot be added to the transcript".to_owned())
            }
            Followed::Watch(_, view) => (
                "WATCH_STALLED",
                format!("what {view} reports cannot be taken in, and is shown as it was before"),
            ),
        };
        Some(Condition {
            reason: reason.to_owned(),
            message: format!("{what}: {}", failing.cause),
            since_time: Some(failing.since.to_proto()),
            attempt: failing.attempts,
            retryable: true,
            next_action: NEXT.to_owned(),
            ..Condition::default()
        })
    }
}

/// The condition of a watch of this service whose feed is stalled.
pub fn feed_condition(stalled: &StalledFeed) -> Condition {
    Condition {
        reason: "FEED_STALLED".to_owned(),
        message: format!("changes cannot be read, and watchers see what was before: {}", stalled.cause),
        since_time: Some(stalled.since.to_proto()),
        attempt: stalled.attempts,
        retryable: true,
        next_action: NEXT.to_owned(),
        ..Condition::default()
    }
}

#[cfg(test)]
mod tests {
    use foundry_core::Env;

    use super::*;

    #[test]
    fn a_transcript_is_stalled_from_ten_seconds_after_its_first_failure_until_it_goes_on() {
        let (stalls, session) = (Stalls::default(), SessionId::generate(&Env::system()));
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        stalls.failed(&session, at(1), "no connection");
        stalls.failed(&session, at(9), "too large");
        assert_eq!(stalls.condition(&session, at(10)), None);
        let condition = stalls.condition(&session, at(11)).unwrap();
        assert_eq!((condition.reason.as_str(), condition.attempt), ("TRANSCRIPT_STALLED", 2));
        assert!(condition.message.ends_with(": too large"), "{}", condition.message);
        assert_eq!(condition.since_time, Some(at(1).to_proto()));
        stalls.progressed(&session);
        assert_eq!(stalls.condition(&session, at(20)), None);
    }

    #[test]
    fn the_watches_of_an_organization_are_apart_from_each_other() {
        let (stalls, env) = (Stalls::default(), Env::system());
        let (organization, at) =
            (OrganizationId::generate(&env), |s: i64| Timestamp::from_micros(s * 1_000_000));
        let watch = |view| Followed::Watch(organization.clone(), view);
        stalls.failed(watch("WatchSandboxes"), at(1), "away");
        let condition = stalls.condition(watch("WatchSandboxes"), at(11)).unwrap();
        assert_eq!(condition.reason, "WATCH_STALLED");
        assert!(condition.message.contains("WatchSandboxes") && condition.message.ends_with(": away"));
        assert_eq!(stalls.condition(watch("WatchRepositories"), at(11)), None);
    }
}
