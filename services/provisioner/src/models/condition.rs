//! Turns the answers of a model provider into the condition of the session that called.

use std::time::Duration;

use foundry_core::{Error, MessageId, SessionId, Timestamp};
use foundry_model_gateway::{ConditionKind, ModelCondition, Owner};
use foundry_proto::common::v1::{Condition, NoticeKind};
use foundry_store::{Value, WriteSet};

use super::wait;
use crate::domain::fold::notice;
use crate::domain::{Session, SessionState};
use crate::flow;
use crate::runtime::append_to_transcript;
use crate::shared::Shared;
use crate::store::{self, condition_value, model_waits, sessions};

/// How long an agent whose call was refused for good may take to end its turn.
const OBEY: Duration = Duration::from_secs(5);
/// Times that differ by fewer seconds count as the same.
const NEAR: i64 = 60;
/// The reason while a call of the session waits for its share of a limit: nothing was refused.
pub(crate) const LIMIT_WAIT: &str = "MODEL_LIMIT_WAIT";

/// Records the outcome of a session's call: for the session, and, when a quota is used up until a known time, for all
/// that use the same model provider.
pub async fn record(shared: &Shared, owner: &Owner, seen: &ModelCondition) -> Result<(), Error> {
    let id: SessionId = owner.session.parse()?;
    let decide = || async {
        let mut ws = WriteSet::new();
        of_provider(shared, &mut ws, owner, seen).await?;
        let session = sessions::find(&shared.store, &id).await?;
        // A call of an earlier turn does not concern this one.
        if let Some(session) =
            session.filter(|s| s.message_id == owner.turn && s.state != SessionState::Closed)
        {
            of_session(shared, &mut ws, owner, &session, seen)?;
        }
        Ok((ws, ()))
    };
    shared.store.retry_on_conflict(decide).await?;
    Ok(())
}

async fn of_provider(
    shared: &Shared,
    ws: &mut WriteSet,
    owner: &Owner,
    seen: &ModelCondition,
) -> Result<(), Error> {
    let provider = owner.provider.as_str();
    match seen.kind {
        ConditionKind::Quota { resume_at: Some(until), notice: false, .. } => {
            let found = model_waits::find(&shared.store, provider).await?;
            wait::begin(ws, found.as_ref(), provider, until, &seen.words);
        }
        ConditionKind::Working => {
            let found = model_waits::find(&shared.store, provider).await?;
            if found.is_some_and(|found| wait::is_over(&found, shared.env.clock.now())) {
                wait::end(ws, shared, provider);
            }
        }
        _ => {}
    }
    Ok(())
}

fn of_session(
    shared: &Shared,
    ws: &mut WriteSet,
    owner: &Owner,
    session: &Session,
    seen: &ModelCondition,
) -> Result<(), Error> {
    let now = shared.env.clock.now();
    if seen.kind == ConditionKind::LimitWaitOver {
        if session.model_condition.as_ref().is_some_and(|known| known.reason == LIMIT_WAIT) {
            let mut set = vec![("model_condition", Value::Null)];
            set.extend(cleared_condition(session, now));
            sessions::update(ws, session, set);
        }
        return Ok(());
    }
    if seen.kind == ConditionKind::LimitWait && session.model_condition.is_some() {
        // A refusal by the provider is more important.
        return Ok(());
    }
    if seen.kind == ConditionKind::Working {
        if session.model_condition.is_some() {
            cleared(ws, session, now);
        } else if session.model_answered != session.message_id {
            answered(ws, session);
        }
        return Ok(());
    }
    let condition = condition(seen, &owner.provider, now);
    // A turn starts with a cleared condition, so this one is of the same turn.
    let known = session.model_condition.as_ref().filter(|known| {
        // A short wait that the agent handles itself and one that ends the turn have the same reason.
        known.reason == condition.reason && known.retryable == condition.retryable
    });
    if known.is_some_and(|known| is_near(known.next_attempt_time, condition.next_attempt_time)) {
        return Ok(());
    }
    let mut set = vec![("model_condition", condition_value(&condition))];
    if !session.waits_for_person() {
        set.push(("condition", condition_value(&condition)));
    }
    if let ConditionKind::Quota { notice: true, .. } = seen.kind
        && session.state == SessionState::Running
        && session.model_noticed != session.message_id
    {
        // Once per turn: short limits are reached again and again.
        let text = format!(
            "the agent is waiting for the model provider and continues automatically: {}",
            seen.words
        );
        set.extend(append_to_transcript(ws, session, None, vec![notice(NoticeKind::ModelWait, text)], now));
        set.push(("model_noticed", session.message_id.as_str().into()));
    }
    sessions::update(ws, session, set);
    if seen.ends_turn()
        && known.is_none()
        && session.state == SessionState::Running
        && let Ok(turn) = session.message_id.parse::<MessageId>()
    {
        flow::cancel::enqueue_after(ws, shared, session, &turn, seen.reason(), OBEY)?;
    }
    Ok(())
}

/// Whether two times are the same for people. Providers count from each refusal on, so the time moves a little.
fn is_near(one: Option<prost_types::Timestamp>, other: Option<prost_types::Timestamp>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => (one.seconds - other.seconds).abs() < NEAR,
        _ => false,
    }
}

/// Records the first successful answer of a turn. It is not shown, so there is no new revision.
fn answered(ws: &mut WriteSet, session: &Session) {
    let key = [(&session.session_id).into()];
    let set = [("model_answered", session.message_id.as_str().into())];
    ws.update(&sessions::SESSIONS, &key, &set, &[("rev", session.rev.into())]);
}

/// A call succeeded: removes the condition that was shown.
fn cleared(ws: &mut WriteSet, session: &Session, now: Timestamp) {
    let mut set =
        vec![("model_condition", Value::Null), ("model_answered", session.message_id.as_str().into())];
    set.extend(cleared_condition(session, now));
    sessions::update(ws, session, set);
}

/// What the session shows once its model condition is gone; none when it shows something else, such as a question to
/// a person.
fn cleared_condition(session: &Session, now: Timestamp) -> Option<(&'static str, Value)> {
    let shows = session.condition.reason.starts_with("MODEL_") && !session.waits_for_person();
    shows.then(|| ("condition", condition_value(&store::cleared(now))))
}

fn condition(seen: &ModelCondition, provider: &str, now: Timestamp) -> Condition {
    let (next_action, next_attempt) = match &seen.kind {
        ConditionKind::KeyRefused => {
            (format!("set a valid key with `foundry model update {provider}`, then send a message"), None)
        }
        ConditionKind::Unknown | ConditionKind::NotAllowed => (
            "choose another model in the profile (`foundry profile update`), then send a message".to_owned(),
            None,
        ),
        ConditionKind::Quota { resume_at: Some(at), notice: true, .. } => {
            ("none needed: the agent continues automatically".to_owned(), Some(at.to_proto()))
        }
        ConditionKind::Quota { resume_at: Some(at), .. } => {
            let text = "wait, queued messages are sent automatically at the time shown; to send them earlier, \
                        set another key or resume";
            (text.to_owned(), Some(at.to_proto()))
        }
        ConditionKind::Quota { .. } => {
            let text = "the provider gave no reset time, so the queue is paused: raise the quota there, or choose a \
                        profile with another key; then send a message";
            (text.to_owned(), None)
        }
        ConditionKind::LimitReached => {
            let text = "ask an admin or owner of the organization to raise the limit (`foundry model limit set`, \
                        or the page Models), then send a message";
            (text.to_owned(), None)
        }
        ConditionKind::ProviderGone => {
            ("start a session with a profile that uses another model provider, or add one".to_owned(), None)
        }
        ConditionKind::Unreachable(_) => {
            (format!("check the provider with `foundry model test {provider}`"), None)
        }
        ConditionKind::Failing | ConditionKind::Silent => {
            ("wait, the agent retries automatically; or stop the turn".to_owned(), None)
        }
        ConditionKind::LimitWait => {
            let text = "wait, the call is sent when another one finishes; or ask an admin or owner to raise the limit \
                        (`foundry model limit set`, or the page Models)";
            (text.to_owned(), None)
        }
        ConditionKind::Working | ConditionKind::LimitWaitOver => (String::new(), None),
    };
    let waiting_on = match seen.kind {
        ConditionKind::Quota { notice: true, .. } => "agent".to_owned(),
        ConditionKind::LimitWait => "model calls in progress".to_owned(),
        _ => format!("model provider {provider}"),
    };
    Condition {
        reason: seen.reason().to_owned(),
        message: seen.words.clone(),
        waiting_on,
        since_time: Some(now.to_proto()),
        retryable: !seen.ends_turn(),
        next_attempt_time: next_attempt,
        next_action,
        ..Condition::default()
    }
}

#[cfg(test)]
mod tests {
    use foundry_core::Timestamp;

    use super::{ConditionKind, ModelCondition, condition};

    #[test]
    fn only_a_condition_that_leaves_nothing_to_do_says_that_nothing_is_needed() {
        let now = Timestamp::from_micros(0);
        let quota = |notice| ConditionKind::Quota { resume_at: Some(now), notice, ends_turn: !notice };
        let none_needed = |kind| {
            let seen = ModelCondition { kind, model: String::new(), words: String::new() };
            // The page and the CLI leave out what starts so.
            condition(&seen, "mdl_1", now).next_action.starts_with("none needed")
        };
        assert!(none_needed(quota(true)));
        assert!(!none_needed(quota(false)), "another key can be set, and the queue resumed");
        assert!(!none_needed(ConditionKind::LimitWait), "the limit can be raised");
    }
}
