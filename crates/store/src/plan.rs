//! Packs the operations of queued write sets into rounds of multi-row statements.
//!
//! Within a round all guards are checked first, then the rows are written grouped by shape. That
//! equals applying the write sets one after the other only if no two of them touch one key and no
//! guard could read an earlier one's rows; where that is not certain, a new round begins.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::shape::{Operation, Shape};
use crate::{Table, Value, WriteSet};

/// Operations of one shape: one statement, or a few where the database limits its size.
pub(crate) struct Group<'a> {
    pub(crate) shape: &'a Shape,
    pub(crate) rows: Vec<PlannedRow<'a>>,
}

pub(crate) struct PlannedRow<'a> {
    /// The index of the write set in the batch.
    pub(crate) owner: usize,
    pub(crate) operation: &'a Operation,
}

/// Operations that are executed together: guards, then rows.
#[derive(Default)]
pub(crate) struct Round<'a> {
    pub(crate) groups: Vec<Group<'a>>,
    guards: usize,
    touched: HashMap<(&'static str, u64), usize>,
    keys: HashMap<&'static str, &'static [&'static str]>,
    written: HashMap<&'static str, Vec<(usize, &'a Operation)>>,
    wide: bool,
}

impl<'a> Round<'a> {
    /// Adds a whole write set, or returns false if it must wait for the next round.
    pub(crate) fn try_add(&mut self, owner: usize, set: &'a WriteSet) -> bool {
        if !self.groups.is_empty() && self.clashes(owner, set) {
            return false;
        }
        for guard in &set.guards {
            let at = self.place(owner, guard, 0, self.guards);
            self.guards = self.guards.max(at + 1);
        }
        let mut at = self.guards;
        for operation in &set.operations {
            let repeated = self.note(owner, operation);
            at = self.place(owner, operation, at + usize::from(repeated), self.groups.len());
        }
        true
    }

    /// Puts an operation into the first group of its shape at or after `from`; guards stay in
    /// front of rows. Returns where it went.
    fn place(&mut self, owner: usize, operation: &'a Operation, from: usize, end: usize) -> usize {
        let row = PlannedRow { owner, operation };
        let found = self.groups[from.min(end)..end].iter().position(|g| *g.shape == operation.shape);
        if let Some(i) = found {
            let at = from + i;
            self.groups[at].rows.push(row);
            return at;
        }
        self.groups.insert(end, Group { shape: &operation.shape, rows: vec![row] });
        end
    }

    /// Records the rows that an operation touches; true if its own write set touched them before.
    fn note(&mut self, owner: usize, operation: &'a Operation) -> bool {
        let table = operation.shape.table;
        self.wide |= operation.shape.is_wide();
        self.keys.entry(table.name).or_insert(table.key);
        self.written.entry(table.name).or_default().push((owner, operation));
        match key_hash(owner, operation) {
            Some(hash) => self.touched.insert((table.name, hash), owner).is_some(),
            None => true,
        }
    }

    fn clashes(&self, owner: usize, set: &WriteSet) -> bool {
        if self.wide || set.operations.iter().any(|o| o.shape.is_wide()) {
            return true;
        }
        let same_row = set.operations.iter().any(|o| {
            let table = o.shape.table;
            let other_key = self.keys.get(table.name).is_some_and(|k| *k != table.key);
            other_key || key_hash(owner, o).is_some_and(|h| self.touched.contains_key(&(table.name, h)))
        });
        same_row || set.guards.iter().any(|g| self.may_be_read_by(g))
    }

    /// Whether a guard could see a row that this round has written before it.
    fn may_be_read_by(&self, guard: &Operation) -> bool {
        let table: &Table = guard.shape.table;
        let Some(written) = self.written.get(table.name) else { return false };
        written.iter().any(|(_, operation)| {
            let equal = guard.shape.guards.equal.iter().zip(&guard.values);
            let differs = equal.filter_map(|(c, v)| operation.value_of(c).map(|w| w != v)).any(|d| d);
            let set = guard.shape.guards.null.iter();
            let differs = differs || set.filter_map(|c| operation.value_of(c)).any(|w| !w.is_null());
            !differs
        })
    }
}

/// Placeholders differ between write sets: each reserves a revision of its own.
fn key_hash(owner: usize, operation: &Operation) -> Option<u64> {
    let key = operation.key()?;
    let mut hasher = DefaultHasher::new();
    for value in key {
        value.hash(&mut hasher);
        if matches!(value, Value::Rev(_)) {
            owner.hash(&mut hasher);
        }
    }
    Some(hasher.finish())
}
