//! The engine: built from bindings, started on owned tasks and drained at the end, or driven by hand in tests.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use foundry_core::{Env, Error, FlowId, Tasks};
use foundry_store::{Store, Value};

use crate::binding::Binding;
use crate::context::Stop;
use crate::drive::drive;
use crate::inner::{Inner, Options};
use crate::loops;
use crate::spec::Flow;
use crate::statements;
use crate::status::FlowStatus;
use crate::sweep;

/// Proof that this process owns the data directory: no other process can work on its database, so every lease found
/// there at start is left over from a dead process.
#[derive(Debug)]
pub struct OwnedDataDirectory<'a>(std::marker::PhantomData<&'a ()>);

impl<'a> OwnedDataDirectory<'a> {
    /// Proof by the operating system's exclusive lock on the directory, held for as long as it is borrowed.
    pub fn held_by<L>(_lock: &'a L) -> Self {
        Self(std::marker::PhantomData)
    }
}

/// The result of a drain, for the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Flows that were running when the drain began.
    pub running: Vec<FlowId>,
    /// Flows that were ordered to give their attempt back.
    pub ordered_to_release: Vec<FlowId>,
    /// Flows that did not end in time; their leases expire.
    pub abandoned: Vec<FlowId>,
}

/// Runs the flows of one service. Cloning shares it.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

impl Engine {
    /// An engine for these flows on the service's store.
    ///
    /// # Errors
    /// When a flow has no stages, or two of one name, or a name of other than plain characters: defects, found at start.
    pub fn new(store: Store, env: Env, flows: Vec<Binding>, options: Options) -> Result<Self, Error> {
        flows.iter().try_for_each(Binding::check)?;
        flows.iter().try_for_each(statements::check_names)?;
        Ok(Self { inner: Arc::new(Inner::new(store, env, options, flows)) })
    }

    /// Ends every left-over lease, so that interrupted flows continue at once. Call before [`Engine::start`].
    pub async fn recover(&self, _owned: &OwnedDataDirectory<'_>) -> Result<usize, Error> {
        let now = self.inner.ask_now().await?;
        let recovered = self.inner.store.write(statements::END_ALL_LEASES, &[now.into()]).await?;
        for row in &recovered {
            tracing::info!(flow = row.text("flow_id")?, "resuming interrupted flow");
        }
        Ok(recovered.len())
    }

    /// Starts the loops: claiming on wake-ups, sweeper, lease renewal.
    pub fn start(&self, tasks: &Tasks) {
        self.inner.claiming.store(true, Ordering::Release);
        self.inner.options.starter.attach(&self.inner);
        tasks.spawn("flow engine", loops::run(Arc::clone(&self.inner), tasks.clone()));
        tasks.spawn("flow leases", loops::keep_leases(Arc::clone(&self.inner), tasks.clone()));
    }

    /// Stops claiming, lets attempts end at their stage's boundary, and orders those still running near the limit to
    /// give their attempt back.
    pub async fn shutdown(&self, limit: Duration) -> Drained {
        self.inner.draining.store(true, Ordering::Release);
        // Wakes the claiming loop, so that it ends.
        self.inner.slot_freed.notify_one();
        let ids = || self.inner.leases.all().iter().map(|h| h.flow_id.clone()).collect::<Vec<_>>();
        let mut drained = Drained { running: ids(), ..Drained::default() };
        let grace = self.inner.options.grace.min(limit / 2);
        if !self.wait_until_free(limit - grace).await {
            drained.ordered_to_release = ids();
            for held in self.inner.leases.all() {
                tracing::info!(flow = %held.flow_id, kind = held.kind, "drain limit reached; releasing");
                held.order(Stop::Drain);
            }
            // What still runs is dropped after its own grace period; a little more time lets that be recorded.
            if !self.wait_until_free(grace + Duration::from_millis(500)).await {
                drained.abandoned = ids();
            }
        }
        drained
    }

    async fn wait_until_free(&self, limit: Duration) -> bool {
        let free = async {
            loop {
                let mut freed = std::pin::pin!(self.inner.released.notified());
                freed.as_mut().enable();
                if self.inner.is_free() {
                    return;
                }
                freed.await;
            }
        };
        tokio::select! {
            biased;
            () = free => true,
            () = self.inner.env.clock.sleep(limit) => self.inner.is_free(),
        }
    }

    /// For tests: runs all due flows, one after the other in the order they became due, until none is
    /// due at the clock's present time. Returns how many claims it took. Not for a started engine.
    pub async fn run_until_idle(&self) -> Result<usize, Error> {
        let kinds: Vec<&'static str> = self.inner.bounds.keys().copied().collect();
        let mut claims = 0;
        sweep::repair(&self.inner).await?;
        loop {
            let before = claims;
            for kind in &kinds {
                while !self.inner.crashed.is_cancelled() {
                    let Some((row, held)) = self.inner.claim(kind, 1).await?.pop() else { break };
                    claims += 1;
                    drive(Arc::clone(&self.inner), row, held, false).await;
                }
            }
            if claims == before {
                return Ok(claims);
            }
        }
    }

    /// For tests: one run of the sweeper, retention included.
    pub async fn sweep_once(&self) -> Result<(), Error> {
        sweep::repair(&self.inner).await?;
        sweep::forget(&self.inner).await
    }

    /// For tests: whether a planted crash ended this engine.
    pub fn has_crashed(&self) -> bool {
        self.inner.crashed.is_cancelled()
    }

    /// How often the sweeper ran since the start; the number stands still when the loop hangs.
    pub fn sweeps(&self) -> u64 {
        self.inner.sweeps.load(Ordering::Acquire)
    }

    /// How often all leases were renewed since the start; the number stands still when the database hangs.
    pub fn renewals(&self) -> u64 {
        self.inner.renewals.load(Ordering::Acquire)
    }

    /// Flows that are running here.
    pub fn active(&self) -> Vec<FlowId> {
        self.inner.leases.all().iter().map(|h| h.flow_id.clone()).collect()
    }
}

/// The facts of one flow, if it still exists.
pub async fn find(store: &Store, flow_id: &FlowId) -> Result<Option<FlowStatus>, Error> {
    let rows = store.query(statements::by_id(), &[flow_id.into()]).await?;
    rows.first().map(|r| crate::row::Row::read(r).map(|row| row.status)).transpose()
}

/// The unfinished flows of a kind that work on one entity, those that were started first in front, at the same time by
/// key; at most 100. Flows at a stage that this binary does not have are left out.
pub async fn unfinished<C>(store: &Store, flow: &Flow<C>, subject_id: &str) -> Result<Vec<FlowId>, Error> {
    let rows = store.query(statements::UNFINISHED, &[subject_id.into(), flow.kind.into()]).await?;
    rows.iter().map(|row| row.text("flow_id")?.parse::<FlowId>().map_err(Error::internal)).collect()
}

/// Whether a flow of this kind holds the key, so that another one with it is refused as existing. A flow at a stage that no
/// running worker knows holds its key, too.
///
/// # Errors
/// When the database fails.
pub async fn is_held<C>(store: &Store, flow: &Flow<C>, key: &str) -> Result<bool, Error> {
    Ok(!store.query(statements::HOLDER, &[flow.kind.into(), key.into()]).await?.is_empty())
}

/// Name of the newest signal of a key; empty when there is none.
pub async fn newest_signal(store: &Store, key: &str) -> Result<String, Error> {
    let rows = store.query(statements::NEWEST_SIGNAL, &[key.into()]).await?;
    Ok(rows.first().map(|r| r.text("nonce")).transpose()?.unwrap_or_default().to_owned())
}

/// The flows of one entity, the newest first.
pub async fn list_by_subject(store: &Store, subject_id: &str) -> Result<Vec<FlowStatus>, Error> {
    let rows = store.query(statements::by_subject(), &[Value::from(subject_id)]).await?;
    rows.iter().map(|r| crate::row::Row::read(r).map(|row| row.status)).collect()
}
