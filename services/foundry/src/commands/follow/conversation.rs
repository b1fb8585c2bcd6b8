//! A session's conversation, live.

use std::process::ExitCode;

use foundry_proto::common::v1::transcript_part::Body;
use foundry_proto::common::v1::{TranscriptPart, TurnEnd};
use foundry_proto::task::v1::{
    GetTaskRequest, Session, SessionItem, SessionState, Task, TaskState, TranscriptEntry, session_item::Item,
};
use foundry_watch::{Event, Op};
use tokio::time::Instant;

use super::words::Words;
use crate::cli::Output;
use crate::client::Gateway;
use crate::commands::session::queued_in_failed;
use crate::failure::Failure;
use crate::output;

/// The event at which following ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Until {
    /// When the session is closed.
    Closed,
    /// When the turn of this message has ended.
    TurnEnd(String),
    /// When any turn has ended.
    FirstTurn,
}

/// Prints the conversation after an offset until the end or Ctrl-C.
///
/// # Errors
/// When the watch is refused, or the session has failed (exit code 6).
pub async fn conversation(
    gateway: &Gateway,
    output: Output,
    session_id: &str,
    after: i64,
    until: Until,
) -> Result<ExitCode, Failure> {
    let goes_on = format!("the session continues; reattach with `foundry session watch {session_id}`");
    let follow = async { follow(gateway, output, session_id, after, until).await.map(|(code, _)| code) };
    super::until_interrupted(&goes_on, follow).await
}

/// Prints the conversation after an offset until the turn of a message has ended and its work is imported, so that the
/// next command finds it; or until Ctrl-C.
///
/// # Errors
/// As [`conversation`].
pub async fn message(
    gateway: &Gateway,
    output: Output,
    task_id: &str,
    (session_id, after): (&str, i64),
    message_id: String,
) -> Result<ExitCode, Failure> {
    let goes_on = format!("the session continues; reattach with `foundry session watch {session_id}`");
    let until = Until::TurnEnd(message_id);
    let follow = async {
        let (code, end) = follow(gateway, output, session_id, after, until).await?;
        if let Some(end) = end {
            super::work::imported(gateway, output, task_id, &end).await?;
        }
        Ok(code)
    };
    super::until_interrupted(&goes_on, follow).await
}

/// As [`conversation`], without handling Ctrl-C; also returns the end of the turn that it waited for.
pub async fn follow(
    gateway: &Gateway,
    output: Output,
    session_id: &str,
    after: i64,
    until: Until,
) -> Result<(ExitCode, Option<TranscriptPart>), Failure> {
    let tasks = super::tasks();
    let mut watch = super::watch_session(gateway, &tasks, session_id, after);
    // A session is watched for as long as somebody wants to, a turn has an end.
    let (waits, mut patience) = (until != Until::Closed, super::Patience::default());
    let mut shown = Shown::new(after, until, output);
    loop {
        let event = watch.next().await?;
        match waits {
            true => patience.saw(&event, Instant::now())?,
            false => super::tell_connection(&event),
        }
        let (Event::Snapshot { rows: changes, .. } | Event::Delta { changes, .. }) = event else { continue };
        let (mut entries, mut session) = (Vec::new(), None);
        for change in changes {
            match change.op {
                Op::Upsert(SessionItem { item: Some(Item::Entry(entry)) }) => entries.push(entry),
                Op::Upsert(SessionItem { item: Some(Item::Session(s)) }) => session = Some(s),
                _ => {}
            }
        }
        entries.sort_by_key(|e| e.offset);
        match shown.show(&entries, session.as_ref())? {
            Step::Goes => {
                if let Some(session) = session.filter(|s| shown.waits_for_sandbox(s))
                    && let Some(failure) = queued_in_failed(&task_of(gateway, &session).await?)
                {
                    if !failure.next_action.contains("`foundry task retry") {
                        return Err(failure);
                    }
                    // A turn cut off by the destruction pauses the queue, which may be seen only later.
                    let retry = format!("`foundry task retry {}`", session.task_id);
                    let resume = format!("`foundry session resume {}`", session.session_id);
                    return Err(failure.next(format!("{retry}; if the queue is paused then, {resume}")));
                }
            }
            Step::Ended(code, end) => return Ok((code, end.map(|end| *end))),
            Step::Paused(session) => {
                return Err(paused(&session, &task_of(gateway, &session).await?, shown.lost));
            }
        }
    }
}

async fn task_of(gateway: &Gateway, session: &Session) -> Result<Task, Failure> {
    let request = GetTaskRequest { task_id: session.task_id.clone() };
    Ok(gateway.task().get_task(request).await?.into_inner().task.unwrap_or_default())
}

/// Why a message stays in its queue, and what to do. `lost`: its session's sandbox was destroyed.
fn paused(session: &Session, task: &Task, lost: bool) -> Failure {
    let resume = format!("`foundry session resume {}`", session.session_id);
    let ended = match task.state() {
        TaskState::Killing | TaskState::Killed => Some("the task was killed"),
        TaskState::Archiving | TaskState::Archived => Some("the task was archived"),
        _ if session.state() == SessionState::Closed => Some("the session was closed"),
        _ => None,
    };
    let failure = if let Some(ended) = ended {
        Failure::new(format!("the message was not delivered: {ended}")).next(
            "send it in another session or a new task; the transcript and work of this one stay readable",
        )
    } else if lost || task.state() == TaskState::Error {
        let why = if lost { "its sandbox was destroyed" } else { "its task has failed" };
        Failure::new(format!("the message is still in the queue, which is paused: {why}"))
            .next(format!("`foundry task retry {}`, then {resume}", session.task_id))
    } else {
        let why = "after a stop, an error or an interruption";
        Failure::new(format!("the message is still in the queue, which is paused {why}"))
            .next(format!("{resume} sends it to the agent"))
    };
    failure.exit(6)
}

/// What follows after something was shown.
#[derive(Debug)]
enum Step {
    /// More is to come.
    Goes,
    /// What was waited for has happened; holds the end of the turn.
    Ended(ExitCode, Option<Box<TranscriptPart>>),
    /// The message that was waited for stays in its queue.
    Paused(Box<Session>),
}

/// What has been printed, and when to end.
struct Shown {
    last: i64,
    until: Until,
    words: Words,
    output: Output,
    /// Whether the turn that is waited for has begun.
    begun: bool,
    /// Whether a turn has ended because the sandbox was destroyed.
    lost: bool,
    /// What was last said about what the message waits for.
    waits: Option<String>,
    /// Id of the question of the agent for which it was last said how to answer it.
    prompted: String,
}

/// What a message waits for before its turn begins; none when it can begin.
fn awaited(session: &Session) -> Option<String> {
    let condition = session.condition.clone().unwrap_or_default();
    let mut text = match session.state() {
        SessionState::PendingProvision => "waiting for the sandbox".to_owned(),
        SessionState::PendingSessionCreate => "waiting for the agent".to_owned(),
        SessionState::Running => return Some("waiting for the running turn to end".to_owned()),
        _ => return None,
    };
    let stage = condition.waiting_on.as_str();
    // A stage has a plain name; what else a session waits for has none for people.
    let plain = !stage.is_empty() && stage.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    if plain && session.state() == SessionState::PendingProvision {
        text.push_str(&format!(": {}", stage.replace('_', " ")));
    }
    if !matches!(condition.reason.as_str(), "" | "WAITING") {
        text.push_str(&format!(", {} {}", condition.reason, condition.message));
    }
    if let Some(next) = super::next_attempt(&condition) {
        text.push_str(&format!("; {next}"));
    }
    Some(output::inert(&text))
}

/// The id of the question that waits for a person, and the command that answers it.
fn answered_by(session: &Session) -> Option<(String, String)> {
    let of = &session.session_id;
    if let Some(asked) = &session.pending_permission {
        let how = format!("`foundry session answer {of} OPTION`");
        return Some((asked.permission_id.clone(), how));
    }
    let form = session.pending_elicitation.as_ref()?;
    let how = format!("`foundry session fill {of} FIELD=VALUE ...` or `foundry session fill {of} --decline`");
    Some((form.elicitation_id.clone(), how))
}

impl Shown {
    fn new(last: i64, until: Until, output: Output) -> Self {
        let words = Words::default();
        Self { last, until, words, output, begun: false, lost: false, waits: None, prompted: String::new() }
    }

    fn show(&mut self, entries: &[TranscriptEntry], session: Option<&Session>) -> Result<Step, Failure> {
        let mut ended = None;
        for entry in entries {
            if entry.offset <= self.last {
                continue;
            }
            self.last = entry.offset;
            let Some(part) = &entry.part else { continue };
            let end = match &part.body {
                Some(Body::TurnEnd(end)) => Some(end),
                _ => None,
            };
            self.lost |= end.is_some_and(|end| end.reason == "SANDBOX_DESTROYED");
            self.begun |= !part.message_id.is_empty() && self.concerns(&part.message_id);
            match self.output {
                Output::Json => output::one(Output::Json, entry, |_| ())?,
                Output::Table => match end {
                    Some(end) if !self.concerns(&part.message_id) => self.words.end("earlier turn", end),
                    _ => self.words.part(part),
                },
            }
            if self.is_end(part, end) {
                ended = Some(part.clone());
            }
        }
        if let Some(end) = ended {
            self.words.close();
            return Ok(Step::Ended(super::creation::exit_code(&end), Some(Box::new(end))));
        }
        let Some(session) = session else { return Ok(Step::Goes) };
        self.begun |= match &self.until {
            Until::TurnEnd(message) => *message == session.message_id,
            Until::Closed | Until::FirstTurn => session.state() == SessionState::Running,
        };
        // Once the turn has begun, its end comes, and it is other messages that wait.
        if self.until != Until::Closed && !self.begun && session.queue_held && session.queue_length > 0 {
            self.words.close();
            return Ok(Step::Paused(Box::new(session.clone())));
        }
        if let Some(waits) = self.not_said(session) {
            self.words.close();
            eprintln!("{waits}");
        }
        self.prompt(session);
        match session.state() {
            SessionState::Closed if matches!(self.until, Until::TurnEnd(_)) && !self.begun => {
                self.words.close();
                Ok(Step::Paused(Box::new(session.clone())))
            }
            SessionState::Closed => {
                self.words.line("the session is closed");
                Ok(Step::Ended(ExitCode::SUCCESS, None))
            }
            SessionState::Error if self.until != Until::Closed => {
                let condition = session.condition.clone().unwrap_or_default();
                self.words.close();
                Err(Failure::new(format!("{} ({})", condition.message, condition.reason))
                    .next(condition.next_action)
                    .exit(6))
            }
            _ => Ok(Step::Goes),
        }
    }

    /// Whether the followed message waits for a sandbox, which may never come. Once its turn has begun, the end of that
    /// comes, whatever became of the sandbox.
    fn waits_for_sandbox(&self, session: &Session) -> bool {
        let followed = matches!(self.until, Until::TurnEnd(_)) && !self.begun;
        followed && session.state() == SessionState::PendingProvision
    }

    /// Says once of each question that waits for a person how to answer it.
    fn prompt(&mut self, session: &Session) {
        let Some((id, how)) = answered_by(session).filter(|(id, _)| *id != self.prompted) else { return };
        self.prompted = id;
        if self.output == Output::Table {
            self.words.line(&format!("    answer with {how}"));
        }
    }

    /// What the followed message waits for, unless it was said before.
    fn not_said(&mut self, session: &Session) -> Option<String> {
        let followed = matches!(self.until, Until::TurnEnd(_)) && !self.begun;
        let waits = awaited(session).filter(|_| followed)?;
        (self.waits.as_ref() != Some(&waits)).then(|| self.waits.insert(waits).clone())
    }

    /// Whether a turn is the one that is followed, and not one before it.
    fn concerns(&self, message_id: &str) -> bool {
        match &self.until {
            Until::Closed | Until::FirstTurn => true,
            Until::TurnEnd(message) => message == message_id,
        }
    }

    fn is_end(&self, part: &TranscriptPart, end: Option<&TurnEnd>) -> bool {
        end.is_some() && self.until != Until::Closed && self.concerns(&part.message_id)
    }
}

#[cfg(test)]
mod tests {
    use foundry_proto::common::v1::TurnOutcome;

    use super::*;

    fn end_of(message: &str, offset: i64, reason: &str) -> TranscriptEntry {
        let end = TurnEnd {
            outcome: TurnOutcome::Cancelled.into(),
            reason: reason.to_owned(),
            ..TurnEnd::default()
        };
        let part = TranscriptPart {
            message_id: message.to_owned(),
            body: Some(Body::TurnEnd(end)),
            ..TranscriptPart::default()
        };
        TranscriptEntry { offset, part: Some(part), ..TranscriptEntry::default() }
    }

    /// A session whose queue is paused with one message in it; `message` was delivered last.
    fn held(message: &str, state: SessionState) -> Session {
        Session {
            session_id: "ses_1".into(),
            task_id: "task_1".into(),
            state: state.into(),
            message_id: message.to_owned(),
            queue_held: true,
            queue_length: 1,
            ..Session::default()
        }
    }

    fn following(until: Until) -> Shown {
        Shown::new(0, until, Output::Table)
    }

    #[test]
    fn a_queued_message_whose_queue_is_paused_is_sent_by_resuming_it() {
        let mut shown = following(Until::TurnEnd("b".into()));
        let step = shown.show(&[end_of("a", 1, "")], Some(&held("a", SessionState::Idle))).unwrap();
        let Step::Paused(session) = step else { panic!("{step:?}") };
        let failure = paused(&session, &Task::default(), shown.lost);
        assert!(failure.next_action.starts_with("`foundry session resume ses_1`"), "{failure:?}");
        assert!(!failure.next_action.contains("send another") && failure.code == 6, "{failure:?}");
    }

    #[test]
    fn a_queued_message_whose_sandbox_is_gone_needs_a_retry_first() {
        let mut shown = following(Until::TurnEnd("b".into()));
        let destroyed = [end_of("a", 1, "SANDBOX_DESTROYED")];
        let step = shown.show(&destroyed, Some(&held("a", SessionState::PendingProvision))).unwrap();
        let Step::Paused(session) = step else { panic!("{step:?}") };
        let failure = paused(&session, &Task::default(), shown.lost);
        let steps = ["`foundry task retry task_1`", "`foundry session resume ses_1`"];
        let places = steps.map(|step| failure.next_action.find(step).expect(step));
        assert!(places[0] < places[1], "{failure:?}");
    }

    #[test]
    fn a_queued_message_of_a_task_that_has_ended_is_not_advised_to_be_retried() {
        for state in [SessionState::PendingProvision, SessionState::Closed] {
            let mut shown = following(Until::TurnEnd("b".into()));
            let destroyed = [end_of("a", 1, "SANDBOX_DESTROYED")];
            let step = shown.show(&destroyed, Some(&held("a", state))).unwrap();
            let Step::Paused(session) = step else { panic!("{step:?}") };
            let task = Task { state: TaskState::Killed.into(), ..Task::default() };
            let failure = paused(&session, &task, shown.lost);
            assert!(failure.message.contains("not delivered: the task was killed"), "{failure:?}");
            assert!(!failure.next_action.contains("retry") && failure.code == 6, "{failure:?}");
        }
        let mut shown = following(Until::TurnEnd("b".into()));
        let open = Session { queue_held: false, ..held("a", SessionState::Closed) };
        let step = shown.show(&[], Some(&open)).unwrap();
        assert!(matches!(step, Step::Paused(_)), "{step:?}");
    }

    #[test]
    fn a_turn_whose_sandbox_is_destroyed_is_followed_to_its_end_and_a_message_before_its_turn_is_not() {
        let lost = |message: &str| held(message, SessionState::PendingProvision);
        let mut shown = following(Until::TurnEnd("b".into()));
        assert!(shown.waits_for_sandbox(&lost("a")), "the task may have failed");
        shown.show(&[], Some(&held("b", SessionState::Running))).unwrap();
        assert!(!shown.waits_for_sandbox(&lost("b")));
        let step = shown.show(&[end_of("b", 1, "SANDBOX_DESTROYED")], Some(&lost("b"))).unwrap();
        assert!(matches!(step, Step::Ended(_, Some(_))), "{step:?}");
    }

    #[test]
    fn a_question_of_the_agent_is_shown_once_with_the_command_that_answers_it() {
        use foundry_proto::common::v1::PermissionRequest;

        let asked = PermissionRequest { permission_id: "p1".into(), ..PermissionRequest::default() };
        let session = Session { pending_permission: Some(asked), ..held("b", SessionState::Running) };
        let (id, how) = answered_by(&session).unwrap();
        assert_eq!((id.as_str(), how.as_str()), ("p1", "`foundry session answer ses_1 OPTION`"));
        let mut shown = following(Until::FirstTurn);
        shown.prompt(&session);
        assert_eq!(shown.prompted, "p1");
        assert_eq!(answered_by(&held("b", SessionState::Running)), None);
    }

    #[test]
    fn says_once_what_a_message_waits_for_while_its_sandbox_is_made() {
        use foundry_proto::common::v1::Condition;

        let mut shown = following(Until::TurnEnd("b".into()));
        let stage = |stage: &str| Session {
            state: SessionState::PendingProvision.into(),
            condition: Some(Condition { waiting_on: stage.to_owned(), ..Condition::default() }),
            ..Session::default()
        };
        let said = "waiting for the sandbox: agent installing";
        assert_eq!(shown.not_said(&stage("agent_installing")).as_deref(), Some(said));
        assert_eq!(shown.not_said(&stage("agent_installing")), None);
        assert!(shown.not_said(&stage("agent_starting")).is_some());
        let agent = Session {
            state: SessionState::PendingSessionCreate.into(),
            condition: Some(Condition {
                waiting_on: "sandbox/sbx_1".to_owned(),
                reason: "WAITING".to_owned(),
                ..Condition::default()
            }),
            ..Session::default()
        };
        assert_eq!(shown.not_said(&agent).as_deref(), Some("waiting for the agent"));
        shown.begun = true;
        assert_eq!(shown.not_said(&held("b", SessionState::Running)), None);
    }

    #[test]
    fn a_stop_of_the_followed_turn_ends_with_that_turn_although_another_message_waits() {
        for until in [Until::TurnEnd("b".into()), Until::FirstTurn] {
            let mut shown = following(until);
            let step = shown.show(&[], Some(&held("b", SessionState::Running))).unwrap();
            assert!(matches!(step, Step::Goes), "{step:?}");
            // The session's state may arrive before the entry.
            let step = shown.show(&[], Some(&held("b", SessionState::Idle))).unwrap();
            assert!(matches!(step, Step::Goes), "{step:?}");
            let step = shown.show(&[end_of("b", 1, "")], None).unwrap();
            assert!(matches!(step, Step::Ended(_, Some(_))), "{step:?}");
        }
    }
}
