//! What the service takes in from others, in tasks of its own: per organization the sandboxes and
//! repositories, per running session the agent's events. And from itself: what flows tell.

pub mod apply;
mod follow;
mod repositories;
mod sandboxes;
mod stale;

use std::collections::HashSet;
use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use foundry_core::{Env, OrganizationId, Result, Tasks};
use foundry_frame::Frame;
use foundry_proto::watch::v1::WatchOptions;
use foundry_watch::{Consumer, ConsumerConfig, Event, Position};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use crate::context::Context;
use crate::store::{positions, tasks};
use repositories::Repositories;
use sandboxes::Sandboxes;

/// How long to wait after a failure of our own before the same is tried again.
const PAUSE: Duration = Duration::from_secs(1);
/// How often news of one task are tried before they are left out.
const TRIES: u32 = 3;
/// How long to wait after a refusal that a plain retry cannot mend.
const REFUSED: Duration = Duration::from_secs(10);

/// Which organizations are followed; cloning shares it.
#[derive(Clone)]
pub struct FollowedOrganizations(Arc<Inner>);

struct Inner {
    followed: Mutex<HashSet<OrganizationId>>,
    wanted: mpsc::UnboundedSender<OrganizationId>,
}

impl FollowedOrganizations {
    /// Nothing followed yet, and where wishes arrive.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<OrganizationId>) {
        let (wanted, requests) = mpsc::unbounded_channel();
        (Self(Arc::new(Inner { followed: Mutex::default(), wanted })), requests)
    }

    /// Follows an organization from now on.
    pub fn ensure(&self, organization: &OrganizationId) {
        let mut followed = foundry_core::lock(&self.0.followed);
        if followed.insert(organization.clone()) {
            // Without a receiver the process is ending.
            let _ = self.0.wanted.send(organization.clone());
        }
    }
}

/// Starts everything that takes in.
///
/// # Errors
/// When the database fails.
pub async fn start(
    cx: &Arc<Context>,
    tasks: &Tasks,
    requests: mpsc::UnboundedReceiver<OrganizationId>,
) -> Result<()> {
    for organization in tasks::organizations(&cx.store).await? {
        cx.followed.ensure(&organization);
    }
    tasks.spawn("organizations", supervise(Arc::clone(cx), tasks.clone(), requests));
    tasks.spawn("stale views", stale::run(Arc::clone(cx), tasks.cancellation().clone()));
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

/// What another service tells of an organization.
trait Source {
    /// What it tells of.
    type Item: prost::Message + Default + Send + Sync + 'static;
    /// The `Watch*` rpc.
    const VIEW: &'static str;
    /// What positions are stored under, before the organization.
    const STREAM: &'static str;

    /// Opens the stream.
    fn open(
        cx: &Context,
        organization_id: String,
        options: WatchOptions,
    ) -> impl Future<Output = Result<Streaming<Frame>, Status>> + Send;

    /// Writes what came, with the position after it. `last`: a task that cannot be written is left out from now on.
    fn take(
        cx: &Context,
        organization: &OrganizationId,
        stream: &str,
        batch: &Batch<Self::Item>,
        last: bool,
    ) -> impl Future<Output = Result<()>> + Send;
}

/// Takes in what a source tells of an organization, until the process stops.
async fn take_in<S: Source>(cx: Arc<Context>, tasks: Tasks, organization: OrganizationId) {
    let stream = format!("{}/{organization}", S::STREAM);
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
                    let Some(batch) = Batch::of(event) else { continue };
                    let tries = AtomicU32::new(0);
                    let take = || {
                        let last = tries.fetch_add(1, Ordering::Relaxed) + 1 >= TRIES;
                        S::take(&cx, &organization, &stream, &batch, last)
                    };
                    if !retry_until_applied(&tasks, &cx, S::VIEW, batch.rows.len(), take).await {
                        return;
                    }
                }
            }
        };
        tracing::warn!(%organization, view = S::VIEW, status = %refused, "the watch was rejected; retrying");
        if !pause(&tasks, &cx.env, REFUSED).await {
            return;
        }
    }
}

/// Rows that came together, and what they are.
pub(crate) struct Batch<T> {
    /// Key, revision and entity; none = it is gone.
    pub rows: Vec<(String, i64, Option<T>)>,
    /// Whether it is all there is.
    pub whole: bool,
    /// The position after it.
    pub position: Position,
}

impl<T> Batch<T> {
    /// What an event brings; none when it brings no data.
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

/// Takes in some news of a view until that succeeds; false when the process stops.
async fn retry_until_applied<F, Fut>(
    tasks: &Tasks,
    cx: &Context,
    view: &'static str,
    news: usize,
    mut attempt: F,
) -> bool
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<()>>,
{
    loop {
        let begun = cx.env.clock.now();
        let failed = tokio::select! {
            () = tasks.cancellation().cancelled() => return false,
            result = attempt() => match result {
                Ok(()) => {
                    // A new position alone is no update.
                    if news > 0 {
                        cx.hub.observer().updated(view, cx.env.clock.now().since(begun));
                    }
                    return true;
                }
                Err(e) => e,
            },
        };
        tracing::warn!(view, error = ?failed, "failed to apply an update; retrying");
        if !pause(tasks, &cx.env, PAUSE).await {
            return false;
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
