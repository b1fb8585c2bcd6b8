//! Explains a task from stored facts: what it waits for, since when, and what can be done.

use foundry_authn::Caller;
use foundry_core::{Result, SessionId, counted};
use foundry_proto::common::v1::{Condition, Role, StageState};
use foundry_proto::repo::v1::Repository;
use foundry_proto::task::v1::{
    Changes, ExplainTaskRequest, ExplainTaskResponse, Finding, SessionState, Task, TaskState,
};
use foundry_service::{merged_words, notice_words, publication_words};
use foundry_store::Scope;
use foundry_watch_hub::View;

use crate::consume;
use crate::context::Context;
use crate::domain::derive::{Aggregate, Replica};
use crate::stalls::{self, Followed};
use crate::store::{aggregate, upstream};
use crate::view;

/// # Errors
/// `NOT_FOUND`.
pub async fn explain_task(
    cx: &Context,
    caller: &Caller,
    request: ExplainTaskRequest,
) -> Result<ExplainTaskResponse> {
    let id = request.task_id.parse()?;
    let moment = cx.store.snapshot().await?;
    let aggregate = aggregate::read(&moment, &id).await?;
    let aggregate = cx.found(caller, aggregate, Role::Viewer, "task", &request.task_id)?;
    let repository = upstream::repository(&moment, &aggregate.task.repository_id).await?;
    let now = cx.env.clock.now();
    let mut explained = explain(&aggregate, repository, |session| cx.stalls.condition(session, now));
    explained.findings.extend(stalled_watches(cx, &aggregate));
    Ok(explained)
}

/// The watches that make no progress, of those that show the task or that it follows.
fn stalled_watches(cx: &Context, aggregate: &Aggregate) -> Vec<Finding> {
    let (task, now) = (&aggregate.task, cx.env.clock.now());
    let mut found = Vec::new();
    for watch in consume::OF_ORGANIZATION {
        let condition = cx.stalls.condition(Followed::Watch(task.organization_id.clone(), watch), now);
        found.extend(condition.map(|why| finding(&format!("consumer of {watch}"), "stalled", &why)));
    }
    let own = view::task::of_task(&task.organization_id, &task.task_id).fingerprint();
    let concerns = |view: &dyn View| view.name() == view::organization::NAME || view.fingerprint() == own;
    let mut feeds = cx.hub.stalled(&Scope::organization(&task.organization_id), concerns);
    for session in &aggregate.sessions {
        feeds.extend(cx.hub.stalled(&Scope::session(&session.session_id), |_| true));
    }
    let feeds = feeds.iter().map(|(name, why)| (format!("feed of {name}"), stalls::feed_condition(why)));
    found.extend(feeds.map(|(subject, why)| finding(&subject, "stalled", &why)));
    found
}

fn explain(
    aggregate: &Aggregate,
    repository: Option<Replica<Repository>>,
    stalled: impl Fn(&SessionId) -> Option<Condition>,
) -> ExplainTaskResponse {
    let view = &aggregate.task.view;
    let condition = view.condition.clone().unwrap_or_default();
    let state = word(view.state().as_str_name(), "TASK_STATE_");
    let mut summary = sentence(&format!("The task {}", phrase(&state)), &condition);
    let mut open = aggregate.sessions.iter().filter(|s| !s.closed);
    if aggregate.sandbox_between_attempts().is_some()
        || open.any(|s| aggregate.agent_between_attempts(s.session_id.as_str()))
    {
        summary.push_str(" Retry the task to make the next attempt now.");
    }
    if view.changes.as_ref().is_some_and(|c| c.not_saved.is_some()) {
        summary.push_str(" Its newest work is not saved.");
    }
    let mut findings = vec![finding(&format!("task {}", view.task_id), &state, &condition)];
    findings.extend(current_stage(aggregate));
    if let Some(sandbox) = aggregate.sandbox.as_ref().map(|s| &s.entity) {
        let state = word(sandbox.state().as_str_name(), "SANDBOX_STATE_");
        let condition = sandbox.condition.clone().unwrap_or_default();
        findings.push(finding(&format!("sandbox {}", sandbox.sandbox_id), &state, &condition));
        for reached in &sandbox.reached_limits {
            let subject = format!("sandbox {}", sandbox.sandbox_id);
            findings.push(finding(&subject, "at a limit", reached));
        }
    } else if view.state() != TaskState::Queued {
        findings.push(finding("sandbox", "none", &aggregate.task.flow.condition));
    }
    findings.extend(base_findings(view));
    for session in aggregate.sessions.iter().filter(|s| !s.closed) {
        findings.push(session_finding(aggregate, session));
        let subject = format!("transcript of session {}", session.session_id);
        findings.extend(stalled(&session.session_id).map(|why| finding(&subject, "stalled", &why)));
    }
    match aggregate.repository_removed() {
        Some(removed) => findings.push(finding("work", "not stored", removed)),
        None => findings.extend(view.changes.iter().flat_map(work_findings)),
    }
    findings.push(repository_finding(repository, aggregate));
    ExplainTaskResponse { summary, findings }
}

/// The imported work, why newer work is not saved, and what was left out.
fn work_findings(changes: &Changes) -> Vec<Finding> {
    let mut findings = Vec::new();
    if changes.version > 0 {
        let mut found = finding("work", "imported", &changes.condition.clone().unwrap_or_default());
        found.explanation = format!(
            "Version {}: {} changed, {} added, {} removed.",
            changes.version,
            counted(changes.files_changed, "file"),
            counted(changes.additions, "line"),
            changes.deletions
        );
        for merged in &changes.merged_from {
            found.explanation.push_str(&format!(" Not counted: {}.", merged_words(merged)));
        }
        findings.push(found);
    }
    if let Some(publication) = &changes.publication {
        let since = Condition { since_time: publication.publish_time, ..Condition::default() };
        let state = match (publication.replaced_by.is_empty(), publication.commits_since) {
            (false, _) => "replaced",
            (true, 0) => "published",
            (true, _) => "partly published",
        };
        let mut found = finding("work", state, &since);
        found.explanation = format!("The work is {}.", publication_words(publication));
        findings.push(found);
    }
    if let Some(why) = &changes.not_saved {
        let mut found = finding("work", "not saved", why);
        found.explanation = sentence("The newest work is not saved", why);
        findings.push(found);
    }
    findings.extend(changes.notices.iter().map(|notice| {
        let (what, next) = notice_words(notice);
        let condition = Condition { message: what, next_action: next, ..Condition::default() };
        Finding {
            subject: "work".to_owned(),
            state: "notice".to_owned(),
            explanation: sentence("A notice", &condition),
            condition: Some(condition),
        }
    }));
    findings
}

/// What was unusual about the start of the work.
fn base_findings(view: &Task) -> impl Iterator<Item = Finding> {
    view.base.iter().flat_map(|base| &base.notices).map(|notice| match notice.reason.as_str() {
        "BRANCH_CONFLICT" => finding(&format!("branch {}", view.branch), "taken", notice),
        "REPOSITORY_EMPTY" => finding("base", "empty", notice),
        "LFS_OBJECTS_NOT_FETCHED" | "SUBMODULES_LEFT_OUT" => {
            finding(&format!("base {}", view.base_branch), "incomplete", notice)
        }
        "DEFAULT_BRANCH_CHANGED" => finding(&format!("base {}", view.base_branch), "changed", notice),
        _ => finding(&format!("base {}", view.base_branch), "outdated", notice),
    })
}

/// The first stage that is unfinished or failed.
fn current_stage(aggregate: &Aggregate) -> Option<Finding> {
    let stage = aggregate
        .task
        .view
        .stages
        .iter()
        .find(|s| matches!(s.state(), StageState::Running | StageState::Waiting | StageState::Failed))?;
    let condition = Condition {
        reason: stage.reason.clone(),
        message: stage.message.clone(),
        since_time: stage.start_time,
        attempt: stage.attempts,
        ..Condition::default()
    };
    let state = word(stage.state().as_str_name(), "STAGE_STATE_");
    Some(finding(&format!("stage {}", stage.name), &state, &condition))
}

fn session_finding(aggregate: &Aggregate, session: &crate::domain::session::Session) -> Finding {
    let condition = session.view.condition.clone().unwrap_or_default();
    let state = word(session.view.state().as_str_name(), "SESSION_STATE_");
    let mut found =
        finding(&format!("session {} ({})", session.session_id, session.view.name), &state, &condition);
    let waiting = session.view.queue_length;
    if waiting > 0 {
        let why = match session.view.state() {
            _ if session.view.queue_held => "the queue is paused until it is resumed",
            SessionState::Running => "they are delivered after the running turn",
            _ => "they are delivered when the session is ready",
        };
        let (count, verb) = (counted(waiting, "message"), if waiting == 1 { "is" } else { "are" });
        found.explanation.push_str(&format!(" {count} {verb} queued: {why}."));
    }
    if !aggregate.caught_up(session) {
        found.explanation.push_str(" The agent's events are still being processed.");
    }
    found
}

fn repository_finding(repository: Option<Replica<Repository>>, aggregate: &Aggregate) -> Finding {
    match repository {
        Some(copy) if upstream::was_removed(&copy) || aggregate.repository_removed().is_some() => Finding {
            subject: format!("repository {}", copy.entity.name),
            state: "removed".to_owned(),
            condition: None,
            explanation:
                "It was removed: nothing more of its tasks is stored, and no sandbox can be made for them."
                    .to_owned(),
        },
        Some(Replica { entity: r, .. }) => {
            let state = word(r.state().as_str_name(), "REPOSITORY_STATE_");
            let mut found =
                finding(&format!("repository {}", r.name), &state, &r.condition.clone().unwrap_or_default());
            found.explanation.push_str(&match &r.sync_time {
                Some(at) => format!(" Last synchronized at {}.", to_the_second(at)),
                None => " Not synchronized yet.".to_owned(),
            });
            found
        }
        None => Finding {
            subject: format!("repository {}", aggregate.task.repository_id),
            state: "unknown".to_owned(),
            condition: None,
            explanation: "The repo service has not reported it yet.".to_owned(),
        },
    }
}

fn finding(subject: &str, state: &str, condition: &Condition) -> Finding {
    Finding {
        subject: subject.to_owned(),
        state: state.to_owned(),
        condition: Some(condition.clone()),
        explanation: sentence(&format!("It {}", phrase(state)), condition),
    }
}

fn sentence(head: &str, condition: &Condition) -> String {
    let mut text = head.to_owned();
    if !condition.waiting_on.is_empty() {
        // Some states are a wait by themselves.
        let link = match () {
            () if head.ends_with(" is waiting") => " for",
            () if head.contains(" is waiting for ") => ", now for",
            () => " and is waiting for",
        };
        text.push_str(&format!("{link} {}", thing(&condition.waiting_on)));
    }
    if !condition.message.is_empty() {
        text.push_str(&format!(": {}", condition.message.trim_end_matches('.')));
    }
    if !condition.reason.is_empty() {
        text.push_str(&format!(" ({})", condition.reason));
    }
    text.push('.');
    if let Some(at) = &condition.next_attempt_time {
        let at = to_the_second(at);
        text.push_str(&match (condition.attempt, condition.max_attempts) {
            (0, _) => format!(" The next attempt is at {at}."),
            (tried, 0) => format!(" Attempt {tried} failed; the next is at {at}."),
            (tried, most) => format!(" Attempt {tried} of {most} failed; the next is at {at}."),
        });
    }
    // "Nothing needed" is not worth a sentence.
    if !condition.next_action.is_empty() && !condition.next_action.starts_with("none needed") {
        text.push_str(&format!(" Next step: {}.", condition.next_action));
    }
    text
}

/// The predicate for the state of a task, stage, sandbox, session or repository, as in "is running".
fn phrase(state: &str) -> String {
    match state {
        "error" | "failed" => "has failed",
        "naming" => "is being named",
        "pending branch" => "is waiting for its branch",
        "creating sandbox" | "pending provision" => "is waiting for its sandbox",
        "ensuring agent" => "is waiting for its agent to start",
        "creating session" => "is waiting for its session",
        "pending session create" => "is being started",
        "interrupted" => "was interrupted",
        "cancelled" => "was cancelled",
        "archiving" => "is being archived",
        "killing" => "is being killed",
        "allocating" => "is being allocated",
        "preparing repo" => "is cloning the repository",
        "installing agent" => "is installing its agent",
        "starting agent" => "is starting its agent",
        "vanished" => "has vanished",
        "destroying" => "is being destroyed",
        "destroyed" => "was destroyed",
        "pending" => "is being mirrored for the first time",
        "syncing" => "is being synchronized",
        "deleting" => "is being deleted",
        "at a limit" => "is at a limit",
        "none" => "does not exist",
        "unspecified" => "is in an unknown state",
        plain => return format!("is {plain}"),
    }
    .to_owned()
}

/// What something waits for; the name of a stage in plain words.
fn thing(waiting_on: &str) -> String {
    let is_name = waiting_on.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    if is_name { waiting_on.replace('_', " ") } else { waiting_on.to_owned() }
}

/// A time without its fraction of a second, for people.
fn to_the_second(at: &prost_types::Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: at.seconds, nanos: 0 }
}

/// `TASK_STATE_CREATING_SANDBOX` as "creating sandbox".
fn word(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_lowercase().replace('_', " ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use foundry_proto::provisioner::v1::SandboxState;
    use foundry_proto::repo::v1::RepositoryState;

    use super::*;
    use crate::testing::World;

    /// Words that can follow "is".
    const PLAIN: [&str; 9] =
        ["queued", "running", "idle", "ready", "closed", "archived", "killed", "waiting", "done"];

    #[test]
    fn every_state_is_told_in_words_that_make_a_sentence() {
        let known = (0..32).flat_map(|n| {
            let names = [
                TaskState::try_from(n).ok().map(|s| word(s.as_str_name(), "TASK_STATE_")),
                SessionState::try_from(n).ok().map(|s| word(s.as_str_name(), "SESSION_STATE_")),
                SandboxState::try_from(n).ok().map(|s| word(s.as_str_name(), "SANDBOX_STATE_")),
                StageState::try_from(n).ok().map(|s| word(s.as_str_name(), "STAGE_STATE_")),
                RepositoryState::try_from(n).ok().map(|s| word(s.as_str_name(), "REPOSITORY_STATE_")),
            ];
            names.into_iter().flatten()
        });
        let known: Vec<String> = known.collect();
        assert!(known.len() > 40, "{known:?}");
        for state in known {
            let plain = phrase(&state) == format!("is {state}");
            assert_eq!(plain, PLAIN.contains(&state.as_str()), "{state}");
        }
        assert_eq!(phrase("error"), "has failed");
    }

    #[test]
    fn a_stage_that_is_waited_on_is_named_and_a_command_is_left_as_it_is() {
        let stage = Condition {
            waiting_on: "agent_installing".to_owned(),
            next_action: "none needed".to_owned(),
            ..Condition::default()
        };
        assert_eq!(sentence("It is running", &stage), "It is running and is waiting for agent installing.");
        assert_eq!(sentence("It is waiting", &stage), "It is waiting for agent installing.");
        let twice = sentence("The task is waiting for its agent to start", &stage);
        assert_eq!(twice, "The task is waiting for its agent to start, now for agent installing.");
        let command = Condition {
            waiting_on: "permission: Run `rm -rf build_index`".to_owned(),
            reason: "PERMISSION_WANTED".to_owned(),
            next_action: "answer it".to_owned(),
            ..Condition::default()
        };
        assert_eq!(
            sentence("It is running", &command),
            "It is running and is waiting for permission: Run `rm -rf build_index` (PERMISSION_WANTED). \
             Next step: answer it."
        );
    }

    #[test]
    fn a_failed_attempt_is_told_with_the_time_of_the_next() {
        let waiting = Condition {
            waiting_on: "agent_installing".to_owned(),
            reason: "AGENT_INSTALL_FAILED".to_owned(),
            attempt: 3,
            max_attempts: 10,
            next_attempt_time: Some(prost_types::Timestamp { seconds: 1_764_070_696, nanos: 1 }),
            next_action: "none needed: it is retried at the time shown".to_owned(),
            ..Condition::default()
        };
        assert_eq!(
            sentence("It is installing", &waiting),
            "It is installing and is waiting for agent installing (AGENT_INSTALL_FAILED). \
             Attempt 3 of 10 failed; the next is at 2025-11-25T11:38:16Z."
        );
    }

    #[test]
    fn the_work_is_explained_with_what_was_left_out_and_why_it_is_not_saved() {
        use foundry_proto::common::v1::{MergedFrom, WorkNotice, WorkNoticeKind};

        let merged = MergedFrom { branch: "develop".to_owned(), files_changed: 30, ..MergedFrom::default() };
        let notice = WorkNotice {
            kind: WorkNoticeKind::Operation.into(),
            detail: "rebase".to_owned(),
            count: 1,
            ..WorkNotice::default()
        };
        let why = Condition {
            reason: "WORK_BUNDLE_FAILED".to_owned(),
            message: "git failed".to_owned(),
            ..Condition::default()
        };
        let changes = Changes {
            version: 2,
            files_changed: 1,
            notices: vec![notice],
            not_saved: Some(why.clone()),
            merged_from: vec![merged],
            ..Changes::default()
        };
        let told: Vec<_> = work_findings(&changes).into_iter().map(|f| f.explanation).collect();
        assert_eq!(
            told,
            [
                "Version 2: 1 file changed, 0 lines added, 0 removed. Not counted: 30 files merged from develop.",
                "The newest work is not saved: git failed (WORK_BUNDLE_FAILED).",
                "A notice: rebase in progress, 1 file in conflict. Next step: ask the agent to finish or abort it; \
                 until then the work is the tree as it is.",
            ]
        );
        // Also before the first import.
        let told = work_findings(&Changes { not_saved: Some(why), ..Changes::default() });
        assert_eq!(told.len(), 1);
    }

    #[test]
    fn a_time_is_told_to_the_second() {
        let at = prost_types::Timestamp { seconds: 1_764_070_696, nanos: 667_749_000 };
        assert_eq!(to_the_second(&at).to_string(), "2025-11-25T11:38:16Z");
    }

    #[tokio::test]
    async fn names_what_it_follows_that_makes_no_progress_for_ten_seconds_and_why() {
        let world = World::new().await;
        let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
        let created = running.create(&tenant, "one").await;
        let id = created.task.unwrap().task_id.parse().unwrap();
        let aggregate = aggregate::load(&running.cx.store, &id).await.unwrap().unwrap();
        let now = running.cx.env.clock.now();
        for (seconds, named) in [(9, false), (10, true)] {
            let watch = Followed::Watch(tenant.organization.clone(), "WatchSandboxes");
            running.cx.stalls.progressed(watch.clone());
            running.cx.stalls.failed(watch, now.minus(Duration::from_secs(seconds)), "no connection");
            // Nothing is awaited in between, so that the consumer does not go on.
            let found = stalled_watches(&running.cx, &aggregate);
            let subjects: Vec<_> = found.iter().map(|f| f.subject.as_str()).collect();
            let expected = if named { vec!["consumer of WatchSandboxes"] } else { vec![] };
            assert_eq!(subjects, expected, "after {seconds} s");
            let why = "It is stalled: what WatchSandboxes reports cannot be taken in, and is shown as it was before: \
                       no connection (WATCH_STALLED).";
            assert!(found.iter().all(|f| f.explanation.starts_with(why)), "{found:?}");
        }
        running.stop().await;
    }
}
