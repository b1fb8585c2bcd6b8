//! Tables `repositories`, `sandboxes`, `agent_sessions` and `works`: the last known copies of other services' entities.

use foundry_core::{OrganizationId, RepositoryId, Result, SessionId, TaskId, Timestamp};
use foundry_proto::provisioner::v1::{AgentSession, AgentSessionState, Sandbox, SandboxState};
use foundry_proto::repo::v1::{Repository, RepositoryState, Work, WorkState};
use foundry_service::{Stored, damaged_condition};
use foundry_store::{Reader, Row, Store, Table, WriteSet};
use prost::Message;

use super::branch_names::{self, BranchNames};
use crate::domain::derive::Replica;

/// Repositories, by id.
pub const REPOSITORIES: Table = Table::new(
    "repositories",
    &["repository_id", "organization_id", "upstream_rev", "data"],
    &["repository_id"],
);
/// Sandboxes, by id.
pub const SANDBOXES: Table = Table::new(
    "sandboxes",
    &["sandbox_id", "task_id", "organization_id", "create_time", "upstream_rev", "data"],
    &["sandbox_id"],
)
.with_fixed(&["task_id", "organization_id", "create_time"]);
/// The agent's side of sessions, by session id.
pub const AGENT_SESSIONS: Table = Table::new(
    "agent_sessions",
    &["session_id", "task_id", "organization_id", "upstream_rev", "data"],
    &["session_id"],
)
.with_fixed(&["task_id", "organization_id"]);
/// Works, by task.
pub const WORKS: Table =
    Table::new("works", &["task_id", "organization_id", "upstream_rev", "data"], &["task_id"])
        .with_fixed(&["organization_id"]);

/// An entity of another service, by the column with its id.
pub trait Copied: Message + Default {
    /// The column with its id.
    const ID: &'static str;

    /// Its id as it names it itself.
    fn id(&self) -> &str;
}

macro_rules! copied {
    ($($entity:ty, $id:ident;)*) => {$(
        impl Copied for $entity {
            const ID: &'static str = stringify!($id);

            fn id(&self) -> &str {
                &self.$id
            }
        }
    )*};
}

copied! {
    Repository, repository_id;
    Sandbox, sandbox_id;
    AgentSession, session_id;
    Work, task_id;
}

/// The copy in a row, which is of the entity that the row names.
///
/// # Errors
/// `STORED_DATA_DAMAGED` when it is not, or cannot be decoded.
pub fn decoded<T: Copied>(row: &Row) -> Result<T> {
    let id = row.text(T::ID)?;
    row.own_message("data", |entity: T| (entity.id() == id).then_some(entity))
}

/// A copy, or what stands for one that cannot be decoded.
fn replica<T: Copied>(row: &Row, unreadable: impl FnOnce(String) -> Result<T>) -> Result<Replica<T>> {
    let stored = Stored::or(decoded(row), || unreadable(row.text(T::ID)?.to_owned()))?;
    match stored.is_damaged() {
        true => Ok(Replica::damaged(stored.entity)),
        false => Ok(Replica { rev: row.int("upstream_rev")?, entity: stored.entity }),
    }
}

/// A repository. One that cannot be decoded has an error condition and no branch.
pub async fn repository(from: &impl Reader, id: &RepositoryId) -> Result<Option<Replica<Repository>>> {
    const SQL: &str = "SELECT repository_id, organization_id, upstream_rev, data FROM repositories WHERE repository_id = $1";
    from.query(SQL, &[id.into()]).await?.first().map(read_repository).transpose()
}

/// The same with the names of its branches, if they have been copied; in one statement.
pub async fn repository_and_branches(
    from: &impl Reader,
    id: &RepositoryId,
) -> Result<Option<(Replica<Repository>, Option<BranchNames>)>> {
    const SQL: &str = "SELECT r.repository_id, r.organization_id, r.upstream_rev, r.data, b.as_of, b.names \
         FROM repositories r LEFT JOIN branch_names b ON b.repository_id = r.repository_id \
         WHERE r.repository_id = $1";
    let read = |row: &Row| {
        let names = match row.opt_text("names")? {
            Some(_) => Some(branch_names::read(row)?),
            None => None,
        };
        Ok((read_repository(row)?, names))
    };
    from.query(SQL, &[id.into()]).await?.first().map(read).transpose()
}

fn read_repository(row: &Row) -> Result<Replica<Repository>> {
    replica(row, |repository_id| {
        Ok(Repository {
            repository_id,
            organization_id: row.text("organization_id")?.to_owned(),
            state: RepositoryState::Error.into(),
            condition: Some(damaged_condition()),
            ..Repository::default()
        })
    })
}

/// The revision at which a repository is stored, decodable or not.
pub async fn repository_rev(from: &impl Reader, id: &RepositoryId) -> Result<Option<i64>> {
    const SQL: &str = "SELECT upstream_rev FROM repositories WHERE repository_id = $1";
    from.query(SQL, &[id.into()]).await?.first().map(|r| r.int("upstream_rev")).transpose()
}

/// The copies that belong to a task.
pub struct OfTask {
    /// The newest sandbox.
    pub sandbox: Option<Replica<Sandbox>>,
    /// The agent's side of each session.
    pub agents: Vec<Replica<AgentSession>>,
    /// What the repo service has imported.
    pub work: Option<Replica<Work>>,
}

/// Reads all copies that belong to a task, in one statement.
pub async fn of_task(from: &impl Reader, task: &TaskId) -> Result<OfTask> {
    const SQL: &str = "SELECT 'sandbox' AS kind, sandbox_id, '' AS session_id, task_id, organization_id, create_time, \
         upstream_rev, data FROM (SELECT sandbox_id, task_id, organization_id, create_time, upstream_rev, data \
         FROM sandboxes WHERE task_id = $1 ORDER BY create_time DESC, sandbox_id DESC LIMIT 1) AS newest \
         UNION ALL SELECT 'agent', '', session_id, task_id, organization_id, 0, upstream_rev, data \
         FROM agent_sessions WHERE task_id = $1 \
         UNION ALL SELECT 'work', '', '', task_id, organization_id, 0, upstream_rev, data \
         FROM works WHERE task_id = $1";
    let mut found = OfTask { sandbox: None, agents: Vec::new(), work: None };
    for row in &from.query(SQL, &[task.into()]).await? {
        match row.text("kind")? {
            "sandbox" => found.sandbox = Some(sandbox(row)?),
            "agent" => found.agents.push(agent(row)?),
            _ => found.work = Some(work(row)?),
        }
    }
    Ok(found)
}

fn sandbox(row: &Row) -> Result<Replica<Sandbox>> {
    replica(row, |sandbox_id| {
        Ok(Sandbox {
            sandbox_id,
            task_id: row.text("task_id")?.to_owned(),
            organization_id: row.text("organization_id")?.to_owned(),
            create_time: Some(row.time("create_time")?.to_proto()),
            state: SandboxState::Error.into(),
            condition: Some(damaged_condition()),
            ..Sandbox::default()
        })
    })
}

fn work(row: &Row) -> Result<Replica<Work>> {
    replica(row, |task_id| {
        Ok(Work {
            task_id,
            organization_id: row.text("organization_id")?.to_owned(),
            state: WorkState::Error.into(),
            condition: Some(damaged_condition()),
            ..Work::default()
        })
    })
}

fn agent(row: &Row) -> Result<Replica<AgentSession>> {
    replica(row, |session_id| {
        Ok(AgentSession {
            session_id,
            task_id: row.text("task_id")?.to_owned(),
            organization_id: row.text("organization_id")?.to_owned(),
            state: AgentSessionState::Error.into(),
            condition: Some(damaged_condition()),
            ..AgentSession::default()
        })
    })
}

/// The agent's side of one session.
pub async fn agent_session(store: &Store, session: &SessionId) -> Result<Option<Replica<AgentSession>>> {
    const SQL: &str = "SELECT session_id, task_id, organization_id, upstream_rev, data FROM agent_sessions WHERE session_id = $1";
    store.query(SQL, &[session.into()]).await?.first().map(agent).transpose()
}

/// Ids, tasks and revisions of an organization's sandboxes, to find those missing from a snapshot.
pub async fn sandbox_ids(store: &Store, organization: &OrganizationId) -> Result<Vec<(String, TaskId, i64)>> {
    const SQL: &str = "SELECT sandbox_id, task_id, upstream_rev FROM sandboxes WHERE organization_id = $1";
    let rows = store.query(SQL, &[organization.into()]).await?;
    let read =
        |r: &Row| Ok((r.text("sandbox_id")?.to_owned(), r.text("task_id")?.parse()?, r.int("upstream_rev")?));
    rows.iter().map(read).collect()
}

/// Ids of an organization's repositories, to find those missing from a snapshot.
pub async fn repository_ids(store: &Store, organization: &OrganizationId) -> Result<Vec<RepositoryId>> {
    const SQL: &str =
        "SELECT repository_id FROM repositories WHERE organization_id = $1 AND upstream_rev < $2";
    store
        .query(SQL, &[organization.into(), REMOVED.into()])
        .await?
        .iter()
        .map(|r| r.text("repository_id")?.parse())
        .collect()
}

/// The task that a sandbox of the provisioner belongs to.
pub async fn task_of_sandbox(store: &Store, sandbox: &str) -> Result<Option<TaskId>> {
    const SQL: &str = "SELECT task_id FROM sandboxes WHERE sandbox_id = $1";
    let rows = store.query(SQL, &[sandbox.into()]).await?;
    rows.first().map(|r| r.text("task_id")?.parse()).transpose()
}

/// Revision of the copy of a repository that was removed: above all that the repo service reports.
pub(super) const REMOVED: i64 = i64::MAX;

/// Whether this is the last copy of a repository that was removed.
pub fn was_removed(copy: &Replica<Repository>) -> bool {
    copy.rev == REMOVED
}

/// Keeps what is known of a repository that was removed, for the explanation of its tasks.
pub fn remove_repository(ws: &mut WriteSet, known: &Replica<Repository>) {
    if known.is_damaged() {
        ws.remove(&REPOSITORIES, &[known.entity.repository_id.as_str().into()]);
    } else {
        put_repository(ws, Some(known.rev), REMOVED, &known.entity);
    }
}

/// Stores a repository over the revision that was read, or as a new one; fails if another writer came between.
pub fn put_repository(ws: &mut WriteSet, before: Option<i64>, rev: i64, r: &Repository) {
    let (id, organization) = (r.repository_id.as_str(), r.organization_id.as_str());
    let data = r.encode_to_vec();
    let Some(before) = before else {
        ws.insert(&REPOSITORIES, [id.into(), organization.into(), rev.into(), data.into()]);
        return;
    };
    let set = [("organization_id", organization.into()), ("upstream_rev", rev.into()), ("data", data.into())];
    ws.update(&REPOSITORIES, &[id.into()], &set, &[("upstream_rev", before.into())]);
}

pub fn put_sandbox(ws: &mut WriteSet, replica: &Replica<Sandbox>) {
    let s = &replica.entity;
    let created = s.create_time.as_ref().map_or(0, |t| Timestamp::from_proto(t).as_micros());
    let row = [
        s.sandbox_id.as_str().into(),
        s.task_id.as_str().into(),
        s.organization_id.as_str().into(),
        created.into(),
        replica.rev.into(),
        s.encode_to_vec().into(),
    ];
    ws.upsert(&SANDBOXES, row);
}

pub fn put_agent_session(ws: &mut WriteSet, replica: &Replica<AgentSession>) {
    let a = &replica.entity;
    let row = [
        a.session_id.as_str().into(),
        a.task_id.as_str().into(),
        a.organization_id.as_str().into(),
        replica.rev.into(),
        a.encode_to_vec().into(),
    ];
    ws.upsert(&AGENT_SESSIONS, row);
}

pub fn put_work(ws: &mut WriteSet, replica: &Replica<Work>) {
    let w = &replica.entity;
    let row = [
        w.task_id.as_str().into(),
        w.organization_id.as_str().into(),
        replica.rev.into(),
        w.encode_to_vec().into(),
    ];
    ws.upsert(&WORKS, row);
}
