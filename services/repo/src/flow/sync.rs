//! Brings a mirror up to date.
//!
//! | stage     | does                                              | time-out | retry            |
//! |-----------|---------------------------------------------------|----------|------------------|
//! | mirroring | makes or fetches the mirror, stores the branches  | 15 min   | 1 s to 60 s, 5 × |

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use foundry_core::{RepositoryId, Result};
use foundry_flow::{
    Binding, Flow, FlowStatus, Outcome, Projection, Retry, Stage, StageContext, StageSpec, Transition,
};
use foundry_git::{GitError, Mirror, MirrorLimits, RemoteUrl};
use foundry_proto::common::v1::Condition;
use foundry_store::{Scope, Value, WriteSet};

use crate::context::Context;
use crate::domain::repository::{Repository, State};
use crate::store::branches::{self, BranchRow};
use crate::store::repositories::{self, REPOSITORIES};

/// The flow; its key and subject are the repository.
pub static SYNC: Flow = Flow::new(
    "repository_sync",
    &[StageSpec::new(
        MIRRORING,
        Duration::from_secs(15 * 60),
        Retry { initial: Duration::from_secs(1), factor: 2, max_delay: Duration::from_secs(60), budget: 5 },
    )],
)
.concurrency(4);

const MIRRORING: &str = "mirroring";

/// The flow with its code.
pub fn binding(cx: Arc<Context>) -> Binding {
    Binding::job(&SYNC, Mirroring(cx)).projection(Shown)
}

struct Mirroring(Arc<Context>);

#[async_trait]
impl Stage for Mirroring {
    async fn run(&self, flow: &StageContext) -> Outcome {
        let cx = &self.0;
        let loaded = load(cx, flow.subject_id()).await;
        let repository = match loaded {
            Ok(Some(repository)) if repository.state != State::Deleting => repository,
            Ok(_) => return Outcome::done(),
            Err(e) => return e.into(),
        };
        let mirrored = tokio::select! {
            mirrored = mirror(cx, &repository, flow) => mirrored,
            () = flow.cancellation().cancelled() => return Outcome::retry("STOPPED", "the sync was stopped"),
        };
        match mirrored {
            Ok(found) => match record(cx, flow, found).await {
                Ok(outcome) => outcome,
                Err(e) => e.into(),
            },
            Err(e) => {
                tracing::warn!(
                    repository = flow.subject_id(),
                    reason = e.reason(),
                    stderr = e.stderr(),
                    "mirroring failed"
                );
                if e.retryable() {
                    Outcome::retry(e.reason(), e.message())
                } else {
                    Outcome::fail(e.reason(), e.message())
                }
            }
        }
    }
}

/// What a synchronization found.
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

/// Stores what was found; goes round once more when a refresh was wanted meanwhile.
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
    // Anything but a deletion may have changed the row meanwhile; a wanted refresh must not be lost.
    let key = [("repository_id", repository.repository_id.as_str().into())];
    let again = repository.refresh_wanted;
    let guard = [key[0].clone(), ("refresh_wanted", again.into())];
    ws.guard(foundry_store::Guard::exists(&REPOSITORIES, &guard));
    ws.update_where(&REPOSITORIES, &key, &set);
    let outcome = if again { Outcome::goto(MIRRORING) } else { Outcome::done() };
    Ok(outcome.recording(ws))
}

/// How a synchronization shows in the repository's row.
struct Shown;

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
        // A first synchronization leaves the repository pending, so that nobody takes it for mirrored; a deletion stays.
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
