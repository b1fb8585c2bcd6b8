//! The service's consumers, each in a task of its own: per organization the sandboxes and repositories, per running
//! session the agent's events. One more refreshes views that this service's own flows marked stale, one copies the
//! names of branches, and one gives back the space of ended tasks.

pub mod agent_side;
pub mod append;
pub mod apply;
pub(crate) mod branch_names;
mod ended;
mod follow;
mod repositories;
mod sandboxes;
mod session_end;
mod stale;

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use foundry_core::{Env, OrganizationId, Result, Tasks};
use foundry_frame::Frame;
use foundry_proto::watch::v1::WatchOptions;
use foundry_watch::{Backoff, Consumer, ConsumerConfig, Event, Observer, Position, Stall};
use futures::TryFutureExt as _;
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use crate::context::Context;
use crate::stalls::Followed;
use crate::store::{positions, tasks};
#[cfg(test)]
pub(crate) use ended::{delete_transcripts, forget_comments, release};
#[cfg(test)]
pub(crate) use stale::{freshen, list_restored};

use repositories::Repositories;
use sandboxes::Sandboxes;

/// The watches of other services that are followed for each organization.
pub const OF_ORGANIZATION: [&str; 2] = [Sandboxes::VIEW, Repositories::VIEW];
/// Shortest delay before a retry after an internal failure.
const PAUSE: Duration = Duration::from_secs(1);
/// How often an update of one task is tried before it is skipped.
const TRIES: u32 = 3;
/// Delay before a watch is reopened that the other service refused.
const REFUSED: Duration = Duration::from_secs(10);

/// The organizations that are followed. Clones share the set.
#[derive(Clone)]
pub struct FollowedOrganizations(Arc<Inner>);

struct Inner {
    /// With whether its repositories are known to have been received.
    followed: Mutex<HashMap<OrganizationId, bool>>,
    wanted: mpsc::UnboundedSender<OrganizationId>,
}

impl FollowedOrganizations {
    /// An empty set, and the channel on which newly followed organizations arrive.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<OrganizationId>) {
        let (wanted, requests) = mpsc::unbounded_channel();
        (Self(Arc::new(Inner { followed: Mutex::default(), wanted })), requests)
    }

    /// Follows an organization from now on.
    pub fn ensure(&self, organization: &OrganizationId) {
        let mut followed = foundry_core::lock(&self.0.followed);
        if !followed.contains_key(organization) {
            followed.insert(organization.clone(), false);
            // Without a receiver the process is ending.
            let _ = self.0.wanted.send(organization.clone());
        }
    }

    /// Notes that the repositories of an organization were received.
    pub fn received(&self, organization: &OrganizationId) {
        foundry_core::lock(&self.0.followed).insert(organization.clone(), true);
    }

    /// Whether that was noted.
    pub fn has_received(&self, organization: &OrganizationId) -> bool {
        foundry_core::lock(&self.0.followed).get(organization).copied().unwrap_or_default()
    }
}

/// Starts all consumers.
pub async fn start(
    cx: &Arc<Context>,
    tasks: &Tasks,
    requests: mpsc::UnboundedReceiver<OrganizationId>,
) -> Result<()> {
    let mut organizations = tasks::organizations(&cx.store).await?;
    organizations.extend(positions::organizations(&cx.store).await?);
    for organization in organizations {
        cx.followed.ensure(&organization);
    }
    tasks.spawn("organizations", supervise(Arc::clone(cx), tasks.clone(), requests));
    tasks.spawn("stale views", stale::run(Arc::clone(cx), tasks.cancellation().clone()));
    tasks.spawn("branch names", branch_names::run(Arc::clone(cx), tasks.cancellation().clone()));
    tasks.spawn("ended tasks", ended::run(Arc::clone(cx), tasks.cancellation().clone()));
    tasks.spawn("agent events", follow::supervise(Arc::clone(cx), tasks.clone()));
    Ok(())
}

async fn supervise(cx: Arc<Context>, tasks: Tasks, mut requests: mpsc::UnboundedReceiver<OrganizationId>) {
    loop {
        let organization = tokio::select! {
            () = tasks.cancellation().cancelled() => return,
            request = requests.recv() => match request {
                Some(organization) => organization,
                None => return,
            },
        };
        let followed = organization.clone();
        tasks.spawn("sandboxes", take_in::<Sandboxes>(Arc::clone(&cx), tasks.clone(), followed));
        tasks.spawn("repositories", take_in::<Repositories>(Arc::clone(&cx), tasks.clone(), organization));
    }
}

/// A watch of another service, per organization.
trait Source {
    /// The entity that the watch carries.
    type Item: prost::Message + Default + Send + Sync + 'static;
    /// Name of the `Watch*` rpc.
    const VIEW: &'static str;
    /// Key prefix of the stored positions; the organization id is appended.
    const STREAM: &'static str;

    /// Opens the stream.
    fn open(
        cx: &Context,
        organization_id: String,
        options: WatchOptions,
    ) -> impl Future<Output = Result<Streaming<Frame>, Status>> + Send;

    /// Writes a batch together with the position after it. `last`: the last attempt; a task that cannot be written is
    /// skipped.
    fn take(
        cx: &Context,
        organization: &OrganizationId,
        stream: &str,
        batch: &Batch<Self::Item>,
        last: bool,
    ) -> impl Future<Output = Result<()>> + Send;
}

/// Applies a source's updates of an organization until the process stops.
async fn take_in<S: Source>(cx: Arc<Context>, tasks: Tasks, organization: OrganizationId) {
    let stream = format!("{}/{organization}", S::STREAM);
    let watch = Followed::Watch(organization.clone(), S::VIEW);
    loop {
        let position = positions::find(&cx.store, &stream).await.unwrap_or_else(|e| {
            tracing::warn!(error = ?e, "a position could not be read; the stream starts with a snapshot");
            None
        });
        let (followed, source) = (organization.to_string(), Arc::clone(&cx));
        let config = config(&cx, S::VIEW, position);
        let mut consumer = Consumer::<S::Item>::start(&tasks, cx.env.clone(), config, move |options| {
            let (cx, organization_id) = (Arc::clone(&source), followed.clone());
            async move { S::open(&cx, organization_id, options).await }
        });
        let refused = loop {
            match next(&tasks, &mut consumer).await {
                None => return,
                Some(Err(status)) => break status,
                Some(Ok(event)) => {
                    note(&cx, &watch, &event);
                    let Some(batch) = Batch::of(event) else { continue };
                    let mut tries = 0;
                    let take = || {
                        tries += 1;
                        let take = S::take(&cx, &organization, &stream, &batch, tries >= TRIES);
                        take.inspect_err(|e| cx.stalls.failed(watch.clone(), cx.env.clock.now(), e.message()))
                    };
                    let observer = &**cx.hub.observer();
                    let applied =
                        retry_until_applied(&tasks, &cx.env, observer, S::VIEW, batch.rows.len(), take);
                    if applied.await.is_none() {
                        return;
                    }
                    cx.stalls.progressed(watch.clone());
                }
            }
        };
        cx.stalls.failed(watch.clone(), cx.env.clock.now(), refused.message());
        tracing::warn!(%organization, view = S::VIEW, status = %refused, "the watch was rejected; retrying");
        if !pause(&tasks, &cx.env, REFUSED).await {
            return;
        }
    }
}

/// Notes a lost stream, which counts as stalled if it stays lost, for explanations.
fn note<T>(cx: &Context, watch: &Followed, event: &Event<T>) {
    if let Event::Disconnected { status, .. } = event {
        cx.stalls.failed(watch.clone(), cx.env.clock.now(), status.message());
    }
}

/// Rows that arrived together.
pub(crate) struct Batch<T> {
    /// Key, revision and entity of each row; no entity = it was deleted.
    pub rows: Vec<(String, i64, Option<T>)>,
    /// Whether this is a snapshot of everything, not a change.
    pub whole: bool,
    /// The watch position after these rows.
    pub position: Position,
}

impl<T> Batch<T> {
    /// The batch in an event; none for an event without data.
    fn of(event: Event<T>) -> Option<Self> {
        let (changes, whole, position) = match event {
            Event::Snapshot { rows, position } => (rows, true, position),
            Event::Delta { changes, position } => (changes, false, position),
            Event::CaughtUp { position } => (Vec::new(), false, position),
            _ => return None,
        };
        let rows = changes.into_iter().map(|c| match c.op {
            foundry_watch::Op::Upsert(entity) => (c.key, c.version, Some(entity)),
            _ => (c.key, c.version, None),
        });
        Some(Self { rows: rows.collect(), whole, position })
    }
}

/// The next event of a consumer, or none when the process stops.
async fn next<T: prost::Message + Default + 'static>(
    tasks: &Tasks,
    consumer: &mut Consumer<T>,
) -> Option<Result<Event<T>, Status>> {
    tokio::select! {
        () = tasks.cancellation().cancelled() => None,
        event = consumer.next() => Some(event),
    }
}

/// Applies an update of a view, again until that succeeds; none when the process stops. Failures that last are
/// reported.
async fn retry_until_applied<F, Fut, T>(
    tasks: &Tasks,
    env: &Env,
    observer: &dyn Observer,
    view: &'static str,
    news: usize,
    mut attempt: F,
) -> Option<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T>>,
{
    let (mut stall, mut backoff) = (Stall::default(), Backoff::default());
    loop {
        let begun = env.clock.now();
        let failed = tokio::select! {
            () = tasks.cancellation().cancelled() => return None,
            result = attempt() => match result {
                Ok(applied) => {
                    // A new position alone is no update.
                    if news > 0 {
                        observer.updated(view, env.clock.now().since(begun));
                    }
                    return Some(applied);
                }
                Err(e) => e,
            },
        };
        let first = !stall.is_failing();
        match stall.failed(env.clock.now()) {
            Some(lasted) => {
                tracing::warn!(view, ?lasted, error = ?failed, "an update still cannot be applied; retrying");
                observer.stalled(view, failed.code());
            }
            None if first => tracing::warn!(view, error = ?failed, "failed to apply an update; retrying"),
            None => tracing::debug!(view, error = ?failed, "failed to apply an update; retrying"),
        }
        if !pause(tasks, env, backoff.next(&*env.random).max(PAUSE)).await {
            return None;
        }
    }
}

/// Waits; false when the process stops.
async fn pause(tasks: &Tasks, env: &Env, time: Duration) -> bool {
    tokio::select! {
        () = tasks.cancellation().cancelled() => false,
        () = env.clock.sleep(time) => true,
    }
}

fn config(cx: &Context, view: &'static str, position: Option<Position>) -> ConsumerConfig {
    ConsumerConfig::new(view).from_position(position).observed_by(Arc::clone(cx.hub.observer()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use foundry_core::{Code, Error};
    use foundry_testkit::test_env;

    use super::*;

    #[derive(Debug, Default)]
    struct Stalls(AtomicU32);

    impl Observer for Stalls {
        fn stalled(&self, view: &'static str, code: Code) {
            assert_eq!((view, code), ("WatchThings", Code::Internal));
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn reports_an_update_that_fails_for_ten_seconds_and_tries_it_less_and_less_often() {
        let (test, tasks, stalls) = (test_env(), Tasks::new().0, Stalls::default());
        let begun = test.env.clock.now();
        let mut tries = 0;
        let attempt = || {
            tries += 1;
            let fails = test.env.clock.now().since(begun) < Duration::from_secs(65);
            async move { if fails { Err(Error::internal("the disk is full")) } else { Ok(()) } }
        };
        let applied = retry_until_applied(&tasks, &test.env, &stalls, "WatchThings", 1, attempt);
        let time_passes = async {
            loop {
                test.clock.advance(Duration::from_millis(250));
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            applied = applied => assert!(applied.is_some()),
            () = time_passes => {}
        }
        assert_eq!(stalls.0.load(Ordering::Relaxed), 1);
        assert!(tries < 40, "{tries} tries within a minute");
    }
}
