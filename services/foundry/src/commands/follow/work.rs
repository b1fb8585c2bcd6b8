//! The work of a turn: waiting until it is imported, and what there is to know about it.

use foundry_core::{Timestamp, counted};
use foundry_proto::common::v1::{Condition, TranscriptPart};
use foundry_proto::task::v1::{Changes, Task, TaskItem, TaskState, task_item::Item};
use foundry_service::{merged_words, notice_words, publication_words};
use foundry_watch::{Event, Op};

use crate::cli::Output;
use crate::client::Gateway;
use crate::failure::Failure;
use crate::output;

/// How long to wait for the import of the work after a turn.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(20);

/// Waits until the work of a turn is imported, so that the next command finds it, and prints its size.
pub(super) async fn imported(
    gateway: &Gateway,
    output: Output,
    task_id: &str,
    end: &TranscriptPart,
) -> Result<(), Failure> {
    let ended = end.create_time.as_ref().map(Timestamp::from_proto).unwrap_or_default();
    // Without a sandbox no other hand-over comes.
    let arrived = |task: &Task| task.changes.as_ref().is_some_and(|c| is_over(task) || is_settled(c, ended));
    match tokio::time::timeout(LIMIT, until(gateway, task_id, arrived)).await {
        Ok(task) => {
            let c = task?.changes.unwrap_or_default();
            if output == Output::Table {
                let files = counted(c.files_changed, "file");
                output::line(&format!("changes: {files}, +{} -{}", c.additions, c.deletions));
                about_work(&c).iter().for_each(|text| output::line(&format!("  {text}")));
            }
        }
        Err(_) => eprintln!("the work is still being imported; see `foundry task diff {task_id}`"),
    }
    Ok(())
}

/// The task once this holds of it.
async fn until(gateway: &Gateway, task_id: &str, holds: impl Fn(&Task) -> bool) -> Result<Task, Failure> {
    let tasks = super::tasks();
    let mut watch = super::watch_task(gateway, &tasks, task_id);
    loop {
        let event = watch.next().await?;
        let (Event::Snapshot { rows: changes, .. } | Event::Delta { changes, .. }) = event else {
            continue;
        };
        for change in changes {
            let Op::Upsert(TaskItem { item: Some(Item::Task(task)) }) = change.op else { continue };
            if holds(&task) {
                return Ok(task);
            }
        }
    }
}

/// Waits until what the agent did in its last turn is imported, which a publication begun before that would leave out. Returns
/// the task with it, or after some seconds the task as it was: then [`outstanding`] says what it lacks.
///
/// # Errors
/// When the watch is refused.
pub async fn handed_over(gateway: &Gateway, task: Task) -> Result<Task, Failure> {
    if outstanding(&task).is_none() {
        return Ok(task);
    }
    eprintln!("waiting for what the agent has changed last");
    let arrived = until(gateway, &task.task_id, |task| outstanding(task).is_none());
    let arrived = tokio::time::timeout(LIMIT, arrived).await;
    arrived.unwrap_or(Ok(task))
}

/// When the newest turn of a task ended, if its work has neither been imported since nor is known not to be saved.
pub fn outstanding(task: &Task) -> Option<Timestamp> {
    let ended = task.newest_turn.as_ref()?.end_time.as_ref().map(Timestamp::from_proto)?;
    let is_there = is_over(task) || task.changes.as_ref().is_some_and(|c| is_settled(c, ended));
    (!is_there).then_some(ended)
}

/// Whether the task has no sandbox that could hand anything over.
fn is_over(task: &Task) -> bool {
    matches!(task.state(), TaskState::Archived | TaskState::Killed | TaskState::Error)
}

/// Whether the work of a turn that ended then is imported, or is known not to be saved.
fn is_settled(changes: &Changes, ended: Timestamp) -> bool {
    if changes.not_saved.as_ref().is_some_and(|why| why.reason == "REPOSITORY_REMOVED") {
        // No other hand-over comes.
        return true;
    }
    let failed = changes.not_saved.as_ref().and_then(|why| why.attempt_time);
    [changes.as_of_time, failed].iter().flatten().any(|t| Timestamp::from_proto(t) >= ended)
}

/// What there is to know about a work besides its size: where it is published, why it is not saved, what it left out, and
/// what it merged.
pub fn about_work(changes: &Changes) -> Vec<String> {
    let mut lines: Vec<String> =
        changes.merged_from.iter().map(|m| format!("and {}, shown with --merged", merged_words(m))).collect();
    lines.extend(changes.publication.as_ref().map(publication_words));
    if let Some(why) = &changes.not_saved {
        lines.push(not_saved_words(why));
        lines.extend((!why.next_action.is_empty()).then(|| format!("  next: {}", why.next_action)));
    }
    for notice in &changes.notices {
        let (what, next) = notice_words(notice);
        lines.push(format!("notice: {what}"));
        lines.extend((!next.is_empty()).then(|| format!("  {next}")));
    }
    lines.iter().map(|text| output::inert(text)).collect()
}

/// To what the patch of a work with merges applies, and the ways to have all of it.
pub fn applies_where(task_id: &str) -> String {
    format!(
        "this patch applies to the base with what was merged, not to the base alone; \
         `foundry task diff {task_id} --merged --patch` does, `foundry task fetch {task_id}` and \
         `foundry task bundle {task_id}` have all commits"
    )
}

/// Since when newer work is not saved, as far as that is known, and why.
pub fn not_saved_words(why: &Condition) -> String {
    let since = match output::time(why.since_time.as_ref()).as_str() {
        "" => "newer work".to_owned(),
        time => format!("the work since {time}"),
    };
    let reason = if why.reason.is_empty() { String::new() } else { format!(" ({})", why.reason) };
    format!("{since} is not saved: {}{reason}", why.message)
}

#[cfg(test)]
mod tests {
    use foundry_proto::common::v1::{WorkNotice, WorkNoticeKind};

    use super::*;

    fn at(seconds: i64) -> Option<prost_types::Timestamp> {
        Some(prost_types::Timestamp { seconds, nanos: 0 })
    }

    #[test]
    fn a_hand_over_that_found_nothing_new_settles_the_work_of_a_turn() {
        let ended = Timestamp::from_micros(10_000_000);
        // The import is older than the turn, and yet the work is complete.
        let unchanged = Changes { import_time: at(5), as_of_time: at(10), ..Changes::default() };
        assert!(is_settled(&unchanged, ended));
        assert!(!is_settled(&Changes { as_of_time: at(9), ..unchanged.clone() }, ended));
        // An import that began before the end of the turn does not contain all of it.
        assert!(!is_settled(&Changes { import_time: at(11), as_of_time: None, ..unchanged }, ended));
        let failed = |time| Changes {
            not_saved: Some(Condition { attempt_time: time, ..Condition::default() }),
            ..Changes::default()
        };
        assert!(is_settled(&failed(at(10)), ended));
        // An attempt during the turn may be followed by one that succeeds.
        assert!(!is_settled(&failed(at(9)), ended));
        let mut removed = failed(at(9));
        removed.not_saved.as_mut().unwrap().reason = "REPOSITORY_REMOVED".into();
        assert!(is_settled(&removed, ended));
    }

    #[test]
    fn the_work_of_a_turn_is_outstanding_from_its_end_until_it_is_imported_or_cannot_come() {
        use foundry_proto::task::v1::Turn;

        let turn = |end| Some(Turn { message_id: "msg_1".into(), end_time: end, ..Turn::default() });
        let as_of = |time| Some(Changes { as_of_time: time, ..Changes::default() });
        let task = Task { newest_turn: turn(at(10)), changes: as_of(at(9)), ..Task::default() };
        assert_eq!(outstanding(&task), Some(Timestamp::from_micros(10_000_000)));
        // Newer work has been sent and is being imported, or nothing was imported yet.
        assert!(outstanding(&Task { changes: as_of(None), ..task.clone() }).is_some());
        assert!(outstanding(&Task { changes: None, ..task.clone() }).is_some());
        assert!(outstanding(&Task { changes: as_of(at(10)), ..task.clone() }).is_none());
        assert!(outstanding(&Task { newest_turn: turn(None), ..task.clone() }).is_none(), "it runs");
        let failed = Condition { attempt_time: at(11), ..Condition::default() };
        let failed = Some(Changes { not_saved: Some(failed), ..Changes::default() });
        assert!(outstanding(&Task { changes: failed, ..task.clone() }).is_none());
        assert!(outstanding(&Task { state: TaskState::Archived.into(), ..task }).is_none());
    }

    #[test]
    fn tells_what_is_not_saved_and_what_was_left_out_without_escapes() {
        let notice = WorkNotice {
            kind: WorkNoticeKind::OtherBranch.into(),
            branch: "a\u{1b}[31m".into(),
            count: 1,
            ..WorkNotice::default()
        };
        let not_saved = Some(Condition {
            reason: "WORK_BUNDLE_FAILED".into(),
            message: "git failed".into(),
            next_action: "look".into(),
            since_time: at(0),
            ..Condition::default()
        });
        let lines = about_work(&Changes { notices: vec![notice], not_saved, ..Changes::default() });
        assert!(lines[0].contains("is not saved: git failed (WORK_BUNDLE_FAILED)"), "{lines:?}");
        assert_eq!(lines[1], "  next: look");
        let unknown = Condition { message: "git failed".into(), ..Condition::default() };
        assert_eq!(not_saved_words(&unknown), "newer work is not saved: git failed");
        assert!(
            lines[2].starts_with("notice: 1 commit on branch `a") && !lines[2].contains('\u{1b}'),
            "{lines:?}"
        );
    }
}
