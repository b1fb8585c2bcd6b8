//! Follows a retried task to its end: it is provisioned, and the turn that was waiting has ended.

use std::process::ExitCode;

use foundry_proto::task::v1::{GetTaskResponse, Session, SessionItem, SessionState, TaskState, session_item};
use foundry_watch::State;

use super::conversation::Until;
use super::creation::RETRY_BEGINS;
use crate::cli::Output;
use crate::client::Gateway;
use crate::failure::Failure;

/// Follows a task that is being retried. `before` is the task as it was before the retry.
///
/// # Errors
/// When a watch is refused, or the task or its turn has failed (exit code 6).
pub async fn retry(gateway: &Gateway, output: Output, before: &GetTaskResponse) -> Result<ExitCode, Failure> {
    let task_id = before.task.as_ref().map(|task| task.task_id.as_str()).unwrap_or_default();
    let goes_on = format!("the task continues; see `foundry task show {task_id}`");
    // A large future, awaited on a stack that others share.
    super::until_interrupted(&goes_on, Box::pin(follow(gateway, output, before))).await
}

async fn follow(gateway: &Gateway, output: Output, before: &GetTaskResponse) -> Result<ExitCode, Failure> {
    let task = before.task.clone().unwrap_or_default();
    if !matches!(task.state(), TaskState::Idle | TaskState::Running) {
        // One that has not failed waits for its next attempt, which begins now.
        let failed = Some(&task).filter(|task| task.state() == TaskState::Error);
        super::creation::provisioned(gateway, output, &task.task_id, failed).await?;
    }
    let Some(session) = concerned(&before.sessions) else { return Ok(ExitCode::SUCCESS) };
    let now = usable(gateway, session).await?;
    if session.queue_length == 0 || (now.queue_length == 0 && now.state() == SessionState::Idle) {
        return Ok(ExitCode::SUCCESS);
    }
    if now.queue_held {
        eprintln!("the queue is paused; resume it with `foundry session resume {}`", session.session_id);
        return Ok(ExitCode::from(6));
    }
    let (id, last) = (&session.session_id, session.last_offset);
    let (code, end) = super::conversation::follow(gateway, output, id, last, Until::FirstTurn).await?;
    if let Some(end) = end {
        super::work::imported(gateway, output, &task.task_id, &end).await?;
    }
    Ok(code)
}

/// The session whose work the retry continues: the first open one with messages in its queue, or that has failed.
fn concerned(sessions: &[Session]) -> Option<&Session> {
    let open = || sessions.iter().filter(|s| s.state() != SessionState::Closed);
    open().find(|s| s.queue_length > 0).or_else(|| open().find(|s| s.state() == SessionState::Error))
}

/// Waits until a session has an agent, and is not as it failed before the retry; returns it as it is then.
async fn usable(gateway: &Gateway, before: &Session) -> Result<Session, Failure> {
    let tasks = super::tasks();
    let id = before.session_id.as_str();
    let mut watch = super::watch_session(gateway, &tasks, id, i64::MAX);
    let mut state = State::default();
    let failed = before.state() == SessionState::Error;
    let mut patience = super::Patience::default();
    let mut begins = failed.then(|| tokio::time::Instant::now() + RETRY_BEGINS);
    loop {
        let event = match begins {
            Some(limit) => {
                tokio::time::timeout_at(limit, watch.next()).await.map_err(|_| failure(before))??
            }
            None => watch.next().await?,
        };
        patience.saw(&event, tokio::time::Instant::now())?;
        state.apply(&event);
        if let Some(SessionItem { item: Some(session_item::Item::Session(session)) }) =
            state.get(&format!("session/{id}"))
        {
            if let Some(settled) = settled(before, session) {
                return settled.map(|()| session.clone());
            }
            if session.state() != SessionState::Error {
                begins = None;
            }
        }
    }
}

/// Whether a session can be used, or has failed again; none while neither is known.
fn settled(before: &Session, now: &Session) -> Option<Result<(), Failure>> {
    match now.state() {
        SessionState::Error if before.state() == SessionState::Error && now.condition == before.condition => {
            None
        }
        SessionState::Error => Some(Err(failure(now))),
        SessionState::PendingProvision | SessionState::PendingSessionCreate => None,
        _ => Some(Ok(())),
    }
}

/// The failure that a session shows.
fn failure(session: &Session) -> Failure {
    let c = session.condition.clone().unwrap_or_default();
    Failure::new(format!("{} ({})", c.message, c.reason)).next(c.next_action).exit(6)
}

#[cfg(test)]
mod tests {
    use foundry_proto::common::v1::Condition;

    use super::*;

    fn session(state: SessionState, reason: &str, queue_length: i32) -> Session {
        let condition = Some(Condition { reason: reason.into(), ..Condition::default() });
        Session { state: state.into(), condition, queue_length, ..Session::default() }
    }

    #[test]
    fn a_retry_concerns_the_session_with_a_waiting_message_or_else_the_failed_one() {
        let idle = session(SessionState::Idle, "", 0);
        let failed = session(SessionState::Error, "AGENT_EXITED", 0);
        let waiting = session(SessionState::PendingProvision, "", 1);
        let closed = session(SessionState::Closed, "", 1);
        let all = [closed.clone(), idle.clone(), failed.clone(), waiting.clone()];
        assert_eq!(concerned(&all), Some(&waiting));
        assert_eq!(concerned(&all[..3]), Some(&failed));
        assert_eq!(concerned(&[closed, idle]), None);
    }

    #[test]
    fn a_session_that_fails_again_ends_the_retry_with_its_reason() {
        let before = session(SessionState::Error, "AGENT_EXITED", 1);
        assert!(settled(&before, &before).is_none());
        assert!(settled(&before, &session(SessionState::PendingSessionCreate, "", 1)).is_none());
        assert!(matches!(settled(&before, &session(SessionState::Ready, "", 1)), Some(Ok(()))));
        let again = settled(&before, &session(SessionState::Error, "AGENT_START_FAILED", 1));
        let failure = again.unwrap().unwrap_err();
        assert!(failure.message.contains("AGENT_START_FAILED") && failure.code == 6);
    }
}
