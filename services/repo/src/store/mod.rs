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
