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
    /// The SQLite text.
    pub sqlite: &'static str,
    /// The PostgreSQL text.
    pub postgres: &'static str,
}

impl Migration {
    /// A step by the name of its files, `0001_x`: number and description. For [`step!`](crate::step).
    ///
    /// # Panics
    /// In the compiler, when the name does not begin with four digits.
    #[doc(hidden)]
    pub const fn of_files(file: &'static str, sqlite: &'static str, postgres: &'static str) -> Self {
        let (number, rest) = file.split_at(4);
        let Ok(version) = i64::from_str_radix(number, 10) else { panic!("not four digits") };
        Self { version, name: rest.split_at(1).1, sqlite, postgres }
    }
}

/// The step in the files `migrations/sqlite/<name>.sql` and `migrations/postgres/<name>.sql` of the crate that calls it:
/// `step!("0001_x")`.
#[macro_export]
macro_rules! step {
    ($file:literal) => {
        $crate::Migration::of_files(
            $file,
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/sqlite/", $file, ".sql")),
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/postgres/", $file, ".sql")),
        )
    };
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

pub(crate) const STORE: Migrations = Migrations { owner: "store", steps: &[crate::step!("0001_base")] };

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
