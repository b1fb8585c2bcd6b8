//! Table `revocations`: the feed of what every service must refuse. A row stays until every token that it concerns has
//! expired; then a tombstone replaces it.

use std::time::Duration;

use foundry_core::{Result, Timestamp};
use foundry_proto::auth::v1::Revocation;
use foundry_store::{Row, Scope, Store, Table, WriteSet};
use foundry_watch::Change;
use foundry_watch_hub::{Fingerprint, Source, TableView};

pub(crate) const TABLE: Table =
    Table::new("revocations", &["key", "revoked_at", "keep_until", "rev"], &["key"]);

const TOMBSTONE: &str = "revocation";

/// How long a revocation is kept: twice the longest life of an access token, to allow for clock skew.
const KEPT: Duration = Duration::from_secs(600);

/// The scope whose revisions order the feed.
pub(crate) fn scope() -> Scope {
    Scope::service("revocations")
}

/// Adds a revocation, or renews it under a later revision.
pub(crate) fn add(set: &mut WriteSet, key: &str, now: Timestamp) {
    let rev = set.scope(scope());
    set.upsert(&TABLE, [key.into(), now.into(), now.plus(KEPT).into(), rev.into()]);
}

/// Removes a revocation from the feed; fails at commit if it was renewed.
pub(crate) fn retire(set: &mut WriteSet, entry: &Entry) {
    let rev = set.scope(scope());
    set.delete(&TABLE, &[(&entry.key).into()], &[("rev", entry.rev.into())]);
    set.tombstone(rev, TOMBSTONE, &entry.key);
}

/// Key and revision of a revocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) rev: i64,
}

impl Entry {
    pub(crate) fn read(row: &Row) -> Result<Self> {
        Ok(Self { key: row.text("key")?.to_owned(), rev: row.int("rev")? })
    }
}

/// Revocations of which every token has expired.
pub(crate) async fn ended(store: &Store, now: Timestamp, limit: u32) -> Result<Vec<Entry>> {
    const SQL: &str = "SELECT key, rev FROM revocations WHERE keep_until <= $1 ORDER BY keep_until LIMIT $2";
    store.query(SQL, &[now.into(), limit.into()]).await?.iter().map(Entry::read).collect()
}

/// All revocations and the head of their feed, read from one snapshot.
pub(crate) async fn all(store: &Store) -> Result<(Vec<Entry>, i64)> {
    let snapshot = store.snapshot().await?;
    let head = snapshot.head(&scope()).await?;
    let rows = snapshot.query("SELECT key, rev FROM revocations", &[]).await?;
    Ok((rows.iter().map(Entry::read).collect::<Result<_>>()?, head))
}

/// The view of `WatchRevocations`.
pub(crate) fn view() -> TableView {
    const SQL: &str =
        "SELECT key, revoked_at, rev FROM revocations WHERE rev > $1 ORDER BY rev, key LIMIT $2";
    let rows = Source::new(SQL, [], |row| {
        let key = row.text("key")?.to_owned();
        let revoke_time = Some(row.time("revoked_at")?.to_proto());
        let version = row.int("rev")?;
        Ok(Change::upsert(key.clone(), version, &Revocation { key, revoke_time }))
    });
    TableView::new("WatchRevocations", scope(), Fingerprint::new("WatchRevocations", 1))
        .source(rows.tombstones(TOMBSTONE, ""))
}
