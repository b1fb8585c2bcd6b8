//! The revisions of a commit.

use crate::{RevRef, Scope};

/// A committed write set: the revision it took in each of its scopes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    pub(crate) revisions: Vec<(Scope, i64)>,
}

impl Committed {
    pub(crate) fn new(scopes: Vec<Scope>, revisions: Vec<i64>) -> Self {
        Self { revisions: scopes.into_iter().zip(revisions).collect() }
    }

    /// The revision behind a reference of the write set that was committed; 0 for a reference of
    /// another write set.
    pub fn rev(&self, reference: RevRef) -> i64 {
        self.revisions.get(reference.0 as usize).map_or(0, |(_, rev)| *rev)
    }

    /// The revision taken in a scope, if it was one of the write set's.
    pub fn scope_rev(&self, scope: &Scope) -> Option<i64> {
        self.revisions.iter().find(|(s, _)| s == scope).map(|(_, rev)| *rev)
    }
}
