//! Follows a task from its creation to the end of its first turn: the stages, then the agent's output.

use std::collections::HashSet;
use std::process::ExitCode;

use foundry_proto::common::v1::transcript_part::Body;
use foundry_proto::common::v1::{Stage, StageState, TranscriptPart, TurnOutcome};
use foundry_proto::task::v1::{Session, Task, TaskItem, TaskState, task_item::Item};
use foundry_watch::{Event, Op};

use super::conversation::Until;
use crate::cli::Output;
use crate::client::Gateway;
use crate::failure::Failure;
use crate::output;

/// Exit code for the end of a turn: 0, or 6 when the turn failed.
pub fn exit_code(part: &TranscriptPart) -> ExitCode {
    match &part.body {
        Some(Body::TurnEnd(end)) if end.outcome() != TurnOutcome::Completed => ExitCode::from(6),
        _ => ExitCode::SUCCESS,
    }
}

/// Follows a new task until its first turn ends, it fails, or Ctrl-C.
///
/// # Errors
/// When a watch is refused, or the task has failed (exit code 6).
pub async fn creation(
    gateway: &Gateway,
    output: Output,
    task: &Task,
    session: &Session,
) -> Result<ExitCode, Failure> {
    if output == Output::Table {
        output::line(&format!("{}  {}", task.task_id, output::inert(&task.title)));
        output::line(&format!("branch {}", output::inert(&task.branch)));
    }
    let goes_on = format!("the task continues; see `foundry task show {}`", task.task_id);
    super::until_interrupted(&goes_on, first_turn(gateway, output, &task.task_id, &session.session_id)).await
}

/// Follows a task with its stages until Ctrl-C.
///
/// # Errors
/// When the watch is refused.
pub async fn task(gateway: &Gateway, output: Output, task_id: &str) -> Result<ExitCode, Failure> {
    let follow = async {
        follow_task(gateway, output, task_id, (None, true), |_| false).await.map(|_| ExitCode::SUCCESS)
    };
    super::until_interrupted("the task continues", follow).await
}

/// Why following a task ended.
pub(super) enum Followed {
    /// The task has reached the state that was waited for.
    Enough,
    /// The task was killed or archived; holds the name of that state.
    Ended(String),
}

async fn first_turn(
    gateway: &Gateway,
    output: Output,
    task_id: &str,
    session_id: &str,
) -> Result<ExitCode, Failure> {
    provisioned(gateway, output, task_id, None).await?;
    let (code, end) = super::conversation::follow(gateway, output, session_id, 0, Until::FirstTurn).await?;
    if let Some(end) = end {
        super::work::imported(gateway, output, task_id, &end).await?;
    }
    Ok(code)
}

/// Follows a task until it is provisioned. `mended` is the task as it failed before a retry.
///
/// # Errors
/// When the task fails, or is ended by somebody (exit code 6).
pub(super) async fn provisioned(
    gateway: &Gateway,
    output: Output,
    task_id: &str,
    mended: Option<&Task>,
) -> Result<(), Failure> {
    let provisioned = |t: &Task| matches!(t.state(), TaskState::Running | TaskState::Idle);
    match follow_task(gateway, output, task_id, (mended, false), provisioned).await? {
        Followed::Enough => Ok(()),
        Followed::Ended(state) => Err(Failure::new(format!("the task is {state}")).exit(6)),
    }
}

async fn follow_task(
    gateway: &Gateway,
    output: Output,
    task_id: &str,
    (mended, endless): (Option<&Task>, bool),
    enough: impl Fn(&Task) -> bool,
) -> Result<Followed, Failure> {
    let tasks = super::tasks();
    let mut watch = super::watch_task(gateway, &tasks, task_id);
    let mut patience = super::Patience::default();
    let mut begins = mended.map(|old| (old, tokio::time::Instant::now() + RETRY_BEGINS));
    let mut printed = HashSet::new();
    let mut last_state = TaskState::Unspecified;
    let mut last_attempt = None;
    let mut base = None;
    loop {
        let event = match begins {
            Some((old, limit)) => {
                tokio::time::timeout_at(limit, watch.next()).await.map_err(|_| failure(old))??
            }
            None => watch.next().await?,
        };
        match endless {
            true => super::tell_connection(&event),
            false => patience.saw(&event, tokio::time::Instant::now())?,
        }
        let (Event::Snapshot { rows: changes, .. } | Event::Delta { changes, .. }) = event else { continue };
        for change in changes {
            let Op::Upsert(TaskItem { item: Some(Item::Task(task)) }) = change.op else { continue };
            if begins.is_some_and(|(old, _)| is_still(old, &task)) {
                continue;
            }
            begins = None;
            if output == Output::Json {
                output::one(output, &task, |_| ())?;
            } else {
                task.stages.iter().for_each(|stage| print_stage(stage, &mut printed));
                print_base(&task, &mut base);
                let next = task.condition.as_ref().and_then(super::next_attempt);
                if let Some(next) = next.as_ref().filter(|_| next != last_attempt) {
                    let now = format!("`foundry task retry {task_id}` starts it now");
                    output::line(&output::dim(&format!("  {next}; {now}")));
                }
                last_attempt = next;
                if task.state() != last_state {
                    last_state = task.state();
                    output::line(&output::dim(&format!(
                        "  task {}",
                        output::state(last_state.as_str_name(), "TASK_STATE_")
                    )));
                }
            }
            if enough(&task) {
                return Ok(Followed::Enough);
            }
            if let TaskState::Error = task.state() {
                return Err(failure(&task));
            }
            if matches!(task.state(), TaskState::Killed | TaskState::Archived) {
                return Ok(Followed::Ended(output::state(task.state().as_str_name(), "TASK_STATE_")));
            }
        }
    }
}

/// How long a retry may take to begin.
pub(super) const RETRY_BEGINS: std::time::Duration = std::time::Duration::from_secs(60);

/// Whether a task still shows the failure that it had before a retry.
fn is_still(old: &Task, now: &Task) -> bool {
    now.state() == TaskState::Error && now.condition == old.condition
}

/// The failure that a task shows.
fn failure(task: &Task) -> Failure {
    let c = task.condition.clone().unwrap_or_default();
    Failure::new(format!("{} ({})", c.message, c.reason)).next(c.next_action).exit(6)
}

/// Prints what is unusual about the start of the work, when it is first known.
fn print_base(task: &Task, printed: &mut Option<String>) {
    let Some(base) = task.base.as_ref().filter(|base| printed.as_ref() != Some(&base.commit)) else { return };
    *printed = Some(base.commit.clone());
    base.notices.iter().for_each(super::print_notice);
}

/// Prints a stage in a state, and each of its failures, once: one that waits comes back to the same state many times.
fn print_stage(stage: &Stage, printed: &mut HashSet<(String, StageState, i32, String)>) {
    let state = StageState::try_from(stage.state).unwrap_or_default();
    if state == StageState::Pending || stage.name == "error" || !is_news(stage, state, printed) {
        return;
    }
    let attempt = if stage.attempts > 1 { format!(" (attempt {})", stage.attempts) } else { String::new() };
    let why = if stage.reason.is_empty() {
        String::new()
    } else {
        format!(" {}: {}", stage.reason, output::inert(&stage.message))
    };
    output::line(&format!(
        "  {:<18} {}{attempt}{why}",
        stage.name,
        output::state(state.as_str_name(), "STAGE_STATE_")
    ));
}

fn is_news(
    stage: &Stage,
    state: StageState,
    printed: &mut HashSet<(String, StageState, i32, String)>,
) -> bool {
    let failed = if stage.reason.is_empty() { 0 } else { stage.attempts };
    printed.insert((stage.name.clone(), state, failed, stage.reason.clone()))
}

#[cfg(test)]
mod tests {
    use foundry_proto::common::v1::Condition;

    use super::*;

    #[test]
    fn a_stage_that_waits_again_and_again_is_news_once_and_each_failure_is() {
        let stage = |attempts, reason: &str| Stage {
            name: "repo_prepared".into(),
            attempts,
            reason: reason.into(),
            ..Stage::default()
        };
        let mut printed = HashSet::new();
        let mut news = |stage: Stage, state| is_news(&stage, state, &mut printed);
        assert!(news(stage(1, ""), StageState::Running));
        assert!(!news(stage(2, ""), StageState::Running));
        assert!(news(stage(2, "REPO_UNAVAILABLE"), StageState::Running));
        assert!(!news(stage(2, "REPO_UNAVAILABLE"), StageState::Running));
        assert!(news(stage(3, "REPO_UNAVAILABLE"), StageState::Running));
        assert!(news(stage(3, ""), StageState::Done));
    }

    #[test]
    fn a_retry_waits_for_the_end_of_the_old_failure_and_ends_with_a_newer_one() {
        let task = |state: TaskState, seconds| Task {
            state: state.into(),
            condition: Some(Condition {
                reason: "AGENT_MODEL_MISSING".into(),
                message: "no model".into(),
                since_time: Some(prost_types::Timestamp { seconds, nanos: 0 }),
                ..Condition::default()
            }),
            ..Task::default()
        };
        let old = task(TaskState::Error, 1);
        assert!(is_still(&old, &old));
        assert!(!is_still(&old, &task(TaskState::EnsuringAgent, 1)));
        let newer = task(TaskState::Error, 2);
        assert!(!is_still(&old, &newer));
        let failure = failure(&newer);
        assert!(failure.message.contains("AGENT_MODEL_MISSING") && failure.code == 6);
    }
}
