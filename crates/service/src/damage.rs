//! Stands for stored data that cannot be decoded: only the one entity shows it, and everything else goes on.

use bytes::Bytes;
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
    match transcript_part(row, column) {
        Err(error) if is_damaged(&error) => {
            tracing::debug!(id, column, %error, "a stored part of a conversation cannot be decoded");
            Ok(lost())
        }
        read => read,
    }
}

/// A stored part of a conversation, which always has a body.
///
/// # Errors
/// `STORED_DATA_DAMAGED` when it cannot be decoded; otherwise when the column cannot be read.
pub fn transcript_part(row: &Row, column: &str) -> Result<TranscriptPart> {
    row.own_message(column, |part: TranscriptPart| part.body.is_some().then_some(part))
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

/// What a row holds. Of one that cannot be decoded it is what stands for it: shown, and never written back.
#[derive(Debug)]
pub struct Stored<T> {
    /// The entity, or what stands for it.
    pub entity: T,
    damage: Option<Error>,
}

impl<T> Stored<T> {
    /// Reads an entity by its parts; those that may be damaged pass through [`Damage::part`].
    ///
    /// # Errors
    /// When a part cannot be read for another reason.
    pub fn of_parts(read: impl FnOnce(&mut Damage) -> Result<T>) -> Result<Self> {
        let mut damage = Damage::default();
        let entity = read(&mut damage)?;
        Ok(Self { entity, damage: damage.0 })
    }

    /// Whether it stands for what cannot be decoded.
    pub fn is_damaged(&self) -> bool {
        self.damage.is_some()
    }

    /// The entity, for what needs it whole.
    ///
    /// # Errors
    /// `STORED_DATA_DAMAGED` when a part cannot be decoded.
    pub fn whole(self) -> Result<T> {
        self.damage.map_or(Ok(self.entity), Err)
    }

    /// The entity as lists and watches show it: `mark` changes one that is damaged.
    pub fn shown(mut self, mark: impl FnOnce(&mut T)) -> T {
        if self.damage.is_some() {
            mark(&mut self.entity);
        }
        self.entity
    }
}

impl<M: Message + Default> Stored<M> {
    /// An entity as it was read by [`Row::own_message`]. Where its bytes cannot be decoded, or are not its own, `stand_in`
    /// makes what stands for it.
    ///
    /// # Errors
    /// When the column cannot be read, and those of `stand_in`.
    pub fn or(read: Result<M>, stand_in: impl FnOnce() -> Result<M>) -> Result<Self> {
        match read {
            Ok(entity) => Ok(Self { entity, damage: None }),
            Err(error) if is_damaged(&error) => Ok(Self { entity: stand_in()?, damage: Some(error) }),
            Err(error) => Err(error),
        }
    }

    /// The message as it is sent: the stored bytes, or those of what stands for them.
    ///
    /// # Errors
    /// When the column cannot be read.
    pub fn encoded(&self, row: &Row, column: &str) -> Result<Bytes> {
        if self.is_damaged() { Ok(self.entity.encode_to_vec().into()) } else { row.blob(column) }
    }
}

/// What of an entity cannot be decoded, while its other parts are read.
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
}

#[cfg(test)]
mod tests {
    use foundry_core::Code;
    use foundry_store::{DialectSql, Store, StoreOptions};

    use super::*;

    #[test]
    fn an_entity_with_a_damaged_part_is_shown_without_it_and_refused_where_it_must_be_whole() {
        let of_parts =
            |second: Result<i64>| Stored::of_parts(|damage| Ok((damage.part(Ok(3))?, damage.part(second)?)));
        let mark = |entity: &mut (i64, i64)| entity.1 = -1;
        let whole = || of_parts(Ok(4)).unwrap();
        assert!(!whole().is_damaged());
        assert_eq!((whole().whole().unwrap(), whole().shown(mark)), ((3, 4), (3, 4)));
        let damaged = || Error::new(Code::DataLoss, "STORED_DATA_DAMAGED", "the fold cannot be decoded");
        let broken = || of_parts(Err(damaged())).unwrap();
        assert!(broken().is_damaged());
        assert_eq!((broken().entity, broken().shown(mark)), ((3, 0), (3, -1)));
        assert_eq!(broken().whole().unwrap_err().reason(), "STORED_DATA_DAMAGED");
        assert_eq!(of_parts(Err(Error::internal("no such column"))).unwrap_err().reason(), "INTERNAL");
    }

    #[tokio::test]
    async fn a_message_that_cannot_be_decoded_or_is_of_another_entity_is_replaced_and_sent_as_its_stand_in() {
        let (dir, env) = (tempfile::tempdir().unwrap(), foundry_testkit::test_env().env);
        let url = format!("sqlite:{}", dir.path().join("things.db").display());
        let store = Store::connect(&url, &[], &env, StoreOptions::default()).await.unwrap();
        const MAKE: &str = "CREATE TABLE things (data BLOB)";
        store.write(DialectSql { sqlite: MAKE, postgres: MAKE }, &[]).await.unwrap();
        let of = |reason: &str| Condition { reason: reason.to_owned(), ..Condition::default() };
        let (own, foreign) = (of("own").encode_to_vec(), of("foreign").encode_to_vec());
        for (bytes, expected) in
            [(own, "own"), (foreign, "stand-in"), (vec![0xff; 3], "stand-in"), (vec![], "stand-in")]
        {
            const PUT: &str = "INSERT INTO things (data) VALUES ($1)";
            store.write(DialectSql { sqlite: PUT, postgres: PUT }, &[bytes.into()]).await.unwrap();
            let rows = store.query("SELECT data FROM things ORDER BY rowid DESC", &[]).await.unwrap();
            let own = |stored: Condition| (stored.reason == "own").then_some(stored);
            let stored = Stored::or(rows[0].own_message("data", own), || Ok(of("stand-in"))).unwrap();
            assert_eq!((stored.entity.reason.as_str(), stored.is_damaged()), (expected, expected != "own"));
            let sent = stored.encoded(&rows[0], "data").unwrap();
            assert_eq!(Condition::decode(sent).unwrap(), stored.entity);
        }
    }
}
