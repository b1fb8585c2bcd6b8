//! Rows as they were read, with getters that name the column in their error.

use std::sync::Arc;

use bytes::Bytes;
use foundry_core::{Code, Error, Timestamp};
use prost::Message;
use serde::de::DeserializeOwned;
use sqlx::Column as _;

use crate::Value;

/// One row of a result.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub(crate) columns: Arc<[Box<str>]>,
    pub(crate) values: Vec<Value>,
}

impl Row {
    /// Converts a result with the value of each row and column; column names are shared between its rows.
    pub(crate) fn all<R: sqlx::Row>(
        rows: &[R],
        value: impl Fn(&R, usize) -> Result<Value, sqlx::Error>,
    ) -> Result<Vec<Self>, sqlx::Error> {
        let Some(first) = rows.first() else { return Ok(Vec::new()) };
        let columns: Arc<[Box<str>]> = first.columns().iter().map(|c| Box::from(c.name())).collect();
        rows.iter()
            .map(|row| {
                let values = (0..columns.len()).map(|i| value(row, i)).collect::<Result<_, _>>()?;
                Ok(Self { columns: Arc::clone(&columns), values })
            })
            .collect()
    }

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
    pub fn opt_text(&self, column: &str) -> Result<Option<&str>, Error> {
        match self.get(column)? {
            Value::Text(s) => Ok(Some(s)),
            Value::Null => Ok(None),
            // A text that is not UTF-8 is read as bytes, so that it harms its own row only.
            Value::Blob(_) => Err(damaged(column, "it is not UTF-8")),
            _ => Err(mistyped(column, "TEXT")),
        }
    }

    /// BIGINT, not null.
    pub fn int(&self, column: &str) -> Result<i64, Error> {
        self.opt_int(column)?.ok_or_else(|| null(column))
    }

    /// BIGINT or null.
    pub fn opt_int(&self, column: &str) -> Result<Option<i64>, Error> {
        match self.get(column)? {
            Value::Int(i) => Ok(Some(*i)),
            Value::Null => Ok(None),
            _ => Err(mistyped(column, "BIGINT")),
        }
    }

    /// A point in time stored as BIGINT microseconds, not null.
    pub fn time(&self, column: &str) -> Result<Timestamp, Error> {
        self.int(column).map(Timestamp::from_micros)
    }

    /// A point in time or null.
    pub fn opt_time(&self, column: &str) -> Result<Option<Timestamp>, Error> {
        Ok(self.opt_int(column)?.map(Timestamp::from_micros))
    }

    /// 0 or 1 as a bool, not null.
    pub fn bool(&self, column: &str) -> Result<bool, Error> {
        self.int(column).map(|i| i != 0)
    }

    /// BLOB or BYTEA, not null; shares the buffer.
    pub fn blob(&self, column: &str) -> Result<Bytes, Error> {
        self.opt_blob(column)?.ok_or_else(|| null(column))
    }

    /// BLOB or BYTEA or null; shares the buffer.
    pub fn opt_blob(&self, column: &str) -> Result<Option<Bytes>, Error> {
        match self.get(column)? {
            Value::Blob(b) => Ok(Some(b.clone())),
            Value::Null => Ok(None),
            _ => Err(mistyped(column, "BLOB")),
        }
    }

    /// An encoded message, not null.
    ///
    /// # Errors
    /// `DATA_LOSS` `STORED_DATA_DAMAGED` when its bytes do not decode, see [`is_damaged`]; otherwise as [`Row::text`].
    pub fn message<M: Message + Default>(&self, column: &str) -> Result<M, Error> {
        self.opt_message(column)?.ok_or_else(|| null(column))
    }

    /// An encoded message or null.
    ///
    /// # Errors
    /// See [`Row::message`].
    pub fn opt_message<M: Message + Default>(&self, column: &str) -> Result<Option<M>, Error> {
        let bytes = self.opt_blob(column)?;
        bytes.map(|bytes| M::decode(bytes).map_err(|e| damaged(column, e))).transpose()
    }

    /// What a row takes from an encoded message, not null, if the message is the row's own: none from `own` when it is
    /// of another row, or empty.
    ///
    /// # Errors
    /// As [`Row::message`], also when the message is not the row's own.
    pub fn own_message<M: Message + Default, T>(
        &self,
        column: &str,
        own: impl FnOnce(M) -> Option<T>,
    ) -> Result<T, Error> {
        own(self.message(column)?).ok_or_else(|| damaged(column, "it is empty, or belongs to another row"))
    }

    /// A value as JSON in a TEXT or BLOB column, not null.
    ///
    /// # Errors
    /// As [`Row::message`].
    pub fn json<T: DeserializeOwned>(&self, column: &str) -> Result<T, Error> {
        self.opt_json(column)?.ok_or_else(|| null(column))
    }

    /// A value as JSON in a TEXT or BLOB column, or null.
    ///
    /// # Errors
    /// As [`Row::message`].
    pub fn opt_json<T: DeserializeOwned>(&self, column: &str) -> Result<Option<T>, Error> {
        let read = match self.get(column)? {
            Value::Null => return Ok(None),
            Value::Text(text) => serde_json::from_str(text),
            Value::Blob(bytes) => serde_json::from_slice(bytes),
            _ => return Err(mistyped(column, "TEXT")),
        };
        read.map(Some).map_err(|e| damaged(column, e))
    }
}

/// Whether an error is about the stored data of one row. Lists and watches go on without it, and show only which entity
/// it is.
pub fn is_damaged(error: &Error) -> bool {
    error.reason() == "STORED_DATA_DAMAGED"
}

fn damaged(column: &str, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(Code::DataLoss, "STORED_DATA_DAMAGED", format!("the stored column {column} cannot be decoded"))
        .next_action("run `foundry verify`, and restore the row from a backup")
        .caused_by(cause)
}

fn null(column: &str) -> Error {
    Error::internal(format!("column {column} is null"))
}

fn mistyped(column: &str, wanted: &str) -> Error {
    Error::internal(format!("column {column} is not {wanted}"))
}
