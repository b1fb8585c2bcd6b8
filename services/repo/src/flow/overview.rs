//! Computes the overview of a repository's branches on its mirror.
//!
//! Only what has changed is computed: each row keeps what it was computed from. What is done is stored as it is done, so
//! that an interrupted run goes on where it was.

mod compute;
mod forget;
mod known;
#[cfg(test)]
mod tests;

use std::time::Duration;

use foundry_core::{Env, FlowId, RepositoryId, Result};
use foundry_flow::{
    Flow, FlowStatus, NewFlow, Outcome, Projection, Retry, Stage, StageContext, Transition, stage,
};
use foundry_git::{GitError, GitErrorKind};
use foundry_store::{CommitError, Scope, Value, WriteSet};

use super::background;
use crate::context::Context;
use crate::domain::repository::{Repository, State};
use crate::store::repositories::{self, REPOSITORIES};

/// Key and subject are the repository's id.
pub static OVERVIEW: Flow<Context> = Flow::new(
    "repository_overview",
    &[Stage::new(
        "computing",
        Duration::from_secs(20 * 60),
        Retry {
            initial: Duration::from_secs(1),
            factor: 4,
            max_delay: Duration::from_secs(10 * 60),
            budget: 10,
        },
        |cx, flow| stage(compute(cx, flow)),
    )],
)
// It keeps a processor busy; the others must not wait for the end of a large one.
.concurrency(2)
.kept_for(super::KEPT);

/// Overviews that wait or run at the same time; organizations take turns when these are chosen.
const STARTED_AT_ONCE: u32 = 8;

/// The key that is signalled when the overview of a repository is complete.
pub fn complete_key(id: &RepositoryId) -> String {
    format!("overview/{id}")
}

/// Makes the overview of a repository be computed after the commit, once more if it is being computed.
pub fn want(cx: &Context, ws: &mut WriteSet, id: &RepositoryId) {
    let key = [("repository_id", id.as_str().into())];
    ws.update_where(&REPOSITORIES, &key, &[("overview_wanted", true.into())]);
    background::used(cx, ws, id);
}

/// Starts the overviews that are wanted; whether there may be more.
pub async fn start_wanted(cx: &Context) -> Result<bool> {
    let wanted = repositories::overview_wanted(&cx.store, STARTED_AT_ONCE).await?;
    for r in &wanted {
        let id = r.repository_id.as_str();
        let mut ws = WriteSet::new();
        let rev = ws.scope(Scope::organization(&r.organization_id));
        let set = [("rev", rev.into()), ("overview_owner", "queued".into())];
        let guards = [("overview_owner", "".into()), ("state", r.state.as_str().into())];
        ws.update(&REPOSITORIES, &[id.into()], &set, &guards);
        let flow = NewFlow::new(&OVERVIEW, FlowId::generate(&cx.env), id, id);
        foundry_flow::enqueue(&mut ws, flow.organization(&r.organization_id));
        match cx.store.commit(ws).await {
            Ok(_) | Err(CommitError::Conflict { .. }) => {}
            Err(e) if e.is_concurrent_change() => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(wanted.len() == STARTED_AT_ONCE as usize)
}

/// A run that owns the overview: what it writes fails once another one has taken over.
pub struct Run<'a> {
    cx: &'a Context,
    flow: &'a StageContext,
    repository: Repository,
    owner: String,
}

async fn compute(cx: &Context, flow: &StageContext) -> Result<Outcome> {
    let id: RepositoryId = flow.subject_id().parse()?;
    let found = repositories::find(&cx.store, &id).await?;
    let Some(repository) = found.filter(|r| r.state != State::Deleting) else { return Ok(Outcome::done()) };
    let owner = format!("{}/{}", flow.flow_id(), flow.epoch());
    let mut ws = WriteSet::new();
    // What changes from here on makes it run once more.
    let set = [("overview_owner", owner.as_str().into()), ("overview_wanted", false.into())];
    ws.update(&REPOSITORIES, &[id.as_str().into()], &set, &[]);
    cx.store.commit(ws).await?;
    let run = Run { cx, flow, repository, owner };
    let computed = tokio::select! {
        computed = run.compute() => computed,
        () = flow.cancellation().cancelled() => return Ok(Outcome::retry("STOPPED", "the overview was stopped")),
    };
    match computed {
        Ok(left_out) => Ok(Outcome::done().recording(run.complete(left_out))),
        Err(Failure::Git(e)) => {
            tracing::warn!(repository = %id, reason = e.reason(), stderr = e.stderr(), "the overview failed");
            // The mirror may be made again; the synchronization that does so wants the overview again.
            let retryable = e.retryable() || e.kind() != GitErrorKind::NotFound;
            Ok(match retryable {
                true => Outcome::retry(e.reason(), e.message()),
                false => Outcome::fail(e.reason(), e.message()),
            })
        }
        Err(Failure::Other(e)) => Err(e),
    }
}

/// Why a run failed.
enum Failure {
    Git(GitError),
    Other(foundry_core::Error),
}

impl From<GitError> for Failure {
    fn from(e: GitError) -> Self {
        Self::Git(e)
    }
}

impl From<foundry_core::Error> for Failure {
    fn from(e: foundry_core::Error) -> Self {
        Self::Other(e)
    }
}

impl From<CommitError> for Failure {
    fn from(e: CommitError) -> Self {
        Self::Other(e.into())
    }
}

impl Run<'_> {
    /// A write set that fails once this run does not own the overview any more, or the repository is gone.
    fn writes(&self) -> WriteSet {
        let mut ws = WriteSet::new();
        let id = self.repository.repository_id.as_str();
        let owned = [("repository_id", id.into()), ("overview_owner", self.owner.as_str().into())];
        ws.guard(foundry_store::Guard::exists(&REPOSITORIES, &owned));
        ws
    }

    /// Adds what is shown of the run to a write set.
    fn show(&self, ws: &mut WriteSet, set: &[(&'static str, Value)]) {
        let rev = ws.scope(Scope::organization(&self.repository.organization_id));
        let mut set = set.to_vec();
        set.push(("rev", rev.into()));
        let key = [("repository_id", self.repository.repository_id.as_str().into())];
        ws.update_where(&REPOSITORIES, &key, &set);
    }

    fn complete(&self, left_out: Option<(&'static str, String)>) -> WriteSet {
        let mut ws = self.writes();
        let (reason, message) = left_out.unwrap_or_default();
        let set = [
            ("overview_time", self.cx.env.clock.now().into()),
            ("overview_reason", reason.into()),
            ("overview_message", message.into()),
        ];
        self.show(&mut ws, &set);
        foundry_flow::signal(&mut ws, &self.cx.env, &complete_key(&self.repository.repository_id));
        ws
    }
}

/// Projects the end of a run: the next one can begin.
pub struct Shown(pub Env);

impl Projection for Shown {
    fn project(&self, flow: &FlowStatus) -> WriteSet {
        let mut ws = WriteSet::new();
        let Some(organization) = &flow.organization_id else { return ws };
        let mut set: Vec<(&'static str, Value)> = Vec::new();
        match flow.transition {
            Some(Transition::Done | Transition::Cancelled) => set.push(("overview_owner", "".into())),
            Some(Transition::Failed | Transition::Parked) => set.extend([
                ("overview_owner", "".into()),
                ("overview_reason", flow.reason.as_str().into()),
                ("overview_message", format!("it could not be computed: {}", flow.message).into()),
            ]),
            Some(Transition::Retrying) => set.extend([
                ("overview_reason", flow.reason.as_str().into()),
                ("overview_message", format!("it is computed again soon: {}", flow.message).into()),
            ]),
            _ => return ws,
        }
        let rev = ws.scope(Scope::organization(organization));
        set.push(("rev", rev.into()));
        ws.update_where(&REPOSITORIES, &[("repository_id", flow.subject_id.as_str().into())], &set);
        if flow.transition != Some(Transition::Retrying) {
            foundry_flow::signal(&mut ws, &self.0, background::KEY);
        }
        ws
    }
}
