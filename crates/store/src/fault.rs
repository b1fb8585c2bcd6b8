//! Classifies failures: the fault of one request, or of the database.

use crate::backend::Failure;
use crate::shape::{Action, Operation};
use crate::{CommitError, Value};

/// Why one write set was refused.
pub(crate) enum Refusal {
    Typed(CommitError),
    Database(sqlx::Error),
}

impl From<sqlx::Error> for Refusal {
    fn from(e: sqlx::Error) -> Self {
        Self::Database(e)
    }
}

/// The refusal for a failed operation.
pub(crate) fn refusal(operation: &Operation, failure: Failure) -> Refusal {
    let table = operation.shape.table.name;
    match failure {
        Failure::Unmet => Refusal::Typed(match operation.shape.action {
            Action::CountBelow(name) => {
                let limit = match operation.values.last() {
                    Some(Value::Int(limit)) => *limit,
                    _ => 0,
                };
                CommitError::LimitReached { tag: operation.tag, name, limit }
            }
            _ => CommitError::GuardFailed { tag: operation.tag, table },
        }),
        Failure::Database(sqlx::Error::Database(e)) if e.is_unique_violation() => {
            let constraint = e.constraint().map_or_else(|| e.message().to_owned(), str::to_owned);
            Refusal::Typed(CommitError::Conflict { table, constraint })
        }
        Failure::Database(e) => Refusal::Database(e),
    }
}

/// Why a batch could not be committed.
pub(crate) struct Trouble {
    pub(crate) error: sqlx::Error,
    /// The commit was under way: on a lost connection, whether it happened is unknown.
    pub(crate) committing: bool,
}

impl From<sqlx::Error> for Trouble {
    fn from(error: sqlx::Error) -> Self {
        Self { error, committing: false }
    }
}

/// Whether the server is gone or shutting down.
pub(crate) fn is_connection_error(e: &sqlx::Error) -> bool {
    match e {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut => true,
        // PostgreSQL: connection exceptions, operator intervention.
        sqlx::Error::Database(e) => {
            e.code().is_some_and(|c| c.len() == 5 && matches!(c.get(..2), Some("08" | "57")))
        }
        _ => false,
    }
}

/// Whether only the statement is at fault (its text, its values), not the connection.
pub(crate) fn is_statement_error(e: &sqlx::Error) -> bool {
    match e {
        sqlx::Error::Database(e) => {
            let code = e.code().unwrap_or_default();
            if code.len() == 5 {
                // PostgreSQL: data exceptions, constraint violations, syntax and access errors.
                return matches!(code.get(..2), Some("22" | "23" | "42"));
            }
            // SQLite: generic error, too big, constraint, mismatch, range; extended codes above.
            code.parse::<i32>().is_ok_and(|c| matches!(c & 0xff, 1 | 18 | 19 | 20 | 25))
        }
        sqlx::Error::Encode(_) | sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } => true,
        _ => false,
    }
}
