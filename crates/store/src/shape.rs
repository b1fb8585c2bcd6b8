//! The shape of an operation: everything its SQL text depends on, without its values. Operations of one shape are
//! executed as one multi-row statement.

use crate::{Table, Value};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    Insert,
    Upsert,
    /// Affects exactly one row.
    Update,
    /// Affects exactly one row.
    Delete,
    /// Affects at most one row.
    Remove,
    /// Affects any number of rows.
    UpdateWhere,
    /// Affects any number of rows.
    DeleteWhere,
    Exists,
    Absent,
    /// Contains the limit's name; the limit itself is the last value.
    CountBelow(&'static str),
}

/// Columns compared to values; null ones are separate, since `= NULL` is never true.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Conditions {
    pub(crate) equal: Vec<&'static str>,
    pub(crate) null: Vec<&'static str>,
}

impl Conditions {
    /// Appends the values to bind and returns the columns.
    pub(crate) fn split(conditions: &[(&'static str, Value)], values: &mut Vec<Value>) -> Self {
        let mut split = Self::default();
        for (column, value) in conditions {
            if value.is_null() {
                split.null.push(column);
            } else {
                split.equal.push(column);
                values.push(value.clone());
            }
        }
        split
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    pub(crate) action: Action,
    pub(crate) table: &'static Table,
    /// Columns set by an update.
    pub(crate) set: Vec<&'static str>,
    pub(crate) guards: Conditions,
}

impl Shape {
    /// Columns of the values in bind order.
    pub(crate) fn bound_columns(&self) -> Vec<&'static str> {
        let mut columns = Vec::new();
        match self.action {
            Action::Insert | Action::Upsert => columns.extend_from_slice(self.table.columns),
            Action::Update => {
                columns.extend_from_slice(&self.set);
                columns.extend_from_slice(self.table.key);
            }
            Action::UpdateWhere => columns.extend_from_slice(&self.set),
            Action::Delete | Action::Remove => columns.extend_from_slice(self.table.key),
            Action::DeleteWhere | Action::Exists | Action::Absent | Action::CountBelow(_) => {}
        }
        columns.extend_from_slice(&self.guards.equal);
        columns
    }

    /// Whether it writes whole rows, many in one statement.
    pub(crate) fn is_row(&self) -> bool {
        matches!(self.action, Action::Insert | Action::Upsert)
    }

    pub(crate) fn is_guard(&self) -> bool {
        matches!(self.action, Action::Exists | Action::Absent | Action::CountBelow(_))
    }

    /// Whether it may affect rows other than that of its key.
    pub(crate) fn is_wide(&self) -> bool {
        matches!(self.action, Action::UpdateWhere | Action::DeleteWhere)
    }

    /// Whether each operation must affect exactly one row (a guard that holds counts as one).
    pub(crate) fn is_exact(&self) -> bool {
        // An upsert into a table with only key columns may affect no row.
        !matches!(self.action, Action::Upsert | Action::Remove | Action::UpdateWhere | Action::DeleteWhere)
    }
}

/// One guard or row of a write set.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) shape: Shape,
    /// In the order of [`Shape::bound_columns`]; a count guard's limit comes last.
    pub(crate) values: Vec<Value>,
    pub(crate) tag: Option<&'static str>,
}

impl Operation {
    /// The key values, where the operation addresses one row by its key.
    pub(crate) fn key(&self) -> Option<Vec<&Value>> {
        let table = self.shape.table;
        let from = match self.shape.action {
            Action::Insert | Action::Upsert => {
                return table
                    .key
                    .iter()
                    .map(|c| table.position(c).and_then(|i| self.values.get(i)))
                    .collect();
            }
            Action::Update => self.shape.set.len(),
            Action::Delete | Action::Remove => 0,
            _ => return None,
        };
        self.values.get(from..from + table.key.len()).map(|k| k.iter().collect())
    }

    /// The value that the row has in a column after this operation, if that is known.
    pub(crate) fn value_of(&self, column: &str) -> Option<&Value> {
        let table = self.shape.table;
        match self.shape.action {
            Action::Insert => table.position(column).and_then(|i| self.values.get(i)),
            _ => {
                let at = table.key.iter().position(|c| *c == column)?;
                self.key()?.get(at).copied()
            }
        }
    }
}
