//! Assigns revisions: one per write set and scope, in the order of the queue.

use std::collections::BTreeMap;

use crate::WriteSet;

/// The revisions that a batch needs: one per write set and scope, the counters in key order.
pub(crate) struct Wanted<'a> {
    users: BTreeMap<&'a str, Vec<(usize, usize)>>,
    revisions: Vec<Vec<i64>>,
}

impl<'a> Wanted<'a> {
    pub(crate) fn of(sets: &[Option<&'a WriteSet>]) -> Self {
        let mut users: BTreeMap<&str, Vec<(usize, usize)>> = BTreeMap::new();
        for (owner, set) in sets.iter().enumerate() {
            for (at, scope) in set.iter().flat_map(|s| s.scopes.iter().enumerate()) {
                users.entry(scope.as_str()).or_default().push((owner, at));
            }
        }
        let revisions = sets.iter().map(|s| vec![0; s.map_or(0, |s| s.scopes.len())]).collect();
        Self { users, revisions }
    }

    pub(crate) fn amounts(&self) -> Vec<(&'a str, i64)> {
        let amount = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.users.iter().map(|(scope, users)| (*scope, amount(users.len()))).collect()
    }

    /// Within a scope, revisions are assigned in the order the write sets were queued.
    pub(crate) fn hand_out(&mut self, newest: Vec<(String, i64)>) -> Result<Vec<Vec<i64>>, sqlx::Error> {
        for (scope, newest) in newest {
            let users = self.users.remove(scope.as_str()).unwrap_or_default();
            for ((owner, at), rev) in users.into_iter().rev().zip((1..=newest).rev()) {
                self.revisions[owner][at] = rev;
            }
        }
        match self.users.keys().next() {
            None => Ok(std::mem::take(&mut self.revisions)),
            Some(scope) => Err(sqlx::Error::Protocol(format!("no revision came back for {scope}"))),
        }
    }
}
