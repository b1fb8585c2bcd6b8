//! Where the mesh and the bare commits keep their rows.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use foundry_core::Env;
use foundry_store::{Migrations, Store, StoreOptions};
use foundry_testkit::PostgresCluster;

/// Services with a database of their own.
const SERVICES: [&str; 4] = ["auth", "repo", "provisioner", "task"];

/// `SQLite` files, or a temporary PostgreSQL that syncs its commits.
pub enum Databases {
    /// One file for each service.
    Sqlite,
    /// One database for each service, all in one cluster; and how many there are.
    Postgres(PostgresCluster, AtomicU32),
}

impl Databases {
    /// A temporary cluster of PostgreSQL.
    ///
    /// # Errors
    /// When PostgreSQL is not installed.
    pub fn postgres() -> Result<Self, String> {
        let cluster = PostgresCluster::start_syncing().map_err(|e| e.to_string())?;
        Ok(Self::Postgres(cluster, AtomicU32::new(0)))
    }

    /// Its name in the result.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres(..) => "postgres",
        }
    }

    /// Settings of a new mesh, with empty databases.
    pub fn settings(&self) -> Vec<String> {
        match self {
            Self::Sqlite => Vec::new(),
            Self::Postgres(..) => {
                let setting = |service: &&str| format!("{service}.store_url={}", self.postgres_url(service));
                SERVICES.iter().map(setting).collect()
            }
        }
    }

    /// A store with the same settings as the services'.
    pub async fn open(&self, directory: &Path, migrations: &[&Migrations]) -> Store {
        let url = match self {
            Self::Sqlite => format!("sqlite:{}", directory.join("bench.db").display()),
            Self::Postgres(..) => self.postgres_url("bare"),
        };
        Store::connect(&url, migrations, &Env::system(), StoreOptions::default()).await.expect("a store")
    }

    fn postgres_url(&self, name: &str) -> String {
        let Self::Postgres(cluster, made) = self else { panic!("no cluster") };
        let number = made.fetch_add(1, Ordering::Relaxed);
        cluster.create_database(&format!("{name}_{number}")).expect("a database").url
    }
}
