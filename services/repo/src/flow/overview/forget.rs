//! Parents that were given to branches are forgotten with the branches once these are gone and merged.

use std::collections::{BTreeSet, HashMap};

use foundry_git::{Absorbed, CommitId, GitErrorKind};

use super::compute::Read;
use super::{Failure, Run};
use crate::store::branch_overviews::{self, Basis};
use crate::store::branch_parents;

/// Most branches that are looked at in one run; the others stay until their names are used again.
const MOST: usize = 50;

/// Forgets the given parents that are gone and merged, and those of branches that are. What was deleted without being
/// merged may come back, and is kept.
pub(super) async fn forget(
    run: &Run<'_>,
    read: &Read,
    stored: &HashMap<String, Basis>,
    given: &HashMap<String, String>,
) -> Result<(), Failure> {
    let Some((base, _)) = &read.base else { return Ok(()) };
    let there: BTreeSet<&str> = read.shown.iter().map(|s| s.known.name.as_str()).collect();
    let is_gone = |name: &str| stored.contains_key(name) && !there.contains(name);
    let named: BTreeSet<&str> =
        given.iter().flat_map(|(branch, parent)| [branch.as_str(), parent.as_str()]).collect();
    let mut merged = BTreeSet::new();
    for name in named.into_iter().filter(|name| is_gone(name)).take(MOST) {
        let id = &run.repository.repository_id;
        let Some(head) = branch_overviews::head(&run.cx.store, id, name).await? else { continue };
        if is_merged(read, &head, base).await? {
            merged.insert(name);
        }
    }
    if merged.is_empty() {
        return Ok(());
    }
    let mut ws = run.writes();
    for (branch, parent) in given {
        if merged.contains(branch.as_str()) || merged.contains(parent.as_str()) {
            branch_parents::forget(&mut ws, &run.repository.repository_id, branch, parent);
        }
    }
    run.cx.store.commit(ws).await?;
    Ok(())
}

/// Whether the base has all of a branch whose head the mirror still has.
async fn is_merged(read: &Read, head: &CommitId, base: &CommitId) -> Result<bool, Failure> {
    if !read.mirror.has_commit(head).await? {
        return Ok(false);
    }
    let Some(from) = read.mirror.merge_base(head, base).await? else { return Ok(false) };
    match read.mirror.absorbed(&from, head, base).await {
        Ok(absorbed) => Ok(absorbed == Absorbed::All),
        Err(e) if matches!(e.kind(), GitErrorKind::TooLarge | GitErrorKind::Timeout) => Ok(false),
        Err(e) => Err(e.into()),
    }
}
