//! The service's tables, one file each.

pub mod branches;
pub mod changes;
pub mod repositories;
pub mod works;

use foundry_store::{Migration, Migrations};

/// The service's schema.
pub const MIGRATIONS: Migrations = Migrations {
    owner: "repo",
    steps: &[Migration {
        version: 1,
        name: "repo",
        sqlite: include_str!("../../migrations/sqlite/0001_repo.sql"),
        postgres: include_str!("../../migrations/postgres/0001_repo.sql"),
    }],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn has_the_same_tables_on_sqlite_and_on_postgresql() {
        let dir = tempfile::tempdir().unwrap();
        let sqlite = format!("sqlite:{}", dir.path().join("x.db").display());
        let postgres = foundry_testkit::PostgresDatabase::create().await.unwrap().url;
        foundry_service::proofs::has_the_same_tables_on_both_databases(
            &[&MIGRATIONS, &foundry_flow::MIGRATIONS],
            &sqlite,
            &postgres,
        )
        .await;
    }
}
