//! The current rows of a view: for programs that show it, and for tests.

use std::collections::BTreeMap;

use crate::{Change, Event, Op, Position};

/// The rows of a view after the events applied so far.
#[derive(Clone, Debug, PartialEq)]
pub struct State<T> {
    rows: BTreeMap<String, (i64, T)>,
    position: Position,
}

impl<T> Default for State<T> {
    fn default() -> Self {
        Self { rows: BTreeMap::new(), position: Position::default() }
    }
}

impl<T: Clone> State<T> {
    /// Applies an event; true if rows changed.
    pub fn apply(&mut self, event: &Event<T>) -> bool {
        match event {
            Event::Snapshot { rows, position } => {
                self.rows.clear();
                rows.iter().for_each(|row| self.change(row));
                self.position = position.clone();
                true
            }
            Event::Delta { changes, position } => {
                changes.iter().for_each(|change| self.change(change));
                self.position = position.clone();
                !changes.is_empty()
            }
            Event::CaughtUp { position } => {
                self.position = position.clone();
                false
            }
            _ => false,
        }
    }

    fn change(&mut self, change: &Change<T>) {
        match &change.op {
            Op::Upsert(item) => {
                self.rows.insert(change.key.clone(), (change.version, item.clone()));
            }
            Op::Deleted | Op::LeftView => {
                self.rows.remove(&change.key);
            }
        }
    }

    /// The row of a key.
    pub fn get(&self, key: &str) -> Option<&T> {
        self.rows.get(key).map(|(_, item)| item)
    }

    /// All rows by key, with the revision of each.
    pub fn rows(&self) -> &BTreeMap<String, (i64, T)> {
        &self.rows
    }

    /// The position that the rows are at.
    pub fn position(&self) -> &Position {
        &self.position
    }
}
