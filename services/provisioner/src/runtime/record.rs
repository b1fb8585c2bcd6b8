//! Recording a stretch of a tap log: events, their consequences and the position after them in one
//! write set, on the condition that the position before is still the stored one.

use foundry_core::{Error, SessionId, Timestamp};
use foundry_proto::common::v1::{
    Condition, NoticeKind, PermissionAnswer, PermissionPolicy, TranscriptPart, TurnOutcome,
    transcript_part::Body,
};
use foundry_sandbox::{TapBatch, TapCursor, TapEvent};
use foundry_store::WriteSet;

use super::news::{self, Taken};
use super::output::{self, LeftOut};
use crate::domain::fold::{Asked, Elicited, Fold, Folded, Running, fold, notice};
use crate::domain::{Session, SessionState, Turn, TurnState};
use crate::flow::{self, permission::Answer};
use crate::models::condition::LIMIT_WAIT;
use crate::shared::Shared;
use crate::store::{
    Set, attachments, cleared, condition_value, elicitations, events, permissions, sessions, turns,
};

/// At most one hand-over of work per session in this time while a turn runs.
const WORK_PACE: std::time::Duration = std::time::Duration::from_secs(3);

/// What became of a stretch of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// It is recorded.
    Stored,
    /// It is recorded, but a usage is still to be shown, by recording again a little later.
    Owing,
    /// Another process has recorded it: continue from the stored position.
    Stale,
    /// The session is closed.
    Gone,
}

/// Records what was read from position `start` on, in as many write sets as its parts need.
///
/// # Errors
/// When the database fails.
pub async fn record(
    shared: &Shared,
    session_id: &SessionId,
    workspace: &str,
    start: &TapCursor,
    batch: &TapBatch,
) -> Result<Recorded, Error> {
    let mut start = start.clone();
    let mut left = batch.events.as_slice();
    loop {
        let stretch = Stretch { start: &start, events: left, end: &batch.next };
        let (recorded, next) = record_stretch(shared, session_id, workspace, stretch).await?;
        match next {
            Some((taken, next)) if taken < left.len() => (left, start) = (&left[taken..], next),
            _ => return Ok(recorded),
        }
    }
}

/// A stretch of a log: its events, and the positions before and after them.
#[derive(Clone, Copy)]
struct Stretch<'a> {
    start: &'a TapCursor,
    events: &'a [TapEvent],
    end: &'a TapCursor,
}

impl Stretch<'_> {
    /// The position after so many of its events.
    fn after(&self, taken: usize) -> TapCursor {
        let Some(next) = self.events.get(taken) else { return self.end.clone() };
        let last = taken.checked_sub(1).map_or(&self.start.instance, |last| &self.events[last].instance);
        TapCursor { offset: next.offset, instance: last.clone(), skipping: false }
    }
}

/// Records the beginning of a stretch in one write set. Some = how many events that were, and the position after them.
async fn record_stretch(
    shared: &Shared,
    session_id: &SessionId,
    workspace: &str,
    stretch: Stretch<'_>,
) -> Result<(Recorded, Option<(usize, TapCursor)>), Error> {
    let decide = || async {
        let Some(session) = open_session(shared, session_id).await? else {
            return Ok((WriteSet::new(), (Recorded::Gone, None, None)));
        };
        if session.cursor != *stretch.start {
            return Ok((WriteSet::new(), (Recorded::Stale, None, None)));
        }
        let turn = turns::find_named(&shared.store, session_id, &session.message_id).await?;
        let turn = turn.filter(|t| t.state != TurnState::Ended && session.state == SessionState::Running);
        let mut after = session.fold.clone();
        after.blind = false;
        let running = turn
            .as_ref()
            .map(|t| Running { message_id: t.message_id.as_str(), stop_asked: t.cancel_requested });
        let mut folded = fold(&mut after, running, workspace, stretch.events);
        let (taken_events, next) = (folded.taken, stretch.after(folded.taken));
        let answered = session.model_answered == session.message_id;
        let refused = session.model_condition.as_ref().filter(|c| c.reason != LIMIT_WAIT);
        blame_model(&mut folded, refused, answered);
        let left_out = output::limit(shared, &session, &mut after, &mut folded).await?;
        let kept = crate::attachments::keep(shared, &session, &mut folded).await?;
        let now = shared.env.clock.now();
        let taken = news::taken(&session, &mut after, &folded, now);
        let recorded = if taken.owing { Recorded::Owing } else { Recorded::Stored };
        let declined = std::mem::take(&mut folded.declined);
        let recording = Recording { shared, session: &session, turn, taken, left_out, now };
        let (mut ws, stored) = recording.write(after, folded, &next).await?;
        for file in &kept {
            attachments::ready(&mut ws, file, None);
        }
        // Also questions that are declined without a notice: the agent waits for the answers.
        flow::decline::enqueue_for(&mut ws, shared, &session, declined).await?;
        Ok((ws, (recorded, Some((taken_events, next)), Some((session, stored)))))
    };
    let (recorded, taken, stored) = shared.store.retry_on_conflict(decide).await?.1;
    if let Some((session, bytes)) = stored {
        shared.stored_output.add(&session, bytes);
    }
    Ok((recorded, taken))
}

/// Adds a notice that the log cannot be read, once, and continues at `next`.
///
/// # Errors
/// When the database fails.
pub async fn record_hole(
    shared: &Shared,
    session_id: &SessionId,
    next: &TapCursor,
    reason: &str,
) -> Result<Recorded, Error> {
    let decide = || async {
        let Some(session) = open_session(shared, session_id).await? else {
            return Ok((WriteSet::new(), Recorded::Gone));
        };
        let mut folded = Folded::default();
        if !session.fold.blind {
            let body = notice(NoticeKind::EventsLost, format!("agent events are missing here: {reason}"));
            folded.parts.push(TranscriptPart {
                message_id: session.message_id.clone(),
                body: Some(body),
                ..TranscriptPart::default()
            });
        }
        let mut after = session.fold.clone();
        after.blind = true;
        let now = shared.env.clock.now();
        let taken = news::taken(&session, &mut after, &folded, now);
        let left_out = LeftOut::default();
        let recording = Recording { shared, session: &session, turn: None, taken, left_out, now };
        let (ws, _) = recording.write(after, folded, next).await?;
        Ok((ws, Recorded::Stored))
    };
    Ok(shared.store.retry_on_conflict(decide).await?.1)
}

async fn open_session(shared: &Shared, id: &SessionId) -> Result<Option<Session>, Error> {
    let session = sessions::find(&shared.store, id).await?;
    Ok(session.filter(|s| s.state != SessionState::Closed))
}

struct Recording<'a> {
    shared: &'a Shared,
    session: &'a Session,
    turn: Option<Turn>,
    taken: Taken,
    left_out: LeftOut,
    now: Timestamp,
}

impl Recording<'_> {
    /// Returns the write set, and the bytes of the parts in it.
    async fn write(
        &self,
        mut fold: Fold,
        folded: Folded,
        next: &TapCursor,
    ) -> Result<(WriteSet, i64), Error> {
        let mut ws = WriteSet::new();
        let mut set: Set = vec![("cursor", sessions::json(next)?)];
        set.extend(self.left_out.total(self.session).map(|bytes| ("left_out_bytes", bytes.into())));
        // Questions that are shown have a part, so they need no check of their own.
        if folded.parts.is_empty() && !folded.sent && self.taken.offer.is_none() {
            // Nothing to show: the position moves without a new revision.
            set.push(("fold", sessions::json(&fold)?));
            let guards =
                [("rev", self.session.rev.into()), ("cursor", sessions::json(&self.session.cursor)?)];
            ws.update(&sessions::SESSIONS, &[(&self.session.session_id).into()], &set, &guards);
            return Ok((ws, 0));
        }
        let mut parts = folded.parts;
        let mut answers = Vec::new();
        for asked in &folded.asked {
            let answer = self.by_policy(asked);
            let ordinal = self.session.last_offset + 1 + i64::try_from(asked.part).unwrap_or(0);
            permissions::insert(&mut ws, &self.session.session_id, ordinal, asked, answer);
            let Some(option) = answer else { continue };
            parts.push(self.answered(asked, option));
            answers.push(Answer::permission(&asked.acp_id, Some(option)));
        }
        for asked in &folded.elicited {
            let ordinal = self.session.last_offset + 1 + i64::try_from(asked.part).unwrap_or(0);
            elicitations::insert(&mut ws, &self.session.session_id, ordinal, asked);
        }
        flow::permission::enqueue_by_policy(&mut ws, self.shared, self.session, answers).await?;
        if let Some(turn) = &self.turn {
            let (asked, elicited) = (&folded.asked, &folded.elicited);
            self.turn_news(&mut ws, &mut set, turn, (asked, elicited), folded.sent, folded.ended.as_ref());
        }
        self.show_limit(&mut set);
        if let Some(offer) = &self.taken.offer {
            set.push(("offer", sessions::json(offer)?));
        }
        if self.taken.settled {
            news::wake(&mut ws, &self.shared.env, &self.session.session_id);
        }
        if folded.ended.is_some() {
            flow::work::enqueue_for(&mut ws, self.shared, self.session, None)?;
        } else if folded.worked && self.now.since(Timestamp::from_micros(fold.work_asked)) > WORK_PACE {
            fold.work_asked = self.now.as_micros();
            flow::work::enqueue_for(&mut ws, self.shared, self.session, Some(flow::work::DEBOUNCE))?;
        }
        set.push(("fold", sessions::json(&fold)?));
        let revs = sessions::revs(&mut ws, &self.session.organization_id, &self.session.session_id);
        let appended = events::append(&mut ws, self.session, revs.session, self.now, parts);
        set.extend(appended.columns());
        sessions::update(&mut ws, self.session, set);
        Ok((ws, appended.stored_bytes - self.session.stored_bytes))
    }

    /// Shows a reached limit of stored output, unless the session has something else to show.
    fn show_limit(&self, set: &mut Set) {
        let shows = !self.session.condition.reason.is_empty() || self.session.waits_for_person();
        if shows || set.iter().any(|(column, _)| *column == "condition") {
            return;
        }
        if let Some(condition) = self.left_out.condition(self.session, self.now) {
            let waiting_on = self.session.condition.waiting_on.clone();
            set.push(("condition", condition_value(&Condition { waiting_on, ..condition })));
        }
    }

    fn turn_news(
        &self,
        ws: &mut WriteSet,
        set: &mut Set,
        turn: &Turn,
        (asked, elicited): (&[Asked], &[Elicited]),
        sent: bool,
        ended: Option<&foundry_proto::common::v1::TurnEnd>,
    ) {
        if let Some(end) = ended {
            finish_turn(ws, turn, end.outcome, self.now);
            permissions::void(ws, &self.session.session_id);
            elicitations::void(ws, &self.session.session_id);
            // A refusal by the model provider outlasts the turn; a wait of one call does not.
            let refused = self.session.model_condition.clone().filter(|c| c.reason != LIMIT_WAIT);
            if refused.is_none() && self.session.model_condition.is_some() {
                set.push(("model_condition", foundry_store::Value::Null));
            }
            let limited = || self.left_out.condition(self.session, self.now);
            let condition = refused.or_else(limited).unwrap_or_else(|| cleared(self.now));
            set.extend([
                ("state", SessionState::Ready.as_str().into()),
                ("condition", condition_value(&condition)),
                ("pending_permission", foundry_store::Value::Null),
                ("pending_elicitation", foundry_store::Value::Null),
            ]);
            return;
        }
        if sent && turn.state == TurnState::Intended {
            turns::update(ws, turn, vec![("state", TurnState::Sent.as_str().into())]);
        }
        let (permission, form) = (&self.session.pending_permission, &self.session.pending_elicitation);
        let asks = asked.iter().find(|a| self.by_policy(a).is_none()).filter(|_| permission.is_none());
        let elicits = elicited.first().filter(|_| form.is_none());
        if let Some(asks) = asks {
            set.push(("pending_permission", sessions::permission_value(Some(&asks.request))));
        }
        if let Some(elicits) = elicits {
            set.push(("pending_elicitation", sessions::elicitation_value(Some(&elicits.request))));
        }
        if asks.is_some() || elicits.is_some() {
            let permission = permission.as_ref().or(asks.map(|a| &a.request));
            let form = form.as_ref().or(elicits.map(|e| &e.request));
            set.push(("condition", condition_value(&news::waiting(permission, form, self.now))));
        }
    }

    /// The answer by the policy: the option that allows this one time, if there is one. Options that would allow it
    /// for ever are left to a person.
    fn by_policy<'a>(&self, asked: &'a Asked) -> Option<&'a str> {
        if self.session.permission_policy != PermissionPolicy::Allow {
            return None;
        }
        let options = asked.request.options.iter().map(|o| (o.option_id.as_str(), o.kind.as_str()));
        match self.shared.catalogue.get(&self.session.agent) {
            Ok(agent) => agent.permission_once(options),
            Err(_) => foundry_agents::permission_once(options),
        }
    }

    fn answered(&self, asked: &Asked, option: &str) -> TranscriptPart {
        TranscriptPart {
            message_id: self.session.message_id.clone(),
            body: Some(Body::PermissionAnswer(PermissionAnswer {
                permission_id: asked.request.permission_id.clone(),
                option_id: option.to_owned(),
                user_id: String::new(),
            })),
            ..TranscriptPart::default()
        }
    }
}

/// Gives a turn that ended during a refusal by the model provider that refusal as its reason, whatever the agent
/// reports: some report success.
fn blame_model(folded: &mut Folded, refused: Option<&Condition>, answered: bool) {
    let (Some(refused), Some(end)) = (refused, &mut folded.ended) else { return };
    // Once a model has answered in this turn, the refused call may be a minor one, for example for a title.
    let failed = match end.outcome() {
        TurnOutcome::Cancelled => false,
        TurnOutcome::Completed => !answered,
        _ => true,
    };
    if !failed {
        return;
    }
    end.set_outcome(TurnOutcome::Error);
    end.reason.clone_from(&refused.reason);
    end.message.clone_from(&refused.message);
    end.next_attempt_time = next_attempt(refused);
    let turn_end = folded.parts.iter_mut().rev().find_map(|p| match &mut p.body {
        Some(Body::TurnEnd(turn_end)) => Some(turn_end),
        _ => None,
    });
    if let Some(turn_end) = turn_end {
        turn_end.clone_from(end);
    }
}

/// When queued messages are sent automatically after a turn with this end. None when a person must act first, also
/// when the agent gave up although the wait was short.
pub fn next_attempt(refused: &Condition) -> Option<prost_types::Timestamp> {
    refused.next_attempt_time.filter(|_| !refused.retryable)
}

/// Writes the end of a turn to its row.
pub fn finish_turn(ws: &mut WriteSet, turn: &Turn, outcome: i32, now: Timestamp) {
    turns::update(
        ws,
        turn,
        vec![
            ("state", TurnState::Ended.as_str().into()),
            ("outcome", outcome.into()),
            ("end_time", now.into()),
        ],
    );
}

/// The condition of a session whose agent waits for a permission with this title.
pub fn waits_for(title: &str, now: Timestamp) -> Condition {
    Condition {
        reason: "PERMISSION_PENDING".to_owned(),
        message: format!("the agent is asking for permission: {title}"),
        waiting_on: format!("permission: {title}"),
        since_time: Some(now.to_proto()),
        next_action: "answer it".to_owned(),
        ..Condition::default()
    }
}

#[cfg(test)]
mod tests;
