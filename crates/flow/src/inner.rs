//! The state that the loops and the attempts of one engine share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use foundry_core::{Env, Error, FlowId, Timestamp};
use foundry_store::{CommitError, Committed, Store, WriteSet};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::binding::Binding;
use crate::hooks::{FailPoints, Hooks, Point, Verdict};
use crate::lease::{Held, LEASE, Leases};
use crate::row::Row;
use crate::starter::Starter;
use crate::statements::{self, Statements};
use crate::status::{FlowStatus, Status};

/// Options of an engine.
#[derive(Clone)]
pub struct Options {
    /// Receives the engine's events.
    pub hooks: Arc<dyn Hooks>,
    /// Mean time between two runs of the sweeper; spread by half of it. Default 1.5 s.
    pub sweep: Duration,
    /// How long finished flows are kept. Default 7 days.
    pub retention: Duration,
    /// How long an attempt may take to end after a stop order before it is dropped. Default 2 s.
    pub grace: Duration,
    /// Fail points at which the engine may crash. For tests.
    pub fail_points: Option<Arc<dyn FailPoints>>,
    /// Ignores wake-ups, as if all were lost. For tests.
    pub ignore_wake_ups: bool,
    /// Creates flows that run at once.
    pub starter: Starter,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            hooks: Arc::new(crate::hooks::NoHooks),
            sweep: Duration::from_millis(1_500),
            retention: Duration::from_secs(7 * 24 * 3600),
            grace: Duration::from_secs(2),
            fail_points: None,
            ignore_wake_ups: false,
            starter: Starter::default(),
        }
    }
}

pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) env: Env,
    pub(crate) options: Options,
    pub(crate) bounds: BTreeMap<&'static str, Arc<Binding>>,
    pub(crate) statements: Statements,
    /// Identifies this engine in its leases; random, so that no two engines share it.
    pub(crate) owner: String,
    pub(crate) leases: Leases,
    /// Notified when a flow was put down: there is room for another.
    pub(crate) slot_freed: Notify,
    /// The same for the task that waits for the end of a drain.
    pub(crate) released: Notify,
    /// The earliest due time of the flows that this engine put down.
    pub(crate) next_due: Mutex<Option<Timestamp>>,
    pub(crate) draining: AtomicBool,
    /// Whether the claiming loop runs: a claim may be under way.
    pub(crate) claiming: AtomicBool,
    /// How often the sweeper ran.
    pub(crate) sweeps: AtomicU64,
    /// How often the leases were renewed.
    pub(crate) renewals: AtomicU64,
    /// Cancelled by a planted crash: nothing may be written from then on.
    pub(crate) crashed: CancellationToken,
    /// The store's time minus the local time, microseconds, as last seen.
    offset: AtomicI64,
}

impl Inner {
    pub(crate) fn new(store: Store, env: Env, options: Options, bounds: Vec<Binding>) -> Self {
        let mut id = [0u8; 8];
        env.random.fill(&mut id);
        Self {
            statements: Statements::of(&bounds),
            bounds: bounds.into_iter().map(|b| (b.kind, Arc::new(b))).collect(),
            owner: id.iter().map(|b| format!("{b:02x}")).collect(),
            leases: Leases::default(),
            slot_freed: Notify::new(),
            released: Notify::new(),
            next_due: Mutex::new(None),
            draining: AtomicBool::new(false),
            claiming: AtomicBool::new(false),
            sweeps: AtomicU64::new(0),
            renewals: AtomicU64::new(0),
            crashed: CancellationToken::new(),
            offset: AtomicI64::new(0),
            store,
            env,
            options,
        }
    }

    /// The store's time as this worker estimates it, for everything written beside leases.
    pub(crate) fn now(&self) -> Timestamp {
        self.in_store_time(self.env.clock.now())
    }

    /// The store's time at a time of this worker's clock. Stages compute with their worker's clock: if their deadlines
    /// were stored unconverted and the store's clock was ahead, a stage would be woken too early, wait again, and so
    /// loop without a pause until its own clock has caught up.
    pub(crate) fn in_store_time(&self, at: Timestamp) -> Timestamp {
        Timestamp::from_micros(at.as_micros().saturating_add(self.offset.load(Ordering::Relaxed)))
    }

    /// A flow with its times converted to this worker's clock.
    pub(crate) fn in_own_time(&self, stored: &FlowStatus) -> FlowStatus {
        let ahead = self.offset.load(Ordering::Relaxed);
        let own = |at: Timestamp| Timestamp::from_micros(at.as_micros().saturating_sub(ahead));
        FlowStatus {
            due_time: stored.due_time.map(own),
            deadline: stored.deadline.map(own),
            started_time: own(stored.started_time),
            stage_started_time: own(stored.stage_started_time),
            status_time: own(stored.status_time),
            last_progress_time: own(stored.last_progress_time),
            finished_time: stored.finished_time.map(own),
            ..stored.clone()
        }
    }

    /// Reads the store's time.
    pub(crate) async fn ask_now(&self) -> Result<Timestamp, Error> {
        let now = self.store.now().await?;
        self.offset.store(now.as_micros() - self.env.clock.now().as_micros(), Ordering::Relaxed);
        Ok(now)
    }

    /// Whether this engine takes up flows.
    pub(crate) fn claims(&self) -> bool {
        self.claiming.load(Ordering::Acquire) && !self.is_draining() && !self.crashed.is_cancelled()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Whether no flow is held here and none will be: the drain is over.
    pub(crate) fn is_free(&self) -> bool {
        !self.claiming.load(Ordering::Acquire) && self.leases.len() == 0
    }

    pub(crate) async fn commit(&self, ws: WriteSet) -> Result<Committed, CommitError> {
        if self.crashed.is_cancelled() {
            return Err(CommitError::Stopped);
        }
        self.store.commit(ws).await
    }

    /// Claims at most `most` due flows of a kind, the longest due first.
    pub(crate) async fn claim(
        &self,
        kind: &'static str,
        most: usize,
    ) -> Result<Vec<(Row, Arc<Held>)>, Error> {
        let Some((_, sql)) = self.statements.claims.iter().find(|(k, _)| *k == kind) else {
            return Ok(Vec::new());
        };
        let sent = self.env.clock.now();
        let now = self.ask_now().await?;
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let params = [now.into(), now.plus(LEASE).into(), self.owner.as_str().into(), most.into()];
        let rows = self.store.write(*sql, &params).await?;
        let mut claimed: Vec<Row> = rows.iter().filter_map(readable).collect();
        claimed.sort_by(|a, b| (a.ready_time, &a.status.flow_id).cmp(&(b.ready_time, &b.status.flow_id)));
        let take = |row: Row| {
            let held = self.leases.take(&row.status.flow_id, kind, row.status.epoch, sent);
            self.options.hooks.claimed(&row.status, now.since(row.ready_time));
            self.options.hooks.active(kind, self.leases.count(kind));
            (row, held)
        };
        Ok(claimed.into_iter().map(take).collect())
    }

    /// The flows that were created as held by this engine, and whose commits have come. One that cannot be read now is
    /// looked for again.
    pub(crate) async fn come(&self) -> Vec<(Row, Arc<Held>)> {
        let starter = &self.options.starter;
        let mut come = Vec::new();
        for coming in starter.coming(self.env.clock.now()) {
            let row = match self.load(&coming.flow_id).await {
                Ok(Some(row)) => row,
                Ok(None) => continue,
                Err(e) => {
                    tracing::error!(flow = %coming.flow_id, error = ?e, "a new flow cannot be read");
                    continue;
                }
            };
            // Another epoch: the lease has ended, and another engine holds it.
            if row.status.epoch != 1 || row.status.status != Status::Running {
                starter.forget(&coming.flow_id);
                continue;
            }
            let held = self.leases.take(&coming.flow_id, coming.kind, 1, coming.created);
            // Only now: in between it would count nowhere, and another flow would be given its room.
            starter.forget(&coming.flow_id);
            self.options.hooks.claimed(&row.status, self.env.clock.now().since(coming.created));
            self.options.hooks.active(coming.kind, self.leases.count(coming.kind));
            come.push((row, held));
        }
        come
    }

    /// Whether a flow of a kind is due; reads only.
    pub(crate) async fn has_due(&self, kind: &str) -> Result<bool, Error> {
        let now = self.ask_now().await?;
        for row in self.store.query(self.statements.next_due, &[]).await? {
            if row.text("kind")? == kind && row.time("due_time")? <= now {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(crate) async fn load(&self, flow_id: &FlowId) -> Result<Option<Row>, Error> {
        let rows = self.store.query(statements::by_id(), &[flow_id.into()]).await?;
        rows.first().map(Row::read).transpose()
    }

    /// Records that a flow which was put down is due again at this time.
    pub(crate) fn due_at(&self, at: Timestamp) {
        let mut next_due = foundry_core::lock(&self.next_due);
        *next_due = Some(next_due.map_or(at, |s| s.min(at)));
    }

    /// The verdict of the fail points; `None` when the engine is dead from here on.
    pub(crate) async fn reach(&self, point: Point, flow: &FlowStatus) -> Option<Verdict> {
        let Some(points) = &self.options.fail_points else { return Some(Verdict::Continue) };
        let verdict = points.reach(point, flow).await;
        if verdict == Verdict::Crash {
            self.crashed.cancel();
        }
        (!self.crashed.is_cancelled()).then_some(verdict)
    }
}

/// A row that cannot be read must not keep others from running; its lease expires.
fn readable(row: &foundry_store::Row) -> Option<Row> {
    Row::read(row).inspect_err(|e| tracing::error!(error = ?e, "a claimed flow cannot be read")).ok()
}
