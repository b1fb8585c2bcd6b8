//! What a host knows of the pull requests of a repository, beside what is known here.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use foundry_core::{Error, OrganizationId, RepositoryId, Result};
use foundry_forge::{Checks, Facts, Forge, ForgeError, ForgeErrorKind, Known, PullRequest, Review, State};
use foundry_proto::common::v1::{self, PullRequestState};
use foundry_store::{Scope, WriteSet};

use crate::context::Context;
use crate::domain::pull_request::{Kept, shown};
use crate::domain::repository::Repository;
use crate::domain::work::Work;
use crate::store::pull_requests::{self, PullRow};
use crate::store::{publications, works};

/// Most open pull requests of a repository that are read.
const MAX_OPEN: usize = 500;
/// Most pull requests whose checks and reviews are read at a time.
const MAX_FACTS: usize = 50;
/// Of those, so many are kept for others than those of tasks, where there are any.
const OF_OTHERS: usize = 10;
/// Most pull requests that are read one by one, since they are not in the list of open ones any more.
const MAX_ENDED: usize = 20;
/// How long a reading reads checks and reviews: what it has by then is recorded before the reading as a whole is out of
/// time, so that the next one gets further.
pub const FACTS_AT_MOST: Duration = Duration::from_secs(3 * 60 + 45);
/// Below this part of the host's calls no more checks and reviews are read.
const KEPT_SHARE: u32 = 10;

/// Why a reading failed.
pub enum Failure {
    Forge(ForgeError),
    Other(Error),
}

impl From<ForgeError> for Failure {
    fn from(e: ForgeError) -> Self {
        Self::Forge(e)
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Self::Other(e)
    }
}

/// How far a reading is.
#[derive(Default)]
pub struct Progress {
    done: AtomicI32,
    total: AtomicI32,
}

impl Progress {
    /// Pull requests that were read, and those that are to be read; while those are 0, they are still listed.
    pub fn now(&self) -> (i32, i32) {
        (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed))
    }

    fn listed(&self, count: usize) {
        self.done.store(i32::try_from(count).unwrap_or(i32::MAX), Ordering::Relaxed);
    }

    fn begin(&self, total: usize) {
        self.listed(0);
        self.total.store(i32::try_from(total).unwrap_or(i32::MAX), Ordering::Relaxed);
    }

    fn step(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }
}

/// What was found, as changes.
#[derive(Default)]
pub struct Gathered {
    pub mark: String,
    pub open: usize,
    /// Whether there are more open ones than are read.
    pub truncated: bool,
    /// Whether another reading is to follow at once.
    pub unfinished: bool,
    /// Open ones whose checks and reviews were not read at their newest commit.
    pub unread: usize,
    /// Why checks and reviews were read of some alone.
    pub cut: Option<ForgeError>,
    /// Why checks or reviews of some were not read although the host answers: the credential may not.
    pub denied: Option<ForgeError>,
    /// Whether they were not for one of the open ones, now or when it was read last.
    pub still_denied: bool,
    /// Of how many they were asked for.
    pub asked: usize,
    put: Vec<PullRow>,
    /// Those that are shown as before.
    kept: Vec<PullRow>,
    removed: Vec<String>,
    works: Vec<Work>,
}

impl Gathered {
    /// Notes that checks and reviews of one were not read.
    fn failed(&mut self, r: &Repository, p: &PullRequest, e: ForgeError) {
        tracing::warn!(repository = %r.repository_id, number = p.number, reason = e.reason(), "checks and reviews were not read: {e}");
        if e.kind() == ForgeErrorKind::Forbidden {
            self.denied.get_or_insert_with(|| e.clone());
        }
        // The others are none the worse for it, unless the host answers no calls at all.
        self.cut = Some(e).filter(ForgeError::is_passing);
    }

    /// The rows that have changed.
    pub fn writes(&self, ws: &mut WriteSet, r: &Repository) -> Result<()> {
        let rev = ws.scope(Scope::organization(&r.organization_id));
        let of: (&OrganizationId, &RepositoryId) = (&r.organization_id, &r.repository_id);
        for row in &self.put {
            pull_requests::put(ws, rev, of, row)?;
        }
        for row in &self.kept {
            pull_requests::keep(ws, &r.repository_id, row)?;
        }
        for branch in &self.removed {
            pull_requests::remove(ws, rev, &r.repository_id, branch);
        }
        for work in &self.works {
            works::save(ws, rev, work);
        }
        Ok(())
    }
}

/// Reads what has changed at the host.
pub async fn gather(
    cx: &Context,
    r: &Repository,
    forge: &dyn Forge,
    progress: &Progress,
) -> Result<Gathered, Failure> {
    let begin = cx.env.clock.now();
    let known: BTreeMap<String, PullRow> = pull_requests::all(&cx.store, &r.repository_id)
        .await?
        .into_iter()
        .map(|row| (row.pull_request.branch.clone(), row))
        .collect();
    let published = works::published(&cx.store, &r.repository_id).await?;
    let earlier = publications::of_repository(&cx.store, &r.repository_id).await?;
    let newest = published.iter().filter_map(|w| w.publication.as_ref());
    let of_tasks: HashSet<String> =
        newest.chain(earlier.iter().map(|(_, p)| p)).map(|p| p.branch.clone()).collect();
    // Rows of an older version do not say who has opened them, so these are listed whether they have changed or not.
    let is_older = |row: &PullRow| row.kept.author.is_empty() && row.kept.read_at.is_empty();
    let mark = if known.values().any(is_older) { "" } else { r.pulls.mark.as_str() };
    let changed = forge.changed(mark).await?;
    let mut gathered = Gathered { mark: changed.mark, ..Gathered::default() };
    let (open, ended) = if changed.changed {
        let open = listed(forge, &mut gathered, progress).await?;
        let ended = ended(forge, &known, &open, &mut gathered).await;
        (open, ended)
    } else {
        let still = known.values().filter(|row| row.pull_request.state() == PullRequestState::Open);
        gathered.truncated = r.pulls.sync.as_ref().is_some_and(|sync| sync.truncated);
        (still.map(remembered).collect(), Vec::new())
    };
    gathered.open = open.len();
    let mut rows: BTreeMap<String, PullRow> = BTreeMap::new();
    let before =
        |p: &PullRequest| known.get(&p.head).filter(|row| row.pull_request.number.unsigned_abs() == p.number);
    let (in_turn, due) = in_turn(&open, before, &of_tasks);
    progress.begin(due);
    for (n, p) in in_turn.into_iter().enumerate() {
        let (before, now) = (before(p), cx.env.clock.now());
        let may = n < due && gathered.cut.is_none() && !forge.budget().is_below(KEPT_SHARE);
        gathered.asked += usize::from(may);
        let read = if may {
            let left = FACTS_AT_MOST.saturating_sub(now.since(begin));
            in_time(cx, left, Box::pin(with_facts(forge, p, before, &mut gathered.denied))).await
        } else {
            Ok(without_facts(p, before))
        };
        let mut row = match read {
            Ok(row) => row,
            Err(e) => {
                let mut row = without_facts(p, before);
                row.kept.denied |= e.kind() == ForgeErrorKind::Forbidden;
                gathered.failed(r, p, e);
                row
            }
        };
        if may && gathered.cut.is_none() {
            (row.kept.read_at, row.kept.read_time) = (p.head_commit.clone(), now.as_micros());
            progress.step();
        }
        gathered.unread += usize::from(row.kept.read_at != p.head_commit);
        gathered.still_denied |= row.kept.denied;
        rows.insert(p.head.clone(), row);
    }
    for p in ended {
        if of_tasks.contains(p.head.as_str()) {
            let before = known.get(&p.head);
            rows.insert(p.head.clone(), without_facts(&p, before));
        } else {
            gathered.removed.push(p.head);
        }
    }
    publish(published, &rows, &mut gathered);
    for row in rows.into_values() {
        match known.get(&row.pull_request.branch) {
            Some(before) if *before == row => {}
            Some(before) if before.pull_request == row.pull_request => gathered.kept.push(row),
            _ => gathered.put.push(row),
        }
    }
    Ok(gathered)
}

/// The open ones in the order in which their checks and reviews are read, and how many of them are read this time: first
/// those that were not read at their newest commit, then those that were read the longest time ago; of each kind those of
/// tasks before others. Neither those of tasks nor the others leave no turn to the rest. The sort is stable, so that the
/// last changed come first otherwise.
fn in_turn<'a>(
    open: &'a [PullRequest],
    before: impl Fn(&PullRequest) -> Option<&'a PullRow>,
    of_tasks: &HashSet<String>,
) -> (Vec<&'a PullRequest>, usize) {
    let is_task = |p: &PullRequest| of_tasks.contains(p.head.as_str());
    let read = |p: &PullRequest| {
        let kept = before(p).map(|row| &row.kept).filter(|kept| kept.read_at == p.head_commit);
        kept.map_or((false, 0), |kept| (true, kept.read_time))
    };
    let mut all: Vec<&PullRequest> = open.iter().collect();
    all.sort_by_key(|p| read(p));
    let (mut tasks, mut others): (Vec<_>, Vec<_>) = all.into_iter().partition(|p| is_task(p));
    let for_others = MAX_FACTS - tasks.len().min(MAX_FACTS - OF_OTHERS);
    let later_others = others.split_off(others.len().min(for_others));
    let later_tasks = tasks.split_off(tasks.len().min(MAX_FACTS - others.len()));
    let mut all = [tasks, others].concat();
    let due = all.len();
    all.sort_by_key(|p| (read(p).0, Reverse(is_task(p)), read(p).1));
    all.extend(later_tasks);
    all.extend(later_others);
    (all, due)
}

/// The open ones of branches of the repository: of each branch the newest.
async fn listed(
    forge: &dyn Forge,
    gathered: &mut Gathered,
    progress: &Progress,
) -> Result<Vec<PullRequest>, Failure> {
    let (mut open, mut seen, mut read) = (Vec::new(), BTreeMap::new(), 0);
    for page in 1.. {
        let found = forge.list_open(page).await?;
        read += found.items.len();
        for p in found.items.into_iter().filter(|p| p.is_own) {
            match seen.get(&p.head) {
                Some(&at) => {
                    let other: &mut PullRequest = &mut open[at];
                    if p.number > other.number {
                        *other = p;
                    }
                }
                None => {
                    seen.insert(p.head.clone(), open.len());
                    open.push(p);
                }
            }
        }
        progress.listed(open.len());
        if !found.more {
            break;
        }
        if read >= MAX_OPEN {
            gathered.truncated = true;
            break;
        }
    }
    Ok(open)
}

/// What has become of those that were open.
async fn ended(
    forge: &dyn Forge,
    known: &BTreeMap<String, PullRow>,
    open: &[PullRequest],
    gathered: &mut Gathered,
) -> Vec<PullRequest> {
    let listed: HashSet<&str> = open.iter().map(|p| p.head.as_str()).collect();
    let gone = known.values().filter(|row| {
        let p = &row.pull_request;
        p.state() == PullRequestState::Open && !listed.contains(p.branch.as_str())
    });
    let mut ended = Vec::new();
    for (n, row) in gone.enumerate() {
        if n >= MAX_ENDED {
            // Otherwise the host would say that nothing has changed.
            (gathered.unfinished, gathered.mark) = (!gathered.truncated, String::new());
            break;
        }
        match forge.read(row.pull_request.number.unsigned_abs()).await {
            Ok(p) if p.state == State::Open => {}
            Ok(p) => ended.push(PullRequest { head: row.pull_request.branch.clone(), ..p }),
            Err(e) if e.kind() == ForgeErrorKind::NotFound => {
                gathered.removed.push(row.pull_request.branch.clone());
            }
            // What else was read is not lost for it; this one stays as it was until the next reading.
            Err(e) => {
                tracing::warn!(
                    number = row.pull_request.number,
                    reason = e.reason(),
                    "what has become of a pull request was not read: {e}"
                );
                gathered.mark = String::new();
                if e.is_passing() {
                    gathered.cut = Some(e);
                    break;
                }
            }
        }
    }
    ended
}

/// What is read within this time.
async fn in_time(
    cx: &Context,
    left: Duration,
    reading: impl Future<Output = Result<PullRow, ForgeError>>,
) -> Result<PullRow, ForgeError> {
    tokio::select! {
        biased;
        read = reading => read,
        () = cx.env.clock.sleep(left) => {
            let text = "the API of the host has not answered all calls of a reading in time; the others are read next";
            Err(ForgeError::new(ForgeErrorKind::Unreachable, text))
        }
    }
}

async fn with_facts(
    forge: &dyn Forge,
    p: &PullRequest,
    before: Option<&PullRow>,
    denied: &mut Option<ForgeError>,
) -> Result<PullRow, ForgeError> {
    let nothing = Known::default();
    let facts = forge.facts(p, before.map_or(&nothing, |row| &row.kept.known)).await?;
    if let Some(why) = &facts.denied {
        denied.get_or_insert_with(|| why.clone());
    }
    let kept = Kept { known: facts.known.clone(), denied: facts.denied.is_some(), ..kept_of(p) };
    Ok(PullRow { pull_request: shown(p, &facts), kept })
}

/// With the checks and reviews that were read last, if they are of the same commit.
fn without_facts(p: &PullRequest, before: Option<&PullRow>) -> PullRow {
    let nothing = Facts { checks: Checks::default(), review: Review::Unknown, ..Facts::default() };
    let mut new = shown(p, &nothing);
    let mut kept = kept_of(p);
    if let Some(before) = before {
        new.review = before.pull_request.review;
        new.remarks.clone_from(&before.pull_request.remarks);
        new.remarks_left_out = before.pull_request.remarks_left_out;
        new.trusted_changes_requested = before.pull_request.trusted_changes_requested;
        if before.pull_request.commit == new.commit || p.state != State::Open {
            new.checks.clone_from(&before.pull_request.checks);
        }
        if p.state == State::Open {
            kept.known = before.kept.known.clone();
            kept.read_at.clone_from(&before.kept.read_at);
            kept.read_time = before.kept.read_time;
            kept.denied = before.kept.denied;
        }
    }
    PullRow { pull_request: new, kept }
}

fn kept_of(p: &PullRequest) -> Kept {
    Kept { asked: p.review_requested, author: p.author.clone(), ..Kept::default() }
}

/// One that is known, as the host has shown it.
fn remembered(row: &PullRow) -> PullRequest {
    let p: &v1::PullRequest = &row.pull_request;
    PullRequest {
        number: p.number.unsigned_abs(),
        head: p.branch.clone(),
        head_commit: p.commit.clone(),
        is_own: true,
        base: p.base.clone(),
        title: p.title.clone(),
        body: String::new(),
        url: p.url.clone(),
        state: State::Open,
        draft: p.draft,
        review_requested: row.kept.asked,
        author: row.kept.author.clone(),
    }
}

/// The works of tasks show the pull requests of their branches.
fn publish(published: Vec<Work>, rows: &BTreeMap<String, PullRow>, gathered: &mut Gathered) {
    for mut work in published {
        let Some(publication) = work.publication.as_mut() else { continue };
        let Some(row) = rows.get(&publication.branch) else { continue };
        if publication.pull_request.as_ref() != Some(&row.pull_request) {
            publication.pull_request = Some(row.pull_request.clone());
            gathered.works.push(work);
        }
    }
}
