//! Explains a task from stored facts: what it waits on, since when, and what can be done.

use foundry_authn::Caller;
use foundry_core::Result;
use foundry_proto::common::v1::{Condition, Role, StageState};
use foundry_proto::repo::v1::Repository;
use foundry_proto::task::v1::{ExplainTaskRequest, ExplainTaskResponse, Finding, SessionState, TaskState};

use crate::context::Context;
use crate::domain::derive::Aggregate;
use crate::store::upstream;

/// # Errors
/// `NOT_FOUND`.
pub async fn explain_task(
    cx: &Context,
    caller: &Caller,
    request: ExplainTaskRequest,
) -> Result<ExplainTaskResponse> {
    let of = cx.task(caller, &request.task_id, Role::Viewer).await?;
    let repository = upstream::repository(&cx.store, &of.task.repository_id).await?.map(|t| t.entity);
    Ok(explain(&of, repository.as_ref()))
}

fn explain(of: &Aggregate, repository: Option<&Repository>) -> ExplainTaskResponse {
    let view = &of.task.view;
    let condition = view.condition.clone().unwrap_or_default();
    let state = word(view.state().as_str_name(), "TASK_STATE_");
    let summary = sentence(&format!("The task is {state}"), &condition);
    let mut findings = vec![finding(&format!("task {}", view.task_id), &state, &condition)];
    findings.extend(current_stage(of));
    if let Some(sandbox) = of.sandbox.as_ref().map(|s| &s.entity) {
        let state = word(sandbox.state().as_str_name(), "SANDBOX_STATE_");
        let condition = sandbox.condition.clone().unwrap_or_default();
        findings.push(finding(&format!("sandbox {}", sandbox.sandbox_id), &state, &condition));
    } else if view.state() != TaskState::Queued {
        findings.push(finding("sandbox", "none", &of.task.flow.condition));
    }
    for session in of.sessions.iter().filter(|s| !s.closed) {
        findings.push(session_finding(of, session));
    }
    if let Some(changes) = &view.changes {
        let mut found = finding("work", "imported", &changes.condition.clone().unwrap_or_default());
        found.explanation = format!(
            "Version {} changes {} files: {} lines added, {} removed.",
            changes.version, changes.files_changed, changes.additions, changes.deletions
        );
        findings.push(found);
    }
    findings.push(repository_finding(repository, &view.repository_id));
    ExplainTaskResponse { summary, findings }
}

/// The stage that is not done yet, or failed.
fn current_stage(of: &Aggregate) -> Option<Finding> {
    let stage = of
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

fn session_finding(of: &Aggregate, session: &crate::domain::session::Session) -> Finding {
    let condition = session.view.condition.clone().unwrap_or_default();
    let state = word(session.view.state().as_str_name(), "SESSION_STATE_");
    let mut found =
        finding(&format!("session {} ({})", session.session_id, session.view.name), &state, &condition);
    let waiting = session.view.queue_length;
    if waiting > 0 {
        let why = match session.view.state() {
            _ if session.view.queue_held => "the queue is held until it is resumed",
            SessionState::Running => "they follow when the running turn has ended",
            _ => "they follow when the session is ready",
        };
        found.explanation.push_str(&format!(" {waiting} messages wait: {why}."));
    }
    if !of.caught_up(session) {
        found.explanation.push_str(" Events of the agent are still being taken in.");
    }
    found
}

fn repository_finding(repository: Option<&Repository>, id: &str) -> Finding {
    match repository {
        Some(r) => {
            let state = word(r.state().as_str_name(), "REPOSITORY_STATE_");
            let mut found =
                finding(&format!("repository {}", r.name), &state, &r.condition.clone().unwrap_or_default());
            found.explanation.push_str(&match &r.sync_time {
                Some(at) => format!(" Last synchronized at {at}."),
                None => " Never synchronized yet.".to_owned(),
            });
            found
        }
        None => Finding {
            subject: format!("repository {id}"),
            state: "unknown".to_owned(),
            condition: None,
            explanation: "The repo service has not told of it yet.".to_owned(),
        },
    }
}

fn finding(subject: &str, state: &str, condition: &Condition) -> Finding {
    Finding {
        subject: subject.to_owned(),
        state: state.to_owned(),
        condition: Some(condition.clone()),
        explanation: sentence(&format!("It is {state}"), condition),
    }
}

fn sentence(head: &str, condition: &Condition) -> String {
    let mut text = head.to_owned();
    if !condition.waiting_on.is_empty() {
        text.push_str(&format!(" and waits on {}", condition.waiting_on));
    }
    if !condition.message.is_empty() {
        text.push_str(&format!(": {}", condition.message.trim_end_matches('.')));
    }
    if !condition.reason.is_empty() {
        text.push_str(&format!(" ({})", condition.reason));
    }
    text.push('.');
    if !condition.next_action.is_empty() {
        text.push_str(&format!(" What can be done: {}.", condition.next_action));
    }
    text
}

/// `TASK_STATE_CREATING_SANDBOX` as people say it.
fn word(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_lowercase().replace('_', " ")
}
