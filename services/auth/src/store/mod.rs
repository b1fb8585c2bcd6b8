//! The tables, one file each: descriptor, reads, and the rows that writes are made of.

pub(crate) mod credentials;
pub(crate) mod identities;
pub(crate) mod memberships;
pub(crate) mod organizations;
pub(crate) mod revocations;
pub(crate) mod users;

use foundry_core::{Error, OrganizationId, Result};
use foundry_store::{Migration, Migrations, Row, Value};

/// The schema of the auth service.
pub(crate) const MIGRATIONS: Migrations = Migrations {
    owner: "auth",
    steps: &[Migration {
        version: 1,
        name: "base",
        sqlite: include_str!("../../migrations/sqlite/0001_base.sql"),
        postgres: include_str!("../../migrations/postgres/0001_base.sql"),
    }],
};

/// An id column; stored ids have the right shape, or the database is damaged.
fn id<T: std::str::FromStr<Err = Error>>(row: &Row, column: &str) -> Result<T> {
    row.text(column)?.parse().map_err(|e: Error| Error::internal(format!("column {column}: {e}")))
}

/// What of a user's own a token opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Every organization of the user.
    All,
    /// One organization.
    One(OrganizationId),
    /// None any more.
    Nothing,
}

impl Reach {
    pub(crate) fn includes(&self, organization: &OrganizationId) -> bool {
        match self {
            Self::All => true,
            Self::One(only) => only == organization,
            Self::Nothing => false,
        }
    }

    /// For `($n = '' OR organization_id = $n)`: empty for all, and no id for nothing.
    fn value(&self) -> Value {
        match self {
            Self::All => "".into(),
            Self::One(only) => only.into(),
            Self::Nothing => "nothing".into(),
        }
    }
}
