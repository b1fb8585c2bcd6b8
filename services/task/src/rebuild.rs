//! Makes damaged rows again from what else is stored, while the service does not run.

use foundry_core::{Env, OrganizationId, Result};
use foundry_store::{DialectSql, Scope, Store, StoreOptions, Unreadable, WriteSet};

use crate::domain::derive::Replica;
use crate::projection::organization::{self, SummaryRow};
use crate::store::{MIGRATIONS, aggregate, summary, upstream};

/// What became of a damaged row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rebuilt {
    /// It was derived from other rows.
    Now,
    /// It is a copy of what another service stores, and is received again when the mesh starts.
    AtNextStart,
    /// It was a copy of a sandbox that a newer one of its task has replaced: nothing reads it, and it is deleted.
    Removed,
    /// Nothing that it could be derived from is stored here.
    No,
}

/// Rebuilds what it can of the damaged rows that `foundry_store::verify` found in this service's database, and says
/// in their order what became of each. No process may use the database.
///
/// # Errors
/// `INTERNAL` when the database cannot be opened or written.
pub async fn rebuild(url: &str, env: &Env, damaged: &[Unreadable]) -> Result<Vec<Rebuilt>> {
    let migrations = [&MIGRATIONS, &foundry_flow::MIGRATIONS];
    let store = Store::connect(url, &migrations, env, StoreOptions::default()).await?;
    let rebuilt = rebuild_all(&store, damaged).await;
    store.close().await;
    rebuilt
}

async fn rebuild_all(store: &Store, damaged: &[Unreadable]) -> Result<Vec<Rebuilt>> {
    let mut rebuilt = Vec::new();
    for row in damaged {
        rebuilt.push(match row.table {
            "summary_rows" => rebuild_summary(store, &row.key).await?,
            "sandboxes" if remove_replaced(store, &row.key).await? => Rebuilt::Removed,
            "repositories" | "sandboxes" | "agent_sessions" | "works" => Rebuilt::AtNextStart,
            _ => Rebuilt::No,
        });
    }
    if rebuilt.contains(&Rebuilt::AtNextStart) {
        // Without a position, each stream begins with all that there is.
        const SQL: &str = "UPDATE consumer_positions SET rev = 0, resume_token = ''";
        store.write(DialectSql { sqlite: SQL, postgres: SQL }, &[]).await?;
    }
    Ok(rebuilt)
}

/// Deletes the copy of a sandbox that its task no longer has; false for the newest one of a task.
async fn remove_replaced(store: &Store, sandbox: &str) -> Result<bool> {
    const SQL: &str = "DELETE FROM sandboxes WHERE sandbox_id = $1 AND EXISTS (SELECT 1 FROM sandboxes newer \
         WHERE newer.task_id = sandboxes.task_id AND (newer.create_time, newer.sandbox_id) > \
         (sandboxes.create_time, sandboxes.sandbox_id)) RETURNING 1 AS gone";
    Ok(!store.write(DialectSql { sqlite: SQL, postgres: SQL }, &[sandbox.into()]).await?.is_empty())
}

/// Writes a row of the summary, `<organization>/task/<id>` or `<organization>/repository/<id>`.
async fn rebuild_summary(store: &Store, key: &str) -> Result<Rebuilt> {
    let Some((organization, key)) = key.split_once('/') else { return Ok(Rebuilt::No) };
    let Ok(organization) = organization.parse::<OrganizationId>() else { return Ok(Rebuilt::No) };
    let row = match key.split_once('/') {
        Some(("task", id)) => of_task(store, id).await?,
        Some(("repository", id)) => match of_repository(store, id).await? {
            Some(row) => Some(row),
            // With its copy, its row is written, too.
            None => return Ok(Rebuilt::AtNextStart),
        },
        _ => None,
    };
    let Some(row) = row else { return Ok(Rebuilt::No) };
    let mut ws = WriteSet::new();
    let rev = ws.scope(Scope::organization(&organization));
    summary::put(&mut ws, rev, &organization, &row);
    store.commit(ws).await?;
    Ok(Rebuilt::Now)
}

async fn of_task(store: &Store, id: &str) -> Result<Option<SummaryRow>> {
    let Ok(id) = id.parse() else { return Ok(None) };
    let found = aggregate::load_damaged_too(store, &id).await?;
    Ok(found.filter(|aggregate| !aggregate.task.damaged).map(|aggregate| organization::of_task(&aggregate)))
}

async fn of_repository(store: &Store, id: &str) -> Result<Option<SummaryRow>> {
    let Ok(id) = id.parse() else { return Ok(None) };
    let found = upstream::repository(store, &id).await?;
    let listed = |copy: &Replica<_>| !copy.is_damaged() && !upstream::was_removed(copy);
    Ok(found.filter(listed).map(|copy| organization::of_repository(&copy.entity)))
}
