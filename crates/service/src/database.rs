//! A service's database: a file in its own directory, or at a URL.

use std::path::Path;
use std::sync::Arc;

use foundry_core::{Env, Result, TaskFailure, Tasks};
use foundry_flow::{Binding, Engine, Options, OwnedDataDirectory};
use foundry_server::ReadCounts;
use foundry_store::{Migrations, Store, StoreOptions};
use foundry_watch::Observer;
use foundry_watch_hub::{Hub, HubConfig};

/// A service's open database.
pub struct Database {
    /// The store for reads and writes.
    pub store: Store,
    /// Whether no other process uses it. Only then may leases left by a predecessor be ended at once.
    pub exclusive: bool,
}

impl Database {
    /// Opens the database at `url` (`sqlite:<path>` or `postgres://…`), or `<service>.db` in `directory`, which this
    /// process has locked, when the URL is empty.
    ///
    /// # Errors
    /// When the database cannot be reached or migrated.
    pub async fn open(
        url: &str,
        directory: &Path,
        service: &str,
        migrations: &[&Migrations],
        env: &Env,
    ) -> Result<Self> {
        Self::open_with(StoreOptions::default(), url, directory, service, migrations, env).await
    }

    /// As [`Database::open`], with other options than the default.
    ///
    /// # Errors
    /// When the database cannot be reached or migrated.
    pub async fn open_with(
        options: StoreOptions,
        url: &str,
        directory: &Path,
        service: &str,
        migrations: &[&Migrations],
        env: &Env,
    ) -> Result<Self> {
        let own = format!("sqlite:{}", directory.join(format!("{service}.db")).display());
        let exclusive = url.is_empty();
        let url = if exclusive { &own } else { url };
        let store = Store::connect(url, migrations, env, options).await?;
        Ok(Self { store, exclusive })
    }

    /// The hub of all watches on it.
    pub fn hub(&self, service: &str, env: &Env, tasks: &Tasks, observer: Arc<dyn Observer>) -> Hub {
        let config = HubConfig { server: service.to_owned(), observer, ..HubConfig::default() };
        Hub::new(self.store.clone(), env.clone(), tasks.clone(), config)
    }

    /// Ends the process when the store's writer dies: nothing can be written after that.
    pub fn supervise(&self, tasks: &Tasks) {
        let store = self.store.clone();
        supervise(tasks, async move { store.failed().await });
    }

    /// A running engine for these flows. Flows left by a predecessor continue at once if the database is exclusive,
    /// otherwise when their leases expire.
    ///
    /// # Errors
    /// When a flow's table and code do not match, or the database fails.
    pub async fn start_engine(
        &self,
        env: &Env,
        tasks: &Tasks,
        flows: Vec<Binding>,
        options: Options,
        owned: &OwnedDataDirectory<'_>,
    ) -> Result<Engine> {
        let engine = Engine::new(self.store.clone(), env.clone(), flows, options)?;
        if self.exclusive {
            engine.recover(owned).await?;
        }
        engine.start(tasks);
        Ok(engine)
    }
}

/// The counters of a store, for a service's metrics.
pub(crate) fn counts(store: &Store) -> ReadCounts {
    let store = store.clone();
    Arc::new(move || {
        let stats = store.stats();
        vec![
            ("commits", stats.batches),
            ("write_sets", stats.requests),
            ("rolled_back", stats.one_by_one),
            ("statements", stats.statements),
            ("long_reads", stats.long_reads),
            ("loads", stats.loads),
        ]
    })
}

fn supervise(tasks: &Tasks, failed: impl Future<Output = TaskFailure> + Send + 'static) {
    let stop = tasks.cancellation().clone();
    tasks.spawn("store supervision", async move {
        tokio::select! {
            () = stop.cancelled() => {}
            failure = failed => panic!("the store's task {} died", failure.name),
        }
    });
}

#[cfg(test)]
mod tests {
    use foundry_testkit::test_env;

    use super::*;

    #[tokio::test]
    async fn is_a_file_of_its_own_directory_unless_a_url_names_another() {
        let (dir, env) = (tempfile::tempdir().unwrap(), test_env().env);
        let own = Database::open("", dir.path(), "things", &[], &env).await.unwrap();
        assert!(own.exclusive && dir.path().join("things.db").exists());
        let url = format!("sqlite:{}", dir.path().join("elsewhere.db").display());
        let other = Database::open(&url, dir.path(), "others", &[], &env).await.unwrap();
        assert!(!other.exclusive && dir.path().join("elsewhere.db").exists());
        assert!(!dir.path().join("others.db").exists());
    }

    #[tokio::test]
    async fn a_dead_writer_is_a_failure_of_the_service() {
        let (tasks, mut failures) = Tasks::new();
        supervise(&tasks, async { TaskFailure { name: "writer" } });
        assert_eq!(failures.recv().await, Some(TaskFailure { name: "store supervision" }));
    }

    #[tokio::test]
    async fn supervision_ends_with_the_service() {
        let (tasks, mut failures) = Tasks::new();
        supervise(&tasks, std::future::pending());
        assert!(tasks.shutdown(std::time::Duration::from_secs(60)).await);
        drop(tasks);
        assert_eq!(failures.recv().await, None);
    }
}
