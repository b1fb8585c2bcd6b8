//! Rows as they were read, with getters that name the column in their error.

use std::sync::Arc;

use bytes::Bytes;
use foundry_core::{Error, Timestamp};

use crate::Value;

/// One row of a result.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub(crate) columns: Arc<[Box<str>]>,
    pub(crate) values: Vec<Value>,
}

impl Row {
    /// The value of a column.
    ///
    /// # Errors
    /// `INTERNAL` when the result has no such column.
    pub fn get(&self, column: &str) -> Result<&Value, Error> {
        let at = self.columns.iter().position(|c| &**c == column);
        at.and_then(|i| self.values.get(i))
            .ok_or_else(|| Error::internal(format!("the result has no column {column}")))
    }

    /// TEXT, not null.
    ///
    /// # Errors
    /// `INTERNAL` when the column is absent, null or of another type; so for all getters.
    pub fn text(&self, column: &str) -> Result<&str, Error> {
        self.opt_text(column)?.ok_or_else(|| null(column))
    }

    /// TEXT or null.
    ///
    /// # Errors
    /// See [`Row::text`].
    pub fn opt_text(&self, column: &str) -> Result<Option<&str>, Error> {
        match self.get(column)? {
            Value::Text(s) => Ok(Some(s)),
            Value::Null => Ok(None),
            _ => Err(mistyped(column, "TEXT")),
        }
    }

    /// BIGINT, not null.
    ///
    /// # Errors
    /// See [`Row::text`].
    pub fn int(&self, column: &str) -> Result<i64, Error> {
        self.opt_int(column)?.ok_or_else(|| null(column))
    }

    /// BIGINT or null.
    ///
    /// # Errors
    /// See [`Row::text`].
    pub fn opt_int(&self, column: &str) -> Result<Option<i64>, Error> {
        match self.get(column)? {
            Value::Int(i) => Ok(Some(*i)),
            Value::Null => Ok(None),
            _ => Err(mistyped(column, "BIGINT")),
        }
    }

    /// A point in time stored as BIGINT microseconds, not null.
    ///
    /// # Errors
    /// See [`Row::text`].
    pub fn time(&self, column: &str) -> Result<Timestamp, Error> {
        self.int(column).map(Timestamp::from_micros)
    }

    /// A point in time or null.
    ///
    /// # Errors
    /// See [`Row::text`].
    pub fn opt_time(&self, column: &str) -> Result<Option<Timestamp>, Error> {
        Ok(self.opt_int(column)?.map(Timestamp::from_micros))
    }

    /// 0 or 1 as a bool, not null.
    ///
    /// # Errors
    /// See [`Row::text`].
    pub fn bool(&self, column: &str) -> Result<bool, Error> {
        self.int(column).map(|i| i != 0)
    }

    /// BLOB or BYTEA, not null; shares the buffer.
    ///
    /// # Errors
    /// See [`Row::text`].
    pub fn blob(&self, column: &str) -> Result<Bytes, Error> {
        self.opt_blob(column)?.ok_or_else(|| null(column))
    }

    /// BLOB or BYTEA or null; shares the buffer.
    ///
    /// # Errors
    /// See [`Row::text`].
    pub fn opt_blob(&self, column: &str) -> Result<Option<Bytes>, Error> {
        match self.get(column)? {
            Value::Blob(b) => Ok(Some(b.clone())),
            Value::Null => Ok(None),
            _ => Err(mistyped(column, "BLOB")),
        }
    }
}

fn null(column: &str) -> Error {
    Error::internal(format!("column {column} is null"))
}

fn mistyped(column: &str, wanted: &str) -> Error {
    Error::internal(format!("column {column} is not {wanted}"))
}
