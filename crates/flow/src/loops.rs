//! The engine's two loops: one claims due flows when it is woken, the other keeps the leases.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use foundry_core::{Error, FlowId, Tasks, Timestamp};
use foundry_store::Hint;
use futures::FutureExt as _;
use futures::future::select_all;

use crate::commands::{ANY_TOPIC, topic};
use crate::context::Stop;
use crate::drive::drive;
use crate::inner::Inner;
use crate::lease::{Held, LEASE, RENEWAL};
use crate::statements;
use crate::sweep;

/// Every so many sweeps also repair, and every so many sweeps also delete old rows.
const REPAIR_EVERY: u32 = 8;
const FORGET_EVERY: u32 = 40 * REPAIR_EVERY;
/// How long a draining engine waits for commits with flows that it has granted a lease, and how often it looks.
const LAST_COMMITS: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Pause after the database failed.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);

/// Why the claiming loop wakes up.
enum Trigger {
    Stop,
    /// Flows of this kind were enqueued.
    Kind(&'static str),
    /// A signal, a cancel or a timer: flows of any kind may be due.
    Any,
    /// A flow was put down: there is room for one that had to wait.
    Room,
    Sweep,
}

struct Wakes {
    kinds: Vec<(&'static str, Hint)>,
    any: Hint,
}

impl Wakes {
    fn subscribe(inner: &Inner) -> Self {
        let kinds = inner.bounds.keys().map(|k| (*k, inner.store.subscribe_topic(&topic(k)))).collect();
        Self { kinds, any: inner.store.subscribe_topic(ANY_TOPIC) }
    }

    async fn next(&mut self) -> Trigger {
        let any = self.any.changed().map(|_| Trigger::Any).boxed();
        let kinds = self.kinds.iter_mut().map(|(k, hint)| {
            let kind = *k;
            hint.changed().map(move |_| Trigger::Kind(kind)).boxed()
        });
        select_all(std::iter::once(any).chain(kinds)).await.0
    }
}

/// Claims and starts due flows until the tasks are cancelled.
pub(crate) async fn run(inner: Arc<Inner>, tasks: Tasks) {
    let mut wakes = Wakes::subscribe(&inner);
    let mut crowded = BTreeSet::new();
    let mut sweeps = 0u32;
    let mut next_sweep = inner.env.clock.now();
    loop {
        let trigger = wait(&inner, &tasks, &mut wakes, next_sweep).await;
        if inner.is_draining() || inner.crashed.is_cancelled() {
            break;
        }
        let looked = match trigger {
            Trigger::Stop => break,
            Trigger::Kind(kind) => start_kind(&inner, &tasks, kind, &mut crowded).await,
            Trigger::Room => start_crowded(&inner, &tasks, &mut crowded).await,
            Trigger::Any => look(&inner, &tasks, &mut crowded).await,
            Trigger::Sweep => {
                let spread = 0.75 + inner.env.random.fraction() / 2.0;
                next_sweep = inner.env.clock.now().plus(inner.options.sweep.mul_f64(spread));
                let swept = sweep_at(&inner, sweeps).await;
                sweeps = sweeps.wrapping_add(1);
                let looked = look(&inner, &tasks, &mut crowded).await;
                inner.sweeps.fetch_add(1, Ordering::Release);
                swept.and(looked)
            }
        };
        if let Err(e) = looked {
            tracing::error!(error = ?e, "the flow engine could not look for work");
            next_sweep = inner.env.clock.now().plus(FAILURE_PAUSE);
        }
    }
    // If no drain came first, running attempts give their flows back.
    inner.draining.store(true, Ordering::Release);
    // No more are created as held. Those of a moment ago are given back too.
    start_last(&inner, &tasks, &mut wakes).await;
    if tasks.cancellation().is_cancelled() {
        inner.leases.all().iter().for_each(|held| held.order(Stop::Drain));
    }
    inner.claiming.store(false, Ordering::Release);
    inner.released.notify_waiters();
}

/// Starts the last flows that come as this engine's, for a draining engine to give them back. Some may have been granted
/// while their commit is still on its way: unless it is awaited, they stand still until their lease ends.
async fn start_last(inner: &Arc<Inner>, tasks: &Tasks, wakes: &mut Wakes) {
    let mut over = inner.env.clock.sleep(LAST_COMMITS);
    loop {
        start_come(inner, tasks).await;
        if inner.options.starter.coming(inner.env.clock.now()).is_empty() {
            return;
        }
        tokio::select! {
            () = tasks.cancellation().cancelled() => return,
            () = inner.crashed.cancelled() => return,
            _ = wakes.next() => {}
            // The wake-up may be lost, and a commit that has failed gives none.
            () = inner.env.clock.sleep(LOOK_AGAIN) => {}
            () = &mut over => return,
        }
    }
}

async fn wait(inner: &Inner, tasks: &Tasks, wakes: &mut Wakes, next_sweep: Timestamp) -> Trigger {
    let now = inner.env.clock.now();
    let next_due = *foundry_core::lock(&inner.next_due);
    let due_in = next_due.map(|at| at.since(inner.now()));
    if tasks.cancellation().is_cancelled() {
        return Trigger::Stop;
    }
    // Polled in random order: constant wake-ups must not starve timers and the sweeper.
    tokio::select! {
        () = tasks.cancellation().cancelled() => Trigger::Stop,
        () = inner.crashed.cancelled() => Trigger::Stop,
        woken = wakes.next(), if !inner.options.ignore_wake_ups => woken,
        () = inner.slot_freed.notified() => Trigger::Room,
        () = inner.env.clock.sleep(due_in.unwrap_or_default()), if due_in.is_some() => Trigger::Any,
        () = inner.env.clock.sleep(next_sweep.since(now)) => Trigger::Sweep,
    }
}

async fn sweep_at(inner: &Inner, sweeps: u32) -> Result<(), Error> {
    if sweeps.is_multiple_of(REPAIR_EVERY) {
        sweep::repair(inner).await?;
    }
    if sweeps.is_multiple_of(FORGET_EVERY) {
        sweep::forget(inner).await?;
    }
    Ok(())
}

/// Finds the kinds that have due flows, starts these, and records when the next one is due.
async fn look(inner: &Arc<Inner>, tasks: &Tasks, crowded: &mut BTreeSet<&'static str>) -> Result<(), Error> {
    *foundry_core::lock(&inner.next_due) = None;
    start_come(inner, tasks).await;
    stop_cancelled(inner).await?;
    if inner.bounds.is_empty() {
        return Ok(());
    }
    let now = inner.ask_now().await?;
    for row in inner.store.query(inner.statements.next_due, &[]).await? {
        let (due, Some((kind, _))) = (row.time("due_time")?, inner.bounds.get_key_value(row.text("kind")?))
        else {
            continue;
        };
        if due > now {
            inner.due_at(due);
        } else {
            start(inner, tasks, kind, crowded).await?;
        }
    }
    Ok(())
}

async fn start_crowded(
    inner: &Arc<Inner>,
    tasks: &Tasks,
    crowded: &mut BTreeSet<&'static str>,
) -> Result<(), Error> {
    for kind in std::mem::take(crowded) {
        start(inner, tasks, kind, crowded).await?;
    }
    Ok(())
}

/// Starts the flows that came as this engine's. Returns whether there were any.
async fn start_come(inner: &Arc<Inner>, tasks: &Tasks) -> bool {
    let come = inner.come().await;
    let any = !come.is_empty();
    for (row, held) in come {
        tasks.spawn("flow", drive(Arc::clone(inner), row, held, true));
    }
    any
}

/// Starts flows of a kind that were enqueued. A claim writes, so it is left out when nothing else is due.
async fn start_kind(
    inner: &Arc<Inner>,
    tasks: &Tasks,
    kind: &'static str,
    crowded: &mut BTreeSet<&'static str>,
) -> Result<(), Error> {
    if start_come(inner, tasks).await && !inner.has_due(kind).await? {
        return Ok(());
    }
    start(inner, tasks, kind, crowded).await
}

/// Claims flows of a kind up to its limit and starts them.
async fn start(
    inner: &Arc<Inner>,
    tasks: &Tasks,
    kind: &'static str,
    crowded: &mut BTreeSet<&'static str>,
) -> Result<(), Error> {
    let starter = &inner.options.starter;
    // While a claim is under way, and as long as flows wait for room, new ones go behind them.
    starter.close(kind);
    let limit = inner.bounds.get(kind).map_or(0, |b| b.concurrency);
    let room = limit.saturating_sub(inner.leases.count(kind) + starter.count(kind));
    crowded.insert(kind);
    if room == 0 {
        return Ok(());
    }
    let claimed = inner.claim(kind, room).await?;
    if claimed.len() < room {
        crowded.remove(kind);
        starter.open(kind);
    }
    for (row, held) in claimed {
        tasks.spawn("flow", drive(Arc::clone(inner), row, held, false));
    }
    Ok(())
}

/// Orders attempts of this worker whose cancel was requested to stop.
async fn stop_cancelled(inner: &Inner) -> Result<(), Error> {
    if inner.leases.len() == 0 {
        return Ok(());
    }
    let rows = inner.store.query(statements::CANCELLED_HERE, &[inner.owner.as_str().into()]).await?;
    let held: HashMap<String, Arc<Held>> =
        inner.leases.all().into_iter().map(|h| (h.flow_id.as_str().to_owned(), h)).collect();
    for row in rows {
        if let Some(held) = held.get(row.text("flow_id")?) {
            held.order(Stop::Cancel);
        }
    }
    Ok(())
}

/// Renews all leases of this worker with one statement every three seconds, and stops attempts whose
/// lease can no longer be trusted.
pub(crate) async fn keep_leases(inner: Arc<Inner>, tasks: Tasks) {
    loop {
        let mut freed = std::pin::pin!(inner.released.notified());
        freed.as_mut().enable();
        let cancelled = tasks.cancellation().is_cancelled();
        let stopped = cancelled || inner.is_draining();
        if inner.crashed.is_cancelled() || (stopped && inner.is_free()) {
            return;
        }
        tokio::select! {
            () = inner.env.clock.sleep(RENEWAL) => {}
            () = inner.crashed.cancelled() => return,
            // A stopping engine checks after each flow that was put down whether it may end.
            () = tasks.cancellation().cancelled(), if !cancelled => continue,
            () = freed, if stopped => continue,
        }
        let asked = inner.leases.all();
        if asked.is_empty() {
            continue;
        }
        let first_stop = inner.leases.expire(inner.env.clock.now());
        let patience = first_stop.map_or(RENEWAL, |at| at.since(inner.env.clock.now()));
        tokio::select! {
            renewed = renew(&inner, &asked) => {
                match renewed {
                    Ok(()) => _ = inner.renewals.fetch_add(1, Ordering::Release),
                    Err(e) => tracing::warn!(error = ?e, "leases could not be renewed"),
                }
            }
            () = inner.env.clock.sleep(patience) => tracing::warn!("lease renewal takes too long"),
        }
        inner.leases.expire(inner.env.clock.now());
    }
}

async fn renew(inner: &Inner, asked: &[Arc<Held>]) -> Result<(), Error> {
    let sent = inner.env.clock.now();
    let ids: Vec<&str> = asked.iter().map(|h| h.flow_id.as_str()).collect();
    let ids = serde_json::to_string(&ids).map_err(Error::internal)?;
    let until = inner.ask_now().await?.plus(LEASE);
    let params = [until.into(), ids.into(), inner.owner.as_str().into()];
    let mut answer = HashMap::new();
    for row in inner.store.write(statements::RENEW, &params).await? {
        let flow_id = row.text("flow_id")?.parse::<FlowId>().map_err(Error::internal)?;
        answer.insert(flow_id, (row.int("epoch")?, row.bool("cancel_requested")?));
    }
    // A flow that was put down in between is no longer held, so its order reaches no attempt.
    inner.leases.renewed(asked, sent, &answer);
    Ok(())
}
