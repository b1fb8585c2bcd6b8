//! Table `works`: the work of each task and the state of its import.

use foundry_core::{RepositoryId, Result, TaskId};
use foundry_proto::common::v1::{MergedParts, Publication, WorkNotices};
use foundry_service::{readable, stored_condition};
use foundry_store::{Reader, RevRef, Row, Table, Value, WriteSet};
use prost::Message as _;

use crate::domain::work::{State, TaskWork, Work};

pub const WORKS: Table = Table::new(
    "works",
    &[
        "task_id",
        "organization_id",
        "repository_id",
        "rev",
        "branch",
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
        "notices",
        "hand_over_time",
        "merged_from",
        "publication",
        "existing_branch",
    ],
    &["task_id"],
);

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT task_id, organization_id, repository_id, rev, branch, state, condition, base_commit, head_commit, version, ",
            "received, files_changed, additions, deletions, import_time, notices, hand_over_time, merged_from, publication, existing_branch FROM works ",
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
        branch: row.text("branch")?.to_owned(),
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
        notices: readable::<WorkNotices>(row, "notices", row.text("task_id")?)?.unwrap_or_default().notices,
        hand_over_time: row.opt_time("hand_over_time")?,
        merged_from: readable::<MergedParts>(row, "merged_from", row.text("task_id")?)?
            .unwrap_or_default()
            .parts,
        publication: readable::<Publication>(row, "publication", row.text("task_id")?)?
            .filter(|p| !p.commit.is_empty()),
        existing_branch: row.bool("existing_branch")?,
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

/// The task, branch and commit of each imported work of a repository.
///
/// # Errors
/// `INTERNAL` when a row is damaged.
pub async fn heads(from: &impl Reader, repository: &RepositoryId) -> Result<Vec<(TaskId, String, String)>> {
    let sql = "SELECT task_id, branch, head_commit FROM works \
               WHERE repository_id = $1 AND head_commit <> '' ORDER BY task_id";
    let rows = from.query(sql, &[repository.as_str().into()]).await?;
    let head = |row: &Row| {
        Ok((
            row.text("task_id")?.parse()?,
            row.text("branch")?.to_owned(),
            row.text("head_commit")?.to_owned(),
        ))
    };
    rows.iter().map(head).collect()
}

/// The task, branch, base and commit of each imported work of a repository, the oldest task first.
///
/// # Errors
/// `INTERNAL` when a row is damaged.
pub async fn of_repository(from: &impl Reader, repository: &RepositoryId) -> Result<Vec<TaskWork>> {
    let sql = "SELECT task_id, branch, base_commit, head_commit, existing_branch, publication, files_changed \
               FROM works WHERE repository_id = $1 AND head_commit <> '' ORDER BY task_id";
    let rows = from.query(sql, &[repository.as_str().into()]).await?;
    let work = |row: &Row| {
        let text = |column| row.text(column).map(str::to_owned);
        let publication = readable::<Publication>(row, "publication", row.text("task_id")?)?;
        Ok(TaskWork {
            task_id: text("task_id")?,
            branch: text("branch")?,
            published_to: publication.map(|p| p.branch).unwrap_or_default(),
            base: text("base_commit")?,
            head: text("head_commit")?,
            existing_branch: row.bool("existing_branch")?,
            is_empty: row.int("files_changed")? == 0,
        })
    };
    rows.iter().map(work).collect()
}

/// The works of a repository that are published, the newest task first.
///
/// # Errors
/// `INTERNAL` when a row is damaged.
pub async fn published(from: &impl Reader, repository: &RepositoryId) -> Result<Vec<Work>> {
    let sql = select!("WHERE repository_id = $1 AND length(publication) > 0 ORDER BY task_id DESC");
    from.query(sql, &[repository.as_str().into()]).await?.iter().map(read).collect()
}

/// The commits from which the works of a repository start.
///
/// # Errors
/// `INTERNAL` when the database fails.
pub async fn bases_of(from: &impl Reader, repository: &RepositoryId) -> Result<Vec<String>> {
    let sql = "SELECT DISTINCT base_commit FROM works WHERE repository_id = $1 AND base_commit <> ''";
    let rows = from.query(sql, &[repository.as_str().into()]).await?;
    rows.iter().map(|row| Ok(row.text("base_commit")?.to_owned())).collect()
}

/// Writes a whole row: a new one if `w.rev` is 0; otherwise it fails if the revision is no longer that one.
pub fn save(ws: &mut WriteSet, rev: RevRef, w: &Work) {
    let set: Vec<(&'static str, Value)> = vec![
        ("rev", rev.into()),
        ("branch", w.branch.as_str().into()),
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
        ("notices", WorkNotices { notices: w.notices.clone() }.encode_to_vec().into()),
        ("hand_over_time", w.hand_over_time.into()),
        ("merged_from", MergedParts { parts: w.merged_from.clone() }.encode_to_vec().into()),
        ("publication", w.publication.clone().unwrap_or_default().encode_to_vec().into()),
        ("existing_branch", w.existing_branch.into()),
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
