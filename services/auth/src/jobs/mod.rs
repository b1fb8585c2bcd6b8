//! Background work, one job per file. All of it may run in several replicas at once: each write is
//! guarded by what it was decided upon.

pub(crate) mod expire_credentials;
pub(crate) mod follow_revocations;
pub(crate) mod record_last_use;
pub(crate) mod retire;
pub(crate) mod rotate_keys;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use foundry_core::{Result, Tasks};

use crate::auth::Auth;

/// Starts all jobs; they end with the tasks' cancellation.
pub(crate) fn start(auth: &Arc<Auth>, tasks: &Tasks) {
    let minute = Duration::from_secs(60);
    let cancel = tasks.cancellation().clone();
    tasks.spawn("follow revocations", follow_revocations::run(auth.clone(), cancel));
    every(auth, tasks, "expire credentials", minute, expire_credentials::run);
    every(auth, tasks, "retire", minute, retire::run);
    every(auth, tasks, "record last use", Duration::from_secs(30), record_last_use::run);
    every(auth, tasks, "rotate keys", minute * 10, rotate_keys::run);
}

/// Runs a job now and then again and again; a failed run is logged and the next one tries again.
fn every<F, Fut>(auth: &Arc<Auth>, tasks: &Tasks, name: &'static str, pause: Duration, job: F)
where
    F: Fn(Arc<Auth>) -> Fut + Send + 'static,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    let (auth, cancel) = (auth.clone(), tasks.cancellation().clone());
    tasks.spawn(name, async move {
        loop {
            if let Err(e) = job(auth.clone()).await {
                tracing::warn!(job = name, error = %e, "a job failed and will run again");
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                () = auth.env.clock.sleep(pause) => {}
            }
        }
    });
}
