//! All topics of a gateway: made by the first who looks, kept for a moment after the last.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use foundry_core::{Env, Tasks};
use foundry_watch::{Beginning, Observer};

use super::opened::Opened;
use super::pump::Pump;
use super::shared_view::{Key, Topic};
use crate::owners::Owners;
use crate::ready_queue::ReadyQueue;

/// How long an upstream outlives its last reader: a page that is reloaded finds it warm.
const GRACE: Duration = Duration::from_secs(5);
/// Their name in the metrics of watches.
const TOPIC: &str = "EdgeTopic";

/// A topic whose upstream is read. However that ends, by a defect too, its readers are notified.
struct Served {
    topics: Topics,
    topic: Arc<Topic>,
    observer: Arc<dyn Observer>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.topic.disband();
        self.topics.forget_unread(&self.topic);
        self.observer.closed(TOPIC);
    }
}

/// All topics; cloning shares them.
#[derive(Clone)]
pub(crate) struct Topics(Arc<Inner>);

struct Inner {
    owners: Arc<Owners>,
    env: Env,
    tasks: Tasks,
    observer: Arc<dyn Observer>,
    topics: Mutex<HashMap<Key, Arc<Topic>>>,
    closing: AtomicBool,
}

impl Topics {
    pub(crate) fn new(owners: Arc<Owners>, env: Env, tasks: Tasks, observer: Arc<dyn Observer>) -> Self {
        let inner =
            Inner { owners, env, tasks, observer, topics: Mutex::default(), closing: AtomicBool::new(false) };
        Self(Arc::new(inner))
    }

    /// A share of the topic of this view.
    pub(crate) fn lease(&self, key: Key, request: Bytes, ready: &Arc<ReadyQueue>, sub_id: u32) -> Lease {
        let mut topics = self.lock();
        let topic = topics.entry(key).or_insert_with_key(|key| {
            let stop = self.0.tasks.cancellation().child_token();
            Arc::new(Topic::new(key.clone(), request, stop))
        });
        let (topic, reader) = (Arc::clone(topic), topic.enter(ready, sub_id));
        Lease { topic, reader, topics: self.clone() }
    }

    /// Reads this stream for the topic from now on.
    pub(crate) fn adopt(&self, topic: &Arc<Topic>, opened: Opened) {
        let Inner { owners, env, tasks, observer, .. } = &*self.0;
        observer.opened(TOPIC, Beginning::Resumed);
        let pump = Pump::new(Arc::clone(topic), Arc::clone(owners), env.clone(), Arc::clone(observer));
        let served =
            Served { topics: self.clone(), topic: Arc::clone(topic), observer: Arc::clone(observer) };
        tasks.spawn("edge topic", async move {
            // Boxed: it holds a stream and its successor.
            let stop = served.topic.stop.clone();
            let _ = stop.run_until_cancelled(Box::pin(pump.run(opened))).await;
            drop(served);
        });
    }

    /// Nobody reads a topic any more.
    pub(crate) fn unread(&self, topic: &Arc<Topic>) {
        let stop = self.0.tasks.cancellation();
        if !topic.is_live() || stop.is_cancelled() || self.0.closing.load(Ordering::SeqCst) {
            self.forget_unread(topic);
            return;
        }
        let (topics, topic) = (self.clone(), Arc::clone(topic));
        self.0.tasks.spawn("edge topic grace", async move {
            // Cut short, it is over.
            let _ = topic.stop.run_until_cancelled(topics.0.env.clock.sleep(GRACE)).await;
            topics.forget_unread(&topic);
        });
    }

    /// Topics have no grace any more: the process stops.
    pub(crate) fn close(&self) {
        self.0.closing.store(true, Ordering::SeqCst);
        let all: Vec<_> = self.lock().values().cloned().collect();
        all.iter().for_each(|topic| self.forget_unread(topic));
    }

    fn forget_unread(&self, topic: &Arc<Topic>) {
        let mut topics = self.lock();
        // Shares of it are taken under the same lock.
        if topic.is_unread() && topics.get(&topic.key).is_some_and(|known| Arc::ptr_eq(known, topic)) {
            topics.remove(&topic.key);
            topic.stop.cancel();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<Topic>>> {
        // Every change leaves it whole.
        foundry_core::lock(&self.0.topics)
    }
}

/// A reader's share of a topic, which lives a little longer than its last reader.
pub(crate) struct Lease {
    topic: Arc<Topic>,
    reader: u64,
    topics: Topics,
}

impl Lease {
    /// The topic that this lease keeps open.
    pub(crate) fn topic(&self) -> &Arc<Topic> {
        &self.topic
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.topic.leave(self.reader) {
            self.topics.unread(&self.topic);
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.topic.fmt(f)
    }
}
