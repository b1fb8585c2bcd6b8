//! Sessions whose agent events this process cannot take into their transcripts, and why: each process follows all
//! sessions, so each can explain them.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use foundry_core::{SessionId, Timestamp, lock};
use foundry_proto::common::v1::Condition;

/// After failing for this long, a transcript counts as stalled.
const STALLED: Duration = Duration::from_secs(10);

/// The sessions whose last attempt failed.
#[derive(Default)]
pub struct Stalls(Mutex<HashMap<SessionId, Failing>>);

struct Failing {
    since: Timestamp,
    attempts: i32,
    cause: String,
}

impl Stalls {
    /// Records a failure of a session's consumer.
    pub fn failed(&self, session: &SessionId, now: Timestamp, cause: &str) {
        let mut failing = lock(&self.0);
        let failing = failing.entry(session.clone()).or_insert_with(|| Failing {
            since: now,
            attempts: 0,
            cause: String::new(),
        });
        failing.attempts = failing.attempts.saturating_add(1);
        cause.clone_into(&mut failing.cause);
    }

    /// Records that a session's consumer has gone on, or is not needed any more.
    pub fn progressed(&self, session: &SessionId) {
        lock(&self.0).remove(session);
    }

    /// The condition of a session's transcript, once it has failed for 10 s.
    pub fn condition(&self, session: &SessionId, now: Timestamp) -> Option<Condition> {
        let failing = lock(&self.0);
        let failing = failing.get(session).filter(|f| now.since(f.since) >= STALLED)?;
        Some(Condition {
            reason: "TRANSCRIPT_STALLED".to_owned(),
            message: format!("the agent's events cannot be added to the transcript: {}", failing.cause),
            since_time: Some(failing.since.to_proto()),
            attempt: failing.attempts,
            retryable: true,
            next_action: "none needed: it is retried automatically; if it persists, see the log".to_owned(),
            ..Condition::default()
        })
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
}
