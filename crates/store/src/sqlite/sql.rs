//! SQLite texts of the operations: an insert writes many rows in one statement; others repeat their statement in one
//! text, which is passed to the connection's thread once.

use std::fmt::Write as _;

use crate::shape::{Action, Conditions, Shape};

/// Statements of more rows are split.
pub(crate) const MAX_ROWS: usize = 64;
/// SQLite's default limit is 32,766 parameters.
pub(crate) const MAX_PARAMS: usize = 16_000;

/// The text for `n` operations of a shape, with positional parameters.
pub(crate) fn text(shape: &Shape, n: usize) -> String {
    let mut sql = String::new();
    match shape.action {
        Action::Insert | Action::Upsert => insert(&mut sql, shape, n),
        _ => {
            for _ in 0..n {
                single(&mut sql, shape);
                sql.push(';');
            }
        }
    }
    sql
}

fn insert(sql: &mut String, shape: &Shape, n: usize) {
    let table = shape.table;
    // Writing to a String cannot fail; this holds for all writes here.
    let _ = write!(sql, "INSERT INTO {} ({}) VALUES ", table.name, table.columns.join(", "));
    let row = format!("({})", vec!["?"; table.columns.len()].join(", "));
    sql.push_str(&vec![row.as_str(); n].join(", "));
    if shape.action == Action::Upsert {
        sql.push_str(&on_conflict(shape));
    }
}

/// The same text on both databases.
pub(crate) fn on_conflict(shape: &Shape) -> String {
    let table = shape.table;
    let rest = table.columns.iter().filter(|c| !table.key.contains(c));
    let set: Vec<String> = rest.map(|c| format!("{c} = excluded.{c}")).collect();
    let action = if set.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {}", set.join(", ")) };
    format!(" ON CONFLICT ({}) DO {action}", table.key.join(", "))
}

fn single(sql: &mut String, shape: &Shape) {
    let table = shape.table.name;
    let key = shape.table.key.iter().copied();
    let set = shape.set.iter().map(|c| format!("{c} = ?")).collect::<Vec<_>>().join(", ");
    let keyed = filter(key, &shape.guards);
    let wide = filter(std::iter::empty(), &shape.guards);
    let _ = match shape.action {
        Action::Update => write!(sql, "UPDATE {table} SET {set} WHERE {keyed}"),
        Action::UpdateWhere => write!(sql, "UPDATE {table} SET {set} WHERE {wide}"),
        Action::Delete | Action::Remove => write!(sql, "DELETE FROM {table} WHERE {keyed}"),
        Action::DeleteWhere => write!(sql, "DELETE FROM {table} WHERE {wide}"),
        Action::Exists => write!(sql, "SELECT 1 WHERE EXISTS (SELECT 1 FROM {table} WHERE {wide})"),
        Action::Absent => write!(sql, "SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM {table} WHERE {wide})"),
        Action::CountBelow(_) => {
            write!(sql, "SELECT 1 WHERE (SELECT count(*) FROM {table} WHERE {wide}) < ?")
        }
        Action::Insert | Action::Upsert => Ok(()),
    };
}

fn filter(key: impl Iterator<Item = &'static str>, guards: &Conditions) -> String {
    let equal = key.chain(guards.equal.iter().copied()).map(|c| format!("{c} = ?"));
    let null = guards.null.iter().map(|c| format!("{c} IS NULL"));
    let all: Vec<String> = equal.chain(null).collect();
    if all.is_empty() { "1 = 1".to_owned() } else { all.join(" AND ") }
}

/// The text that raises `n` counters.
pub(crate) fn reserve(n: usize) -> String {
    format!(
        "INSERT INTO store_scopes (scope, rev) VALUES {} \
         ON CONFLICT (scope) DO UPDATE SET rev = store_scopes.rev + excluded.rev RETURNING scope, rev",
        vec!["(?, ?)"; n].join(", ")
    )
}
