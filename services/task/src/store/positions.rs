//! Table `consumer_positions`: the position up to which each stream of another service has been applied.

use foundry_core::{OrganizationId, Result};
use foundry_store::{Store, Table, WriteSet};
use foundry_watch::Position;

pub const POSITIONS: Table =
    Table::new("consumer_positions", &["stream", "rev", "resume_token"], &["stream"]);

/// Key prefix of the streams of repositories; the organization's id follows.
pub const REPOSITORIES: &str = "repositories";

/// The position at which a stream resumes; none before its first batch.
pub async fn find(store: &Store, stream: &str) -> Result<Option<Position>> {
    const SQL: &str = "SELECT rev, resume_token FROM consumer_positions WHERE stream = $1";
    let rows = store.query(SQL, &[stream.into()]).await?;
    let read = |r: &foundry_store::Row| {
        Ok(Position { rev: r.int("rev")?, resume_token: r.text("resume_token")?.to_owned() })
    };
    rows.first().map(read).transpose()
}

/// Topic woken when the repositories of an organization were received for the first time.
pub const RECEIVED_TOPIC: &str = "task/received";

/// Key of the stream of an organization's repositories.
fn repositories(organization: &OrganizationId) -> String {
    format!("{REPOSITORIES}/{organization}")
}

/// Whether the repositories of an organization were received before.
pub async fn has_repositories(store: &Store, organization: &OrganizationId) -> Result<bool> {
    Ok(find(store, &repositories(organization)).await?.is_some())
}

/// The organizations whose repositories were received before.
pub async fn organizations(store: &Store) -> Result<Vec<OrganizationId>> {
    const SQL: &str = "SELECT stream FROM consumer_positions WHERE stream LIKE $1";
    let rows = store.query(SQL, &[format!("{REPOSITORIES}/%").into()]).await?;
    let organization = |r: &foundry_store::Row| r.text("stream").ok()?.split_once('/')?.1.parse().ok();
    Ok(rows.iter().filter_map(organization).collect())
}

/// Replaces the position that was read; the write set fails if another writer replaced it first.
pub fn put(ws: &mut WriteSet, stream: &str, before: Option<&Position>, position: &Position) {
    let (rev, token) = (position.rev.into(), position.resume_token.as_str().into());
    let Some(before) = before else {
        ws.insert(&POSITIONS, [stream.into(), rev, token]);
        return;
    };
    let guards = [("rev", before.rev.into()), ("resume_token", before.resume_token.as_str().into())];
    ws.update(&POSITIONS, &[stream.into()], &[("rev", rev), ("resume_token", token)], &guards);
}
