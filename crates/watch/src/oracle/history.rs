//! The true history of a view: every commit, and the state after each.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use bytes::Bytes;

/// The committed changes of one view, by revision.
#[derive(Clone, Debug, Default)]
pub struct History {
    commits: BTreeMap<i64, HashMap<String, Option<Bytes>>>,
}

impl History {
    /// Records a commit: each key's new encoded item, or none where the entity was deleted or left the view. The order
    /// of revisions does not matter.
    pub fn commit(&mut self, rev: i64, changes: impl IntoIterator<Item = (String, Option<Bytes>)>) {
        self.commits.entry(rev).or_default().extend(changes);
    }

    /// How many changes were recorded.
    pub fn changes(&self) -> usize {
        self.commits.values().map(HashMap::len).sum()
    }

    /// The newest revision recorded; 0 for none.
    pub fn head(&self) -> i64 {
        self.commits.keys().next_back().copied().unwrap_or(0)
    }

    /// How a commit changed a key, if it did.
    pub(crate) fn at(&self, rev: i64, key: &str) -> Option<&Option<Bytes>> {
        self.commits.get(&rev)?.get(key)
    }

    /// Whether a commit is recorded under this revision.
    pub(crate) fn has(&self, rev: i64) -> bool {
        self.commits.contains_key(&rev)
    }

    /// The state after each revision.
    pub(crate) fn replay(&self) -> Replayed<'_> {
        let mut held = Held::default();
        let mut digests = vec![(0, 0)];
        for (rev, changes) in &self.commits {
            for (key, item) in changes {
                held.put(key, item.as_ref().map(|item| (*rev, fingerprint(key, *rev, item))));
            }
            digests.push((*rev, held.digest()));
        }
        Replayed { history: self, digests }
    }
}

/// The digest of the state after each revision.
pub(crate) struct Replayed<'a> {
    pub(crate) history: &'a History,
    digests: Vec<(i64, u64)>,
}

impl Replayed<'_> {
    pub(crate) fn digest_at(&self, rev: i64) -> u64 {
        let after = self.digests.partition_point(|(r, _)| *r <= rev);
        after.checked_sub(1).map_or(0, |last| self.digests[last].1)
    }

    pub(crate) fn last_digest(&self) -> u64 {
        self.digests.last().map_or(0, |(_, digest)| *digest)
    }

    /// The rows as they were at a revision.
    pub(crate) fn state_at(&self, rev: i64) -> Held {
        let mut held = Held::default();
        for (rev, changes) in self.history.commits.range(..=rev) {
            for (key, item) in changes {
                held.put(key, item.as_ref().map(|item| (*rev, fingerprint(key, *rev, item))));
            }
        }
        held
    }
}

/// Rows held: version and fingerprint by key, with the digest of all kept up to date.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held {
    rows: HashMap<String, (i64, u64)>,
    digest: u64,
}

impl Held {
    pub(crate) fn put(&mut self, key: &str, row: Option<(i64, u64)>) {
        let old = match row {
            Some(row) => {
                self.digest ^= row.1;
                self.rows.insert(key.to_owned(), row)
            }
            None => self.rows.remove(key),
        };
        self.digest ^= old.map_or(0, |(_, fingerprint)| fingerprint);
    }

    pub(crate) fn version(&self, key: &str) -> Option<i64> {
        self.rows.get(key).map(|(version, _)| *version)
    }

    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    /// The first few keys held at another version than they should be.
    pub(crate) fn differences(&self, truth: &Held) -> String {
        let mut keys: Vec<_> = self.rows.keys().chain(truth.rows.keys()).collect();
        keys.sort();
        keys.dedup();
        let differ = keys.into_iter().filter(|key| self.rows.get(*key) != truth.rows.get(*key));
        let tell = |key: &String| format!("{key} is {:?}, not {:?}", self.version(key), truth.version(key));
        differ.take(4).map(tell).collect::<Vec<_>>().join("; ")
    }
}

pub(crate) fn fingerprint(key: &str, version: i64, item: &Bytes) -> u64 {
    let mut hasher = DefaultHasher::new();
    (key, version, &item[..]).hash(&mut hasher);
    hasher.finish()
}
