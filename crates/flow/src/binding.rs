//! How a flow is projected to its service's rows, and a flow's table bound to the context of its functions.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use foundry_core::Error;
use foundry_store::WriteSet;
use futures::FutureExt as _;
use futures::future::BoxFuture;

use crate::context::StageContext;
use crate::outcome::Outcome;
use crate::spec::{Flow, Retry, Stage};
use crate::status::FlowStatus;

/// What an attempt found out, for [`Projection::derive`]: the service knows the type.
pub type Found = Arc<dyn Any + Send + Sync>;

/// The writes for a transition that were derived from rows of the service.
pub struct Derived {
    /// The writes. Guards in them name the rows that they were derived from.
    pub write: WriteSet,
    /// The newest signal that a flow which begins to wait has already seen, as [`crate::newest_signal`] found it: the
    /// attempt decided on the rows that the guards name. Empty = it may have missed one, and looks again.
    pub seen: String,
    /// Kept until the writes are committed, so that the rows can be reserved within this process until then.
    pub held: Box<dyn Any + Send>,
}

/// Projects a flow to the rows of the service that owns it.
#[async_trait]
pub trait Projection: Send + Sync + 'static {
    /// The writes for a transition, committed in the same transaction.
    ///
    /// Must depend on nothing but the status: it may be called again after a conflict.
    fn project(&self, flow: &FlowStatus) -> WriteSet;

    /// The writes in place of [`Projection::project`], with all that the service derives from the transition and from
    /// what the attempt has found. Called again when another writer came between; after several conflicts, and where
    /// it returns `None`, the writes of `project` are used.
    ///
    /// # Errors
    /// When rows cannot be read.
    async fn derive(&self, _flow: &FlowStatus, _found: Option<&Found>) -> Result<Option<Derived>, Error> {
        Ok(None)
    }
}

/// Projects nothing: for flows that are visible only in their own row.
#[derive(Clone, Copy, Debug)]
struct NoProjection;

impl Projection for NoProjection {
    fn project(&self, _flow: &FlowStatus) -> WriteSet {
        WriteSet::default()
    }
}

impl<F: Fn(&FlowStatus) -> WriteSet + Send + Sync + 'static> Projection for F {
    fn project(&self, flow: &FlowStatus) -> WriteSet {
        self(flow)
    }
}

/// A flow's table with the context of its functions, ready for an engine.
#[derive(Clone)]
pub struct Binding {
    pub(crate) kind: &'static str,
    pub(crate) concurrency: usize,
    pub(crate) brief: bool,
    pub(crate) kept: Option<Duration>,
    pub(crate) stages: Vec<BoundStage>,
    projection: Arc<dyn Projection>,
}

type Attempt = dyn for<'a> Fn(&'a StageContext) -> BoxFuture<'a, Outcome> + Send + Sync;

fn attempt<F>(run: F) -> Arc<Attempt>
where
    F: for<'a> Fn(&'a StageContext) -> BoxFuture<'a, Outcome> + Send + Sync + 'static,
{
    Arc::new(run)
}

/// A stage that can be run.
#[derive(Clone)]
pub(crate) struct BoundStage {
    pub(crate) name: &'static str,
    pub(crate) timeout: Duration,
    pub(crate) retry: Retry,
    run: Arc<Attempt>,
}

impl BoundStage {
    /// Runs one attempt.
    pub(crate) fn run<'a>(&self, ctx: &'a StageContext) -> BoxFuture<'a, Outcome> {
        (self.run)(ctx)
    }
}

impl Binding {
    pub(crate) fn new<C: Send + Sync>(flow: &'static Flow<C>, on: &Arc<C>) -> Self {
        let bound = |stage: &'static Stage<C>| {
            let (on, run) = (Arc::clone(on), stage.run);
            // The stage's future borrows its context, which must live as long as the attempt.
            let run = attempt(move |ctx| {
                let on = Arc::clone(&on);
                Box::pin(async move { run(&on, ctx).await })
            });
            BoundStage { name: stage.name, timeout: stage.timeout, retry: stage.retry, run }
        };
        Self {
            kind: flow.kind,
            concurrency: flow.concurrency,
            kept: flow.kept,
            brief: flow.brief,
            stages: flow.stages.iter().map(bound).collect(),
            projection: Arc::new(NoProjection),
        }
    }

    /// The kind of the flow.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// Sets how the flow is projected to the service's own rows.
    #[must_use]
    pub fn projection(mut self, projection: impl Projection) -> Self {
        self.projection = Arc::new(projection);
        self
    }

    /// Refuses a table that no flow could run with.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.stages.is_empty() {
            return Err(Error::internal(format!("flow {} has no stages", self.kind)));
        }
        let twice = (1..self.stages.len()).find(|&i| self.position(self.stages[i].name) != Some(i));
        match twice {
            Some(i) => {
                let name = self.stages[i].name;
                Err(Error::internal(format!("flow {} has two stages called {name}", self.kind)))
            }
            None => Ok(()),
        }
    }

    /// Position of a stage in the table; `None` when this binary does not have the stage.
    pub(crate) fn position(&self, stage: &str) -> Option<usize> {
        self.stages.iter().position(|s| s.name == stage)
    }

    /// A stage by its name.
    pub(crate) fn stage(&self, name: &str) -> Option<&BoundStage> {
        self.stages.iter().find(|s| s.name == name)
    }

    /// The writes of the projection. A projection that panics writes nothing, and the flow continues.
    pub(crate) fn project(&self, flow: &FlowStatus) -> WriteSet {
        catch_unwind(AssertUnwindSafe(|| self.projection.project(flow))).unwrap_or_else(|_| {
            tracing::error!(flow = %flow.flow_id, kind = flow.kind, "the projection of a flow panicked");
            WriteSet::new()
        })
    }

    /// The derived writes of the projection. One that panics derives nothing.
    pub(crate) async fn derive(
        &self,
        flow: &FlowStatus,
        found: Option<&Found>,
    ) -> Result<Option<Derived>, Error> {
        let derived = AssertUnwindSafe(self.projection.derive(flow, found)).catch_unwind().await;
        derived.unwrap_or_else(|_| {
            tracing::error!(flow = %flow.flow_id, kind = flow.kind, "the derivation for a flow panicked");
            Ok(None)
        })
    }
}
