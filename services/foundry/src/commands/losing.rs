//! Asks before something is destroyed that is in no other place.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use foundry_core::counted;
use foundry_proto::task::v1::{Changes, GetTaskRequest, ListReviewCommentsRequest, TaskState};
use foundry_service::{is_only_in_sandbox, notice_words};

use crate::client::Gateway;
use crate::commands::follow;
use crate::failure::Failure;
use crate::output;

/// Says what the end of a task's sandbox destroys, and asks for consent; without a terminal, `force` gives it.
///
/// # Errors
/// When the answer is not yes, or there is nobody to ask.
pub async fn with_sandbox(gateway: &Gateway, task_id: &str, what: &str, force: bool) -> Result<(), Failure> {
    let request = GetTaskRequest { task_id: task_id.to_owned() };
    let task = gateway.task().get_task(request).await?.into_inner().task.unwrap_or_default();
    // Then there is no sandbox any more.
    if matches!(task.state(), TaskState::Archived | TaskState::Killed) {
        return Ok(());
    }
    let mut lost = only_in_sandbox(&task.changes.unwrap_or_default());
    let request = ListReviewCommentsRequest { task_id: task_id.to_owned() };
    let comments = gateway.task().list_review_comments(request).await?.into_inner().comments.len();
    lost.extend(unsent(comments));
    consent(&lost, &format!("{what} the task destroys what only it has"), force)
}

/// That comments are removed with the end of their task.
fn unsent(comments: usize) -> Option<String> {
    let count = i64::try_from(comments).unwrap_or(i64::MAX);
    let text = format!("your {} on the changes that you have not sent", counted(count, "comment"));
    (count > 0).then(|| format!("{text}; to keep them: send them with `foundry task review --send`"))
}

/// A line for each thing that is lost with the sandbox, with the reason and what would save it.
fn only_in_sandbox(changes: &Changes) -> Vec<String> {
    let mut lines: Vec<String> = changes.not_saved.iter().map(follow::not_saved_words).collect();
    for notice in changes.notices.iter().filter(|notice| is_only_in_sandbox(notice)) {
        let (what, next) = notice_words(notice);
        lines.push(if next.is_empty() { what } else { format!("{what}; to keep it: {next}") });
    }
    lines
}

/// Prints what a push replaces, and asks whether to go on. `--force` alone is no consent: which commits are lost is known only
/// from the plan.
///
/// # Errors
/// When the answer is not yes, or there is nobody to ask.
pub fn replacing(lines: &[String], yes: bool) -> Result<(), Failure> {
    let why = "the push replaces commits at the remote";
    consent_by(lines, why, yes, "look at what is lost, then repeat the command with --yes")
}

/// Prints what is noteworthy of a work before it is pushed, and the message that nobody has chosen, and asks whether to go
/// on. Without a terminal there is nobody to ask, and nothing is lost: conflict markers, which nobody wants to push unseen,
/// need a consent of their own anyway.
///
/// # Errors
/// When the answer is not yes.
pub fn publishing(lines: &[String], yes: bool) -> Result<(), Failure> {
    consent(lines, "before the work is pushed", yes || !std::io::stdin().is_terminal())
}

/// Prints what is lost, and asks whether to go on; nothing to lose is consent.
///
/// # Errors
/// When the answer is not yes, or there is nobody to ask.
pub fn consent(lost: &[String], why: &str, force: bool) -> Result<(), Failure> {
    consent_by(lost, why, force, "save it first, or repeat the command with --force")
}

/// As [`consent`], with what can be done where there is nobody to ask.
///
/// # Errors
/// When the answer is not yes, or there is nobody to ask.
pub fn consent_by(lost: &[String], why: &str, force: bool, otherwise: &str) -> Result<(), Failure> {
    if lost.is_empty() {
        return Ok(());
    }
    eprintln!("{why}:");
    lost.iter().for_each(|line| eprintln!("  {}", output::inert(line)));
    if force {
        return Ok(());
    }
    let kept = Failure::new("nothing was changed");
    if !std::io::stdin().is_terminal() {
        return Err(kept.next(otherwise));
    }
    eprint!("Go on? [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if is_yes(&answer) { Ok(()) } else { Err(kept) }
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use foundry_proto::common::v1::{Condition, WorkNotice, WorkNoticeKind};

    use super::*;

    #[test]
    fn what_only_the_sandbox_has_is_named_with_what_would_keep_it() {
        let notice =
            |kind: WorkNoticeKind| WorkNotice { kind: kind.into(), count: 1, ..WorkNotice::default() };
        let not_saved = Condition { message: "git failed".into(), ..Condition::default() };
        let lost = only_in_sandbox(&Changes {
            notices: vec![notice(WorkNoticeKind::LineEndings), notice(WorkNoticeKind::Stash)],
            not_saved: Some(not_saved),
            ..Changes::default()
        });
        assert_eq!(lost.len(), 2, "{lost:?}");
        assert!(lost[0].contains("is not saved: git failed"), "{lost:?}");
        assert_eq!(
            lost[1],
            "1 stash is not part of the work; to keep it: ask the agent to apply what it has stashed"
        );
    }

    #[test]
    fn comments_that_were_not_sent_are_named_before_they_go() {
        assert_eq!(unsent(0), None);
        let two = unsent(2).unwrap();
        assert!(two.starts_with("your 2 comments on the changes") && two.contains("review --send"), "{two}");
    }

    #[test]
    fn only_a_yes_or_force_destroys_something() {
        assert!(is_yes("y\n") && is_yes(" Yes \n"));
        assert!(!is_yes("\n") && !is_yes("") && !is_yes("yesterday"));
        let lost = ["a stash".to_owned()];
        assert!(consent(&[], "x", false).is_ok() && consent(&lost, "x", true).is_ok());
    }

    #[test]
    fn commits_at_the_remote_are_not_replaced_where_nobody_can_be_asked() {
        assert!(!std::io::stdin().is_terminal(), "tests have no terminal");
        let plan = ["feat/x: lost at the remote: 1 commit".to_owned()];
        let refused = replacing(&plan, false).unwrap_err();
        assert!(refused.next_action.contains("--yes"), "{}", refused.next_action);
        assert!(replacing(&plan, true).is_ok());
    }
}
