//! The databases that every test runs on.

use foundry_core::Env;
use foundry_store::{Migration, Migrations, Store, StoreOptions, Table};
use foundry_testkit::{PostgresDatabase, TestEnv, test_env};
use tempfile::TempDir;

pub const ITEMS: Table = Table::new("items", &["id", "owner", "name", "size", "body", "rev"], &["id"]);

pub const MIGRATIONS: Migrations = Migrations {
    owner: "suite",
    steps: &[Migration {
        version: 1,
        name: "items",
        sqlite: "CREATE TABLE items (id TEXT NOT NULL PRIMARY KEY, owner TEXT NOT NULL, name TEXT UNIQUE, \
                 size BIGINT, body BLOB, rev BIGINT NOT NULL)",
        postgres: "CREATE TABLE items (id TEXT NOT NULL PRIMARY KEY, owner TEXT NOT NULL, name TEXT UNIQUE, \
                   size BIGINT, body BYTEA, rev BIGINT NOT NULL)",
    }],
};

/// A fresh database and what keeps it alive.
pub struct Fixture {
    pub store: Store,
    pub time: TestEnv,
    pub url: String,
    _directory: Option<TempDir>,
}

impl Fixture {
    pub fn env(&self) -> &Env {
        &self.time.env
    }

    /// Another store on the same database, as another process would have.
    pub async fn again(&self) -> Store {
        Store::connect(&self.url, &[&MIGRATIONS], self.env(), StoreOptions::default()).await.unwrap()
    }
}

pub async fn sqlite() -> Fixture {
    let directory = TempDir::new().unwrap();
    let url = format!("sqlite:{}", directory.path().join("store.db").display());
    fixture(url, Some(directory)).await
}

pub async fn postgres() -> Fixture {
    fixture(PostgresDatabase::create().await.unwrap().url, None).await
}

async fn fixture(url: String, directory: Option<TempDir>) -> Fixture {
    let time = test_env();
    let store = Store::connect(&url, &[&MIGRATIONS], &time.env, StoreOptions::default()).await.unwrap();
    Fixture { store, time, url, _directory: directory }
}

/// Runs each named test on each backend.
#[macro_export]
macro_rules! on_every_backend {
    ($($test:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test($crate::backends::sqlite().await).await;
            })*
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test($crate::backends::postgres().await).await;
            })*
        }
    };
}
