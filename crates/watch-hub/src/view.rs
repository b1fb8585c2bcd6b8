//! The content of a watch: the only part that a service implements.

use foundry_core::Result;
use foundry_store::{Scope, Snapshot};
use foundry_watch::{Change, Op};

use crate::Fingerprint;

/// A page of changes, in order of version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The changes, in whole revisions.
    pub changes: Vec<Change>,
    /// The revision up to which the page is complete; none = up to the head of its snapshot.
    pub complete_to: Option<i64>,
}

/// A filtered part of one scope, read by revision: "what changed after r" is a query that every replica can answer
/// after every restart. Most services only need [`crate::TableView`].
#[async_trait::async_trait]
pub trait View: Send + Sync + 'static {
    /// A short name for metrics and logs, usually the rpc's: `WatchOrganization`.
    fn name(&self) -> &'static str;

    /// The scope whose revisions version the view's rows.
    fn scope(&self) -> &Scope;

    /// Method, schema and filter, but never the caller: permission is not part of a position.
    fn fingerprint(&self) -> Fingerprint;

    /// The view as one opaque text, the same in every process: equal keys mean equal frames.
    fn key(&self) -> String {
        self.fingerprint().key(self.scope())
    }

    /// Whether every version is sent, without leaving out one for a newer one of the same key. For logs, whose entries
    /// never change anyway.
    fn never_conflated(&self) -> bool {
        false
    }

    /// About `limit` changes with a version greater than `after`, oldest first: rows of the view,
    /// rows that no longer match its filter ([`Op::LeftView`]) and tombstones of the scope
    /// ([`Op::Deleted`]). All changes of one revision, or none: they are one commit.
    ///
    /// # Errors
    /// When the database fails; the watch retries.
    async fn changes_after(&self, snapshot: &Snapshot, after: i64, limit: u32) -> Result<Changes>;

    /// The same without changes that make an entity leave the view: a page of the view's rows.
    ///
    /// # Errors
    /// When the database fails; the watch ends.
    async fn rows_after(&self, snapshot: &Snapshot, after: i64, limit: u32) -> Result<Changes> {
        let mut page = self.changes_after(snapshot, after, limit).await?;
        page.changes.retain(|c| matches!(c.op, Op::Upsert(_)));
        Ok(page)
    }
}
