//! Classifies failures: the fault of one request, or of the database.

use std::fmt;

use crate::backend::Failure;
use crate::shape::{Action, Operation};
use crate::{CommitError, Value};

/// What a failure of the database means for the work that failed. The one place that reads the codes of both databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails each time: a constraint, a value that is too large or of the wrong type, a damaged page.
    Permanent,
    /// The database is busy, or another transaction was in the way.
    Busy,
    /// The database cannot be reached, or shuts down.
    Unreachable,
    /// The disk of the database is full.
    Full,
    /// The disk or the file of the database fails.
    Failing,
    /// A sync failed: later syncs may succeed without the pages of this one, so the process must end.
    Fatal,
}

impl Fault {
    pub(crate) fn of(e: &sqlx::Error) -> Self {
        match e {
            sqlx::Error::Database(e) => Self::of_code(&e.code().unwrap_or_default()),
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolClosed => Self::Unreachable,
            sqlx::Error::PoolTimedOut => Self::Busy,
            // The thread of an SQLite connection is gone, and with it the state of its transaction.
            sqlx::Error::WorkerCrashed => Self::Fatal,
            _ => Self::Permanent,
        }
    }

    /// By an SQLSTATE of five characters, or by SQLite's extended code, which is a shorter number.
    fn of_code(code: &str) -> Self {
        if code.len() == 5 {
            return Self::of_sqlstate(code);
        }
        code.parse().map_or(Self::Permanent, Self::of_sqlite)
    }

    fn of_sqlstate(code: &str) -> Self {
        match (code.get(..2).unwrap_or_default(), code) {
            // Insufficient resources: of the disk, or of memory and connections.
            (_, "53000" | "53100") => Self::Full,
            // A cancelled statement, a lock, an object in use; serialization failures and deadlocks.
            (_, "57014" | "55P03" | "55006") | ("40" | "53", _) => Self::Busy,
            // Connection exceptions, operator intervention, refused connections; states of a connection that a new one
            // does not have: its transaction, its prepared statements.
            ("08" | "57" | "28" | "3D" | "25" | "26", _) => Self::Unreachable,
            // Errors of the system around the server.
            ("58", _) => Self::Failing,
            _ => Self::Permanent,
        }
    }

    fn of_sqlite(code: i32) -> Self {
        const IO_FSYNC: i32 = 10 | (4 << 8);
        const IO_DIRECTORY_FSYNC: i32 = 10 | (5 << 8);
        match (code & 0xff, code) {
            (_, IO_FSYNC | IO_DIRECTORY_FSYNC) => Self::Fatal,
            // Busy, locked, out of memory, interrupted, locking protocol, changed schema.
            (5 | 6 | 7 | 9 | 15 | 17, _) => Self::Busy,
            (13, _) => Self::Full,
            // Read-only, I/O error, file cannot be opened, file too large for the system.
            (8 | 10 | 14 | 22, _) => Self::Failing,
            _ => Self::Permanent,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Permanent => "the database refused the data",
            Self::Busy => "the database is busy",
            Self::Unreachable => "the database cannot be reached",
            Self::Full => "the database's disk is full",
            Self::Failing => "the database's disk is failing",
            Self::Fatal => "the disk did not confirm a write by the database",
        })
    }
}

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

/// Whether only the statement is at fault (its text, its values), and the transaction can go on without it.
pub(crate) fn is_statement_error(e: &sqlx::Error) -> bool {
    match e {
        sqlx::Error::Database(e) => {
            let code = e.code().unwrap_or_default();
            if code.len() == 5 {
                // PostgreSQL: cardinality, data exceptions, constraint violations, syntax and access
                // errors, exceeded limits of the program (a text that is too long for an index).
                return matches!(code.get(..2), Some("21" | "22" | "23" | "42" | "54"));
            }
            // SQLite: generic error, too big, constraint, mismatch, range; extended codes above.
            code.parse::<i32>().is_ok_and(|c| matches!(c & 0xff, 1 | 18 | 19 | 20 | 25))
        }
        sqlx::Error::Encode(_) | sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } => true,
        _ => false,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::borrow::Cow;
    use std::error::Error as StdError;

    use sqlx::error::{DatabaseError, ErrorKind};

    use super::*;

    /// An error as a database reports it, known by its code alone.
    #[derive(Debug)]
    pub(crate) struct Coded(pub(crate) &'static str);

    impl fmt::Display for Coded {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "planted error {}", self.0)
        }
    }

    impl StdError for Coded {}

    impl DatabaseError for Coded {
        fn message(&self) -> &str {
            "planted"
        }

        fn code(&self) -> Option<Cow<'_, str>> {
            Some(self.0.into())
        }

        fn as_error(&self) -> &(dyn StdError + Send + Sync + 'static) {
            self
        }

        fn as_error_mut(&mut self) -> &mut (dyn StdError + Send + Sync + 'static) {
            self
        }

        fn into_error(self: Box<Self>) -> Box<dyn StdError + Send + Sync + 'static> {
            self
        }

        fn kind(&self) -> ErrorKind {
            ErrorKind::Other
        }
    }

    pub(crate) fn coded(code: &'static str) -> sqlx::Error {
        sqlx::Error::Database(Box::new(Coded(code)))
    }

    #[test]
    fn both_databases_fail_in_the_same_few_ways() {
        let of = |codes: &[&'static str]| codes.iter().map(|c| Fault::of(&coded(c))).collect::<Vec<_>>();
        // Check, not null, too big; data, constraint, too long for an index, a damaged page.
        let permanent = of(&["275", "1299", "18", "11", "22021", "23502", "54000", "XX001"]);
        assert_eq!(permanent, [Fault::Permanent; 8]);
        assert_eq!(of(&["5", "517", "6", "40001", "40P01", "55P03", "53300"]), [Fault::Busy; 7]);
        assert_eq!(of(&["08006", "57P01", "25006"]), [Fault::Unreachable; 3]);
        assert_eq!(of(&["13", "53100", "53000"]), [Fault::Full; 3]);
        // Errors of reads, writes and shared memory, a file that cannot be opened or written; an I/O error.
        assert_eq!(of(&["266", "778", "4874", "14", "8", "58030"]), [Fault::Failing; 6]);
        assert_eq!(of(&["1034", "1290"]), [Fault::Fatal; 2], "a failed sync");
    }
}
