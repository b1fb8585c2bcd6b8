//! What the service measures about the time that its projections take.

use std::collections::BTreeSet;
use std::sync::Arc;

use foundry_watch::Observer;
use tokio::sync::watch;

use super::*;

/// The views whose updates were measured.
#[derive(Debug, Default)]
struct Updated(watch::Sender<BTreeSet<&'static str>>);

impl Observer for Updated {
    fn updated(&self, view: &'static str, _: Duration) {
        self.0.send_modify(|views| {
            views.insert(view);
        });
    }
}

#[tokio::test]
async fn measures_what_it_takes_in_from_each_service_and_the_summary_derived_from_it() {
    let (world, updated) = (World::new().await, Arc::new(Updated::default()));
    let (tenant, running) = (world.tenant(Role::Member).await, world.start_observed(updated.clone()).await);
    let (task, session) = ids(&running.create(&tenant, "one").await);
    running.until(&tenant, &task, |t| t.task.as_ref().unwrap().state() == TaskState::Running).await;
    world.provisioner.say(&session, "done").await;
    let expected =
        BTreeSet::from(["WatchAgentSession", "WatchOrganization", "WatchRepositories", "WatchSandboxes"]);
    let mut seen = updated.0.subscribe();
    let all = tokio::time::timeout(Duration::from_secs(60), seen.wait_for(|seen| *seen == expected)).await;
    // The borrow must end here: it blocks the observer.
    let all = all.is_ok_and(|seen| seen.is_ok());
    assert!(all, "{:?}", updated.0.borrow());
    running.stop().await;
}
