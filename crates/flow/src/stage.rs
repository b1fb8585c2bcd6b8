//! What a service writes: stages, the projection of a flow into the service's own rows, and their
//! binding to the flow's table.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use async_trait::async_trait;
use foundry_core::Error;
use foundry_store::WriteSet;

use crate::context::StageContext;
use crate::outcome::{Outcome, Undo};
use crate::spec::{Flow, StageSpec};
use crate::status::FlowStatus;

/// One stage of a flow. It may run more than once: effects are create-or-get by
/// [`StageContext::effect_name`], intended in a row first when they can outlive a crash unseen.
#[async_trait]
pub trait Stage: Send + Sync + 'static {
    /// Runs one attempt. Ends soon after [`StageContext::cancellation`] is cancelled, or is dropped.
    async fn run(&self, ctx: &StageContext) -> Outcome;

    /// Whether [`Stage::undo`] does anything; a stage that answers false is skipped by the unwind.
    fn undoes(&self) -> bool {
        false
    }

    /// Removes the effects of this stage, also when the attempt was cut in the middle or never began.
    async fn undo(&self, _ctx: &StageContext) -> Undo {
        Undo::done()
    }
}

/// How a flow shows in the rows of the service that owns it.
pub trait Projection: Send + Sync + 'static {
    /// What to write, in the same transaction, for a transition that is being persisted.
    ///
    /// Must not depend on anything but the status: it may be asked again after a conflict.
    fn project(&self, flow: &FlowStatus) -> WriteSet;
}

/// Shows nothing: for flows that only their own row describes.
#[derive(Clone, Copy, Debug)]
pub struct NoProjection;

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

/// A flow's table with the code of its stages, ready for an engine.
#[derive(Clone)]
pub struct Binding {
    flow: &'static Flow,
    stages: Vec<Option<Arc<dyn Stage>>>,
    projection: Arc<dyn Projection>,
    stray: Vec<&'static str>,
}

impl Binding {
    /// Starts the binding of a flow; bind each stage of its table by name.
    pub fn new(flow: &'static Flow) -> Self {
        Self {
            flow,
            stages: vec![None; flow.stages.len()],
            projection: Arc::new(NoProjection),
            stray: Vec::new(),
        }
    }

    /// A job: a flow whose table has one stage.
    pub fn job(flow: &'static Flow, stage: impl Stage) -> Self {
        Self::new(flow).stage(flow.first_stage(), stage)
    }

    /// Binds the code of one stage.
    #[must_use]
    pub fn stage(self, name: &'static str, stage: impl Stage) -> Self {
        self.shared_stage(name, Arc::new(stage))
    }

    /// Binds the code of one stage that is shared with others.
    #[must_use]
    pub fn shared_stage(mut self, name: &'static str, stage: Arc<dyn Stage>) -> Self {
        match self.flow.position(name) {
            Some(i) => self.stages[i] = Some(stage),
            None => self.stray.push(name),
        }
        self
    }

    /// Sets how the flow shows in the service's own rows.
    #[must_use]
    pub fn projection(mut self, projection: impl Projection) -> Self {
        self.projection = Arc::new(projection);
        self
    }

    /// The flow's table.
    pub fn flow(&self) -> &'static Flow {
        self.flow
    }

    pub(crate) fn checked(self) -> Result<Bound, Error> {
        let kind = self.flow.kind;
        if let Some(name) = self.stray.first() {
            return Err(Error::internal(format!("flow {kind} has no stage {name} in its table")));
        }
        let unbound = self.stages.iter().position(Option::is_none).map(|i| self.flow.stages[i].name);
        if let Some(name) = unbound {
            return Err(Error::internal(format!("stage {name} of flow {kind} has no code bound to it")));
        }
        if self.flow.stages.is_empty() {
            return Err(Error::internal(format!("flow {kind} has no stages")));
        }
        let stages = self.stages.into_iter().flatten().collect();
        Ok(Bound { flow: self.flow, stages, projection: self.projection })
    }
}

/// A binding in which every stage of the table has its code.
pub(crate) struct Bound {
    pub(crate) flow: &'static Flow,
    stages: Vec<Arc<dyn Stage>>,
    projection: Arc<dyn Projection>,
}

impl Bound {
    /// Limits and code of a stage by its name.
    pub(crate) fn stage(&self, name: &str) -> Option<(usize, &'static StageSpec, &Arc<dyn Stage>)> {
        let i = self.flow.position(name)?;
        Some((i, &self.flow.stages[i], &self.stages[i]))
    }

    /// How the flow shows in its service. A projection that panics shows nothing: the flow goes on.
    pub(crate) fn project(&self, flow: &FlowStatus) -> WriteSet {
        catch_unwind(AssertUnwindSafe(|| self.projection.project(flow))).unwrap_or_else(|_| {
            tracing::error!(flow = %flow.flow_id, kind = flow.kind, "the projection of a flow panicked");
            WriteSet::new()
        })
    }

    /// The last stage at or before `upto` that has something to undo.
    pub(crate) fn last_undoable(&self, upto: usize) -> Option<&'static str> {
        let upto = upto.min(self.stages.len() - 1);
        (0..=upto).rev().find(|&i| self.stages[i].undoes()).map(|i| self.flow.stages[i].name)
    }
}
