//! Table `works`: the work of each task and the state of its import.

use foundry_core::{Result, TaskId};
use foundry_service::stored_condition;
use foundry_store::{Reader, RevRef, Row, Table, Value, WriteSet};
use prost::Message as _;

use crate::domain::work::{State, Work};

pub const WORKS: Table = Table::new(
    "works",
    &[
        "task_id",
        "organization_id",
        "repository_id",
        "rev",
        "state",
        "condition",
        "base_commit",
        "head_commit",
        "version",
        "received",
        "files_changed",
        "additions",
        "deletions",
        "import_time",
    ],
    &["task_id"],
);

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT task_id, organization_id, repository_id, rev, state, condition, base_commit, head_commit, version, ",
            "received, files_changed, additions, deletions, import_time FROM works ",
            $rest
        )
    };
}

/// Rows of an organization by revision, for watches.
pub const BY_REV: &str = select!("WHERE organization_id = $1 AND rev > $2 ORDER BY rev LIMIT $3");

/// Reads a row.
pub fn read(row: &Row) -> Result<Work> {
    Ok(Work {
        task_id: row.text("task_id")?.parse()?,
        organization_id: row.text("organization_id")?.parse()?,
        repository_id: row.text("repository_id")?.parse()?,
        rev: row.int("rev")?,
        state: State::parse(row.text("state")?),
        condition: stored_condition(row, "condition", row.text("task_id")?)?,
        base_commit: row.text("base_commit")?.to_owned(),
        head_commit: row.text("head_commit")?.to_owned(),
        version: row.int("version")?,
        received: row.int("received")?,
        files_changed: row.int("files_changed")?,
        additions: row.int("additions")?,
        deletions: row.int("deletions")?,
        import_time: row.opt_time("import_time")?,
    })
}

/// The work of a task, in any organization.
pub async fn find(from: &impl Reader, task: &TaskId) -> Result<Option<Work>> {
    from.query(select!("WHERE task_id = $1"), &[task.as_str().into()]).await?.first().map(read).transpose()
}

/// Works with a received bundle that is not imported yet.
///
/// # Errors
/// `INTERNAL` when a row is damaged.
pub async fn waiting(from: &impl Reader) -> Result<Vec<Work>> {
    from.query(select!("WHERE received <> version"), &[]).await?.iter().map(read).collect()
}

/// Writes a whole row: a new one if `w.rev` is 0; otherwise it fails if the revision is no longer that one.
pub fn save(ws: &mut WriteSet, rev: RevRef, w: &Work) {
    let set: Vec<(&'static str, Value)> = vec![
        ("rev", rev.into()),
        ("state", w.state.as_str().into()),
        ("condition", w.condition.encode_to_vec().into()),
        ("base_commit", w.base_commit.as_str().into()),
        ("head_commit", w.head_commit.as_str().into()),
        ("version", w.version.into()),
        ("received", w.received.into()),
        ("files_changed", w.files_changed.into()),
        ("additions", w.additions.into()),
        ("deletions", w.deletions.into()),
        ("import_time", w.import_time.into()),
    ];
    let key: Value = w.task_id.as_str().into();
    if w.rev == 0 {
        let mut values = vec![key, w.organization_id.as_str().into(), w.repository_id.as_str().into()];
        values.extend(set.into_iter().map(|(_, value)| value));
        ws.insert(&WORKS, values);
    } else {
        ws.update(&WORKS, &[key], &set, &[("rev", w.rev.into())]);
    }
}
