//! How a service stops: its watches move to another replica, its jobs reach a boundary, its database closes.

use std::time::Duration;

use foundry_flow::Engine;
use foundry_server::Phases;
use foundry_store::Store;
use foundry_watch_hub::Hub;

/// The phases of a stop. `finish` gets the time limit for jobs and returns the ids of those that were cut off.
pub(crate) fn phases<F, Fut>(hub: Hub, store: Store, finish: F) -> Phases
where
    F: FnOnce(Duration) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Vec<String>> + Send + 'static,
{
    Phases::default()
        .drain_watches(move |spread| async move {
            // The server logs the streams that are left.
            hub.drain(spread).await;
            Vec::new()
        })
        .finish_jobs(finish)
        .close_store(move |_| async move {
            store.close().await;
            Vec::new()
        })
}

/// Lets flows reach the end of their stage, for at most `limit`; returns the ids of those that were cut off.
pub async fn finish_flows(engine: Engine, limit: Duration) -> Vec<String> {
    engine.shutdown(limit).await.abandoned.iter().map(ToString::to_string).collect()
}
