//! What a plan is made of: the branches as the mirror has them, where they stand, and what of them is merged.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;

use foundry_flow::StageContext;
use foundry_git::{Absorbed, CommitId, GitErrorKind, History, Mirror};
use foundry_proto::repo::v1::ParentSource;
use sha2::{Digest as _, Sha256};

use super::{Failed, Loaded, refused};
use crate::context::Context;
use crate::domain::restack::{self, Branch, Selection, Stands};
use crate::domain::stack::{self, Before, Known, Own, Place};
use crate::store::branch_parents::Given;
use crate::store::{branch_overviews, branch_parents, branch_places, works};

/// Most commits of branches that the default branch does not have.
const MAX_COMMITS: usize = 500_000;
/// Most branches that one job may change.
pub const MAX_BRANCHES: usize = 200;
/// Most commits of its own that a branch has which is made again without being named.
const MAX_UNNAMED: usize = 200;

/// The branches of a remote, before anything is known about where they stand.
pub struct Listed {
    /// The default branch.
    pub base: String,
    known: Vec<Known>,
    given: HashMap<String, Given>,
    may_change: BTreeSet<String>,
}

impl Listed {
    /// Where a branch is.
    pub fn tip(&self, name: &str) -> Option<&CommitId> {
        self.known.iter().find(|k| k.name == name).map(|k| &k.head)
    }

    /// The parents that were given to branches, by the names of these.
    pub fn given(&self) -> HashMap<String, String> {
        self.given.iter().map(|(branch, given)| (branch.clone(), given.parent.clone())).collect()
    }

    /// A digest of everything that a plan of the job depends on and that somebody may change.
    pub fn digest(&self) -> String {
        let mut text = String::new();
        for name in std::iter::once(&self.base).chain(&self.may_change) {
            let tip = self.tip(name).map_or("", CommitId::as_str);
            let given = self.given.get(name).map_or("", |given| given.parent.as_str());
            // No name has a line break.
            let _ = writeln!(text, "{name}\n{tip}\n{given}");
        }
        hex::encode(Sha256::digest(text))
    }

    /// The parent that was given to a branch, and where it is known from that it stands on this one.
    pub fn source(&self, branch: &str, parent: &str) -> (String, ParentSource) {
        let given = self.given.get(branch);
        let source = match given {
            _ if parent.is_empty() => ParentSource::Unspecified,
            Some(given) if given.parent == parent => given.source.to_proto(),
            _ => ParentSource::Commits,
        };
        (given.map(|given| given.parent.clone()).unwrap_or_default(), source)
    }
}

/// Lists the branches of the mirror as it is, the default branch first; `may_change` are those of the job.
pub async fn list(cx: &Context, loaded: &Loaded, may_change: BTreeSet<String>) -> Result<Listed, Failed> {
    if may_change.len() > MAX_BRANCHES {
        let text =
            format!("the action is about {} branches; at most {MAX_BRANCHES} can be", may_change.len());
        return Err(refused("TOO_MANY_BRANCHES", text));
    }
    let Loaded { repository, mirror, .. } = loaded;
    let base = mirror.default_branch().await?.map_or(repository.default_branch.clone(), String::from);
    let id = &repository.repository_id;
    let stored = branch_overviews::bases(&cx.store, id).await?;
    let placed = branch_places::all(&cx.store, id).await?;
    let given = branch_parents::sourced(&cx.store, id).await?;
    let mut known: Vec<Known> = Vec::new();
    for branch in mirror.branches().await?.items {
        let name = branch.name.to_string();
        let seen = stored.get(&name).map(|basis| (basis.parent.as_str(), basis.fork.as_str()));
        let before = Before::of(&branch.commit, &base, placed.get(&name), seen);
        let given = given.get(&name).map(|given| given.parent.clone());
        known.push(Known { name, head: branch.commit, started_from: None, before, given });
    }
    known.sort_by_key(|k| k.name != base);
    Ok(Listed { base, known, given, may_change })
}

/// The branches of the remote with their places; only those that the job may change have one, and of those only the ones
/// that matter for the selection are compared with what may have them.
pub async fn read(
    cx: &Context,
    flow: &StageContext,
    loaded: &Loaded,
    (listed, selection): (&Listed, &Selection),
) -> Result<Vec<Branch>, Failed> {
    let Loaded { mirror, repository, .. } = loaded;
    let known = listed.known.clone();
    let has_base = known.first().is_some_and(|k| k.name == listed.base);
    let base_head = known.first().filter(|_| has_base).map(|k| k.head.clone());
    let heads: Vec<CommitId> = known.iter().map(|k| k.head.clone()).collect();
    let history = mirror.history_without(&heads, base_head.as_ref(), MAX_COMMITS).await?;
    let planned = tokio::task::spawn_blocking(move || {
        let places = stack::plan(&history, has_base.then_some(0), &known);
        (history, known, places)
    });
    let (history, known, places) = planned.await.map_err(foundry_core::Error::internal)?;
    let of_tasks = of_tasks(cx, &repository.repository_id).await?;
    let mut branches = Vec::with_capacity(known.len());
    for (k, place) in known.iter().zip(&places) {
        let mut branch = Branch {
            name: k.name.clone(),
            tip: k.head.clone(),
            stands: None,
            merged_into: String::new(),
            absorbed: None,
            kept: String::new(),
        };
        if let (true, Some(base_head)) = (listed.may_change.contains(&k.name), &base_head) {
            branch.stands = stands(mirror, (&history, &known), place, (&listed.base, base_head), k).await?;
            if let Some(stands) = &branch.stands {
                let own = stack::own(&history, &k.head, &stands.from);
                branch.kept = kept(own, of_tasks.contains(&k.name));
            }
        }
        branches.push(branch);
    }
    let Some(base_head) = &base_head else { return Ok(branches) };
    let compared = restack::looked_at(&listed.base, &branches, selection);
    for (done, branch) in branches.iter_mut().filter(|b| compared.contains(&b.name)).enumerate() {
        flow.progress(format!("{done} of {} branches are compared with what may have them", compared.len()))
            .await;
        let parent = branch.stands.as_ref().map(|s| &s.parent).filter(|parent| **parent != listed.base);
        let parent = parent.and_then(|parent| known.iter().find(|k| k.name == *parent));
        merged(mirror, branch, parent, (&listed.base, base_head)).await?;
    }
    Ok(branches)
}

/// Where a branch stands.
async fn stands(
    mirror: &Mirror,
    (history, known): (&History, &[Known]),
    place: &Place,
    (base, base_head): (&str, &CommitId),
    branch: &Known,
) -> Result<Option<Stands>, Failed> {
    Ok(match place {
        Place::OnBranch { parent, fork, .. } => {
            Some(Stands { parent: known[*parent].name.clone(), from: history.commit(*fork)? })
        }
        Place::OnBase { .. } => {
            let from = mirror.merge_base(base_head, &branch.head).await?;
            from.map(|from| Stands { parent: base.to_owned(), from })
        }
        Place::Root | Place::Unrelated { .. } => None,
    })
}

/// The names of branches that tasks have made: agents merge, and go on with what a restack made of it. A branch that a task
/// only works on, or has published to by its name, is somebody else's: what it was meant to be is not known.
async fn of_tasks(cx: &Context, id: &foundry_core::RepositoryId) -> Result<BTreeSet<String>, Failed> {
    let works = works::of_repository(&cx.store, id).await?;
    Ok(works.into_iter().filter(|work| !work.existing_branch).map(|work| work.branch).collect())
}

/// Why a branch with these commits is not made again unless it is named; empty = it is.
fn kept(own: Own, is_of_task: bool) -> String {
    let plural = |n: usize| if n == 1 { "" } else { "s" };
    match own {
        Own { merges: n @ 1.., .. } if !is_of_task => format!(
            "it has {n} merge commit{}, and would become linear: name the branch to have it made again",
            plural(n)
        ),
        Own { commits: n, .. } if n > MAX_UNNAMED => {
            format!("it has {n} commits of its own: name the branch to have them made again")
        }
        _ => String::new(),
    }
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
