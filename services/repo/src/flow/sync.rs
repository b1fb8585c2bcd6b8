//! Synchronizes a mirror with its remote.

use std::time::Duration;

use foundry_core::{RepositoryId, Result};
use foundry_flow::{Flow, FlowStatus, Outcome, Projection, Retry, Stage, StageContext, Transition, stage};
use foundry_git::{GitError, Mirror, MirrorLimits, RemoteUrl};
use foundry_proto::common::v1::Condition;
use foundry_store::{Scope, Value, WriteSet};

use crate::context::Context;
use crate::domain::repository::{Repository, State};
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
.concurrency(4);

const MIRRORING: &str = "mirroring";

/// Creates or fetches the mirror, and stores its branches.
async fn synchronize(cx: &Context, flow: &StageContext) -> Result<Outcome> {
    let repository = load(cx, flow.subject_id()).await?.filter(|r| r.state != State::Deleting);
    let Some(repository) = repository else { return Ok(Outcome::done()) };
    let mirrored = tokio::select! {
        mirrored = mirror(cx, &repository, flow) => mirrored,
        () = flow.cancellation().cancelled() => return Ok(Outcome::retry("STOPPED", "the sync was stopped")),
    };
    match mirrored {
        Ok(found) => record(cx, flow, found).await,
        Err(e) => {
            let (repository, reason) = (flow.subject_id(), e.reason());
            tracing::warn!(repository, reason, stderr = e.stderr(), "mirroring failed");
            Ok(match e.retryable() {
                true => Outcome::retry(reason, e.message()),
                false => Outcome::fail(reason, e.message()),
            })
        }
    }
}

/// The branches of the mirror after a synchronization.
struct Found {
    branches: Vec<BranchRow>,
    default_branch: String,
}

async fn load(cx: &Context, id: &str) -> Result<Option<Repository>> {
    let id: RepositoryId = id.parse()?;
    repositories::find(&cx.store, &id).await
}

async fn mirror(
    cx: &Context,
    repository: &Repository,
    flow: &StageContext,
) -> std::result::Result<Found, GitError> {
    let remote = RemoteUrl::parse(&repository.url, &cx.urls)?;
    let path = cx.mirror_path(&repository.repository_id);
    flow.progress("fetching").await;
    let limits = MirrorLimits::default();
    let mirror = match Mirror::open(&cx.git, &path, limits).await {
        Ok(mirror) => {
            mirror.fetch(&remote).await?;
            mirror
        }
        Err(_) => Mirror::create(&cx.git, &path, &remote, limits).await?,
    };
    flow.progress("reading branches").await;
    let found = mirror.branches().await?;
    if found.skipped > 0 {
        tracing::warn!(repository = %repository.repository_id, skipped = found.skipped, "branches with unusable names");
    }
    let default = mirror.default_branch().await?;
    let default = default.map(|b| b.to_string()).or_else(|| found.items.first().map(|b| b.name.to_string()));
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
    Ok(Found { branches, default_branch: default.unwrap_or_default() })
}

/// Stores the branches, and runs once more if another refresh was requested during the run.
async fn record(cx: &Context, flow: &StageContext, found: Found) -> Result<Outcome> {
    let Some(repository) = load(cx, flow.subject_id()).await? else { return Ok(Outcome::done()) };
    let old = branches::all(&cx.store, &repository.repository_id).await?;
    let mut ws = WriteSet::new();
    let rev = ws.scope(Scope::organization(&repository.organization_id));
    branches::replace(&mut ws, &repository.repository_id, &old, &found.branches);
    let set: Vec<(&'static str, Value)> = vec![
        ("rev", rev.into()),
        ("default_branch", found.default_branch.into()),
        ("branch_count", i64::try_from(found.branches.len()).unwrap_or(i64::MAX).into()),
        ("sync_time", cx.env.clock.now().into()),
        ("refresh_wanted", false.into()),
    ];
    // Any change to the row except a deletion may have come between; a requested refresh must not be lost.
    let key = [("repository_id", repository.repository_id.as_str().into())];
    let again = repository.refresh_wanted;
    let guard = [key[0].clone(), ("refresh_wanted", again.into())];
    ws.guard(foundry_store::Guard::exists(&REPOSITORIES, &guard));
    ws.update_where(&REPOSITORIES, &key, &set);
    let outcome = if again { Outcome::goto(MIRRORING) } else { Outcome::done() };
    Ok(outcome.recording(ws))
}

/// Projects the state of a synchronization to the repository's row.
pub struct Shown;

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
                    "GIT_AUTH_REQUIRED" => "give Foundry access to the repository, then refresh it",
                    "GIT_REMOTE_NOT_FOUND" => "check the URL, or create the repository there and refresh",
                    _ => "refresh the repository",
                };
                let condition = foundry_flow::condition(&SYNC, flow);
                (State::Error, Condition { next_action: next.to_owned(), retryable: true, ..condition })
            }
            Some(Transition::Cancelled) => return ws,
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
        ws
    }
}
