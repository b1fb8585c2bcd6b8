//! SQLite texts of the operations. Each writes or checks one row: where a statement costs no hand-over, many rows in one
//! statement save nothing.

use crate::shape::{Action, Conditions, Shape};

/// The text of an operation, with positional parameters.
pub(crate) fn text(shape: &Shape) -> String {
    let table = shape.table.name;
    let key = shape.table.key.iter().copied();
    let set = shape.set.iter().map(|c| format!("{c} = ?")).collect::<Vec<_>>().join(", ");
    let keyed = filter(key, &shape.guards);
    let wide = filter(std::iter::empty(), &shape.guards);
    match shape.action {
        Action::Insert => insert(shape),
        Action::Upsert => insert(shape) + &on_conflict(shape),
        Action::Update => format!("UPDATE {table} SET {set} WHERE {keyed}"),
        Action::UpdateWhere => format!("UPDATE {table} SET {set} WHERE {wide}"),
        Action::Delete | Action::Remove => format!("DELETE FROM {table} WHERE {keyed}"),
        Action::DeleteWhere => format!("DELETE FROM {table} WHERE {wide}"),
        Action::Exists => format!("SELECT 1 WHERE EXISTS (SELECT 1 FROM {table} WHERE {wide})"),
        Action::Absent => format!("SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM {table} WHERE {wide})"),
        Action::CountBelow(_) => {
            format!("SELECT 1 WHERE (SELECT count(*) FROM {table} WHERE {wide}) < ?")
        }
    }
}

fn insert(shape: &Shape) -> String {
    let (table, columns) = (shape.table.name, shape.table.columns);
    format!("INSERT INTO {table} ({}) VALUES ({})", columns.join(", "), vec!["?"; columns.len()].join(", "))
}

/// The same text on both databases.
pub(crate) fn on_conflict(shape: &Shape) -> String {
    let table = shape.table;
    let rest = table.columns.iter().filter(|c| !table.key.contains(c) && !table.fixed.contains(c));
    let set: Vec<String> = rest.map(|c| format!("{c} = excluded.{c}")).collect();
    let action = if set.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {}", set.join(", ")) };
    format!(" ON CONFLICT ({}) DO {action}", table.key.join(", "))
}

fn filter(key: impl Iterator<Item = &'static str>, guards: &Conditions) -> String {
    let equal = key.chain(guards.equal.iter().copied()).map(|c| format!("{c} = ?"));
    let null = guards.null.iter().map(|c| format!("{c} IS NULL"));
    let all: Vec<String> = equal.chain(null).collect();
    if all.is_empty() { "1 = 1".to_owned() } else { all.join(" AND ") }
}

/// Raises a counter.
pub(crate) const RESERVE: &str = "INSERT INTO store_scopes (scope, rev) VALUES (?, ?) \
     ON CONFLICT (scope) DO UPDATE SET rev = store_scopes.rev + excluded.rev RETURNING rev";
