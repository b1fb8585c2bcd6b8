//! One run: what is known, what has changed since the last one, and what git finds about that.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use foundry_git::{
    ChangeTotals, CommitId, CommitSummary, GitError, GitErrorKind, History, Mirror, MirrorLimits, TrialMerge,
};
use foundry_proto::common::v1::Condition;
use foundry_proto::repo::v1::{BranchOverview, ChangeSummary, Divergence, MergeConflicts};
use foundry_store::{Scope, WriteSet};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};

use super::known::{self, Shown};
use super::{Failure, Run, forget};
use crate::domain::repository::OverviewFacts;
use crate::domain::stack::{self, Known, Place};
use crate::store::branch_overviews::{self, Basis};
use crate::store::{branch_parents, branch_places};
use crate::store::{branches, clones, publications, works};

/// Most commits that are read of branches and that the default branch does not have.
const MAX_COMMITS: usize = 500_000;
/// Branches that are computed and stored together.
const BATCH: usize = 100;
/// Commits of which git shows the newest at once.
const SUMMARIES: usize = 2_000;
/// Branches that are removed in one commit.
const REMOVED_AT_ONCE: usize = 500;
/// Merges that are tried at the same time.
const TRIALS: usize = 2;
/// How long a comparison of one branch may take.
const ONE_WALL: Duration = Duration::from_secs(15);
/// How long the comparisons of a batch may take together, before they are done one by one.
const BATCH_WALL: Duration = Duration::from_secs(10);
/// After this long, those of a batch that are done are stored; the others are done again in smaller ones.
const STORED_AFTER: Duration = Duration::from_secs(10);
/// Longest name of a file in conflict that is stored, in characters.
const MAX_PATH: usize = 300;

/// What a run has read before it looks at single branches.
pub(super) struct Read {
    pub(super) mirror: Mirror,
    pub(super) shown: Vec<Shown>,
    summaries: HashMap<CommitId, CommitSummary>,
    /// None when the branches have too many commits of their own.
    history: Option<History>,
    places: Vec<Place>,
    /// The head of the default branch and its tree.
    pub(super) base: Option<(CommitId, String)>,
    /// Why the histories were not compared.
    unplanned: Option<String>,
}

/// A branch whose row is to be written.
struct Changed {
    at: usize,
    basis: Basis,
    overview: BranchOverview,
    /// The newest commit in common with its parent.
    fork: Option<CommitId>,
    /// Whether a merge with the default branch is to be tried.
    is_tried: bool,
}

impl Run<'_> {
    /// Brings the rows up to date; returns what is left out.
    pub(super) async fn compute(&self) -> Result<Option<(&'static str, String)>, Failure> {
        let id = &self.repository.repository_id;
        let stored = branch_overviews::bases(&self.cx.store, id).await?;
        let all = branches::all(&self.cx.store, id).await?;
        let works = works::of_repository(&self.cx.store, id).await?;
        let worked_on = clones::worked_on(&self.cx.store, id).await?;
        let given = branch_parents::all(&self.cx.store, id).await?;
        let placed = branch_places::all(&self.cx.store, id).await?;
        let default = &self.repository.default_branch;
        let (mut shown, too_many) =
            known::collect(all, (&works, &worked_on), default, &stored, (&given, &placed));
        let open: HashSet<String> = clones::tasks_of(&self.cx.store, id).await?.into_iter().collect();
        let published = publications::branches_of_tasks(&self.cx.store, id, &works).await?;
        for s in shown.iter_mut().filter(|s| !s.work_only && open.contains(&s.task_id)) {
            s.is_empty = !published.contains(&(s.task_id.clone(), s.known.name.clone()));
        }
        let before = shown.len();
        let read = self.read(shown).await?;
        let missing = before - read.shown.len();
        let todo: Vec<(usize, Basis)> = (0..read.shown.len())
            .map(|at| (at, basis(&read, at)))
            .filter(|(at, basis)| {
                stored.get(&read.shown[*at].known.name).map(|b| &b.inputs) != Some(&basis.inputs)
            })
            .collect();
        // Before the rows go that show where those branches were.
        forget::forget(self, &read, &stored, &given).await?;
        self.remove(&read, &stored).await?;
        let total = read.shown.len();
        self.progress(total - todo.len(), total).await?;
        let mut behind = Behind::default();
        let (mut rest, mut size) = (todo.as_slice(), BATCH);
        while !rest.is_empty() {
            let batch = &rest[..size.min(rest.len())];
            let rows = self.batch(&read, batch, &mut behind).await?;
            size = if rows.len() < batch.len() { rows.len().max(1) } else { (size * 2).min(BATCH) };
            rest = &rest[rows.len()..];
            let done = total - rest.len();
            let mut ws = self.writes();
            let rev = ws.scope(Scope::organization(&self.repository.organization_id));
            for row in &rows {
                let of = (&self.repository.organization_id, id);
                branch_overviews::put(&mut ws, rev, of, &row.basis, &row.overview);
            }
            self.counts(&mut ws, done, total);
            self.cx.store.commit(ws).await?;
            self.flow.progress(format!("{done} of {total} branches")).await;
        }
        let left_out = known::left_out(too_many, missing);
        let reason = OverviewFacts::reason_not_compared();
        Ok(left_out.or_else(|| read.unplanned.map(|why| (reason, why))))
    }

    async fn read(&self, mut shown: Vec<Shown>) -> Result<Read, Failure> {
        let cx = self.cx;
        let path = cx.mirror_path(&self.repository.repository_id);
        let mirror = Mirror::open(&cx.git, path, MirrorLimits::default()).await?;
        let heads: Vec<CommitId> = shown.iter().map(|s| s.known.head.clone()).collect();
        let mut summaries = HashMap::new();
        for some in heads.chunks(SUMMARIES) {
            summaries.extend(mirror.summaries(some).await?);
        }
        shown.retain(|s| summaries.contains_key(&s.known.head));
        let base = shown.first().filter(|s| s.known.name == self.repository.default_branch);
        let base = match base.map(|s| s.known.head.clone()) {
            Some(head) => {
                let tree = mirror.tree_of(&head).await?;
                Some((head, tree))
            }
            None => None,
        };
        let heads: Vec<CommitId> = shown.iter().map(|s| s.known.head.clone()).collect();
        let (history, unplanned) =
            match mirror.history_without(&heads, base.as_ref().map(|(head, _)| head), MAX_COMMITS).await {
                Ok(history) => (Some(history), None),
                Err(e) if is_of_the_branch(&e) => {
                    (None, Some(format!("branches are shown without their stacks: {}", e.message())))
                }
                Err(e) => return Err(e.into()),
            };
        let known: Vec<Known> = shown.iter().map(|s| s.known.clone()).collect();
        let has_base = base.is_some();
        // Thousands of long histories take a second.
        let planned = tokio::task::spawn_blocking(move || {
            let places = history.as_ref().map(|h| stack::plan(h, has_base.then_some(0), &known));
            (history, places.unwrap_or_default())
        });
        let (history, places) = planned.await.map_err(foundry_core::Error::internal)?;
        Ok(Read { mirror, shown, summaries, history, places, base, unplanned })
    }

    /// Removes the rows of branches that are gone.
    async fn remove(&self, read: &Read, stored: &HashMap<String, Basis>) -> Result<(), Failure> {
        let names: HashSet<&str> = read.shown.iter().map(|s| s.known.name.as_str()).collect();
        let gone: Vec<&String> = stored.keys().filter(|name| !names.contains(name.as_str())).collect();
        for some in gone.chunks(REMOVED_AT_ONCE) {
            let mut ws = self.writes();
            let rev = ws.scope(Scope::organization(&self.repository.organization_id));
            for name in some {
                branch_overviews::remove(&mut ws, rev, &self.repository.repository_id, name);
                branch_places::remove(&mut ws, &self.repository.repository_id, name);
            }
            self.cx.store.commit(ws).await?;
        }
        Ok(())
    }

    async fn progress(&self, done: usize, total: usize) -> Result<(), Failure> {
        let mut ws = self.writes();
        self.counts(&mut ws, done, total);
        self.cx.store.commit(ws).await?;
        Ok(())
    }

    fn counts(&self, ws: &mut WriteSet, done: usize, total: usize) {
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX).into();
        self.show(ws, &[("overview_done", count(done)), ("overview_total", count(total))]);
    }

    /// Computes the first ones of a batch, at least one: as many as can be done in time.
    async fn batch(
        &self,
        read: &Read,
        batch: &[(usize, Basis)],
        behind: &mut Behind,
    ) -> Result<Vec<Changed>, Failure> {
        let mut rows = Vec::with_capacity(batch.len());
        let begin = Instant::now();
        for (at, basis) in batch {
            rows.push(row(read, *at, basis.clone(), behind).await?);
            if begin.elapsed() > STORED_AFTER {
                break;
            }
        }
        changes(read, &mut rows).await?;
        self.merges(read, &mut rows).await?;
        Ok(rows)
    }

    /// Tries the merges of a batch with the default branch; drops the rows that are not reached in time.
    async fn merges(&self, read: &Read, rows: &mut Vec<Changed>) -> Result<(), Failure> {
        let Some((base, tree)) = &read.base else { return Ok(()) };
        if !rows.iter().any(|row| row.is_tried) {
            return Ok(());
        }
        let scratch =
            tempfile::tempdir_in(&self.cx.serving.scratch).map_err(foundry_core::Error::internal)?;
        let mirror = read.mirror.trying_in(scratch.path());
        let tried: Vec<_> = rows
            .iter()
            .enumerate()
            .filter(|(_, row)| row.is_tried)
            .map(|(nth, row)| {
                let head = read.shown[row.at].known.head.clone();
                tried(mirror.clone(), base.clone(), tree.clone(), head, nth).boxed()
            })
            .collect();
        let mut tried = futures::stream::iter(tried).buffered(TRIALS);
        let begin = Instant::now();
        while let Some((nth, merge)) = tried.try_next().await? {
            let overview = &mut rows[nth].overview;
            match merge {
                Ok(TrialMerge::Nothing) => overview.merged = true,
                Ok(TrialMerge::Clean) => {}
                Ok(TrialMerge::Conflict { count, files }) => {
                    let short =
                        |path: &foundry_git::RepoPath| path.to_string().chars().take(MAX_PATH).collect();
                    overview.conflicts =
                        Some(MergeConflicts { count: int(count), files: files.iter().map(short).collect() });
                }
                Err(e) => leave_out(overview, &e, "whether it can be merged is not known"),
            }
            if begin.elapsed() > STORED_AFTER {
                rows.truncate(nth + 1);
                break;
            }
        }
        Ok(())
    }
}

/// What a merge would do to the branch of a row, or why that is not known.
async fn tried(
    mirror: Mirror,
    base: CommitId,
    tree: String,
    head: CommitId,
    row: usize,
) -> Result<(usize, Result<TrialMerge, GitError>), GitError> {
    match mirror.trial_merge((&base, &tree), &head, ONE_WALL).await {
        Err(e) if !is_of_the_branch(&e) => Err(e),
        merge => Ok((row, merge)),
    }
}

/// Whether only what concerns one branch is lost by this error; any other one is tried again.
fn is_of_the_branch(e: &GitError) -> bool {
    !matches!(e.kind(), GitErrorKind::Host | GitErrorKind::Busy | GitErrorKind::NotFound)
}

fn leave_out(overview: &mut BranchOverview, e: &GitError, what: &str) {
    let left_out = overview.left_out.get_or_insert_with(Condition::default);
    if left_out.reason.is_empty() {
        e.reason().clone_into(&mut left_out.reason);
        left_out.message = format!("{what}: {}", e.message());
    }
}

fn int<N: TryInto<i32>>(n: N) -> i32 {
    n.try_into().unwrap_or(i32::MAX)
}

/// Everything that decides what the row of a branch shows.
fn basis(read: &Read, at: usize) -> Basis {
    let shown = &read.shown[at];
    let base = read.base.as_ref().map_or("", |(head, _)| head.as_str());
    let (parent, parent_head, fork) = match read.places.get(at) {
        Some(Place::OnBranch { parent, fork, .. }) => {
            let parent = &read.shown[*parent].known;
            let fork = read.history.as_ref().and_then(|h| h.commit(*fork).ok());
            (parent.name.as_str(), parent.head.as_str(), fork.map(String::from).unwrap_or_default())
        }
        Some(Place::OnBase { .. }) => (read.shown[0].known.name.as_str(), base, String::new()),
        Some(Place::Root | Place::Unrelated { .. }) | None => ("", "", String::new()),
    };
    let planned = if read.unplanned.is_some() { "unplanned" } else { "" };
    let inputs = [
        "1",
        shown.known.head.as_str(),
        base,
        parent,
        parent_head,
        fork.as_str(),
        shown.task_id.as_str(),
        shown.work_commit.as_str(),
        match (shown.work_only, shown.is_empty) {
            (true, false) => "work",
            (true, true) => "empty",
            (false, true) => "unpublished",
            (false, false) => "",
        },
        planned,
    ];
    Basis { inputs: inputs.join(" "), parent: parent.to_owned(), fork }
}

/// How many commits of the base are missing, for each place and each head in its history that was counted.
#[derive(Default)]
struct Behind {
    places: HashMap<Vec<u32>, u64>,
    heads: HashMap<CommitId, u64>,
}

/// What is known of a branch without comparing trees.
async fn row(read: &Read, at: usize, basis: Basis, behind: &mut Behind) -> Result<Changed, Failure> {
    let shown = &read.shown[at];
    let summary = read.summaries.get(&shown.known.head).cloned().unwrap_or_default();
    let mut overview = BranchOverview {
        name: shown.known.name.clone(),
        commit: shown.known.head.to_string(),
        subject: summary.subject,
        author: summary.author,
        commit_time: Some(summary.time.to_proto()),
        parent: basis.parent.clone(),
        task_id: shown.task_id.clone(),
        work_only: shown.work_only,
        work_commit: shown.work_commit.clone(),
        is_default: at == 0 && read.base.is_some(),
        ..BranchOverview::default()
    };
    let (mut fork, mut is_tried) = (None, false);
    let place = read.places.get(at).zip(read.history.as_ref()).zip(read.base.as_ref());
    match read.places.get(at) {
        Some(Place::Unrelated { ahead }) => {
            overview.unrelated = true;
            overview.from_base = Some(Divergence { ahead: int(*ahead), behind: 0 });
        }
        Some(Place::OnBranch { parent, apart, fork: common, ahead_of_base, .. }) => {
            fork = read.history.as_ref().and_then(|h| h.commit(*common).ok());
            let parent = &read.shown[*parent].known.head;
            // A walk that was cut short has counted neither of them.
            let planned = (*ahead_of_base < stack::MAX_WALK).then_some(*apart);
            match from_parent(read, &shown.known.head, parent, fork.as_ref(), planned).await {
                Ok(apart) => overview.from_parent = Some(apart),
                Err(e) if is_of_the_branch(&e) => {
                    leave_out(&mut overview, &e, "how far it and its parent are apart is not known");
                }
                Err(e) => return Err(e.into()),
            }
        }
        _ => {}
    }
    if let Some((
        (Place::OnBase { ahead, forks } | Place::OnBranch { ahead_of_base: ahead, forks, .. }, history),
        (base, _),
    )) = place
    {
        match from_base(read, (history, base), &shown.known.head, (*ahead, forks), behind).await {
            Ok((count, common)) => {
                let apart = Divergence { ahead: int(*ahead), behind: int(count) };
                overview.from_base = Some(apart);
                // The branch of a task that has done nothing yet is merged nowhere.
                let is_unchanged = shown.is_empty
                    || (shown.work_only && shown.known.started_from.as_ref() == Some(&shown.known.head));
                overview.merged = *ahead == 0 && !is_unchanged;
                overview.unpublished = *ahead == 0 && shown.is_empty && !shown.work_only;
                is_tried = *ahead > 0 && count > 0 && common.is_some();
                overview.unrelated = common.is_none();
                if matches!(read.places.get(at), Some(Place::OnBase { .. })) {
                    overview.from_parent = Some(apart);
                    fork = common;
                }
            }
            Err(e) if is_of_the_branch(&e) => {
                leave_out(&mut overview, &e, "how far it and the default branch are apart is not known");
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(Changed { at, basis, overview, fork, is_tried })
}

/// How far a branch and the one below it are apart. Where that has moved, the plan lacks the commits of the base.
async fn from_parent(
    read: &Read,
    head: &CommitId,
    parent: &CommitId,
    fork: Option<&CommitId>,
    planned: Option<stack::Apart>,
) -> Result<Divergence, GitError> {
    if let (true, Some(planned)) = (fork == Some(parent), planned) {
        return Ok(Divergence { ahead: int(planned.ahead), behind: int(planned.behind) });
    }
    let ahead = read.mirror.count_without(head, parent).await?;
    Ok(Divergence { ahead: int(ahead), behind: int(read.mirror.count_without(parent, head).await?) })
}

/// How many commits the base has that the branch does not, and the newest commit that they have in common.
async fn from_base(
    read: &Read,
    (history, base): (&History, &CommitId),
    head: &CommitId,
    (ahead, forks): (usize, &[u32]),
    behind: &mut Behind,
) -> Result<(u64, Option<CommitId>), GitError> {
    if ahead == 0 {
        let count = match behind.heads.get(head) {
            Some(count) => *count,
            None => read.mirror.count_without(base, head).await?,
        };
        behind.heads.insert(head.clone(), count);
        return Ok((count, Some(head.clone())));
    }
    let common = match forks {
        [] if ahead < stack::MAX_WALK => None,
        [one] => Some(history.commit(*one)?),
        _ => read.mirror.merge_base(base, head).await?,
    };
    let mut key = forks.to_vec();
    key.sort_unstable();
    let count = match behind.places.get(&key) {
        Some(count) if !key.is_empty() => *count,
        _ => read.mirror.count_without(base, head).await?,
    };
    behind.places.insert(key, count);
    Ok((count, common))
}

/// How much the branches of a batch change against their parents; drops the rows that are not reached in time.
async fn changes(read: &Read, rows: &mut Vec<Changed>) -> Result<(), Failure> {
    let pairs: Vec<(usize, (CommitId, CommitId))> = rows
        .iter()
        .enumerate()
        .filter_map(|(nth, row)| Some((nth, (row.fork.clone()?, read.shown[row.at].known.head.clone()))))
        .collect();
    let only: Vec<_> = pairs.iter().map(|(_, pair)| pair.clone()).collect();
    match read.mirror.change_totals(&only, BATCH_WALL).await {
        Ok(totals) => {
            for ((nth, _), totals) in pairs.iter().zip(totals) {
                rows[*nth].overview.changes = Some(summary(totals));
            }
        }
        Err(e) if is_of_the_branch(&e) => {
            // One of them is too large: the others must not be lost with it.
            let begin = Instant::now();
            for (nth, pair) in pairs {
                match read.mirror.change_totals(&[pair], ONE_WALL).await {
                    Ok(totals) => rows[nth].overview.changes = totals.into_iter().next().map(summary),
                    Err(e) if is_of_the_branch(&e) => {
                        leave_out(&mut rows[nth].overview, &e, "how much it changes is not known");
                    }
                    Err(e) => return Err(e.into()),
                }
                if begin.elapsed() > STORED_AFTER {
                    rows.truncate(nth + 1);
                    break;
                }
            }
        }
        Err(e) => return Err(e.into()),
    }
    Ok(())
}

fn summary(totals: ChangeTotals) -> ChangeSummary {
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    ChangeSummary {
        files: int(totals.files),
        additions: count(totals.additions),
        deletions: count(totals.deletions),
    }
}
