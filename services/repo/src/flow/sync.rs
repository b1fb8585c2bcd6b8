//! Synchronizes a mirror with its remote.

use std::time::Duration;

use foundry_core::{Code, Env, FlowId, RepositoryId, Result, Timestamp};
use foundry_flow::{
    Flow, FlowStatus, NewFlow, Outcome, Projection, Retry, Stage, StageContext, Transition, stage,
};
use foundry_git::{GitError, Mirror, MirrorLimits};
use foundry_proto::common::v1::Condition;
use foundry_store::{Scope, Value, WriteSet};

use crate::broker::{self, Remote};
use crate::context::Context;
use crate::domain::repository::{Repository, State};
use crate::domain::sync::{ENDED, Source, is_missed};
use crate::flow::base_files::Wanted;
use crate::store::branches::{self, BranchRow};
use crate::store::repositories::{self, REPOSITORIES};

/// Key and subject are the repository's id.
pub static SYNC: Flow<Context> = Flow::new(
    "repository_sync",
    &[Stage::new(
        MIRRORING,
        Duration::from_secs(15 * 60),
        Retry { initial: Duration::from_secs(1), factor: 2, max_delay: Duration::from_secs(60), budget: 5 },
        |cx, flow| stage(synchronize(cx, flow)),
    )],
)
// Most of them wait for a remote.
.concurrency(16)
.kept_for(super::KEPT);

const MIRRORING: &str = "mirroring";
/// A synchronization in the background is shown when it takes longer.
const QUIET: Duration = Duration::from_secs(5);
/// So often it fails before it waits for its next time.
const POLL_FAILURES: u32 = 2;

/// Adds a synchronization for a user, as part of a request.
///
/// # Errors
/// `INTERNAL` when its source cannot be encoded.
pub fn enqueue(
    cx: &Context,
    ws: &mut WriteSet,
    repository: &Repository,
    (user, trace): (&str, &str),
    source: Source,
) -> Result<()> {
    let id = repository.repository_id.as_str();
    let flow = NewFlow::new(&SYNC, FlowId::generate(&cx.env), id, id)
        .organization(&repository.organization_id)
        .on_behalf_of(user)
        .traced(trace)
        .input(&source)?;
    foundry_flow::enqueue(ws, flow);
    Ok(())
}

/// Adds a synchronization that somebody asked for, or makes the one that runs be followed by another; fails if the
/// repository has changed since it was read.
///
/// # Errors
/// `INTERNAL` when the database fails.
pub async fn schedule(
    cx: &Context,
    ws: &mut WriteSet,
    repository: &Repository,
    on_behalf: (&str, &str),
) -> Result<()> {
    let another = foundry_flow::is_held(&cx.store, &SYNC, repository.repository_id.as_str()).await?;
    let rev = ws.scope(Scope::organization(&repository.organization_id));
    let mut set = vec![("refresh_wanted", another.into())];
    if another {
        set.push(("wanted_source", Source::Request.as_str().into()));
    }
    repositories::update(ws, rev, repository, set);
    if !another {
        enqueue(cx, ws, repository, on_behalf, Source::Request)?;
    }
    Ok(())
}

/// Creates or fetches the mirror, and stores its branches.
async fn synchronize(cx: &Context, flow: &StageContext) -> Result<Outcome> {
    let repository = load(cx, flow.subject_id()).await?.filter(|r| r.state != State::Deleting);
    let Some(repository) = repository else { return Ok(Outcome::done()) };
    let begin = cx.env.clock.now();
    let remote = match broker::remote(cx, &repository).await {
        Ok(remote) => remote,
        // A URL that is not allowed any more, or a credential that cannot be decrypted.
        Err(e) if !e.reason().is_empty() && !matches!(e.code(), Code::Internal | Code::Unavailable) => {
            return Ok(Outcome::fail(e.reason(), e.message()));
        }
        Err(e) => return Err(e),
    };
    let shown_when_slow = async {
        cx.env.clock.sleep(QUIET).await;
        flow.progress("the remote has not answered yet").await;
        std::future::pending().await
    };
    let mirrored = tokio::select! {
        mirrored = mirror(cx, &repository, &remote, flow) => mirrored,
        () = flow.cancellation().cancelled() => return Ok(Outcome::retry("STOPPED", "the sync was stopped")),
        never = shown_when_slow, if is_quiet(flow.flow()) => never,
    };
    match mirrored {
        Ok(found) => record(cx, flow, &remote, found, begin).await,
        Err(e) => {
            let (id, reason) = (flow.subject_id(), e.reason());
            tracing::warn!(repository = id, reason, stderr = e.stderr(), "mirroring failed");
            let last = is_quiet(flow.flow()) && flow.flow().failures + 1 >= POLL_FAILURES;
            Ok(match e.retryable() && !last {
                true => Outcome::retry(reason, e.message()),
                false => failed(cx, &repository, &remote, &e).await?,
            })
        }
    }
}

/// What a synchronization found.
struct Found {
    /// Digest of what the remote lists.
    listing: String,
    /// None when that is what the last synchronization recorded.
    mirror: Option<FoundMirror>,
    /// For which bases sandboxes wait whose files are not here.
    wants_files: Vec<Wanted>,
}

/// The mirror after a change.
struct FoundMirror {
    branches: Vec<BranchRow>,
    default_branch: String,
    /// The commit on which work starts, if the repository has none.
    empty_commit: String,
    /// Whether it has become worth its time to collect the garbage of the mirror.
    is_scattered: bool,
}

/// What the run is for; a run that follows another one has its own.
fn source(flow: &FlowStatus) -> Source {
    let stored = |value: &serde_json::Value| serde_json::from_value(value.clone()).ok();
    stored(&flow.state).or_else(|| stored(&flow.input)).unwrap_or_default()
}

/// Whether it was due in the background: it is shown only if it takes long or fails.
fn is_quiet(flow: &FlowStatus) -> bool {
    source(flow).is_quiet()
}

async fn load(cx: &Context, id: &str) -> Result<Option<Repository>> {
    let id: RepositoryId = id.parse()?;
    repositories::find(&cx.store, &id).await
}

async fn mirror(
    cx: &Context,
    repository: &Repository,
    remote: &Remote,
    flow: &StageContext,
) -> std::result::Result<Found, GitError> {
    let remote = &remote.url;
    let path = cx.mirror_path(&repository.repository_id);
    if !is_quiet(flow.flow()) {
        flow.progress("fetching").await;
    }
    let limits = MirrorLimits::default();
    let (mirror, is_new) = match Mirror::open(&cx.git, &path, limits).await {
        Ok(mirror) => (mirror, false),
        Err(_) => (Mirror::create(&cx.git, &path, remote, limits).await?, true),
    };
    // After the first fetch, this one only lists the remote.
    let report = mirror.fetch(remote).await?;
    let wants_files = super::base_files::are_wanted(cx, repository, &mirror).await?;
    // A mirror that was lost lacks the commit on which work in an empty repository starts.
    if !is_new && !report.changed && report.digest == repository.listing {
        return Ok(Found { listing: report.digest, mirror: None, wants_files });
    }
    let mirror = read(&mirror, repository).await?;
    Ok(Found { listing: report.digest, mirror: Some(mirror), wants_files })
}

async fn read(mirror: &Mirror, repository: &Repository) -> std::result::Result<FoundMirror, GitError> {
    let found = mirror.branches().await?;
    if found.skipped > 0 {
        tracing::warn!(repository = %repository.repository_id, skipped = found.skipped, "branches with unusable names");
    }
    let default = mirror.default_branch().await?;
    let default = default.map(|b| b.to_string()).or_else(|| found.items.first().map(|b| b.name.to_string()));
    let empty_commit = match found.items.is_empty() {
        true => mirror.empty_start().await?.to_string(),
        false => String::new(),
    };
    let branches = found
        .items
        .into_iter()
        .map(|b| BranchRow {
            name: b.name.to_string(),
            commit_id: b.commit.to_string(),
            commit_time: b.committed_time,
            subject: b.subject.chars().take(200).collect(),
        })
        .collect();
    let is_scattered = mirror.wants_collection().await?;
    Ok(FoundMirror { branches, default_branch: default.unwrap_or_default(), empty_commit, is_scattered })
}

/// Stores what was found at or after `begin`, and runs once more if another refresh was requested during the run.
async fn record(
    cx: &Context,
    flow: &StageContext,
    remote: &Remote,
    found: Found,
    begin: Timestamp,
) -> Result<Outcome> {
    let Some(repository) = load(cx, flow.subject_id()).await? else { return Ok(Outcome::done()) };
    let mut ws = WriteSet::new();
    let rev = ws.scope(Scope::organization(&repository.organization_id));
    let mut set: Vec<(&'static str, Value)> = vec![
        ("rev", rev.into()),
        ("sync_time", cx.env.clock.now().into()),
        ("listed_time", begin.into()),
        ("listing", found.listing.into()),
        ("refresh_wanted", false.into()),
        ("sync_source", source(flow.flow()).as_str().into()),
        ("stale_since", 0.into()),
        ("held_host", "".into()),
    ];
    if found.mirror.is_some() || repository.branches_time == Timestamp::default() {
        set.push(("branches_time", cx.env.clock.now().into()));
    }
    let missed = source(flow.flow()) == Source::Poll && is_missed(&repository.sync, begin);
    if found.mirror.is_some() && missed {
        // Announcements cannot be relied on, until the next one.
        let known = ("announce_time", repository.sync.announce_time.into());
        let key = ("repository_id", repository.repository_id.as_str().into());
        ws.update_where(&REPOSITORIES, &[key, known], &[("announce_time", 0.into())]);
    }
    if repository.pulls.sync.is_none()
        && repository.pulls.next.as_micros() == 0
        && broker::place(cx, &repository).is_ok()
    {
        set.push(("pull_next_time", cx.env.clock.now().into()));
    }
    // What made it fail may be gone.
    if found.mirror.is_some() || repository.overview.has_failed() {
        set.push(("overview_wanted", true.into()));
    }
    if let Some(mirror) = found.mirror {
        let old = branches::all(&cx.store, &repository.repository_id).await?;
        branches::replace(&mut ws, &repository.repository_id, &old, &mirror.branches);
        let count = i64::try_from(mirror.branches.len()).unwrap_or(i64::MAX);
        set.push(("default_branch", mirror.default_branch.into()));
        set.push(("branch_count", count.into()));
        set.push(("empty_commit", mirror.empty_commit.into()));
        if mirror.is_scattered {
            super::collect::schedule(cx, &mut ws, &repository).await?;
        }
    }
    super::base_files::schedule(cx, &mut ws, &repository, &found.wants_files).await?;
    // Any change to the row except a deletion may have come between; a requested refresh must not be lost.
    let key = [("repository_id", repository.repository_id.as_str().into())];
    let again = repository.refresh_wanted;
    let guard = [key[0].clone(), ("refresh_wanted", again.into())];
    ws.guard(foundry_store::Guard::exists(&REPOSITORIES, &guard));
    ws.update_where(&REPOSITORIES, &key, &set);
    remote.learned(cx, &mut ws, Ok(())).await?;
    let next = repository.sync.wanted_source;
    let outcome = if again { Outcome::goto(MIRRORING).with_state(&next) } else { Outcome::done() };
    Ok(outcome.recording(ws))
}

/// Records the failure of a run, which began with this row; runs once more if a refresh was requested during it.
async fn failed(cx: &Context, began: &Repository, remote: &Remote, e: &GitError) -> Result<Outcome> {
    let Some(repository) = load(cx, began.repository_id.as_str()).await? else { return Ok(Outcome::done()) };
    let mut ws = WriteSet::new();
    remote.learned(cx, &mut ws, Err(e)).await?;
    remote.is_newest(&mut ws, began);
    let again = repository.refresh_wanted;
    let key = [("repository_id", repository.repository_id.as_str().into()), ("refresh_wanted", again.into())];
    ws.guard(foundry_store::Guard::exists(&REPOSITORIES, &key));
    if !again {
        let (reason, text) = remote.why(e);
        return Ok(Outcome::fail(reason, text).recording(ws));
    }
    ws.update_where(&REPOSITORIES, &key, &[("refresh_wanted", false.into())]);
    Ok(Outcome::goto(MIRRORING).with_state(&repository.sync.wanted_source).recording(ws))
}

/// Projects the state of a synchronization to the repository's row.
pub struct Shown(pub Env);

impl Projection for Shown {
    fn project(&self, flow: &FlowStatus) -> WriteSet {
        let mut ws = WriteSet::new();
        let Some(organization) = &flow.organization_id else { return ws };
        let (state, condition) = match flow.transition {
            Some(Transition::Done) => {
                let since =
                    Condition { since_time: Some(flow.status_time.to_proto()), ..Condition::default() };
                (State::Ready, since)
            }
            Some(Transition::Failed | Transition::Parked) => {
                let next = match flow.reason.as_str() {
                    reason if broker::next_action(reason).is_some() => {
                        broker::next_action(reason).unwrap_or_default()
                    }
                    "GIT_AUTH_REQUIRED" => "give Foundry access to the repository, then refresh it",
                    "GIT_OBJECTS_REFUSED" => {
                        "rewrite the object that is named, or have an operator allow the check for this repository"
                    }
                    "GIT_CERTIFICATE_REFUSED" => {
                        "for a private certificate authority, have an operator set repo.network.ca_file"
                    }
                    "GIT_PROXY_REFUSED" => "have an operator check repo.network.proxy",
                    "GIT_DUMB_HTTP_REFUSED" => "register it at an address that speaks git's smart protocol",
                    "GIT_REMOTE_NOT_FOUND" => {
                        "check the URL and what its credential may read, or create the repository there and refresh"
                    }
                    _ => "refresh the repository",
                };
                let condition = foundry_flow::condition(&SYNC, flow);
                (State::Error, Condition { next_action: next.to_owned(), retryable: true, ..condition })
            }
            Some(Transition::Cancelled) => return self.ended(flow),
            Some(Transition::Started | Transition::Released) if is_quiet(flow) => return ws,
            _ => (State::Syncing, foundry_flow::condition(&SYNC, flow)),
        };
        let rev = ws.scope(Scope::organization(organization));
        let subject: Value = flow.subject_id.as_str().into();
        let condition = repositories::condition(&condition);
        // A first synchronization leaves the state pending, as there is no mirror yet. A deletion is not overwritten.
        for from in [State::Pending, State::Ready, State::Syncing, State::Error] {
            let to = if from == State::Pending && state == State::Syncing { from } else { state };
            ws.update_where(
                &REPOSITORIES,
                &[("repository_id", subject.clone()), ("state", from.as_str().into())],
                &[("rev", rev.into()), ("condition", condition.clone()), ("state", to.as_str().into())],
            );
        }
        // After a conflict of writes the remote has answered.
        if !matches!(flow.reason.as_str(), "" | "WRITE_CONFLICT") && flow.transition != Some(Transition::Done)
        {
            let first = [("repository_id", subject.clone()), ("stale_since", 0.into())];
            ws.update_where(&REPOSITORIES, &first, &[("stale_since", flow.status_time.into())]);
            let why = [
                ("stale_reason", flow.reason.as_str().into()),
                ("stale_message", flow.message.as_str().into()),
            ];
            ws.update_where(&REPOSITORIES, &[("repository_id", subject)], &why);
        }
        if matches!(flow.transition, Some(Transition::Done | Transition::Failed | Transition::Parked)) {
            ws.merge(self.ended(flow));
        }
        ws
    }
}

impl Shown {
    /// The next one is planned now, and the overview of what was found is computed.
    fn ended(&self, flow: &FlowStatus) -> WriteSet {
        let mut ws = WriteSet::new();
        let key = [("repository_id", flow.subject_id.as_str().into())];
        ws.update_where(&REPOSITORIES, &key, &[("polling", 0.into()), ("next_sync_time", ENDED.into())]);
        foundry_flow::signal(&mut ws, &self.0, super::background::KEY);
        ws
    }
}

#[cfg(test)]
mod tests {
    use foundry_proto::repo::v1::RequestRepositoryRefreshRequest;

    use crate::ops::request_repository_refresh::request_repository_refresh;
    use crate::testing::{Fixture, git};

    #[tokio::test]
    async fn a_mirror_that_was_lost_is_made_again_with_the_start_of_work_in_an_empty_repository() {
        let f = Fixture::new().await;
        git(&f.origin, &["update-ref", "-d", "HEAD"]);
        let id = f.mirrored().await.repository_id;
        let mirror = f.cx.mirror_path(&id.parse().unwrap());
        let start = git(&mirror, &["rev-parse", "refs/foundry/empty"]);
        std::fs::remove_dir_all(&mirror).unwrap();
        let refresh = RequestRepositoryRefreshRequest { repository_id: id, ..Default::default() };
        request_repository_refresh(&f.cx, &f.member, refresh).await.unwrap();
        f.engine.run_until_idle().await.unwrap();
        assert_eq!(git(&mirror, &["rev-parse", "refs/foundry/empty"]), start);
    }
}
