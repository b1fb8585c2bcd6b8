//! Usage and conditions on their way to the ledger, beside the streams and in order for each session.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use foundry_core::Tasks;
use tokio::sync::{mpsc, oneshot};

use crate::access::{Access, Ledger, Usage};
use crate::condition::ModelCondition;

/// So many sessions do not wait for each other at the ledger.
const LANES: u64 = 4;

enum Report {
    Used(Arc<Access>, Usage),
    Condition(Arc<Access>, ModelCondition),
    /// All before it are passed on.
    Settled(oneshot::Sender<()>),
}

/// Where reports go in; a clone of it is cheap. Never waits: a call makes two reports at most.
#[derive(Clone)]
pub(crate) struct Reports(Arc<[mpsc::UnboundedSender<Report>]>);

impl Reports {
    /// The lanes belong to `tasks`. When it is cancelled, they go on for `grace`, so that calls in progress can still
    /// report their end.
    pub(crate) fn start(ledger: &Arc<dyn Ledger>, tasks: &Tasks, grace: Duration) -> Self {
        let lane = |_| {
            let (tx, mut rx) = mpsc::unbounded_channel();
            let (ledger, cancelled) = (ledger.clone(), tasks.cancellation().clone());
            tasks.spawn("model gateway reports", async move {
                let over = async {
                    cancelled.cancelled().await;
                    tokio::time::sleep(grace).await;
                };
                let mut over = std::pin::pin!(over);
                loop {
                    tokio::select! {
                        report = rx.recv() => match report {
                            Some(report) => pass_on(&*ledger, report).await,
                            None => return,
                        },
                        () = &mut over => break,
                    }
                }
                rx.close();
                while let Some(report) = rx.recv().await {
                    pass_on(&*ledger, report).await;
                }
            });
            tx
        };
        Self((0..LANES).map(lane).collect())
    }

    pub(crate) fn used(&self, access: &Arc<Access>, usage: Usage) {
        self.send(access, Report::Used(access.clone(), usage));
    }

    pub(crate) fn condition(&self, access: &Arc<Access>, condition: ModelCondition) {
        self.send(access, Report::Condition(access.clone(), condition));
    }

    /// Waits until the ledger has all that was reported of this session, or until nobody passes it on any more.
    pub(crate) async fn settled(&self, access: &Access) {
        let (done, settled) = oneshot::channel();
        self.send(access, Report::Settled(done));
        // An error is a lane that ended.
        let _ = settled.await;
    }

    fn send(&self, access: &Access, report: Report) {
        let mut hash = DefaultHasher::new();
        access.owner.session.hash(&mut hash);
        let lane = usize::try_from(hash.finish() % LANES).unwrap_or(0);
        if self.0[lane].send(report).is_err() {
            tracing::warn!(owner = ?access.owner, "a report of a model call came after the end of the service");
        }
    }
}

async fn pass_on(ledger: &dyn Ledger, report: Report) {
    match report {
        Report::Used(access, usage) => ledger.used(&access, usage).await,
        Report::Condition(access, condition) => ledger.condition(&access, condition).await,
        // Nobody waits any more when that took too long.
        Report::Settled(done) => drop(done.send(())),
    }
}
