//! Verification of a database: every column with an encoded value is decoded once, and each row where that fails is
//! named, as is each row that others name and that is not there. Nothing is written, and no schema is migrated.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::str::FromStr as _;
use std::sync::Arc;

use foundry_core::{Error, Result};
use prost::Message;
use serde::de::DeserializeOwned;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _};

use crate::sqlite::Reader;
use crate::{Row, Table, Value, postgres};

/// Rows per statement.
const PAGE: usize = 200;

/// A column with encoded values. Each service lists its own, for [`verify`].
#[derive(Clone, Copy, Debug)]
pub struct Encoded {
    table: &'static Table,
    column: &'static str,
    check: fn(&Row, &str) -> Result<()>,
}

impl Encoded {
    /// A column with an encoded message, or NULL.
    pub const fn message<M: Message + Default>(table: &'static Table, column: &'static str) -> Self {
        Self { table, column, check: |row, column| row.opt_message::<M>(column).map(drop) }
    }

    /// A column with a value as JSON, or NULL.
    pub const fn json<T: DeserializeOwned>(table: &'static Table, column: &'static str) -> Self {
        Self { table, column, check: |row, column| row.opt_json::<T>(column).map(drop) }
    }

    /// A column with the row's own entity, read by the function that lists use. It sees only the key and this column.
    pub const fn entity(
        table: &'static Table,
        column: &'static str,
        check: fn(&Row, &str) -> Result<()>,
    ) -> Self {
        Self { table, column, check }
    }

    /// The rows after a key; none = from the first one.
    fn page(&self, after: Option<&[Value]>) -> String {
        let keys = self.table.key().join(", ");
        let mut sql = format!("SELECT {keys}, {} FROM {}", self.column, self.table.name());
        // Writing to a String cannot fail.
        if let Some(after) = after {
            let places: Vec<String> = (1..=after.len()).map(|n| format!("${n}")).collect();
            let _ = write!(sql, " WHERE ({keys}) > ({})", places.join(", "));
        }
        let _ = write!(sql, " ORDER BY {keys} LIMIT {PAGE}");
        sql
    }

    fn unreadable(&self, key: String, cause: String) -> Unreadable {
        Unreadable { table: self.table.name(), key, column: self.column, cause }
    }
}

/// Rows that must be there because others say so.
#[derive(Clone, Copy, Debug)]
pub struct Reference {
    /// The table of the rows that must be there.
    pub table: &'static str,
    /// Lists those that are not: their keys as `id`, and as `why` what says that they exist.
    pub sql: &'static str,
}

/// A stored value that cannot be decoded, or a row that is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Name of its table; empty when the file itself is damaged.
    pub table: &'static str,
    /// The values of its row's key, separated by slashes; empty when the table cannot be read at all.
    pub key: String,
    /// Name of its column; empty when the row is missing.
    pub column: &'static str,
    /// Why it cannot be decoded, or what says that the row exists.
    pub cause: String,
}

impl Unreadable {
    /// A row that is not there although something says that it exists.
    pub fn missing(table: &'static str, key: String, why: &str) -> Self {
        Self { table, key, column: "", cause: format!("the row is missing: {why}") }
    }

    /// Whether the whole row is missing.
    pub fn is_missing(&self) -> bool {
        self.column.is_empty() && !self.table.is_empty()
    }
}

enum Connection {
    Sqlite(Reader),
    Postgres(PgConnection),
}

impl Connection {
    async fn open(url: &str) -> Result<Self> {
        if url.starts_with("sqlite:") {
            let options = SqliteConnectOptions::from_str(url).map_err(Error::internal)?;
            return Reader::open(options.get_filename()).map(Self::Sqlite).map_err(Error::internal);
        }
        let options = url.parse::<PgConnectOptions>().map_err(Error::internal)?.disable_statement_logging();
        options.connect().await.map(Self::Postgres).map_err(Error::internal)
    }

    async fn query(&mut self, sql: String, params: &[Value]) -> Result<Vec<Row>, sqlx::Error> {
        match self {
            // Nothing else runs in the process that verifies.
            Self::Sqlite(reader) => {
                let awaited = Arc::new(());
                reader.long(&sql, params, &Arc::downgrade(&awaited))
            }
            Self::Postgres(connection) => postgres::query(connection, AssertSqlSafe(sql), params).await,
        }
    }

    /// What SQLite's own check of the file finds.
    async fn check_file(&mut self) -> Vec<Unreadable> {
        if !matches!(self, Self::Sqlite(_)) {
            return Vec::new();
        }
        let texts = match self.query("PRAGMA quick_check(20)".to_owned(), &[]).await {
            Ok(rows) => rows.iter().filter_map(|r| r.text("quick_check").ok().map(str::to_owned)).collect(),
            Err(e) => vec![e.to_string()],
        };
        let found = texts.into_iter().filter(|text| text != "ok");
        found.map(|cause| Unreadable { table: "", key: String::new(), column: "", cause }).collect()
    }

    async fn check_references(&mut self, reference: &Reference) -> Vec<Unreadable> {
        let text = |row: &Row, column| row.text(column).unwrap_or_default().to_owned();
        match self.query(reference.sql.to_owned(), &[]).await {
            Ok(rows) => rows
                .iter()
                .map(|row| Unreadable::missing(reference.table, text(row, "id"), &text(row, "why")))
                .collect(),
            Err(e) => {
                let (table, cause) = (reference.table, e.to_string());
                vec![Unreadable { table, key: String::new(), column: "", cause }]
            }
        }
    }

    async fn check(&mut self, encoded: &Encoded) -> Vec<Unreadable> {
        let (mut found, mut after) = (Vec::new(), None::<Vec<Value>>);
        loop {
            let sql = encoded.page(after.as_deref());
            let rows = match self.query(sql, after.as_deref().unwrap_or_default()).await {
                Ok(rows) => rows,
                Err(e) => {
                    found.push(encoded.unreadable(String::new(), e.to_string()));
                    return found;
                }
            };
            for row in &rows {
                if let Err(e) = (encoded.check)(row, encoded.column) {
                    let key: Vec<String> = key(encoded.table, row).iter().map(shown).collect();
                    found.push(encoded.unreadable(key.join("/"), cause(&e)));
                }
            }
            match rows.last() {
                Some(last) if rows.len() == PAGE => after = Some(key(encoded.table, last)),
                _ => return found,
            }
        }
    }
}

fn key(table: &Table, row: &Row) -> Vec<Value> {
    table.key().iter().filter_map(|column| row.get(column).ok().cloned()).collect()
}

fn shown(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        Value::Int(number) => number.to_string(),
        other => format!("{other:?}"),
    }
}

fn cause(error: &Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

/// The rows of a database, `sqlite:<path>` or `postgres://…`, in which one of these columns cannot be decoded.
///
/// # Errors
/// `INTERNAL` when the database cannot be opened.
pub async fn verify(url: &str, columns: &[Encoded]) -> Result<Vec<Unreadable>> {
    let mut connection = Connection::open(url).await?;
    let mut found = connection.check_file().await;
    for encoded in columns {
        found.extend(connection.check(encoded).await);
    }
    Ok(found)
}

/// The rows of a database that others name and that are not there. While services write it, a row may be named a moment
/// before or after it is there: only what two calls find is missing.
///
/// # Errors
/// `INTERNAL` when the database cannot be opened.
pub async fn missing(url: &str, references: &[Reference]) -> Result<Vec<Unreadable>> {
    let mut connection = Connection::open(url).await?;
    let mut found = Vec::new();
    for reference in references {
        found.extend(connection.check_references(reference).await);
    }
    Ok(found)
}

/// The column `id` of a query, for what no single database can show: which rows of one are missing in another.
///
/// # Errors
/// `INTERNAL` when the database cannot be opened, or does not have these tables.
pub async fn ids(url: &str, sql: &'static str) -> Result<BTreeSet<String>> {
    let rows = Connection::open(url).await?.query(sql.to_owned(), &[]).await.map_err(Error::internal)?;
    rows.iter().map(|row| row.text("id").map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use foundry_core::Env;
    use foundry_testkit::PostgresDatabase;

    use super::*;
    use crate::{Migration, Migrations, Store, StoreOptions, WriteSet};

    const DDL_SQLITE: &str = "CREATE TABLE notes (owner TEXT NOT NULL, n BIGINT NOT NULL, body BLOB NOT NULL, \
         extra TEXT, PRIMARY KEY (owner, n))";
    const DDL_POSTGRES: &str = "CREATE TABLE notes (owner TEXT NOT NULL, n BIGINT NOT NULL, body BYTEA NOT NULL, \
         extra TEXT, PRIMARY KEY (owner, n))";
    const MIGRATIONS: Migrations = Migrations {
        owner: "notes",
        steps: &[Migration { version: 1, name: "notes", sqlite: DDL_SQLITE, postgres: DDL_POSTGRES }],
    };
    static NOTES: Table = Table::new("notes", &["owner", "n", "body", "extra"], &["owner", "n"]);
    static COLUMNS: [Encoded; 2] =
        [Encoded::message::<Note>(&NOTES, "body"), Encoded::json::<Vec<i64>>(&NOTES, "extra")];

    /// A stored message.
    #[derive(Clone, PartialEq, prost::Message)]
    struct Note {
        #[prost(string, tag = "1")]
        text: String,
    }

    /// Names the two damaged rows among more than one page of them, and no other.
    async fn names_damaged_rows(url: &str) {
        let env = Env::system();
        let store = Store::connect(url, &[&MIGRATIONS], &env, StoreOptions::default()).await.unwrap();
        let mut ws = WriteSet::new();
        let rows = i64::try_from(PAGE).unwrap() + 7;
        for n in 0..rows {
            let mut body = Note { text: format!("note {n}") }.encode_to_vec();
            if n == rows - 2 {
                body[1] ^= 0x40;
            }
            let extra = if n == 3 { Value::from("[1,") } else { Value::Null };
            ws.insert(&NOTES, ["a".into(), n.into(), body.into(), extra]);
        }
        store.commit(ws).await.unwrap();
        store.close().await;
        let found = verify(url, &COLUMNS).await.unwrap();
        let named: Vec<_> = found.iter().map(|u| (u.table, u.key.as_str(), u.column)).collect();
        let late = format!("a/{}", rows - 2);
        assert_eq!(named, [("notes", late.as_str(), "body"), ("notes", "a/3", "extra")], "{found:?}");
    }

    #[tokio::test]
    async fn names_each_damaged_row_and_no_other_on_sqlite() {
        let dir = tempfile::tempdir().unwrap();
        names_damaged_rows(&format!("sqlite:{}", dir.path().join("x.db").display())).await;
    }

    #[tokio::test]
    async fn names_each_damaged_row_and_no_other_on_postgres() {
        names_damaged_rows(&PostgresDatabase::create().await.unwrap().url).await;
    }

    static OF_ENTITY: [Encoded; 1] = [Encoded::entity(&NOTES, "body", |row, column| {
        row.own_message(column, |note: Note| (!note.text.is_empty()).then_some(())).map(drop)
    })];
    static REFERENCES: [Reference; 1] = [Reference {
        table: "notes",
        sql: "SELECT 'a/1' AS id, 'there must be a first note' AS why \
              WHERE NOT EXISTS (SELECT 1 FROM notes WHERE owner = 'a' AND n = 1)",
    }];

    #[tokio::test]
    async fn an_entity_that_is_empty_is_damaged_and_a_row_that_must_be_there_is_missed() {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", dir.path().join("x.db").display());
        let store =
            Store::connect(&url, &[&MIGRATIONS], &Env::system(), StoreOptions::default()).await.unwrap();
        assert_eq!(missing(&url, &REFERENCES).await.unwrap()[0].key, "a/1");
        const SQL: &str = "INSERT INTO notes VALUES ('a', 1, x'', NULL)";
        store.write(crate::DialectSql { sqlite: SQL, postgres: SQL }, &[]).await.unwrap();
        assert_eq!(missing(&url, &REFERENCES).await.unwrap(), []);
        assert_eq!(verify(&url, &COLUMNS).await.unwrap(), [], "an empty message may be right");
        let found = verify(&url, &OF_ENTITY).await.unwrap();
        assert_eq!((found.len(), found[0].key.as_str(), found[0].is_missing()), (1, "a/1", false));
        assert_eq!(ids(&url, "SELECT owner AS id FROM notes").await.unwrap(), BTreeSet::from(["a".into()]));
        store.close().await;
    }

    #[tokio::test]
    async fn a_text_that_is_not_utf_8_harms_its_own_row_only() {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", dir.path().join("x.db").display());
        let store =
            Store::connect(&url, &[&MIGRATIONS], &Env::system(), StoreOptions::default()).await.unwrap();
        const SQL: &str =
            "INSERT INTO notes VALUES ('a', 1, x'', CAST(x'5bff5d' AS TEXT)), ('a', 2, x'', '[2]')";
        store.write(crate::DialectSql { sqlite: SQL, postgres: SQL }, &[]).await.unwrap();
        let rows = store.query("SELECT extra FROM notes ORDER BY n", &[]).await.unwrap();
        assert!(crate::is_damaged(&rows[0].text("extra").unwrap_err()));
        assert_eq!(rows[1].json::<Vec<i64>>("extra").unwrap(), [2]);
        store.close().await;
        assert_eq!(verify(&url, &COLUMNS).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_table_that_is_not_there_is_reported_and_nothing_is_created() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        let url = format!("sqlite:{}", path.display());
        assert!(verify(&url, &COLUMNS).await.is_err());
        assert!(!path.exists());
        std::fs::write(&path, "").unwrap();
        let found = verify(&url, &COLUMNS).await.unwrap();
        assert_eq!(found.len(), COLUMNS.len(), "{found:?}");
        assert!(found[0].cause.contains("no such table"), "{found:?}");
    }
}
