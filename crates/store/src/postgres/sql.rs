//! PostgreSQL texts of the operations. Values are bound as one array per column, so that one prepared statement serves
//! any number of rows.

use std::collections::HashMap;
use std::sync::Arc;

use crate::shape::{Action, Shape};
use crate::sqlite::on_conflict;

/// The type of an array parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Int,
    Blob,
}

impl Kind {
    /// The kind of a `data_type` in `information_schema.columns`; none for an unsupported type.
    pub(crate) fn parse(data_type: &str) -> Option<Self> {
        match data_type {
            "text" | "character varying" => Some(Self::Text),
            "bigint" | "integer" | "smallint" => Some(Self::Int),
            "bytea" => Some(Self::Blob),
            _ => None,
        }
    }

    fn array(self) -> &'static str {
        match self {
            Self::Text => "text[]",
            Self::Int => "bigint[]",
            Self::Blob => "bytea[]",
        }
    }
}

/// Column types by table.
pub(crate) type Types = HashMap<String, HashMap<String, Kind>>;

/// A text and the types of its array parameters, in bind order.
#[derive(Debug)]
pub(crate) struct Text {
    pub(crate) sql: Arc<str>,
    pub(crate) kinds: Vec<Kind>,
}

/// The text of a shape; none when a column is not known yet.
pub(crate) fn text(shape: &Shape, types: &Types) -> Option<Text> {
    let columns = shape.bound_columns();
    let known = types.get(shape.table.name)?;
    let mut kinds: Vec<Kind> = columns.iter().map(|c| known.get(*c).copied()).collect::<Option<_>>()?;
    if let Action::CountBelow(_) = shape.action {
        kinds.push(Kind::Int);
    }
    let rows = unnest(&kinds, columns.len());
    let sql = Writing { shape, rows: &rows, columns: &columns }.text();
    Some(Text { sql: sql.into(), kinds })
}

/// `UNNEST($1::text[], …) WITH ORDINALITY AS v (c0, …, i)`.
fn unnest(kinds: &[Kind], columns: usize) -> String {
    if kinds.is_empty() {
        // A guard or wide operation without conditions: one row.
        return "(SELECT 1::bigint AS i) AS v".to_owned();
    }
    let arrays: Vec<String> =
        kinds.iter().enumerate().map(|(i, k)| format!("${}::{}", i + 1, k.array())).collect();
    let mut names: Vec<String> = (0..columns).map(|i| format!("c{i}")).collect();
    if kinds.len() > columns {
        names.push("most".to_owned());
    }
    format!("UNNEST({}) WITH ORDINALITY AS v ({}, i)", arrays.join(", "), names.join(", "))
}

struct Writing<'a> {
    shape: &'a Shape,
    rows: &'a str,
    columns: &'a [&'static str],
}

impl Writing<'_> {
    fn text(&self) -> String {
        let Self { shape, rows, .. } = self;
        let table = shape.table.name;
        let assign: Vec<String> =
            shape.set.iter().enumerate().map(|(i, c)| format!("{c} = v.c{i}")).collect();
        let assign = assign.join(", ");
        let filter = self.filter(shape.set.len());
        match shape.action {
            Action::Insert => self.insert(),
            Action::Upsert => self.insert() + &on_conflict(shape),
            Action::Update | Action::UpdateWhere => {
                format!("UPDATE {table} AS t SET {assign} FROM {rows} WHERE {filter}")
            }
            Action::Delete | Action::Remove | Action::DeleteWhere => {
                format!("DELETE FROM {table} AS t USING {rows} WHERE {filter}")
            }
            // Locked, so that no other process can change the row before the commit.
            Action::Exists => format!(
                "SELECT v.i FROM {rows}, LATERAL (SELECT 1 FROM {table} AS t WHERE {filter} LIMIT 1 \
                 FOR NO KEY UPDATE) AS found"
            ),
            Action::Absent => {
                format!("SELECT v.i FROM {rows} WHERE NOT EXISTS (SELECT 1 FROM {table} AS t WHERE {filter})")
            }
            Action::CountBelow(_) => {
                format!(
                    "SELECT v.i FROM {rows} WHERE (SELECT count(*) FROM {table} AS t WHERE {filter}) < v.most"
                )
            }
        }
    }

    fn insert(&self) -> String {
        let values: Vec<String> = (0..self.columns.len()).map(|i| format!("v.c{i}")).collect();
        format!(
            "INSERT INTO {} ({}) SELECT {} FROM {}",
            self.shape.table.name,
            self.columns.join(", "),
            values.join(", "),
            self.rows
        )
    }

    /// Compares the columns after the first `from` ones.
    fn filter(&self, from: usize) -> String {
        let equal = self.columns.iter().enumerate().skip(from).map(|(i, c)| format!("t.{c} = v.c{i}"));
        let null = self.shape.guards.null.iter().map(|c| format!("t.{c} IS NULL"));
        let all: Vec<String> = equal.chain(null).collect();
        if all.is_empty() { "TRUE".to_owned() } else { all.join(" AND ") }
    }
}

pub(crate) const RESERVE: &str = "INSERT INTO store_scopes (scope, rev) \
     SELECT * FROM UNNEST($1::text[], $2::bigint[]) \
     ON CONFLICT (scope) DO UPDATE SET rev = store_scopes.rev + excluded.rev \
     RETURNING scope, rev, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

pub(crate) const LOCK: &str = "SELECT pg_advisory_xact_lock(k)::text FROM UNNEST($1::bigint[]) AS k";

pub(crate) const COLUMNS: &str = "SELECT table_name::text, column_name::text, data_type::text \
     FROM information_schema.columns WHERE table_schema = current_schema()";
