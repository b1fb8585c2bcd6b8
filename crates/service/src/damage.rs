//! Stands for stored data that cannot be decoded: only the one entity shows it, and everything else goes on.

use foundry_core::{Error, Result};
use foundry_proto::common::v1::transcript_part::Body;
use foundry_proto::common::v1::{Condition, Notice, NoticeKind, TranscriptPart};
use foundry_store::{Row, is_damaged};
use prost::Message;

/// The condition of an entity whose stored data cannot be decoded.
pub fn damaged_condition() -> Condition {
    Condition {
        reason: "STORED_DATA_DAMAGED".to_owned(),
        message: "its stored data cannot be decoded".to_owned(),
        next_action: "run `foundry verify`, and restore the row from a backup".to_owned(),
        ..Condition::default()
    }
}

/// A name or title for an entity whose own one cannot be decoded.
pub fn damaged_name(id: &str) -> String {
    format!("unreadable {id}")
}

/// A stored message; none when its bytes cannot be decoded, which is logged.
///
/// # Errors
/// When the column cannot be read.
pub fn readable<M: Message + Default>(row: &Row, column: &str, id: &str) -> Result<Option<M>> {
    match row.message(column) {
        Ok(message) => Ok(Some(message)),
        Err(error) if is_damaged(&error) => {
            // It is shown; `foundry verify` lists all of them.
            tracing::debug!(id, column, %error, "a stored message cannot be decoded; it is shown as unreadable");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// A stored condition, or [`damaged_condition`].
///
/// # Errors
/// When the column cannot be read.
pub fn stored_condition(row: &Row, column: &str, id: &str) -> Result<Condition> {
    Ok(readable(row, column, id)?.unwrap_or_else(damaged_condition))
}

/// A stored part of a conversation, or a notice in its place.
///
/// # Errors
/// When the column cannot be read.
pub fn stored_part(row: &Row, column: &str, id: &str) -> Result<TranscriptPart> {
    let lost = || TranscriptPart {
        body: Some(Body::Notice(Notice {
            kind: NoticeKind::EventsLost.into(),
            message: "part of the stored conversation is damaged and cannot be read".to_owned(),
        })),
        ..TranscriptPart::default()
    };
    Ok(readable(row, column, id)?.unwrap_or_else(lost))
}

/// Reads rows for what goes through many of them, and leaves out those that cannot be decoded, which is logged with the
/// column `id`.
///
/// # Errors
/// When a row cannot be read for another reason.
pub fn readable_rows<T>(rows: &[Row], id: &str, read: impl Fn(&Row) -> Result<T>) -> Result<Vec<T>> {
    let kept = rows.iter().filter_map(|row| match read(row) {
        Err(error) if is_damaged(&error) => {
            tracing::debug!(id = row.text(id).unwrap_or_default(), %error, "a stored row cannot be decoded; it is left out");
            None
        }
        read => Some(read),
    });
    kept.collect()
}

/// What of a row cannot be decoded, while its other parts are read.
#[derive(Debug, Default)]
pub struct Damage(Option<Error>);

impl Damage {
    /// A part, or nothing in its place when it cannot be decoded.
    ///
    /// # Errors
    /// When the column cannot be read.
    pub fn part<T: Default>(&mut self, read: Result<T>) -> Result<T> {
        match read {
            Err(error) if is_damaged(&error) => {
                self.0 = Some(error);
                Ok(T::default())
            }
            read => read,
        }
    }

    /// The error for a row of which a part cannot be decoded.
    pub fn into_error(self) -> Option<Error> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_part_is_replaced_and_remembered_and_another_failure_is_passed_on() {
        let damaged = || Err(Error::new(foundry_core::Code::DataLoss, "STORED_DATA_DAMAGED", "x"));
        let mut damage = Damage::default();
        assert_eq!(damage.part::<i64>(Ok(3)).unwrap(), 3);
        assert!(damage.part::<i64>(Err(Error::internal("broken"))).is_err());
        assert_eq!(damage.part::<i64>(damaged()).unwrap(), 0);
        assert!(damage.into_error().is_some());
        assert!(Damage::default().into_error().is_none());
    }
}
