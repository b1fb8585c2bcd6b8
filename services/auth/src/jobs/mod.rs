//! Background jobs, one per file. All of them may run in several replicas at once: each write is guarded by the facts
//! that it is based on.

pub(crate) mod end_development;
pub(crate) mod expire_credentials;
pub(crate) mod follow_revocations;
pub(crate) mod keep_set_up_secret;
pub(crate) mod record_last_use;
pub(crate) mod refresh_providers;
pub(crate) mod retire;
pub(crate) mod rotate_keys;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use foundry_core::{Result, Tasks};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Auth;

/// The running jobs. They end with the service's tasks, or earlier on [`Jobs::stop`].
pub(crate) struct Jobs {
    auth: Arc<Auth>,
    tasks: Tasks,
    cancel: CancellationToken,
    running: TaskTracker,
}

impl Jobs {
    /// Starts all jobs.
    pub(crate) fn start(auth: &Arc<Auth>, tasks: &Tasks) -> Self {
        let cancel = tasks.cancellation().child_token();
        let jobs = Self { auth: auth.clone(), tasks: tasks.clone(), cancel, running: TaskTracker::new() };
        let minute = Duration::from_secs(60);
        let following = follow_revocations::run(auth.clone(), jobs.cancel.clone());
        tasks.spawn("follow revocations", jobs.running.track_future(following));
        jobs.every("end the development sign-in", minute * 10, end_development::run);
        jobs.every("expire credentials", minute, expire_credentials::run);
        jobs.every("keep the set-up secret", minute, keep_set_up_secret::run);
        jobs.every("retire", minute, retire::run);
        jobs.every("record last use", Duration::from_secs(30), record_last_use::run);
        jobs.every("refresh identity providers", minute, refresh_providers::run);
        jobs.every("rotate keys", minute * 10, rotate_keys::run);
        jobs
    }

    /// Lets each job finish its current run, and waits. Returns the number of jobs that exceeded the limit.
    pub(crate) async fn stop(&self, limit: Duration) -> usize {
        self.cancel.cancel();
        self.running.close();
        tokio::select! {
            () = self.running.wait() => 0,
            () = self.auth.env.clock.sleep(limit) => self.running.len(),
        }
    }

    /// Runs a job at once and then at an interval. A failed run is logged; the next one tries again.
    fn every<F, Fut>(&self, name: &'static str, pause: Duration, job: F)
    where
        F: Fn(Arc<Auth>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        let (auth, cancel) = (self.auth.clone(), self.cancel.clone());
        let run = async move {
            loop {
                if let Err(e) = job(auth.clone()).await {
                    tracing::warn!(job = name, error = %e, "a job failed and will run again");
                }
                tokio::select! {
                    () = cancel.cancelled() => return,
                    () = auth.env.clock.sleep(pause) => {}
                }
            }
        };
        self.tasks.spawn(name, self.running.track_future(run));
    }
}
