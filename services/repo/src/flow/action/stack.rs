//! What a plan is made of: the branches as the mirror has them, where they stand, and what of them is merged.

use std::collections::{BTreeSet, HashMap};

use foundry_git::{Absorbed, CommitId, GitErrorKind, Mirror};

use super::{Failed, refused};
use crate::context::Context;
use crate::domain::repository::Repository;
use crate::domain::restack::{Branch, Stands};
use crate::domain::stack::{self, Before, Known, Place};
use crate::store::{branch_overviews, branch_parents};

/// Most commits of branches that the default branch does not have.
const MAX_COMMITS: usize = 500_000;
/// Most branches that one job may change.
pub const MAX_BRANCHES: usize = 200;

/// The branches of a remote.
pub struct Stack {
    /// The default branch.
    pub base: String,
    /// All branches; only those that the job may change have a place.
    pub branches: Vec<Branch>,
}

impl Stack {
    /// Where a branch is.
    pub fn tip(&self, name: &str) -> Option<&CommitId> {
        self.branches.iter().find(|b| b.name == name).map(|b| &b.tip)
    }
}

/// Reads the branches from the mirror as it is; `may_change` are those of the job.
pub async fn read(
    cx: &Context,
    repository: &Repository,
    mirror: &Mirror,
    may_change: &BTreeSet<String>,
) -> Result<Stack, Failed> {
    if may_change.len() > MAX_BRANCHES {
        let text =
            format!("the action is about {} branches; at most {MAX_BRANCHES} can be", may_change.len());
        return Err(refused("TOO_MANY_BRANCHES", text));
    }
    let base = mirror.default_branch().await?.map_or(repository.default_branch.clone(), String::from);
    let known = known(cx, repository, mirror, &base).await?;
    let has_base = known.first().is_some_and(|k| k.name == base);
    let base_head = known.first().filter(|_| has_base).map(|k| k.head.clone());
    let heads: Vec<CommitId> = known.iter().map(|k| k.head.clone()).collect();
    let history = mirror.history_without(&heads, base_head.as_ref(), MAX_COMMITS).await?;
    let planned = tokio::task::spawn_blocking(move || {
        let places = stack::plan(&history, has_base.then_some(0), &known);
        (history, known, places)
    });
    let (history, known, places) = planned.await.map_err(foundry_core::Error::internal)?;
    let mut branches = Vec::with_capacity(known.len());
    for (k, place) in known.iter().zip(&places) {
        let mut branch = Branch {
            name: k.name.clone(),
            tip: k.head.clone(),
            stands: None,
            merged_into: String::new(),
            absorbed: None,
        };
        if let (true, Some(base_head)) = (may_change.contains(&k.name), &base_head) {
            branch.stands = match place {
                Place::OnBranch { parent, fork, .. } => {
                    Some(Stands { parent: known[*parent].name.clone(), from: history.commit(*fork)? })
                }
                Place::OnBase { .. } => {
                    let from = mirror.merge_base(base_head, &k.head).await?;
                    from.map(|from| Stands { parent: base.clone(), from })
                }
                Place::Root | Place::Unrelated { .. } => None,
            };
            let parent = match place {
                Place::OnBranch { parent, .. } => Some(&known[*parent]),
                _ => None,
            };
            merged(mirror, &mut branch, parent, (&base, base_head)).await?;
        }
        branches.push(branch);
    }
    Ok(Stack { base, branches })
}

/// What of a branch is merged into its parent or the base.
async fn merged(
    mirror: &Mirror,
    branch: &mut Branch,
    parent: Option<&Known>,
    (base, base_head): (&str, &CommitId),
) -> Result<(), Failed> {
    let Some(stands) = &branch.stands else { return Ok(()) };
    if let Some(parent) = parent
        && stands.from != branch.tip
        && known_absorbed(mirror, (&stands.from, &branch.tip), &parent.head).await? == Absorbed::All
    {
        branch.merged_into.clone_from(&parent.name);
        return Ok(());
    }
    let absorbed = known_absorbed(mirror, (&stands.from, &branch.tip), base_head).await?;
    match absorbed {
        Absorbed::All => base.clone_into(&mut branch.merged_into),
        Absorbed::UpTo(commit) => branch.absorbed = Some(commit),
        Absorbed::Nothing => {}
    }
    Ok(())
}

/// What of a branch is in another one; nothing if it is too large for finding that out.
async fn known_absorbed(
    mirror: &Mirror,
    (from, tip): (&CommitId, &CommitId),
    target: &CommitId,
) -> Result<Absorbed, Failed> {
    match mirror.absorbed(from, tip, target).await {
        Err(e) if matches!(e.kind(), GitErrorKind::TooLarge | GitErrorKind::Timeout) => Ok(Absorbed::Nothing),
        absorbed => Ok(absorbed?),
    }
}

/// The branches of the mirror, the default branch first.
async fn known(
    cx: &Context,
    repository: &Repository,
    mirror: &Mirror,
    base: &str,
) -> Result<Vec<Known>, Failed> {
    let id = &repository.repository_id;
    let stored = branch_overviews::bases(&cx.store, id).await?;
    let given: HashMap<String, String> = branch_parents::all(&cx.store, id).await?;
    let mut known: Vec<Known> = Vec::new();
    for branch in mirror.branches().await?.items {
        let name = branch.name.to_string();
        let before = stored.get(&name).and_then(|basis| {
            let fork = CommitId::parse(&basis.fork).ok()?;
            let is_on_branch = !basis.parent.is_empty() && basis.parent != base;
            is_on_branch.then(|| Before { parent: basis.parent.clone(), fork })
        });
        let given = given.get(&name).cloned();
        known.push(Known { name, head: branch.commit, started_from: None, before, given });
    }
    known.sort_by_key(|k| k.name != base);
    Ok(known)
}
