//! A view over tables: a query by revision and an encoding of a row for each kind of entity.

use std::fmt;
use std::sync::Arc;

use foundry_core::Result;
use foundry_store::{Row, Scope, Snapshot, Value};
use foundry_watch::{Change, Op};

use crate::{Changes, Fingerprint, View};

type Encode = Arc<dyn Fn(&Row) -> Result<Change> + Send + Sync>;

/// One kind of entity of a view.
#[derive(Clone)]
pub struct Source {
    sql: &'static str,
    params: Vec<Value>,
    encode: Encode,
    tombstones: Option<(String, String)>,
}

impl Source {
    /// Rows by revision. The statement's parameters are `params` as `$1…$n`, then the revision after which rows are
    /// read, then the most rows to return:
    /// `SELECT … WHERE organization_id = $1 AND rev > $2 ORDER BY rev LIMIT $3`.
    ///
    /// It must also return rows that no longer match the view's filter, and `encode` must return [`Change::left_view`]
    /// for those; a deleted row needs a tombstone instead.
    pub fn new(
        sql: &'static str,
        params: impl Into<Vec<Value>>,
        encode: impl Fn(&Row) -> Result<Change> + Send + Sync + 'static,
    ) -> Self {
        Self { sql, params: params.into(), encode: Arc::new(encode), tombstones: None }
    }

    /// Adds deletions of this kind: tombstones of the view's scope with this `kind`, whose key with `prefix` in front
    /// is the key in the view.
    #[must_use]
    pub fn tombstones(mut self, kind: impl Into<String>, prefix: impl Into<String>) -> Self {
        self.tombstones = Some((kind.into(), prefix.into()));
        self
    }

    async fn rows(&self, snapshot: &Snapshot, after: i64, limit: u32) -> Result<Vec<Change>> {
        let mut params = self.params.clone();
        params.extend([after.into(), limit.into()]);
        snapshot.query(self.sql, &params).await?.iter().map(|row| (self.encode)(row)).collect()
    }

    async fn deleted(
        &self,
        snapshot: &Snapshot,
        scope: &Scope,
        after: i64,
        limit: u32,
    ) -> Result<Vec<Change>> {
        let Some((kind, prefix)) = &self.tombstones else { return Ok(Vec::new()) };
        let found = snapshot.tombstones_after(scope, Some(kind), after, limit).await?;
        Ok(found.into_iter().map(|t| Change::deleted(format!("{prefix}{}", t.key), t.rev)).collect())
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("sql", &self.sql).finish_non_exhaustive()
    }
}

/// A view made of [`Source`]s.
#[derive(Clone, Debug)]
pub struct TableView {
    name: &'static str,
    scope: Scope,
    fingerprint: Fingerprint,
    sources: Vec<Source>,
    never_conflated: bool,
}

impl TableView {
    /// A view without sources; see [`View`] for the meaning of the parts.
    pub fn new(name: &'static str, scope: Scope, fingerprint: Fingerprint) -> Self {
        Self { name, scope, fingerprint, sources: Vec::new(), never_conflated: false }
    }

    /// Adds a kind of entity. Kinds must not share keys: prefix them.
    #[must_use]
    pub fn source(mut self, source: Source) -> Self {
        self.sources.push(source);
        self
    }

    /// Makes the view send every version; see [`View::never_conflated`].
    #[must_use]
    pub fn never_conflate(mut self) -> Self {
        self.never_conflated = true;
        self
    }

    async fn page(&self, snapshot: &Snapshot, after: i64, limit: u32, deletions: bool) -> Result<Changes> {
        let mut limit = limit.max(2);
        loop {
            let mut page = Page::new(limit);
            for source in &self.sources {
                page.add(source.rows(snapshot, after, limit).await?);
                if deletions {
                    page.add(source.deleted(snapshot, &self.scope, after, limit).await?);
                }
            }
            match page.finish() {
                Changes { complete_to: Some(rev), .. } if rev <= after => {
                    // One revision alone is larger than the page, and must not be split.
                    limit = limit.saturating_mul(4);
                }
                changes => return Ok(changes),
            }
        }
    }
}

/// Merges the results of several queries into one page.
struct Page {
    limit: u32,
    changes: Vec<Change>,
    complete_to: Option<i64>,
}

impl Page {
    fn new(limit: u32) -> Self {
        Self { limit, changes: Vec::new(), complete_to: None }
    }

    fn add(&mut self, found: Vec<Change>) {
        let full = u32::try_from(found.len()).unwrap_or(u32::MAX) >= self.limit;
        if let (true, Some(last)) = (full, found.last()) {
            // The limit may have cut the last revision: only those before it are complete.
            let whole = last.version - 1;
            self.complete_to = Some(self.complete_to.map_or(whole, |rev| rev.min(whole)));
        }
        self.changes.extend(found);
    }

    fn finish(self) -> Changes {
        let Self { mut changes, complete_to, .. } = self;
        if let Some(rev) = complete_to {
            changes.retain(|c| c.version <= rev);
        }
        // A key may have a tombstone and a newer row: the tombstone of its earlier life comes first.
        changes.sort_by_key(|c| (c.version, c.op != Op::Deleted));
        Changes { changes, complete_to }
    }
}

#[async_trait::async_trait]
impl View for TableView {
    fn name(&self) -> &'static str {
        self.name
    }

    fn scope(&self) -> &Scope {
        &self.scope
    }

    fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    fn never_conflated(&self) -> bool {
        self.never_conflated
    }

    async fn changes_after(&self, snapshot: &Snapshot, after: i64, limit: u32) -> Result<Changes> {
        self.page(snapshot, after, limit, true).await
    }

    async fn rows_after(&self, snapshot: &Snapshot, after: i64, limit: u32) -> Result<Changes> {
        let mut page = self.page(snapshot, after, limit, false).await?;
        page.changes.retain(|c| matches!(c.op, Op::Upsert(_)));
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(version: i64) -> Change {
        Change::left_view(format!("k{version}"), version)
    }

    #[test]
    fn a_page_holds_whole_revisions_of_all_its_queries_only() {
        let mut page = Page::new(3);
        page.add(vec![at(2), at(4), at(4)]); // full: the rest of revision 4 may be missing
        page.add(vec![at(1), at(3), at(9)]); // full
        page.add(vec![at(5)]);
        let changes = page.finish();
        assert_eq!(changes.complete_to, Some(3));
        let versions: Vec<_> = changes.changes.iter().map(|c| c.version).collect();
        assert_eq!(versions, [1, 2, 3]);
    }

    #[test]
    fn a_page_that_no_query_filled_is_complete_to_the_head() {
        let mut page = Page::new(3);
        page.add(vec![at(2), at(8)]);
        assert_eq!(page.finish().complete_to, None);
    }
}
