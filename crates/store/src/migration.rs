//! Schemas: expand-only lists of steps, one list per crate that owns tables.

use sqlx::SqlSafeStr as _;
use sqlx::migrate::{MigrationType, Migrator};

/// One step of a schema, in both dialects. Never changed after it was released.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// Its number within its list, ascending from 1.
    pub version: i64,
    /// A short description, for the database's record.
    pub name: &'static str,
    /// The SQLite text, usually `include_str!("../migrations/sqlite/0001_x.sql")`.
    pub sqlite: &'static str,
    /// The PostgreSQL text.
    pub postgres: &'static str,
}

/// The steps of one owner (a service, the flow engine, the store itself). Lists are recorded
/// apart from each other, so their numbers never clash.
#[derive(Clone, Copy, Debug)]
pub struct Migrations {
    /// The owner; letters, digits and underscores.
    pub owner: &'static str,
    /// Its steps in order.
    pub steps: &'static [Migration],
}

pub(crate) const STORE: Migrations = Migrations {
    owner: "store",
    steps: &[Migration {
        version: 1,
        name: "base",
        sqlite: include_str!("../migrations/sqlite/0001_base.sql"),
        postgres: include_str!("../migrations/postgres/0001_base.sql"),
    }],
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
}

impl Migrations {
    pub(crate) fn migrator(&self, dialect: Dialect) -> Migrator {
        let steps = self.steps.iter().map(|m| {
            let sql = match dialect {
                Dialect::Sqlite => m.sqlite,
                Dialect::Postgres => m.postgres,
            };
            sqlx::migrate::Migration::new(
                m.version,
                m.name.into(),
                MigrationType::Simple,
                sql.into_sql_str(),
                false,
            )
        });
        let mut migrator = Migrator::with_migrations(steps.collect());
        migrator.dangerous_set_table_name(format!("migrations_{}", self.owner));
        // An older binary runs beside a newer schema during a rolling upgrade.
        migrator.set_ignore_missing(true);
        migrator
    }
}
