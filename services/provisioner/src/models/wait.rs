//! A quota that is used up until a known time: until then no prompt is delivered that needs this model provider;
//! after it, waiting ones are delivered automatically. One turn goes first, the others when a model has answered it.

use std::time::Duration;

use foundry_core::{Error, Timestamp};
use foundry_flow::{Outcome, signal};
use foundry_proto::common::v1::Condition;
use foundry_store::WriteSet;

use crate::domain::{Session, Turn};
use crate::shared::Shared;
use crate::store::model_waits::{self, ModelWait};
use crate::store::{condition_value, sessions};

/// How long the others wait for the answer to the first turn.
const FIRST: Duration = Duration::from_secs(60);
/// A wait is checked again after this time, in case its signal was lost or the clock was set.
const LOOK_AGAIN: Duration = Duration::from_secs(300);
/// The reason in the condition of a session that waits.
const REASON: &str = "MODEL_QUOTA";

/// Wait key of turns that wait for the quota of a model provider.
fn key(provider: &str) -> String {
    format!("model/{provider}")
}

/// Records that the quota is used up until `until`.
pub fn begin(ws: &mut WriteSet, found: Option<&ModelWait>, provider: &str, until: Timestamp, words: &str) {
    if found.is_some_and(|wait| wait.until == until && wait.first_turn.is_empty()) {
        return;
    }
    let (words, _) = crate::domain::head(words, 600);
    let wait = ModelWait {
        provider: provider.to_owned(),
        until,
        words: words.to_owned(),
        first_turn: String::new(),
    };
    model_waits::put(ws, found, &wait);
}

/// Ends the wait; turns that waited are delivered.
pub fn end(ws: &mut WriteSet, shared: &Shared, provider: &str) {
    model_waits::end(ws, provider);
    wake(ws, shared, provider);
}

/// Lets turns that wait for a model provider check again.
pub fn wake(ws: &mut WriteSet, shared: &Shared, provider: &str) {
    signal(ws, &shared.env, &key(provider));
}

/// Whether a successful answer ends this wait. A call that began before it shows nothing about the quota.
pub fn is_over(wait: &ModelWait, now: Timestamp) -> bool {
    !wait.first_turn.is_empty() || wait.until <= now
}

/// Whether a turn must wait for a quota now: the wait as an outcome of its delivery, also recorded in the session;
/// none when it can be delivered.
pub async fn keeps_back(shared: &Shared, session: &Session, turn: &Turn) -> Result<Option<Outcome>, Error> {
    let (id, message) = (&session.session_id, turn.message_id.as_str());
    let decide = || async {
        let mut ws = WriteSet::new();
        let Some(session) = sessions::find(&shared.store, id).await?.filter(|s| s.message_id == message)
        else {
            return Ok((ws, None));
        };
        let (now, provider) = (shared.env.clock.now(), session.model_provider_id.as_str());
        let found = match provider {
            "" => None,
            provider => model_waits::find(&shared.store, provider).await?,
        };
        let kept = found.as_ref().filter(|wait| wait.first_turn != message && wait.until > now);
        let condition = kept.map_or_else(|| goes(now), |wait| waits(wait, now));
        let known = &session.condition;
        if known.reason != condition.reason || known.next_attempt_time != condition.next_attempt_time {
            sessions::update(&mut ws, &session, vec![("condition", condition_value(&condition))]);
        }
        if let (None, Some(wait)) = (kept, &found)
            && wait.first_turn != message
        {
            let first = ModelWait { until: now.plus(FIRST), first_turn: message.to_owned(), ..wait.clone() };
            model_waits::put(&mut ws, Some(wait), &first);
        }
        let outcome = kept.map(|wait| {
            let until = wait.until.min(now.plus(LOOK_AGAIN));
            Outcome::wait(key(provider), condition.message.as_str()).because(REASON).until(until)
        });
        Ok((ws, outcome))
    };
    Ok(shared.store.retry_on_conflict(decide).await?.1)
}

/// The condition of a session whose turn is running.
fn goes(now: Timestamp) -> Condition {
    Condition {
        waiting_on: "agent".to_owned(),
        message: "a turn is running".to_owned(),
        since_time: Some(now.to_proto()),
        ..Condition::default()
    }
}

/// The condition of a session whose turn waits for a quota.
fn waits(wait: &ModelWait, now: Timestamp) -> Condition {
    let message = if wait.first_turn.is_empty() {
        format!(
            "the model provider's quota is exhausted; the message is sent automatically at the time \
             shown ({})",
            wait.words
        )
    } else {
        "the model provider's quota was exhausted; one message is sent first to check whether it is \
         available again"
            .to_owned()
    };
    Condition {
        reason: REASON.to_owned(),
        message,
        waiting_on: format!("model provider {}", wait.provider),
        since_time: Some(now.to_proto()),
        next_attempt_time: Some(wait.until.to_proto()),
        retryable: true,
        next_action:
            "wait, the message is sent automatically; or resume to try immediately, or stop the turn"
                .to_owned(),
        ..Condition::default()
    }
}
