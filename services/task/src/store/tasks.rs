//! Table `tasks`: facts and view of each task.

use bytes::Bytes;
use foundry_core::{OrganizationId, RepositoryId, Result, TaskId, Timestamp};
use foundry_flow::FlowStatus;
use foundry_proto::task::v1 as pb;
use foundry_service::{Stored, damaged_condition, damaged_name, readable, stored_condition};
use foundry_store::{Reader, RevRef, Row, Store, Table, Value, WriteSet};
use prost::Message as _;

use crate::domain::task::{FlowFacts, Lifecycle, Task};

pub const TASKS: Table = Table::new(
    "tasks",
    &[
        "task_id",
        "organization_id",
        "repository_id",
        "branch",
        "first_session_id",
        "create_time",
        "rev",
        "fence",
        "stale",
        "lifecycle",
        "lifecycle_time",
        "flow_id",
        "flow_stage",
        "flow_status",
        "flow_condition",
        "destroy_sent",
        "retry_rev",
        "transcript_deletion",
        "view",
        "auto_fix",
    ],
    &["task_id"],
);

/// One task by revision, for watches.
pub const ONE_BY_REV: &str = "SELECT task_id, organization_id, repository_id, branch, create_time, lifecycle, rev, \
     view FROM tasks WHERE task_id = $1 AND rev > $2 ORDER BY rev LIMIT $3";

const FIND: &str = "SELECT task_id, organization_id, repository_id, branch, first_session_id, create_time, rev, \
     fence, stale, lifecycle, lifecycle_time, flow_id, flow_stage, flow_status, flow_condition, destroy_sent, retry_rev, \
     transcript_deletion, view, auto_fix FROM tasks WHERE task_id = $1";

const UNRELEASED: &str = "SELECT task_id FROM tasks WHERE lifecycle IN ('archived', 'killed') AND events_released = 0 \
     AND task_id > $1 ORDER BY task_id LIMIT $2";

fn read(row: &Row) -> Result<Task> {
    let view = view(row)?;
    Ok(Task {
        task_id: row.text("task_id")?.parse()?,
        organization_id: row.text("organization_id")?.parse()?,
        repository_id: row.text("repository_id")?.parse()?,
        first_session_id: row.text("first_session_id")?.parse()?,
        create_time: row.time("create_time")?,
        rev: row.int("rev")?,
        fence: row.int("fence")?,
        stale: row.bool("stale")?,
        lifecycle: Lifecycle::parse(row.text("lifecycle")?)?,
        lifecycle_time: row.time("lifecycle_time")?,
        flow: read_flow(row)?,
        destroy_sent: row.text("destroy_sent")?.to_owned(),
        retry_rev: row.int("retry_rev")?,
        transcript_deleted: row.int("transcript_deletion")? > 0,
        // A damaged one is switched off.
        auto_fix: readable(row, "auto_fix", row.text("task_id")?)?.unwrap_or_default(),
        damaged: view.is_damaged(),
        view: view.entity,
    })
}

fn view(row: &Row) -> Result<Stored<pb::Task>> {
    Stored::or(decoded(row), || unreadable(row, row.text("task_id")?))
}

/// The view of a row, which names its own task.
///
/// # Errors
/// `STORED_DATA_DAMAGED` when it does not, or cannot be decoded.
pub fn decoded(row: &Row) -> Result<pb::Task> {
    let id = row.text("task_id")?;
    row.own_message("view", |view: pb::Task| (view.task_id == id).then_some(view))
}

/// What stands for the view of a row that cannot be decoded.
fn unreadable(row: &Row, id: &str) -> Result<pb::Task> {
    let state = match Lifecycle::parse(row.text("lifecycle")?)? {
        Lifecycle::Active => pb::TaskState::Error,
        Lifecycle::Archiving => pb::TaskState::Archiving,
        Lifecycle::Archived => pb::TaskState::Archived,
        Lifecycle::Killing => pb::TaskState::Killing,
        Lifecycle::Killed => pb::TaskState::Killed,
    };
    let created = Some(row.time("create_time")?.to_proto());
    Ok(pb::Task {
        task_id: id.to_owned(),
        organization_id: row.text("organization_id")?.to_owned(),
        repository_id: row.text("repository_id")?.to_owned(),
        title: damaged_name(id),
        branch: row.text("branch")?.to_owned(),
        state: state.into(),
        condition: Some(damaged_condition()),
        create_time: created,
        update_time: created,
        ..pb::Task::default()
    })
}

/// The view of a row as it is sent.
pub fn shown(row: &Row) -> Result<Bytes> {
    view(row)?.encoded(row, "view")
}

/// The flow columns of a task or session.
pub fn read_flow(row: &Row) -> Result<FlowFacts> {
    Ok(FlowFacts {
        flow_id: row.text("flow_id")?.parse()?,
        stage: row.text("flow_stage")?.to_owned(),
        status: row.text("flow_status")?.to_owned(),
        condition: stored_condition(row, "flow_condition", row.text("flow_id")?)?,
    })
}

/// The column values that a flow's projection sets in the row of its task or session.
pub fn flow_columns(
    flow: &FlowStatus,
    condition: &foundry_proto::common::v1::Condition,
) -> Vec<(&'static str, Value)> {
    vec![
        ("flow_stage", flow.stage.as_str().into()),
        ("flow_status", flow.status.as_str().into()),
        ("flow_condition", condition.encode_to_vec().into()),
    ]
}

/// The task with this id, in any organization.
pub async fn find(from: &impl Reader, id: &TaskId) -> Result<Option<Task>> {
    from.query(FIND, &[id.into()]).await?.first().map(read).transpose()
}

/// The fence of a task, which changes with every write to any part of it; none when it does not exist.
pub async fn fence(store: &Store, id: &TaskId) -> Result<Option<i64>> {
    const SQL: &str = "SELECT fence FROM tasks WHERE task_id = $1";
    store.query(SQL, &[id.into()]).await?.first().map(|r| r.int("fence")).transpose()
}

/// Whether a task of this repository has this branch, or had it before it ended.
pub async fn branch_taken(store: &Store, repository: &RepositoryId, branch: &str) -> Result<bool> {
    const SQL: &str = "SELECT task_id FROM tasks WHERE repository_id = $1 AND branch = $2";
    Ok(!store.query(SQL, &[repository.into(), branch.into()]).await?.is_empty())
}

/// The task that works on this branch of the repository and has not ended.
pub async fn open_on(store: &Store, repository: &RepositoryId, branch: &str) -> Result<Option<TaskId>> {
    const SQL: &str = "SELECT task_id FROM tasks WHERE repository_id = $1 AND branch = $2 \
         AND lifecycle NOT IN ('archived', 'killed')";
    let rows = store.query(SQL, &[repository.into(), branch.into()]).await?;
    rows.first().map(|r| r.text("task_id")?.parse()).transpose()
}

/// The tasks of a repository.
pub async fn of_repository(store: &Store, repository: &RepositoryId) -> Result<Vec<TaskId>> {
    const SQL: &str = "SELECT task_id FROM tasks WHERE repository_id = $1";
    store.query(SQL, &[repository.into()]).await?.iter().map(|r| r.text("task_id")?.parse()).collect()
}

/// Tasks whose views do not show the latest state of their flows yet.
pub async fn stale(store: &Store, limit: u32) -> Result<Vec<TaskId>> {
    const SQL: &str = "SELECT task_id FROM tasks WHERE stale = 1 LIMIT $1";
    store.query(SQL, &[limit.into()]).await?.iter().map(|r| r.text("task_id")?.parse()).collect()
}

/// The organizations that have tasks.
pub async fn organizations(store: &Store) -> Result<Vec<OrganizationId>> {
    const SQL: &str = "SELECT DISTINCT organization_id FROM tasks";
    store.query(SQL, &[]).await?.iter().map(|r| r.text("organization_id")?.parse()).collect()
}

/// The tasks that were killed before a time and still have transcripts, the oldest first.
pub async fn with_old_transcripts(store: &Store, before: Timestamp, limit: u32) -> Result<Vec<TaskId>> {
    const SQL: &str = "SELECT task_id FROM tasks WHERE lifecycle = 'killed' AND transcript_deletion < 2 \
         AND lifecycle_time < $1 ORDER BY lifecycle_time LIMIT $2";
    let rows = store.query(SQL, &[before.into(), limit.into()]).await?;
    rows.iter().map(|r| r.text("task_id")?.parse()).collect()
}

/// The tasks that have ended with events that the provisioner still stores, after an id, in the order of their ids.
///
/// # Errors
/// `INTERNAL` when the database fails.
pub async fn unreleased(store: &Store, after: &str, limit: u32) -> Result<Vec<TaskId>> {
    let rows = store.query(UNRELEASED, &[after.into(), limit.into()]).await?;
    rows.iter().map(|r| r.text("task_id")?.parse()).collect()
}

/// Notes that the events of all sessions of an ended task are released. No view shows it.
pub fn events_released(ws: &mut WriteSet, id: &TaskId) {
    ws.update(&TASKS, &[id.into()], &[("events_released", 1.into())], &[]);
}

/// Notes that the transcripts of a task, which were being deleted, are deleted. No view shows it.
pub fn transcripts_deleted(ws: &mut WriteSet, id: &TaskId) {
    let (set, guards) = ([("transcript_deletion", 2.into())], [("transcript_deletion", 1.into())]);
    ws.update(&TASKS, &[id.into()], &set, &guards);
}

/// Adds a new task.
pub fn insert(ws: &mut WriteSet, rev: RevRef, task: &Task) {
    let values: Vec<Value> = vec![
        (&task.task_id).into(),
        (&task.organization_id).into(),
        (&task.repository_id).into(),
        task.view.branch.as_str().into(),
        (&task.first_session_id).into(),
        task.create_time.into(),
        rev.into(),
        task.fence.into(),
        false.into(),
        task.lifecycle.as_str().into(),
        task.lifecycle_time.into(),
        (&task.flow.flow_id).into(),
        task.flow.stage.as_str().into(),
        task.flow.status.as_str().into(),
        task.flow.condition.encode_to_vec().into(),
        task.destroy_sent.as_str().into(),
        task.retry_rev.into(),
        task.transcript_deleted.into(),
        task.view.encode_to_vec().into(),
        task.auto_fix.encode_to_vec().into(),
    ];
    ws.insert(&TASKS, values);
}

/// Updates a task's row, which must have a new fence; fails the write set if the fence has changed since it was read.
pub fn update(ws: &mut WriteSet, rev: Option<RevRef>, before: &Task, task: &Task) {
    let mut set: Vec<(&'static str, Value)> = vec![("fence", task.fence.into()), ("stale", false.into())];
    if before.lifecycle != task.lifecycle {
        set.push(("lifecycle", task.lifecycle.as_str().into()));
        set.push(("lifecycle_time", task.lifecycle_time.into()));
    }
    if before.flow.flow_id != task.flow.flow_id {
        set.push(("flow_id", (&task.flow.flow_id).into()));
    }
    if before.flow != task.flow {
        set.push(("flow_stage", task.flow.stage.as_str().into()));
        set.push(("flow_status", task.flow.status.as_str().into()));
        set.push(("flow_condition", task.flow.condition.encode_to_vec().into()));
    }
    if before.destroy_sent != task.destroy_sent {
        set.push(("destroy_sent", task.destroy_sent.as_str().into()));
    }
    if before.retry_rev != task.retry_rev {
        set.push(("retry_rev", task.retry_rev.into()));
    }
    if before.transcript_deleted != task.transcript_deleted {
        set.push(("transcript_deletion", task.transcript_deleted.into()));
    }
    if before.auto_fix != task.auto_fix {
        set.push(("auto_fix", task.auto_fix.encode_to_vec().into()));
    }
    if let Some(rev) = rev {
        set.push(("rev", rev.into()));
        // What cannot be decoded is kept for a repair.
        if !task.damaged {
            set.push(("view", task.view.encode_to_vec().into()));
        }
    }
    ws.update(&TASKS, &[(&task.task_id).into()], &set, &[("fence", before.fence.into())]);
}

/// Writes a new fence over the one that was read, for a write to a part of the task; anything that came between fails
/// the write set.
pub fn update_fence(ws: &mut WriteSet, id: &TaskId, before: i64, fence: i64) {
    ws.update(&TASKS, &[id.into()], &[("fence", fence.into())], &[("fence", before.into())]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    #[tokio::test]
    async fn what_ended_tasks_have_to_release_is_read_without_the_tasks_that_live() {
        let world = World::new().await;
        if !world.url.starts_with("sqlite:") {
            return;
        }
        let running = world.start().await;
        const PLAN: &str = "EXPLAIN QUERY PLAN SELECT task_id FROM tasks WHERE lifecycle IN ('archived', 'killed') \
             AND events_released = 0 AND task_id > $1 ORDER BY task_id LIMIT $2";
        assert!(PLAN.ends_with(UNRELEASED));
        let plan = running.cx.store.query(PLAN, &["".into(), 100.into()]).await.unwrap();
        let steps: Vec<_> = plan.iter().map(|row| row.text("detail").unwrap()).collect();
        assert!(matches!(&steps[..], [one] if one.contains("tasks_unreleased")), "{steps:?}");
        running.stop().await;
    }
}
