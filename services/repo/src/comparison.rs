//! What changed between an earlier version of a work and the readable one: a bounded read of the mirror (ADR 0026).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use foundry_core::{Code, Error, OrganizationId, PageRequest, PageToken, Result};
use foundry_git::{CommitId, GitErrorKind, Mirror, RepoPath, Revision};
use foundry_proto::repo::v1::FileChange;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::context::Context;
use crate::domain::work::Work;
use crate::store::{changes, work_versions};
use crate::view;

/// Comparisons at the same time: each runs git up to four times, and reads two trees.
const CONCURRENT: usize = 2;
/// Comparisons that run or wait, in all and of one organization.
const AT_MOST: usize = 32;
const OF_ORGANIZATION: usize = 8;

/// The comparisons that run and those that wait for their turn.
#[derive(Debug)]
pub struct Comparisons {
    running: Semaphore,
    /// How many there are of each organization.
    of: Mutex<HashMap<OrganizationId, usize>>,
}

impl Default for Comparisons {
    fn default() -> Self {
        Self { running: Semaphore::new(CONCURRENT), of: Mutex::default() }
    }
}

impl Comparisons {
    /// Waits for the permission to compare.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` `COMPARISONS_BUSY` when too many wait already.
    async fn turn(&self, organization: &OrganizationId) -> Result<Turn<'_>> {
        let place = self.place(organization)?;
        let permit = self.running.acquire().await.map_err(Error::internal)?;
        Ok(Turn { _permit: permit, _place: place })
    }

    fn place(&self, organization: &OrganizationId) -> Result<Place<'_>> {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = of.values().sum();
        if all >= AT_MOST || of.get(organization).is_some_and(|count| *count >= OF_ORGANIZATION) {
            let says = "too many comparisons with earlier versions are under way";
            return Err(Error::new(Code::ResourceExhausted, "COMPARISONS_BUSY", says)
                .retry_after(Duration::from_secs(1))
                .next_action("try again in a moment"));
        }
        *of.entry(organization.clone()).or_default() += 1;
        drop(of);
        Ok(Place { comparisons: self, organization: organization.clone() })
    }
}

/// The permission to compare.
struct Turn<'a> {
    _permit: SemaphorePermit<'a>,
    _place: Place<'a>,
}

/// A comparison that is counted.
struct Place<'a> {
    comparisons: &'a Comparisons,
    organization: OrganizationId,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut of = self.comparisons.of.lock().unwrap_or_else(PoisonError::into_inner);
        match of.get_mut(&self.organization) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(of.remove(&self.organization)),
        }
    }
}

/// Two commits of a work to compare, and the permission to do it.
pub struct Comparison<'a> {
    mirror: Mirror,
    from: CommitId,
    to: CommitId,
    /// Numbers of the versions, for page tokens.
    versions: (i64, i64),
    /// The version that is compared with: an older one where that which was asked for is not kept.
    pub since: i64,
    /// Whether what was merged could not be left out.
    pub with_merged: bool,
    _turn: Turn<'a>,
}

impl<'a> Comparison<'a> {
    /// A version of a work against its readable one. Unless `whole`, what was merged from other branches is not listed.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` `WORK_VERSION_GONE` for a version of which neither it nor an older one is kept,
    /// `INVALID_ARGUMENT` for one that the work does not have yet, `RESOURCE_EXHAUSTED` `COMPARISONS_BUSY`.
    pub async fn since(cx: &'a Context, work: &Work, since: i64, whole: bool) -> Result<Self> {
        if since < 0 || since > work.version {
            return Err(Error::invalid_field("since_version", "is not a version of the work so far"));
        }
        let to = work.readable_commit()?;
        let (kept, older) = if since == work.version {
            (since, to.clone())
        } else {
            let found = work_versions::find(&cx.store, &work.task_id, since).await?;
            let (kept, commit) = found.ok_or_else(|| gone(work, since))?;
            (kept, CommitId::parse(&commit)?)
        };
        let turn = cx.comparisons.turn(&work.organization_id).await?;
        let mirror = cx.mirror_of(work).await?;
        match mirror.resolve(&Revision::Commit(older.clone())).await {
            Ok(_) => {}
            Err(e) if e.kind() == GitErrorKind::NotFound => return Err(gone(work, since)),
            Err(e) => return Err(e.into()),
        }
        let (mut from, mut with_merged) = (older, false);
        if !whole && from != to {
            let points = work.merged_from.iter().map(|merged| CommitId::parse(&merged.commit));
            let points = points.collect::<Result<Vec<_>, _>>()?;
            match mirror.merged_base_of(&from, &points).await? {
                Some(merged) => from = merged,
                // It was merged with a conflict.
                None => with_merged = true,
            }
        }
        let versions = (since, work.version);
        Ok(Self { mirror, from, to, versions, since: kept, with_merged, _turn: turn })
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

#[cfg(test)]
mod tests {
    use foundry_core::Env;

    use super::*;

    #[tokio::test]
    async fn one_organization_leaves_room_for_the_comparisons_of_others() {
        let (env, comparisons) = (Env::system(), Comparisons::default());
        let (busy, other) = (OrganizationId::generate(&env), OrganizationId::generate(&env));
        let running = comparisons.turn(&busy).await.unwrap();
        let waiting: Vec<_> = (1..OF_ORGANIZATION).map(|_| comparisons.place(&busy).unwrap()).collect();
        let refused = comparisons.turn(&busy).await.err().unwrap();
        assert_eq!((refused.code(), refused.reason()), (Code::ResourceExhausted, "COMPARISONS_BUSY"));
        drop(comparisons.turn(&other).await.unwrap());
        drop((running, waiting));
        assert!(comparisons.of.lock().unwrap().is_empty());
        let all: Vec<_> =
            (0..AT_MOST).map(|_| comparisons.place(&OrganizationId::generate(&env)).unwrap()).collect();
        assert!(comparisons.place(&other).is_err(), "{}", all.len());
    }
}
