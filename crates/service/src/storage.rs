//! A service whose database takes no writes is not ready.

use std::time::Duration;

use foundry_core::{Env, Tasks};
use foundry_server::{Health, Service};
use foundry_store::{Storage, Store};

/// Time between two writes that find out whether there is room again.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// Reports the service unhealthy while the disk of its database is full or fails: from the first write that fails until
/// a probe succeeds.
pub(crate) fn report_storage(store: &Store, service: &Service, env: &Env, tasks: &Tasks) {
    let (store, health, env) = (store.clone(), service.health(), env.clone());
    let stop = tasks.cancellation().clone();
    tasks.spawn("storage health", async move {
        // It runs until the service stops.
        stop.run_until_cancelled(follow(store, health, env)).await;
    });
}

async fn follow(store: Store, health: Health, env: Env) {
    let mut storage = store.storage();
    while storage.wait_for(|storage| *storage != Storage::Writable).await.is_ok() {
        health.report_writable(false).await;
        loop {
            env.clock.sleep(PROBE_INTERVAL).await;
            if store.probe().await.is_ok() {
                break;
            }
        }
        health.report_writable(true).await;
    }
}

#[cfg(test)]
mod tests {
    use foundry_server::testing::TestServer;
    use foundry_store::DialectSql;
    use foundry_testkit::{FULL_DISK, PostgresDatabase, ROOMY_DISK, test_env};
    use tonic::service::Routes;

    use super::*;
    use crate::Database;

    const THINGS: &str = "foundry.task.v1.TaskService";

    async fn limit(store: &Store, (sqlite, postgres): (&'static str, &'static str)) {
        store.write(DialectSql { sqlite, postgres }, &[]).await.unwrap();
    }

    #[tokio::test]
    async fn a_service_is_unhealthy_from_a_write_without_room_until_there_is_room_again() {
        let dir = tempfile::tempdir().unwrap();
        let sqlite = format!("sqlite:{}", dir.path().join("things.db").display());
        for url in [sqlite, PostgresDatabase::create().await.unwrap().url] {
            is_unhealthy_until_there_is_room_again(&url).await;
        }
    }

    async fn is_unhealthy_until_there_is_room_again(url: &str) {
        let (dir, time) = (tempfile::tempdir().unwrap(), test_env());
        let store = Database::open(url, dir.path(), "things", &[], &time.env).await.unwrap().store;
        let (tasks, _failures) = Tasks::new();
        let service = Service::new("things", [THINGS], Routes::default());
        let health = service.health();
        report_storage(&store, &service, &time.env, &tasks);
        let _server = TestServer::start(service).await.unwrap();
        let healthy = async || health.services().await[THINGS];
        assert!(healthy().await);
        limit(&store, FULL_DISK).await;
        store.probe().await.unwrap_err();
        let patience = Duration::from_secs(20);
        tokio::time::timeout(patience, time.clock.wait_for_sleepers(1)).await.unwrap();
        assert!(!healthy().await);
        limit(&store, ROOMY_DISK).await;
        time.clock.advance(PROBE_INTERVAL);
        let recovered = async {
            while !healthy().await {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(patience, recovered).await.unwrap();
    }
}
