//! Why a commit did not happen, and how that is reported to callers.

use std::time::Duration;

use bytes::Bytes;
use foundry_core::{Code, Error};

use crate::Fault;

/// When to try again while the disk of the database is full or fails.
const STORAGE_RETRY: Duration = Duration::from_secs(5);

/// Why a write set was not committed. Nothing of it is in the database.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// A guard did not hold, or an update or delete did not affect its row.
    #[error("a guard on {table} did not hold{}", tag.map(|t| format!(" ({t})")).unwrap_or_default())]
    GuardFailed {
        /// The tag the caller gave the guard, update or delete.
        tag: Option<&'static str>,
        /// The table of the guard or operation.
        table: &'static str,
    },
    /// A `CountBelow` guard did not hold.
    #[error("limit {name} of {limit} reached")]
    LimitReached {
        /// The tag the caller gave the guard.
        tag: Option<&'static str>,
        /// The limit's name.
        name: &'static str,
        /// The maximum number of rows.
        limit: i64,
    },
    /// A unique key is taken.
    #[error("a unique key of {table} is taken: {constraint}")]
    Conflict {
        /// The table written.
        table: &'static str,
        /// The constraint or columns, as the database names them.
        constraint: String,
    },
    /// The request was already committed; this is its answer.
    #[error("the request was committed before")]
    Replayed {
        /// The answer that was stored with it.
        response: Bytes,
        /// The revision it took in its first scope.
        rev: i64,
    },
    /// The request id was used before with another body.
    #[error("the request id was used before with another body")]
    IdempotencyMismatch,
    /// The store is closed or closing.
    #[error("the store is closing")]
    Stopped,
    /// The closure of [`crate::Store::retry_on_conflict`] returned an error.
    #[error(transparent)]
    Refused(Error),
    /// The write set contradicts its table descriptor: a defect of the caller.
    #[error("malformed write set: {0}")]
    Malformed(String),
    /// The database failed. If the connection was lost during the commit itself, whether it happened is unknown; a retry
    /// with the same request id is safe.
    #[error("{fault}")]
    Database {
        /// What the failure means.
        fault: Fault,
        /// The error of the database.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl CommitError {
    /// Whether the caller may succeed by loading again and deciding again.
    pub fn is_concurrent_change(&self) -> bool {
        matches!(self, Self::GuardFailed { .. } | Self::Conflict { .. })
    }

    pub(crate) fn database(e: sqlx::Error) -> Self {
        match e {
            sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => Self::Stopped,
            e => Self::Database { fault: Fault::of(&e), source: Box::new(e) },
        }
    }
}

impl From<Error> for CommitError {
    fn from(e: Error) -> Self {
        Self::Refused(e)
    }
}

impl From<CommitError> for Error {
    fn from(e: CommitError) -> Self {
        match e {
            CommitError::GuardFailed { .. } => {
                Self::new(Code::Aborted, "CONCURRENT_CHANGE", "the data this request depends on has changed")
                    .next_action("read the current state and try again")
                    .retry_after(Duration::from_millis(50))
                    .caused_by(e)
            }
            CommitError::LimitReached { name, limit, .. } => {
                let limit = u64::try_from(limit).unwrap_or(0);
                Self::quota(name, "its parent", limit, limit)
            }
            CommitError::Conflict { .. } => {
                Self::new(Code::AlreadyExists, "ALREADY_EXISTS", "an entry with this name already exists")
                    .caused_by(e)
            }
            CommitError::Replayed { .. } => {
                Self::new(Code::Aborted, "REPLAYED", "a concurrent attempt of this request was committed")
                    .next_action("send the same request again to receive its stored response")
                    .retry_after(Duration::ZERO)
            }
            CommitError::IdempotencyMismatch => request_id_reused(),
            CommitError::Stopped => stopped(),
            CommitError::Refused(e) => e,
            CommitError::Database { fault, .. } => failed(fault, e),
            CommitError::Malformed(_) => Self::internal(e),
        }
    }
}

/// The answer to a request id that was used before with another body.
pub(crate) fn request_id_reused() -> Error {
    Error::new(
        Code::InvalidArgument,
        "REQUEST_ID_REUSED",
        "this request_id was already used with a different body",
    )
    .next_action("use a new request_id for a new request")
}

/// The answer while the store closes.
pub(crate) fn stopped() -> Error {
    Error::unavailable("SHUTTING_DOWN", "the service is shutting down", Duration::from_secs(1))
}

/// The error for a caller whose work met this failure of the database.
fn failed(fault: Fault, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let error = match fault {
        Fault::Permanent => return Error::internal(cause),
        Fault::Busy => Error::unavailable("STORE_BUSY", fault.to_string(), Duration::from_secs(1)),
        Fault::Unreachable => {
            Error::unavailable("STORE_UNAVAILABLE", fault.to_string(), Duration::from_secs(1))
        }
        Fault::Full => Error::unavailable("STORAGE_FULL", fault.to_string(), STORAGE_RETRY)
            .next_action("free up space on the database's disk, or enlarge it"),
        Fault::Failing | Fault::Fatal => {
            Error::unavailable("STORAGE_FAILED", fault.to_string(), STORAGE_RETRY)
                .next_action("check the database's disk and file system")
        }
    };
    error.caused_by(cause)
}

/// The error of a failed read.
pub(crate) fn read_failed(e: sqlx::Error) -> Error {
    match e {
        sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => stopped(),
        e => failed(Fault::of(&e), e),
    }
}
