//! Passes usage and conditions to the ledger, beside the streams and in order for each session.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use foundry_core::{Env, Tasks};
use tokio::sync::{mpsc, oneshot};

use crate::access::{Access, Ledger, Usage};
use crate::condition::ModelCondition;
use crate::reserve::Reservation;

/// Number of queues; sessions in different queues do not wait for each other.
const LANES: u64 = 4;
/// How long the ledger may take for one report.
const TAKEN: Duration = Duration::from_secs(10);

enum Report {
    /// With the share of the limits that is released once the usage is counted.
    Used(Arc<Access>, Usage, Option<Arc<Reservation>>),
    Condition(Arc<Access>, ModelCondition),
    /// Answered when all reports before it are passed on.
    Settled(oneshot::Sender<()>),
}

/// The sending side of the reports; cheap to clone. Never waits: a call makes four reports at most.
#[derive(Clone)]
pub(crate) struct Reports(Arc<[mpsc::UnboundedSender<Report>]>);

impl Reports {
    /// The lanes run on `tasks`. After a cancel they continue for `grace`, so that calls in progress can still report
    /// their end.
    pub(crate) fn start(ledger: &Arc<dyn Ledger>, env: &Env, tasks: &Tasks, grace: Duration) -> Self {
        let lane = |_| {
            let (tx, mut rx) = mpsc::unbounded_channel();
            let (ledger, env, cancelled) = (ledger.clone(), env.clone(), tasks.cancellation().clone());
            tasks.spawn("model gateway reports", async move {
                let over = async {
                    cancelled.cancelled().await;
                    tokio::time::sleep(grace).await;
                };
                let mut over = std::pin::pin!(over);
                loop {
                    tokio::select! {
                        report = rx.recv() => match report {
                            Some(report) => pass_on(&*ledger, &env, report).await,
                            None => return,
                        },
                        () = &mut over => break,
                    }
                }
                rx.close();
                while let Some(report) = rx.recv().await {
                    pass_on(&*ledger, &env, report).await;
                }
            });
            tx
        };
        Self((0..LANES).map(lane).collect())
    }

    pub(crate) fn used(&self, access: &Arc<Access>, usage: Usage, share: Option<Arc<Reservation>>) {
        self.send(access, Report::Used(access.clone(), usage, share));
    }

    pub(crate) fn condition(&self, access: &Arc<Access>, condition: ModelCondition) {
        self.send(access, Report::Condition(access.clone(), condition));
    }

    /// Waits until the ledger has all reports of this session, or until its lane has ended.
    pub(crate) async fn settled(&self, access: &Access) {
        let (done, settled) = oneshot::channel();
        self.send(access, Report::Settled(done));
        // An error means that the lane has ended.
        let _ = settled.await;
    }

    fn send(&self, access: &Access, report: Report) {
        let mut hash = DefaultHasher::new();
        access.owner.session.hash(&mut hash);
        let lane = usize::try_from(hash.finish() % LANES).unwrap_or(0);
        if self.0[lane].send(report).is_err() {
            tracing::warn!(owner = ?access.owner, "a report of a model call arrived after the service had stopped");
        }
    }
}

/// Passes on one report. A ledger that does not answer must not block the reports of other sessions.
async fn pass_on(ledger: &dyn Ledger, env: &Env, report: Report) {
    let (owner, what) = match &report {
        Report::Used(access, ..) => (access.owner.clone(), "usage"),
        Report::Condition(access, _) => (access.owner.clone(), "condition"),
        Report::Settled(_) => Default::default(),
    };
    let taking = async {
        match report {
            Report::Used(access, usage, _share) => ledger.used(&access, usage).await,
            Report::Condition(access, condition) => ledger.condition(&access, condition).await,
            // The receiver is gone when that took too long.
            Report::Settled(done) => drop(done.send(())),
        }
    };
    tokio::select! {
        biased;
        () = taking => {}
        () = env.clock.sleep(TAKEN) => {
            tracing::error!(?owner, what, "the ledger did not accept a report of a model call within {TAKEN:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;

    use super::*;
    use crate::access::{Credential, Kind, McpAccess, McpRefused, Owner, Refused};
    use crate::condition::ConditionKind;
    use crate::proof::SandboxProof;

    /// Never accepts a condition, and records the session of each usage.
    #[derive(Default)]
    struct Hanging {
        used: Mutex<Vec<String>>,
        hangs: tokio::sync::Notify,
    }

    #[async_trait]
    impl Ledger for Hanging {
        async fn access(&self, _: &str, _: Option<&SandboxProof>) -> Result<Access, Refused> {
            Err(Refused::Token)
        }

        async fn mcp(&self, _: &str, _: Option<&SandboxProof>, _: &str) -> Result<McpAccess, McpRefused> {
            Err(McpRefused::Unknown)
        }

        async fn mcp_client(&self, _: &McpAccess) -> Result<reqwest::Client, McpRefused> {
            Err(McpRefused::Unknown)
        }

        async fn used(&self, access: &Access, _: Usage) {
            self.used.lock().unwrap().push(access.owner.session.clone());
        }

        async fn condition(&self, _: &Access, _: ModelCondition) {
            self.hangs.notify_one();
            std::future::pending::<()>().await;
        }
    }

    #[tokio::test]
    async fn a_report_that_the_ledger_never_takes_holds_up_no_other_session() {
        let (tasks, _) = Tasks::new();
        let ledger = Arc::new(Hanging::default());
        let clock = Arc::new(foundry_testkit::MockClock::default());
        let env = Env { clock: clock.clone(), random: Arc::new(foundry_core::SystemRandom) };
        let reports = Reports::start(&(ledger.clone() as Arc<dyn Ledger>), &env, &tasks, Duration::ZERO);
        let access = |session: u32| {
            Arc::new(Access {
                kind: Kind::OpenAi,
                base_url: "http://127.0.0.1:1".parse().unwrap(),
                headers: Vec::new(),
                credential: Credential::None,
                models: Vec::new(),
                owner: Owner { session: session.to_string(), ..Owner::default() },
                held_until: None,
                limits: Vec::new(),
                prices: Vec::new(),
            })
        };
        let condition =
            ModelCondition { kind: ConditionKind::Working, model: String::new(), words: String::new() };
        reports.condition(&access(0), condition);
        // Enough sessions for some to share its lane.
        for session in 0..20 {
            reports.used(&access(session), Usage::default(), None);
        }
        ledger.hangs.notified().await;
        clock.advance(TAKEN);
        for session in 0..20 {
            reports.settled(&access(session)).await;
        }
        assert_eq!(ledger.used.lock().unwrap().len(), 20);
    }
}
