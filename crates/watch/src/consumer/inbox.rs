//! Buffers events between the task that reads a stream and the consumer's user. The reader never waits: an unread
//! stream stalls all others of its connection. Events that pile up are merged.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use foundry_core::lock;
use tokio::sync::Notify;
use tonic::Status;

use super::Event;
use crate::Change;

/// Events that are kept unmerged.
const UNFOLDED: usize = 64;

pub(crate) struct Inbox<T> {
    queue: Mutex<Queue<T>>,
    arrived: Notify,
}

struct Queue<T> {
    events: VecDeque<Event<T>>,
    end: Option<Status>,
}

impl<T> Inbox<T> {
    pub(crate) fn new() -> Self {
        Self { queue: Mutex::new(Queue { events: VecDeque::new(), end: None }), arrived: Notify::new() }
    }

    pub(crate) fn push(&self, event: Event<T>) {
        let mut queue = lock(&self.queue);
        if matches!(event, Event::Snapshot { .. }) {
            // A snapshot replaces all rows that came before.
            queue.events.retain(|e| !is_data(e));
        }
        queue.events.push_back(event);
        if queue.events.len() > UNFOLDED {
            let events = std::mem::take(&mut queue.events);
            queue.events = fold(events);
        }
        drop(queue);
        self.arrived.notify_one();
    }

    /// Ends the events; those still queued are delivered.
    pub(crate) fn close(&self, status: Status) {
        lock(&self.queue).end.get_or_insert(status);
        self.arrived.notify_one();
    }

    pub(crate) async fn next(&self) -> Result<Event<T>, Status> {
        loop {
            {
                let mut queue = lock(&self.queue);
                if let Some(event) = queue.events.pop_front() {
                    return Ok(event);
                }
                if let Some(status) = &queue.end {
                    return Err(status.clone());
                }
            }
            self.arrived.notified().await;
        }
    }
}

fn is_data<T>(event: &Event<T>) -> bool {
    matches!(event, Event::Snapshot { .. } | Event::Delta { .. } | Event::CaughtUp { .. })
}

/// The same outcome in few events: the newest state of the connection, at most one snapshot, and one delta.
fn fold<T>(events: VecDeque<Event<T>>) -> VecDeque<Event<T>> {
    let mut folded = VecDeque::new();
    let mut changes: Vec<Change<T>> = Vec::new();
    let (mut reached, mut caught_up) = (None, None);
    let (mut link, mut reset, mut expiring) = (None, None, None);
    for event in events {
        match event {
            // There is no older data: it was dropped when the snapshot came.
            Event::Snapshot { .. } => folded.push_back(event),
            Event::Reset { .. } => reset = Some(event),
            Event::Delta { changes: more, position } => {
                changes.extend(more);
                reached = Some(position);
            }
            Event::CaughtUp { position } => caught_up = Some(position),
            Event::Connected { .. } | Event::Disconnected { .. } => link = Some(event),
            Event::AuthExpiring { .. } => expiring = Some(event),
        }
    }
    if let Some(mut position) = reached {
        let newest: HashMap<String, i64> = changes.iter().map(|c| (c.key.clone(), c.version)).collect();
        changes.retain(|c| newest.get(&c.key) == Some(&c.version));
        // Both get the later of the two positions: a position must never go back, nor be reported before the changes
        // that lead to it.
        if let Some(sent) = &mut caught_up {
            if sent.rev > position.rev {
                position = sent.clone();
            }
            *sent = position.clone();
        }
        folded.push_back(Event::Delta { changes, position });
    }
    folded.extend(caught_up.map(|position| Event::CaughtUp { position }));
    link.into_iter().chain(reset).chain(expiring).chain(folded).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Op, Position};

    fn at(rev: i64) -> Position {
        Position { rev, resume_token: "t".into() }
    }

    fn delta(key: &str, rev: i64) -> Event<u32> {
        let change = Change { key: key.into(), version: rev, op: Op::Upsert(0) };
        Event::Delta { changes: vec![change], position: at(rev) }
    }

    #[tokio::test]
    async fn folds_what_nobody_reads_and_loses_no_key() {
        let inbox = Inbox::new();
        for rev in 1..=10_000 {
            inbox.push(delta(&format!("k{}", rev % 7), rev));
            if rev % 10 == 0 {
                inbox.push(Event::CaughtUp { position: at(rev) });
            }
        }
        let mut newest = HashMap::new();
        let (mut events, mut reached) = (0, 0);
        inbox.close(Status::cancelled("done"));
        while let Ok(event) = inbox.next().await {
            events += 1;
            let (Event::Delta { position, .. } | Event::CaughtUp { position }) = &event else { continue };
            assert!(position.rev >= reached, "back from {reached} to {}", position.rev);
            reached = position.rev;
            if let Event::Delta { changes, .. } = event {
                newest.extend(changes.into_iter().map(|c| (c.key, c.version)));
            }
        }
        assert!(events <= UNFOLDED, "{events}");
        let mut versions: Vec<_> = newest.into_values().collect();
        versions.sort_unstable();
        assert_eq!(versions, (9_994..=10_000).collect::<Vec<_>>());
    }
}
