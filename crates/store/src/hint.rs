//! Hints that newer data may exist. Losing all of them costs latency, never data, so nothing here is durable and
//! nothing waits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use foundry_core::lock;
use tokio::sync::watch;

use crate::Scope;

/// A change, as reported to other processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HintEvent {
    /// A scope's newest committed revision.
    Revision {
        /// The scope's text.
        scope: String,
        /// Its newest revision known to the sender.
        rev: i64,
    },
    /// A topic was notified.
    Wake {
        /// The topic's name.
        topic: String,
    },
}

/// Sends hints to other processes; called after each commit, must not block.
pub trait HintTransport: Send + Sync + 'static {
    /// Sends the hints of one commit, at most once, best effort.
    fn publish(&self, events: &[HintEvent]);
}

type Senders = HashMap<String, watch::Sender<i64>>;

#[derive(Default)]
pub(crate) struct Hub {
    scopes: Mutex<Senders>,
    topics: Mutex<Senders>,
    transport: Option<Arc<dyn HintTransport>>,
}

impl Hub {
    pub(crate) fn new(transport: Option<Arc<dyn HintTransport>>) -> Self {
        Self { transport, ..Self::default() }
    }

    pub(crate) fn subscribe_scope(self: &Arc<Self>, scope: &Scope) -> Hint {
        self.subscribe(Kind::Scope, scope.as_str())
    }

    pub(crate) fn subscribe_topic(self: &Arc<Self>, topic: &str) -> Hint {
        self.subscribe(Kind::Topic, topic)
    }

    fn subscribe(self: &Arc<Self>, kind: Kind, name: &str) -> Hint {
        let rx =
            lock(self.of(kind)).entry(name.to_owned()).or_insert_with(|| watch::channel(0).0).subscribe();
        Hint { rx, kind, name: name.to_owned(), hub: Arc::clone(self) }
    }

    fn of(&self, kind: Kind) -> &Mutex<Senders> {
        match kind {
            Kind::Scope => &self.scopes,
            Kind::Topic => &self.topics,
        }
    }

    /// Notifies subscribers after a commit of this process.
    pub(crate) fn committed(&self, revisions: &[(String, i64)], topics: &[String]) {
        self.deliver_revisions(revisions.iter().map(|(s, r)| (s.as_str(), *r)));
        self.deliver_topics(topics.iter().map(String::as_str));
        if let Some(transport) = &self.transport {
            let revisions = revisions.iter().map(|(s, r)| HintEvent::Revision { scope: s.clone(), rev: *r });
            let wakes = topics.iter().map(|t| HintEvent::Wake { topic: t.clone() });
            let events: Vec<_> = revisions.chain(wakes).collect();
            if !events.is_empty() {
                transport.publish(&events);
            }
        }
    }

    /// Notifies subscribers after a hint from another process.
    pub(crate) fn received(&self, event: &HintEvent) {
        match event {
            HintEvent::Revision { scope, rev } => {
                self.deliver_revisions(std::iter::once((scope.as_str(), *rev)));
            }
            HintEvent::Wake { topic } => self.deliver_topics(std::iter::once(topic.as_str())),
        }
    }

    fn deliver_revisions<'a>(&self, revisions: impl Iterator<Item = (&'a str, i64)>) {
        let senders = lock(&self.scopes);
        if senders.is_empty() {
            return;
        }
        for (scope, rev) in revisions {
            if let Some(sender) = senders.get(scope) {
                sender.send_if_modified(|newest| {
                    let newer = rev > *newest;
                    *newest = rev.max(*newest);
                    newer
                });
            }
        }
    }

    fn deliver_topics<'a>(&self, topics: impl Iterator<Item = &'a str>) {
        let senders = lock(&self.topics);
        for topic in topics {
            if let Some(sender) = senders.get(topic) {
                sender.send_modify(|count| *count += 1);
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn watched(&self) -> usize {
        lock(&self.scopes).len() + lock(&self.topics).len()
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Scope,
    Topic,
}

/// A subscription to hints; dropping it ends it.
pub struct Hint {
    rx: watch::Receiver<i64>,
    kind: Kind,
    name: String,
    hub: Arc<Hub>,
}

impl Hint {
    /// The newest revision (of a scope) or number of wake-ups (of a topic) among the hints while there were
    /// subscriptions; 0 when there was none. Only the head read from the database is reliable.
    pub fn newest(&self) -> i64 {
        *self.rx.borrow()
    }

    /// Waits for the next hint after the last one seen, and returns it. Safe to drop at any time.
    pub async fn changed(&mut self) -> i64 {
        // The hub holds the sender for as long as this subscription lives.
        if self.rx.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        *self.rx.borrow_and_update()
    }

    /// Marks the newest hint as seen, so that [`Hint::changed`] waits for a later one.
    pub fn mark_seen(&mut self) -> i64 {
        *self.rx.borrow_and_update()
    }
}

impl Clone for Hint {
    fn clone(&self) -> Self {
        Self { rx: self.rx.clone(), kind: self.kind, name: self.name.clone(), hub: Arc::clone(&self.hub) }
    }
}

impl Drop for Hint {
    fn drop(&mut self) {
        let mut senders = lock(self.hub.of(self.kind));
        // The receiver must be dropped under the lock: of two subscriptions dropped at once, the second must see a
        // count of zero.
        self.rx = watch::channel(0).1;
        if senders.get(&self.name).is_some_and(|s| s.receiver_count() == 0) {
            senders.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn wakes_a_watcher_with_the_newest_revision_only() {
        let hub = Arc::new(Hub::new(None));
        let mut hint = hub.subscribe_scope(&Scope::service("feed"));
        for rev in [1, 3, 2] {
            hub.committed(&[("service/feed".to_owned(), rev)], &[]);
        }
        assert_eq!(hint.changed().await, 3);
    }

    #[test]
    fn keeps_nothing_for_scopes_that_nobody_watches() {
        let hub = Arc::new(Hub::new(None));
        let first = hub.subscribe_scope(&Scope::service("a"));
        let second = first.clone();
        drop(first);
        assert_eq!(hub.watched(), 1);
        drop(second);
        hub.committed(&[("service/b".to_owned(), 1)], &["topic".to_owned()]);
        assert_eq!(hub.watched(), 0);
    }
}
