//! Drives one claimed flow from attempt to attempt until it rests or its lease is lost.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use foundry_core::Error;
use foundry_store::{CommitError, Fault, Guard, WriteSet};

use crate::attempt::{self, Ended};
use crate::binding::{Binding, Derived};
use crate::hooks::{Point, Verdict};
use crate::inner::Inner;
use crate::lease::Held;
use crate::outcome::Outcome;
use crate::plan::{self, Moment, Plan};
use crate::row::{FLOWS, Row};
use crate::statements;
use crate::status::{Status, Transition};

/// Tag of the guard that fences the owner's commits.
const LEASE_GUARD: &str = "flow_lease";
/// Pause before a commit is repeated after the database failed.
const COMMIT_PAUSE: Duration = Duration::from_millis(100);
/// Duration after which the beginning of a brief stage is projected.
const LASTS: Duration = Duration::from_millis(200);
/// How often the writes for a transition are derived while other writers come between.
const MAX_DERIVATIONS: u32 = 8;
/// Message of a flow whose writes the database refuses.
const REFUSED: &str = "the database refused what this stage recorded; the service's log has the cause";
/// How many interruptions (crashes of the worker in the middle of a stage) are tolerated.
const MAX_INTERRUPTIONS: u32 = 100;

/// Runs a claimed flow until it is done, waits, or is given back. `shown`: that its attempt begins is projected already.
pub(crate) async fn drive(inner: Arc<Inner>, row: Row, held: Arc<Held>, shown: bool) {
    let Some(bound) = inner.bounds.get(held.kind).cloned() else { return };
    let holding = Holding { inner: &inner, held: &held };
    let driver = Driver { inner: &inner, bound, held: &held };
    tokio::select! {
        biased;
        () = inner.crashed.cancelled() => {}
        () = driver.carry(row, shown) => {}
    }
    drop(holding);
}

/// Releases the flow however its driver ends: a lease without a driver must not be renewed.
struct Holding<'a> {
    inner: &'a Inner,
    held: &'a Held,
}

impl Drop for Holding<'_> {
    fn drop(&mut self) {
        self.inner.leases.release(self.held);
        self.inner.options.hooks.active(self.held.kind, self.inner.leases.count(self.held.kind));
        self.inner.slot_freed.notify_one();
        self.inner.released.notify_waiters();
    }
}

struct Driver<'a> {
    inner: &'a Arc<Inner>,
    bound: Arc<Binding>,
    held: &'a Held,
}

/// How a transition is projected.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Showing {
    /// With what the service derives from it; so many derivations were in vain.
    Derived(u32),
    /// From the flow's status alone.
    Plain,
    /// Not at all, since the writes of the projection conflict with the database.
    Nothing,
}

/// The writes of a projection.
#[derive(Default)]
struct Shown {
    write: WriteSet,
    derived: bool,
    /// See [`crate::Derived::seen`].
    seen: String,
    /// See [`crate::Derived::held`].
    _held: Option<Box<dyn Any + Send>>,
}

/// The result of a commit.
enum Settled {
    /// Recorded; the row after the transition.
    Recorded(Box<Row>),
    /// The lease is lost, or the store closed: another worker continues.
    Lost,
}

impl Driver<'_> {
    async fn carry(&self, claimed: Row, shown: bool) {
        let Some(mut row) = self.begin(claimed, shown).await else { return };
        loop {
            let (stage, started) = (row.status.stage.clone(), self.inner.env.clock.now());
            let Some(ended) = self.attempt(&mut row).await else { return };
            let Settled::Recorded(next) = self.settle(row, ended).await else { return };
            row = *next;
            let took = self.inner.env.clock.now().since(started);
            let transition = row.status.transition.unwrap_or(Transition::Progressed);
            self.inner.options.hooks.attempt_ended(&row.status, &stage, transition, took);
            if self.inner.reach(Point::AfterRecord, &row.status).await.is_none() {
                return;
            }
            if row.status.status != Status::Running {
                return self.pick_up_later(&row).await;
            }
        }
    }

    /// Runs one attempt between its fail points; `None` when the engine crashed at one of them.
    async fn attempt(&self, row: &mut Row) -> Option<Ended> {
        let planted = || Ended::Ran(Outcome::fail("PLANTED_FAILURE", "injected by a test"));
        if self.inner.reach(Point::BeforeEffect, &row.status).await? == Verdict::Fail {
            return Some(planted());
        }
        let begun = self.bound.brief.then(|| row.clone());
        let ended = {
            let mut run = std::pin::pin!(attempt::run(self.inner, &self.bound, row, self.held));
            match begun {
                // What is not shown when the attempt ends is shown by its end.
                Some(begun) => tokio::select! {
                    biased;
                    ended = &mut run => ended,
                    () = self.show_if_it_lasts(&begun) => run.await,
                },
                None => run.await,
            }
        };
        let after = self.inner.reach(Point::AfterEffect, &row.status).await?;
        Some(if after == Verdict::Fail { planted() } else { ended })
    }

    /// Records what the claim alone decides, and projects that an attempt begins. `None` when nothing is left to run.
    async fn begin(&self, mut row: Row, shown: bool) -> Option<Row> {
        row.status.transition = Some(Transition::Started);
        if self.inner.is_draining() {
            // The drain began while the claim was being made.
            return self.begin_with(row, Ended::Released).await;
        }
        if row.status.cancel_requested {
            return self.begin_with(row, Ended::Cancelled).await;
        }
        if row.status.attempt > row.status.failures + MAX_INTERRUPTIONS {
            let text = format!("interrupted {MAX_INTERRUPTIONS} times without a result");
            return self.begin_with(row, Ended::Ran(Outcome::fail("STAGE_KEEPS_BREAKING_OFF", text))).await;
        }
        if self.bound.brief || shown {
            return Some(row);
        }
        self.show_begin(&row).await.then_some(row)
    }

    /// Projects that an attempt runs which takes longer than a brief stage should.
    async fn show_if_it_lasts(&self, row: &Row) {
        self.inner.env.clock.sleep(LASTS).await;
        self.show_begin(row).await;
    }

    /// Projects that an attempt runs. False when the lease is lost.
    async fn show_begin(&self, row: &Row) -> bool {
        let shown = self.bound.project(&row.status);
        if shown.is_empty() {
            return true;
        }
        let mut ws = WriteSet::new();
        let lease = [
            ("flow_id", (&row.status.flow_id).into()),
            ("epoch", row.status.epoch.into()),
            ("step", row.step.into()),
        ];
        ws.guard(Guard::exists(&FLOWS, &lease).tagged(LEASE_GUARD)).merge(shown);
        match self.inner.commit(ws).await {
            Ok(_) => true,
            Err(CommitError::GuardFailed { tag: Some(LEASE_GUARD), .. } | CommitError::Stopped) => false,
            Err(e) => {
                // The stage's end is projected again, and judged there.
                tracing::warn!(flow = %row.status.flow_id, error = %e, "the start of an attempt was not projected");
                true
            }
        }
    }

    async fn begin_with(&self, row: Row, ended: Ended) -> Option<Row> {
        let Settled::Recorded(row) = self.settle(row, ended).await else { return None };
        if row.status.status == Status::Running {
            return Some(*row);
        }
        self.pick_up_later(&row).await;
        None
    }

    /// Records the result of an attempt. The writes of the stage or of the projection may conflict with the rest of the
    /// database, or be refused by it: the flow then records that, so that something is always recorded.
    async fn settle(&self, mut row: Row, mut ended: Ended) -> Settled {
        let (mut showing, mut refused) = (Showing::Derived(0), false);
        loop {
            if self.held.cancel_ordered() {
                row.status.cancel_requested = true;
            }
            let Some(mut plan) = self.plan(&row, ended.clone()) else { return Settled::Lost };
            plan.row.step = row.step + 1;
            let planned_write = !plan.write.is_empty();
            let shown = match self.shown(&plan, showing).await {
                Ok(shown) => shown,
                Err(e) => {
                    tracing::warn!(flow = %row.status.flow_id, error = ?e, "a transition could not be derived");
                    if row.found.take().is_some() {
                        // The stage runs again and finds the same, rather than that it is lost.
                        ended = instead(&row, &e.to_string());
                    }
                    showing = Showing::Plain;
                    continue;
                }
            };
            let error = match self.inner.commit(self.write_set(&row, &plan, &shown)).await {
                Ok(_) => return Settled::Recorded(Box::new(plan.row)),
                Err(e) => e,
            };
            match error {
                CommitError::Stopped => return Settled::Lost,
                CommitError::GuardFailed { tag: Some(LEASE_GUARD), .. } => {
                    match self.reread(&row, &plan).await {
                        Reread::Applied => return Settled::Recorded(Box::new(plan.row)),
                        Reread::CancelArrived => row.status.cancel_requested = true,
                        Reread::Lost => return Settled::Lost,
                    }
                }
                CommitError::Database { fault: Fault::Permanent, source } => {
                    tracing::error!(flow = %row.status.flow_id, stage = row.status.stage, error = %source,
                        write = planned_write, "the database refuses a transition");
                    if refused && showing == Showing::Nothing {
                        // The flow's own row is refused: nothing can be recorded.
                        return Settled::Lost;
                    }
                    if refused {
                        showing = if shown.derived { Showing::Plain } else { Showing::Nothing };
                    }
                    (refused, row.found) = (true, None);
                    ended = Ended::Ran(Outcome::fail("WRITE_REFUSED", REFUSED));
                }
                CommitError::Database { fault, source } => {
                    tracing::warn!(flow = %row.status.flow_id, %fault, error = ?source,
                        "a transition could not be committed");
                    drop(shown);
                    if !self.held.trusted(self.inner.env.clock.now()) {
                        return Settled::Lost;
                    }
                    self.inner.env.clock.sleep(COMMIT_PAUSE).await;
                }
                conflict => {
                    if let (Showing::Derived(times), true) = (showing, shown.derived) {
                        // Most likely another writer came between.
                        let again = times + 1 < MAX_DERIVATIONS;
                        if again || row.found.is_none() {
                            showing = if again { Showing::Derived(times + 1) } else { Showing::Plain };
                            continue;
                        }
                    }
                    let text = conflict.to_string();
                    let projected = showing != Showing::Nothing;
                    tracing::warn!(flow = %row.status.flow_id, stage = row.status.stage, error = text,
                        write = planned_write, projected, "a transition conflicts with the database");
                    if !projected && !planned_write {
                        // The flow's own row is malformed: nothing can be recorded.
                        return Settled::Lost;
                    }
                    showing = if row.found.take().is_some() || (planned_write && projected) {
                        Showing::Plain
                    } else {
                        Showing::Nothing
                    };
                    ended = instead(&row, &text);
                }
            }
        }
    }

    /// What a transition shows. What an attempt found is recorded only where it can be derived.
    async fn shown(&self, plan: &Plan, showing: Showing) -> Result<Shown, Error> {
        let status = &plan.row.status;
        if showing == Showing::Nothing {
            return Ok(Shown::default());
        }
        if matches!(showing, Showing::Derived(_))
            && let Some(derived) = self.bound.derive(status, plan.row.found.as_ref()).await?
        {
            let Derived { write, seen, held } = derived;
            return Ok(Shown { write, derived: true, seen, _held: Some(held) });
        }
        Ok(Shown { write: self.bound.project(status), ..Shown::default() })
    }

    fn plan(&self, row: &Row, ended: Ended) -> Option<Plan> {
        let at = Moment {
            now: self.inner.now(),
            fraction: self.inner.env.random.fraction(),
            draining: self.inner.is_draining(),
        };
        let mut row = row.clone();
        row.status.completed_stage = None;
        let plan = match ended {
            Ended::Ran(mut outcome) => {
                if let Outcome::Wait { deadline, .. } = &mut outcome {
                    *deadline = deadline.map(|until| self.inner.in_store_time(until));
                }
                plan::after_run(&self.bound, row, outcome, at)
            }
            Ended::Cancelled => {
                row.status.cancel_requested = true;
                plan::cancelled(row, at)
            }
            Ended::Released => plan::released(row, at),
            Ended::Lost => return None,
        };
        Some(plan)
    }

    /// Everything a transition writes: the stage's record, the flow's row fenced by the epoch, and the projection.
    fn write_set(&self, before: &Row, plan: &Plan, shown: &Shown) -> WriteSet {
        let mut ws = plan.write.clone();
        // Before the flow's own row: what the projection signals must not wake the flow itself, which saw it.
        ws.merge(shown.write.clone());
        let mut fence = vec![("epoch", before.status.epoch.into()), ("step", before.step.into())];
        if !before.status.cancel_requested {
            // A cancel that is requested in between must decide what comes next.
            fence.push(("cancel_requested", 0.into()));
        }
        let mut values = plan.row.transition_values(before);
        if plan.row.status.status == Status::Waiting && !shown.seen.is_empty() {
            values.push(("signal_seen", shown.seen.as_str().into()));
        }
        ws.update(&FLOWS, &[(&plan.row.status.flow_id).into()], &values, &fence).tag(LEASE_GUARD);
        ws
    }

    /// Finds out why the guard failed: another worker owns the flow, a cancel came, or the commit had been applied
    /// although its answer was lost.
    async fn reread(&self, before: &Row, plan: &Plan) -> Reread {
        let found = match self.inner.load(&before.status.flow_id).await {
            Ok(Some(found)) if found.status.epoch == before.status.epoch => found,
            Ok(_) => return Reread::Lost,
            Err(e) => {
                tracing::warn!(flow = %before.status.flow_id, error = ?e, "a refused transition could not be examined");
                return Reread::Lost;
            }
        };
        if found.step == plan.row.step {
            Reread::Applied
        } else if found.step == before.step
            && found.status.cancel_requested
            && !before.status.cancel_requested
        {
            Reread::CancelArrived
        } else {
            Reread::Lost
        }
    }

    /// Ensures that a released flow is picked up again in time.
    async fn pick_up_later(&self, row: &Row) {
        if let Some(due) = row.status.due_time {
            self.inner.due_at(due);
        }
        if row.status.status == Status::Waiting {
            self.catch_early_signal(row).await;
        }
    }

    /// Picks up a signal whose transaction ran at the same time and could not see that the flow waits.
    async fn catch_early_signal(&self, row: &Row) {
        let id = || (&row.status.flow_id).into();
        let caught = async {
            if self.inner.store.query(statements::HAS_SIGNAL, &[id()]).await?.is_empty() {
                return Ok(());
            }
            let now = self.inner.now();
            let made_due = self.inner.store.write(statements::APPLY_SIGNALS, &[now.into(), id()]).await?;
            if !made_due.is_empty() {
                self.inner.due_at(now);
            }
            Ok::<(), foundry_core::Error>(())
        };
        if let Err(e) = caught.await {
            // The sweeper finds such signals, too.
            tracing::warn!(flow = %row.status.flow_id, error = ?e, "could not look for an early signal");
        }
    }
}

enum Reread {
    Applied,
    CancelArrived,
    Lost,
}

/// The result to record in place of a transition whose writes conflict.
fn instead(row: &Row, text: &str) -> Ended {
    if row.status.cancel_requested {
        return Ended::Cancelled;
    }
    // Which guard it was is nothing that a user can use.
    tracing::debug!(flow = %row.status.flow_id, conflict = text, "the result of an attempt was not recorded");
    Ended::Ran(Outcome::retry(
        "WRITE_CONFLICT",
        "what it depends on has changed since: it is looked at again",
    ))
}
