//! A task and its sessions.

use foundry_core::{OrganizationId, TaskId};
use foundry_store::Scope;
use foundry_watch_hub::{Fingerprint, Source, TableView};

use super::wrapped;
use crate::store::{sessions, tasks};

/// The view of `WatchTask`.
pub fn of_task(organization: &OrganizationId, task: &TaskId) -> TableView {
    let fingerprint = Fingerprint::new("WatchTask", 1).filter("task", task.as_str());
    TableView::new("WatchTask", Scope::organization(organization), fingerprint)
        .source(Source::new(tasks::ONE_BY_REV, [task.into()], |row| {
            Ok(wrapped(1, format!("task/{}", row.text("task_id")?), row.int("rev")?, &tasks::shown(row)?))
        }))
        .source(Source::new(sessions::OF_TASK_BY_REV, [task.into()], |row| {
            Ok(wrapped(
                2,
                format!("session/{}", row.text("session_id")?),
                row.int("rev")?,
                &sessions::shown(row)?,
            ))
        }))
}
