//! Starts the work of a stream's watches, each in a task of the gateway: a stream may be left
//! unread for ever.

use std::sync::Arc;
use std::time::Duration;

use foundry_core::Result;
use futures::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::shared::Shared;
use super::stream_watch::StreamWatch;
use crate::catch_up::{Budget, CatchUpPermits, Item, Membership, Reader, Slot};
use crate::permission::{Asking, Credential, ask};
use crate::ready_queue::ReadyQueue;
use crate::topic::{Track, frames};
use crate::watch_request::WatchRequest;

/// Questions to owners at the same time, for one stream.
const QUESTIONS: usize = 16;

/// Starts watches of one stream.
pub(crate) struct Starter {
    shared: Arc<Shared>,
    ready: Arc<ReadyQueue>,
    questions: Arc<Semaphore>,
    user: Arc<str>,
    budget: Budget,
    permits: CatchUpPermits,
}

impl Starter {
    /// For a stream of this user.
    pub(crate) fn new(shared: Arc<Shared>, user: &str) -> Self {
        let user = Arc::from(user);
        Self {
            budget: shared.budgets.of_stream(&user),
            permits: CatchUpPermits::default(),
            shared,
            ready: Arc::default(),
            questions: Arc::new(Semaphore::new(QUESTIONS)),
            user,
        }
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The turns of the stream.
    pub(crate) fn ready(&self) -> &Arc<ReadyQueue> {
        &self.ready
    }

    /// A new watch.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` when its user has too many.
    pub(crate) fn begin(
        &self,
        wanted: Arc<WatchRequest>,
        credential: &Arc<Credential>,
    ) -> Result<StreamWatch> {
        let counted = self.shared.watchers.enter(&self.user)?;
        let (slot, stop) = self.asked(&wanted, credential);
        let observer = Arc::clone(&self.shared.observer);
        Ok(StreamWatch::new(wanted, slot, stop, observer, counted))
    }

    /// A watch of which nothing was sent yet.
    pub(crate) fn begin_again(&self, watch: &mut StreamWatch, credential: &Arc<Credential>) {
        let (slot, stop) = self.asked(&watch.wanted, credential);
        watch.restart(slot, stop);
    }

    fn asked(
        &self,
        wanted: &Arc<WatchRequest>,
        credential: &Arc<Credential>,
    ) -> (Arc<Slot>, CancellationToken) {
        let (slot, stop) = self.slot(wanted.sub_id);
        let track = Track::asked(&wanted.options);
        let reader = self.reader(&slot, wanted, track, false);
        self.spawn(&stop, reader.begin(self.asking(credential)));
        (slot, stop)
    }

    /// A member of a topic, which moved on.
    pub(crate) fn catch_up(&self, watch: &mut StreamWatch, membership: Membership) {
        let Membership { lease, track, .. } = membership;
        let (slot, stop) = self.slot(watch.wanted.sub_id);
        let reader = self.reader(&slot, &watch.wanted, track, true);
        self.spawn(&stop, reader.read(lease));
        watch.restart(slot, stop);
    }

    /// A watch whose owner shows it by another view from now on: nothing that its caller has is of use.
    pub(crate) fn restart(&self, watch: &mut StreamWatch, credential: &Arc<Credential>) {
        let (slot, stop) = self.slot(watch.wanted.sub_id);
        slot.put(Item::own(frames::reset()));
        let reader = self.reader(&slot, &watch.wanted, Track::default(), true);
        self.spawn(&stop, reader.begin(self.asking(credential)));
        watch.restart(slot, stop);
    }

    /// Asks the owner of a watch again whether it may be seen.
    pub(crate) fn judge(&self, watch: &StreamWatch, credential: &Arc<Credential>) {
        let (slot, wanted) = (Arc::clone(&watch.slot), Arc::clone(&watch.wanted));
        let (owners, env) = (Arc::clone(&self.shared.owners), self.shared.env.clone());
        let asking = self.asking(credential);
        self.spawn(watch.stop(), async move {
            slot.judge(ask(&env, &owners, &wanted, &asking).await);
        });
    }

    fn asking(&self, credential: &Arc<Credential>) -> Asking {
        let (credential, questions) = (Arc::clone(credential), Arc::clone(&self.questions));
        Asking { exchanges: credential.exchanges(), credential, questions }
    }

    /// A timer.
    pub(crate) fn sleep(&self, d: Duration) -> BoxFuture<'static, ()> {
        let clock = Arc::clone(&self.shared.env.clock);
        Box::pin(async move { clock.sleep(d).await })
    }

    fn slot(&self, sub_id: u32) -> (Arc<Slot>, CancellationToken) {
        let stop = self.shared.tasks.cancellation().child_token();
        (Arc::new(Slot::new(sub_id, Arc::clone(&self.ready))), stop)
    }

    fn reader(&self, slot: &Arc<Slot>, wanted: &Arc<WatchRequest>, track: Track, greeted: bool) -> Reader {
        let Shared { owners, topics, starts, env, .. } = &*self.shared;
        Reader {
            slot: Arc::clone(slot),
            wanted: Arc::clone(wanted),
            owners: Arc::clone(owners),
            topics: topics.clone(),
            starts: starts.clone(),
            user: Arc::clone(&self.user),
            budget: self.budget.clone(),
            permits: self.permits.clone(),
            env: env.clone(),
            track,
            greeted,
        }
    }

    fn spawn(&self, stop: &CancellationToken, work: impl Future<Output = ()> + Send + 'static) {
        let stop = stop.clone();
        self.shared.tasks.spawn("edge watch", async move {
            // Cut short when the watch is over. Boxed: it may hold a stream.
            let _ = stop.run_until_cancelled(Box::pin(work)).await;
        });
    }
}
