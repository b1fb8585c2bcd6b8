//! What changed between an earlier version of a work and the readable one: a bounded read of the mirror (ADR 0026).

use bytes::Bytes;
use foundry_core::{Error, PageRequest, PageToken, Result};
use foundry_git::{CommitId, GitErrorKind, Mirror, RepoPath, Revision};
use foundry_proto::repo::v1::FileChange;
use tokio::sync::SemaphorePermit;

use crate::context::Context;
use crate::domain::work::Work;
use crate::store::{changes, work_versions};
use crate::view;

/// Comparisons at the same time: each runs git up to four times, and reads two trees.
pub const CONCURRENT: usize = 2;

/// Two commits of a work to compare, and the permission to do it.
pub struct Comparison<'a> {
    mirror: Mirror,
    from: CommitId,
    to: CommitId,
    /// Numbers of the versions, for page tokens.
    versions: (i64, i64),
    _turn: SemaphorePermit<'a>,
}

impl<'a> Comparison<'a> {
    /// A version of a work against its readable one. Unless `whole`, what was merged from other branches is not listed.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` `WORK_VERSION_GONE` for a version that is not kept, `INVALID_ARGUMENT` for one that the work
    /// does not have yet.
    pub async fn since(cx: &'a Context, work: &Work, since: i64, whole: bool) -> Result<Self> {
        if since < 0 || since > work.version {
            return Err(Error::invalid_field("since_version", "is not a version of the work so far"));
        }
        let to = work.readable_commit()?;
        let older = if since == work.version {
            to.clone()
        } else {
            let found = work_versions::find(&cx.store, &work.task_id, since).await?;
            CommitId::parse(&found.ok_or_else(|| gone(work, since))?)?
        };
        let turn = cx.comparisons.acquire().await.map_err(Error::internal)?;
        let mirror = cx.mirror_of(work).await?;
        match mirror.resolve(&Revision::Commit(older.clone())).await {
            Ok(_) => {}
            Err(e) if e.kind() == GitErrorKind::NotFound => return Err(gone(work, since)),
            Err(e) => return Err(e.into()),
        }
        let mut from = older;
        if !whole && from != to {
            let points = work.merged_from.iter().map(|merged| CommitId::parse(&merged.commit));
            let points = points.collect::<Result<Vec<_>, _>>()?;
            from = mirror.merged_base_of(&from, &points).await?.unwrap_or(from);
        }
        Ok(Self { mirror, from, to, versions: (since, work.version), _turn: turn })
    }

    /// A page of the changed files.
    ///
    /// # Errors
    /// `WORK_CHANGED` for the next page of other versions, `INVALID_ARGUMENT` for a foreign page token; those of git.
    pub async fn files(
        &self,
        work: &Work,
        page: &PageRequest,
    ) -> Result<(Vec<FileChange>, Option<PageToken>)> {
        let (since, version) = self.versions;
        let (of, after) = page.begins_after((self.versions, -1), position)?;
        if of != self.versions {
            return Err(changes::replaced(&work.task_id, of.1, version));
        }
        let listed = self.mirror.changed_files(&self.from, &self.to).await?;
        let listed =
            listed.iter().enumerate().map(|(at, change)| (at as i64, view::changes::file_change(change)));
        let rest =
            listed.filter(|(at, _)| *at > after).take(usize::try_from(page.limit()).unwrap_or(usize::MAX));
        let (found, next) = page.cut(rest.collect(), |(at, _)| format!("{since}:{version}:{at}"));
        Ok((found.into_iter().map(|(_, change)| change).collect(), next))
    }

    /// One changed file with its patch; none if it is the same in both versions.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a malformed path; those of git.
    pub async fn file(&self, path: &str, old_path: &str) -> Result<Option<(FileChange, Bytes)>> {
        let invalid = |field: &'static str| {
            move |e| Error::invalid_field(field, "is not a path from a listing").caused_by(e)
        };
        let path = RepoPath::parse(path).map_err(invalid("path"))?;
        let old_path = match old_path {
            "" => None,
            old => Some(RepoPath::parse(old).map_err(invalid("old_path"))?),
        };
        let found = self.mirror.changed_file(&self.from, &self.to, &path, old_path.as_ref()).await?;
        Ok(found.map(|(change, patch)| view::changes::with_patch(&change, patch)))
    }
}

fn gone(work: &Work, since: i64) -> Error {
    let text = format!("version {since} of the work is not kept any more");
    Error::precondition("WORK_VERSION_GONE", work.task_id.as_str(), text)
        .next_action("compare with a newer version, or with the base")
}

/// Parses a page token: the two versions, and the position of the last file on the page.
fn position(text: &str) -> Option<((i64, i64), i64)> {
    let mut parts = text.splitn(3, ':').map(|part| part.parse::<i64>().ok());
    Some(((parts.next()??, parts.next()??), parts.next()??))
}
