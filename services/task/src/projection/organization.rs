//! The organization summary: pure functions from a task or a repository to what lists show.

use foundry_proto::repo::v1::{Repository, RepositoryState};
use foundry_proto::task::v1::organization_item::Item;
use foundry_proto::task::v1::{OrganizationItem, RepositorySummary, SessionSummary, TaskState, TaskSummary};

use crate::domain::derive::Aggregate;

/// One row of the summary table.
#[derive(Clone, Debug, PartialEq)]
pub struct SummaryRow {
    /// `task/<id>` or `repository/<id>`.
    pub key: String,
    /// `task` or `repository`.
    pub kind: &'static str,
    /// Whether lists show it; false for an archived or killed task.
    pub listed: bool,
    /// Id of the task's repository, or of the repository itself.
    pub repository_id: String,
    /// When it was created, in microseconds since the epoch.
    pub create_time: i64,
    /// The item as sent on the wire.
    pub item: OrganizationItem,
}

/// A task as lists show it.
pub fn of_task(aggregate: &Aggregate) -> SummaryRow {
    let view = &aggregate.task.view;
    let changes = view.changes.clone().unwrap_or_default();
    let sessions = aggregate.sessions.iter().filter(|s| !s.closed).map(|s| SessionSummary {
        session_id: s.session_id.to_string(),
        name: s.view.name.clone(),
        state: s.view.state,
        last_offset: s.view.last_offset,
        waits_for_permission: s.view.pending_permission.is_some() || s.view.pending_elicitation.is_some(),
    });
    let summary = TaskSummary {
        task_id: view.task_id.clone(),
        repository_id: view.repository_id.clone(),
        title: view.title.clone(),
        branch: view.branch.clone(),
        state: view.state,
        reason: view.condition.as_ref().map(|c| c.reason.clone()).unwrap_or_default(),
        sessions: sessions.collect(),
        files_changed: changes.files_changed,
        additions: changes.additions,
        deletions: changes.deletions,
        created_by: view.created_by.clone(),
        create_time: view.create_time,
        update_time: view.update_time,
    };
    SummaryRow {
        key: task_key(&view.task_id),
        kind: "task",
        listed: !matches!(view.state(), TaskState::Archived | TaskState::Killed),
        repository_id: view.repository_id.clone(),
        create_time: aggregate.task.create_time.as_micros(),
        item: OrganizationItem { item: Some(Item::Task(summary)) },
    }
}

/// The key of a task in the lists.
pub fn task_key(task_id: &str) -> String {
    format!("task/{task_id}")
}

/// A repository as lists show it.
pub fn of_repository(repository: &Repository) -> SummaryRow {
    let state = match repository.state() {
        RepositoryState::Unspecified | RepositoryState::Pending => "pending",
        RepositoryState::Ready => "ready",
        RepositoryState::Syncing => "syncing",
        RepositoryState::Error => "error",
        RepositoryState::Deleting => "deleting",
    };
    let reason = repository.condition.as_ref().map(|c| c.reason.clone()).unwrap_or_default();
    let summary = RepositorySummary {
        repository_id: repository.repository_id.clone(),
        name: repository.name.clone(),
        url: repository.url.clone(),
        state: state.to_owned(),
        reason,
        default_branch: repository.default_branch.clone(),
    };
    let created =
        repository.create_time.as_ref().map_or(0, |t| foundry_core::Timestamp::from_proto(t).as_micros());
    SummaryRow {
        key: format!("repository/{}", repository.repository_id),
        kind: "repository",
        listed: true,
        repository_id: repository.repository_id.clone(),
        create_time: created,
        item: OrganizationItem { item: Some(Item::Repository(summary)) },
    }
}
