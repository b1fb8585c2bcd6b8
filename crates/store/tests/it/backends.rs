//! The databases that every test runs on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use foundry_store::{Migration, Migrations, Scope, Store, StoreOptions, Table, Value, WriteSet};
use foundry_testkit::{PostgresDatabase, TestEnv, test_env};
use tempfile::TempDir;

pub const ITEMS: Table = Table::new("items", &["id", "owner", "name", "size", "body", "rev"], &["id"]);

pub const STEPS: &[Migration] = &[
    Migration {
        version: 1,
        name: "items",
        sqlite: "CREATE TABLE items (id TEXT NOT NULL PRIMARY KEY, owner TEXT NOT NULL, name TEXT UNIQUE, \
                 size BIGINT, body BLOB, rev BIGINT NOT NULL)",
        postgres: "CREATE TABLE items (id TEXT NOT NULL PRIMARY KEY, owner TEXT NOT NULL, name TEXT UNIQUE, \
                   size BIGINT, body BYTEA, rev BIGINT NOT NULL)",
    },
    Migration {
        version: 2,
        name: "notes",
        sqlite: "CREATE TABLE notes (item TEXT NOT NULL REFERENCES items (id), at BIGINT NOT NULL, \
                 PRIMARY KEY (item, at)); CREATE INDEX items_by_rev ON items (rev)",
        postgres: "CREATE TABLE notes (item TEXT NOT NULL REFERENCES items (id), at BIGINT NOT NULL, \
                   PRIMARY KEY (item, at)); CREATE INDEX items_by_rev ON items (rev)",
    },
];

pub const MIGRATIONS: Migrations = Migrations { owner: "suite", steps: STEPS };

/// A fresh database and the resources that keep it alive.
pub struct Fixture {
    pub store: Store,
    pub time: TestEnv,
    pub url: String,
    _directory: Option<Arc<TempDir>>,
}

impl Fixture {
    /// Another store on the same database, as another process would have.
    pub async fn again(&self) -> Store {
        open(&self.url, &self.time).await
    }

    pub fn is_postgres(&self) -> bool {
        self.url.starts_with("postgres:")
    }

    pub async fn count(&self) -> i64 {
        number(&self.store, "SELECT count(*) AS n FROM items").await
    }
}

pub async fn open(url: &str, time: &TestEnv) -> Store {
    // No test is about reads that time out.
    let options = StoreOptions { acquire_timeout: Duration::from_secs(60), ..StoreOptions::default() };
    Store::connect(url, &[&MIGRATIONS], &time.env, options).await.unwrap()
}

/// The one number of a query that names it `n`.
pub async fn number(store: &Store, sql: &'static str) -> i64 {
    store.query(sql, &[]).await.unwrap()[0].int("n").unwrap()
}

pub fn scope() -> Scope {
    Scope::service("items")
}

/// A write set that takes a revision and inserts an item of size 1.
pub fn item(id: &str, owner: &str, name: Option<&str>) -> WriteSet {
    let mut set = WriteSet::new();
    let rev = set.scope(scope());
    set.insert(&ITEMS, [id.into(), owner.into(), name.into(), 1.into(), Value::Null, rev.into()]);
    set
}

pub fn sqlite_url(directory: &TempDir) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("store{}.db", NEXT.fetch_add(1, Ordering::Relaxed));
    format!("sqlite:{}", directory.path().join(name).display())
}

pub async fn sqlite() -> Fixture {
    let directory = TempDir::new().unwrap();
    let url = sqlite_url(&directory);
    fixture(url, Some(Arc::new(directory))).await
}

pub async fn postgres_url() -> String {
    PostgresDatabase::create().await.unwrap().url
}

pub async fn postgres() -> Fixture {
    fixture(postgres_url().await, None).await
}

async fn fixture(url: String, directory: Option<Arc<TempDir>>) -> Fixture {
    let time = test_env();
    Fixture { store: open(&url, &time).await, time, url, _directory: directory }
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
