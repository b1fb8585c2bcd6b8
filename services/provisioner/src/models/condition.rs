//! What a model provider answers becomes the condition of the session that called, at once.

use std::time::Duration;

use foundry_core::{Error, MessageId, SessionId, Timestamp};
use foundry_model_gateway::{Access, ConditionKind, ModelCondition};
use foundry_proto::common::v1::Condition;
use foundry_store::{Value, WriteSet};

use crate::domain::{Session, SessionState};
use crate::flow;
use crate::shared::Shared;
use crate::store::{calm, condition_value, sessions};

/// How long an agent that was told not to try again may take to end its turn.
const OBEY: Duration = Duration::from_secs(5);

/// Records what a call of a session showed. What is a notice only, for the agent waits by itself, changes nothing.
pub async fn record(shared: &Shared, access: &Access, seen: &ModelCondition) -> Result<(), Error> {
    let id: SessionId = access.owner.session.parse()?;
    let notice = matches!(seen.kind, ConditionKind::Quota { notice: true, .. });
    let decide = || async {
        let mut ws = WriteSet::new();
        let Some(session) = sessions::find(&shared.store, &id).await? else { return Ok((ws, ())) };
        let now = shared.env.clock.now();
        if seen.kind == ConditionKind::Working {
            if session.model_condition.is_some() {
                cleared(&mut ws, &session, now);
            } else if session.model_answered != session.message_id {
                answered(&mut ws, &session);
            }
            return Ok((ws, ()));
        }
        let condition = condition(seen, &access.owner.provider, now);
        // It is cleared when a turn begins: what stands here is of this turn.
        let known = session.model_condition.as_ref();
        let same = |c: &Condition| {
            c.reason == condition.reason && c.next_attempt_time == condition.next_attempt_time
        };
        if notice || known.is_some_and(same) || session.state == SessionState::Closed {
            return Ok((ws, ()));
        }
        let mut set = vec![("model_condition", condition_value(&condition))];
        if !session.waits_for_person() {
            set.push(("condition", condition_value(&condition)));
        }
        sessions::update(&mut ws, &session, set);
        if seen.ends_turn()
            && session.state == SessionState::Running
            && let Ok(turn) = session.message_id.parse::<MessageId>()
        {
            flow::cancel::enqueue_after(&mut ws, shared, &session, &turn, seen.reason(), OBEY)?;
        }
        Ok((ws, ()))
    };
    shared.store.retry_on_conflict(decide).await?;
    Ok(())
}

/// The first good answer of a turn. Nobody is shown it, so there is no new revision.
fn answered(ws: &mut WriteSet, session: &Session) {
    let key = [(&session.session_id).into()];
    let set = [("model_answered", session.message_id.as_str().into())];
    ws.update(&sessions::SESSIONS, &key, &set, &[("rev", session.rev.into())]);
}

/// A call succeeded: what was shown before is over.
fn cleared(ws: &mut WriteSet, session: &Session, now: Timestamp) {
    let mut set =
        vec![("model_condition", Value::Null), ("model_answered", session.message_id.as_str().into())];
    // A person who is waited for is waited for all the same.
    if session.condition.reason.starts_with("MODEL_") && !session.waits_for_person() {
        set.push(("condition", condition_value(&calm(now))));
    }
    sessions::update(ws, session, set);
}

fn condition(seen: &ModelCondition, provider: &str, now: Timestamp) -> Condition {
    let (next_action, next_attempt) = match &seen.kind {
        ConditionKind::KeyRefused => (format!("set a valid key with `foundry model update {provider}`, then send a message"), None),
        ConditionKind::Unknown | ConditionKind::NotAllowed => {
            ("choose another model in the profile (`foundry profile update`), then send a message".to_owned(), None)
        }
        ConditionKind::Quota { resume_at: Some(at), .. } => {
            ("resume the queue after the time shown, or choose a profile with another key".to_owned(), Some(at.to_proto()))
        }
        ConditionKind::Quota { .. } => {
            ("wait, raise the quota at the provider, or choose a profile with another key; then send a message".to_owned(), None)
        }
        ConditionKind::LimitReached => ("raise the limit, then send a message".to_owned(), None),
        ConditionKind::Unreachable(_) => {
            (format!("check the provider with `foundry model test {provider}`"), None)
        }
        ConditionKind::Failing | ConditionKind::Silent => {
            ("wait: the agent tries again by itself; or stop the turn".to_owned(), None)
        }
        ConditionKind::Working => (String::new(), None),
    };
    Condition {
        reason: seen.reason().to_owned(),
        message: seen.words.clone(),
        waiting_on: format!("model provider {provider}"),
        since_time: Some(now.to_proto()),
        retryable: !seen.ends_turn(),
        next_attempt_time: next_attempt,
        next_action,
        ..Condition::default()
    }
}
