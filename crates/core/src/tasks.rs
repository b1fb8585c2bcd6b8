//! Background tasks with an owner: each has a name, is cancelled by one token, and is awaited at shutdown. A panic in a
//! task is reported, never lost silently.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The task that panicked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskFailure {
    /// The name the task was spawned under.
    pub name: &'static str,
}

/// A set of owned background tasks; cloning shares the set.
#[derive(Clone)]
pub struct Tasks {
    tracker: TaskTracker,
    /// How many run under each name.
    running: Arc<Mutex<BTreeMap<&'static str, usize>>>,
    cancel: CancellationToken,
    failures: mpsc::UnboundedSender<TaskFailure>,
}

impl Tasks {
    /// An empty set, and the channel on which panics of its tasks are reported (the process must then exit).
    pub fn new() -> (Self, mpsc::UnboundedReceiver<TaskFailure>) {
        let (failures, rx) = mpsc::unbounded_channel();
        let (tracker, cancel) = (TaskTracker::new(), CancellationToken::new());
        (Self { tracker, running: Arc::default(), cancel, failures }, rx)
    }

    /// The token that stops every task of this set.
    pub fn cancellation(&self) -> &CancellationToken {
        &self.cancel
    }

    /// Spawns a task owned by this set. The task must watch [`Tasks::cancellation`] if it loops.
    #[allow(clippy::disallowed_methods)] // the one place that spawns
    pub fn spawn<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (failures, running) = (self.failures.clone(), Arc::clone(&self.running));
        *crate::lock(&running).entry(name).or_default() += 1;
        let inner = tokio::spawn(future);
        self.tracker.spawn(async move {
            let ended = inner.await;
            ended_one(&running, name);
            if let Err(e) = ended
                && e.is_panic()
            {
                tracing::error!(task = name, "background task panicked");
                // A closed receiver means the process is already ending.
                let _ = failures.send(TaskFailure { name });
            }
        });
    }

    /// How many tasks are running.
    pub fn len(&self) -> usize {
        self.tracker.len()
    }

    /// The names of the tasks that are running, each with how many there are if several.
    pub fn names(&self) -> Vec<String> {
        let named = |(name, count): (&&str, &usize)| match count {
            1 => (*name).to_owned(),
            _ => format!("{name} ({count})"),
        };
        crate::lock(&self.running).iter().map(named).collect()
    }

    /// Whether no task is running.
    pub fn is_empty(&self) -> bool {
        self.tracker.is_empty()
    }

    /// Cancels all tasks and waits for them, at most `limit`. True when all ended in time.
    pub async fn shutdown(&self, limit: Duration) -> bool {
        self.cancel.cancel();
        self.tracker.close();
        tokio::time::timeout(limit, self.tracker.wait()).await.is_ok()
    }
}

fn ended_one(running: &Mutex<BTreeMap<&'static str, usize>>, name: &'static str) {
    let mut running = crate::lock(running);
    if let Some(count) = running.get_mut(name) {
        *count -= 1;
        if *count == 0 {
            running.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waits_for_its_tasks_and_reports_panics() {
        let (tasks, mut failures) = Tasks::new();
        let token = tasks.cancellation().clone();
        tasks.spawn("loop", async move { token.cancelled().await });
        tasks.spawn("bad", async { panic!("planted") });
        assert_eq!(failures.recv().await, Some(TaskFailure { name: "bad" }));
        assert!(tasks.shutdown(Duration::from_secs(60)).await);
    }

    #[tokio::test]
    async fn names_the_tasks_that_run() {
        let (tasks, _) = Tasks::new();
        let (first, second) = (CancellationToken::new(), CancellationToken::new());
        for (name, until) in [("pump", &first), ("pump", &second), ("loop", &second)] {
            let until = until.clone();
            tasks.spawn(name, async move { until.cancelled().await });
        }
        assert_eq!(tasks.names(), ["loop", "pump (2)"]);
        first.cancel();
        while tasks.len() > 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(tasks.names(), ["loop", "pump"]);
        second.cancel();
        assert!(tasks.shutdown(Duration::from_secs(60)).await);
        assert!(tasks.names().is_empty());
    }
}
