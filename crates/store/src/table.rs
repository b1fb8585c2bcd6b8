//! A table's descriptor, which the store needs to write it: name, columns and key.

/// A table as its one writing service declares it: `pub const TASKS: Table = Table::new(…)`.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    pub(crate) name: &'static str,
    pub(crate) columns: &'static [&'static str],
    pub(crate) key: &'static [&'static str],
    pub(crate) fixed: &'static [&'static str],
}

impl Table {
    /// A table with the columns that inserts fill, in their order, and its primary key's columns.
    pub const fn new(
        name: &'static str,
        columns: &'static [&'static str],
        key: &'static [&'static str],
    ) -> Self {
        Self { name, columns, key, fixed: &[] }
    }

    /// The same table with columns whose values never change once a row is there: an upsert of a row that exists leaves
    /// them. SQLite writes each index of a column that an update names, whether or not its value differs.
    #[must_use]
    pub const fn with_fixed(mut self, fixed: &'static [&'static str]) -> Self {
        self.fixed = fixed;
        self
    }

    /// The name in the database.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The columns that an insert fills, in order.
    pub const fn columns(&self) -> &'static [&'static str] {
        self.columns
    }

    /// The primary key's columns, in order.
    pub const fn key(&self) -> &'static [&'static str] {
        self.key
    }

    pub(crate) fn position(&self, column: &str) -> Option<usize> {
        self.columns.iter().position(|c| *c == column)
    }
}

// Two descriptors of one table have the same shape only if they write the same columns.
impl PartialEq for Table {
    fn eq(&self, other: &Self) -> bool {
        // Usually they are the same constant, which this detects quickly.
        std::ptr::eq(self, other)
            || self.name == other.name
                && self.columns == other.columns
                && self.key == other.key
                && self.fixed == other.fixed
    }
}

impl Eq for Table {}

impl std::hash::Hash for Table {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}
