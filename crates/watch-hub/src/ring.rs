//! The newest cuts of a view, encoded: the fast path of watchers that keep up.
//!
//! A cut is the set of changes that one database read found between two heads. Cuts are contiguous: the ring covers
//! every revision after `start` up to `head`, or it is emptied.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use crate::body;
use crate::encoded::EncodedChange;

/// Largest delta body, unless one revision alone is larger.
pub(crate) const MAX_DELTA: usize = 64 * 1024;

struct Cut {
    to: i64,
    /// Their fields are slices of the body.
    changes: Vec<EncodedChange>,
    /// The whole cut as one delta.
    body: Bytes,
    bytes: usize,
}

/// What a watcher at some revision gets from the ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Older than the ring: read the database.
    Behind,
    /// Nothing is new up to this revision.
    Current(i64),
    /// A delta up to `to`; with `more`, not all of the new changes.
    Delta { body: Bytes, to: i64, more: bool },
}

pub(crate) struct Ring {
    start: i64,
    head: i64,
    cuts: VecDeque<Cut>,
    bytes: usize,
    max_bytes: usize,
    conflate: bool,
    /// The last merged delta, with its start and its head: watchers that lag often have the same position.
    merged: Option<(i64, i64, Next)>,
}

impl Ring {
    pub(crate) fn new(head: i64, max_bytes: usize, conflate: bool) -> Self {
        Self { start: head, head, cuts: VecDeque::new(), bytes: 0, max_bytes, conflate, merged: None }
    }

    pub(crate) fn head(&self) -> i64 {
        self.head
    }

    /// Whether fewer than `limit` changes came after `rev`.
    pub(crate) fn fewer_after(&self, rev: i64, limit: usize) -> bool {
        rev >= self.start && self.after(rev).map(|c| c.changes.len()).sum::<usize>() < limit
    }

    /// Appends all changes in the database between the ring's head and `to`. True if watchers must be woken.
    pub(crate) fn append(&mut self, to: i64, mut changes: Vec<EncodedChange>) -> bool {
        debug_assert!(to >= self.head, "the ring only moves forward");
        self.head = to;
        if changes.is_empty() {
            return false;
        }
        let body = body::delta(to, changes.iter(), false);
        let mut at = body.len() - changes.iter().map(|c| c.field.len()).sum::<usize>();
        let mut bytes = body.len();
        for change in &mut changes {
            let end = at + change.field.len();
            change.field = body.slice(at..end);
            at = end;
            bytes += size_of::<EncodedChange>() + change.key.len();
        }
        self.bytes += bytes;
        self.cuts.push_back(Cut { to, changes, body, bytes });
        while self.bytes > self.max_bytes {
            let Some(oldest) = self.cuts.pop_front() else { break };
            self.bytes -= oldest.bytes;
            self.start = oldest.to;
        }
        self.merged = None;
        true
    }

    /// Drops everything before `head`: the changes in between were not read in one transaction.
    pub(crate) fn restart(&mut self, head: i64) {
        *self = Self::new(head, self.max_bytes, self.conflate);
    }

    /// What a watcher that has seen everything up to `rev` gets next.
    pub(crate) fn next(&mut self, rev: i64) -> Next {
        if rev < self.start {
            return Next::Behind;
        }
        let at = self.first_after(rev);
        let Some(first) = self.cuts.get(at) else { return Next::Current(self.head.max(rev)) };
        let whole = first.changes.first().is_some_and(|c| c.version > rev);
        if whole && at + 1 == self.cuts.len() && first.body.len() <= MAX_DELTA {
            return Next::Delta { body: first.body.clone(), to: first.to, more: false };
        }
        if let Some((from, to, next)) = &self.merged
            && (*from, *to) == (rev, self.head)
        {
            return next.clone();
        }
        let next = self.merge(rev);
        self.merged = Some((rev, self.head, next.clone()));
        next
    }

    fn first_after(&self, rev: i64) -> usize {
        self.cuts.partition_point(|c| c.to <= rev)
    }

    fn after(&self, rev: i64) -> impl Iterator<Item = &Cut> {
        self.cuts.range(self.first_after(rev)..)
    }

    /// One delta from all cuts after `rev`: only the newest change of each key, unless every version must be sent.
    fn merge(&self, rev: i64) -> Next {
        let all = || self.after(rev).flat_map(|c| &c.changes).filter(|c| c.version > rev);
        let changes: Vec<&EncodedChange> = if self.conflate {
            let newest: HashMap<&str, i64> = all().map(|c| (c.key.as_str(), c.version)).collect();
            all().filter(|c| newest.get(c.key.as_str()) == Some(&c.version)).collect()
        } else {
            all().collect()
        };
        let sizes = changes.iter().map(|c| (c.version, c.field.len()));
        let (count, to) = page_end(rev, self.head, sizes, MAX_DELTA);
        let more = count < changes.len();
        let body = body::delta(to, changes[..count].iter().copied(), more);
        Next::Delta { body, to, more }
    }
}

/// How many of the changes (version and size, in order) fit into one frame, whole revisions only and at least one of
/// them, and the revision up to which they are complete: `to` if all fit.
pub(crate) fn page_end(
    rev: i64,
    to: i64,
    changes: impl Iterator<Item = (i64, usize)>,
    max_bytes: usize,
) -> (usize, i64) {
    let (mut bytes, mut seen) = (0, 0);
    let (mut whole, mut reached) = (0, rev);
    let mut current = None;
    for (version, size) in changes {
        if let Some(before) = current.filter(|c| *c != version) {
            (whole, reached) = (seen, before);
        }
        if bytes + size > max_bytes && whole > 0 {
            return (whole, reached);
        }
        (bytes, seen, current) = (bytes + size, seen + 1, Some(version));
    }
    (seen, to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use foundry_frame::{Frame, RawBody};
    use foundry_watch::{Change, Op};

    fn change(key: &str, version: i64, size: usize) -> EncodedChange {
        let op = Op::Upsert(vec![0; size].into());
        EncodedChange::new(Change { key: key.into(), version, op })
    }

    fn read(next: &Next) -> (Vec<(String, i64)>, i64, bool) {
        let Next::Delta { body, to, more } = next else { panic!("no delta: {next:?}") };
        let frame = Frame { seq: 1, from_rev: 0, body: body.clone() };
        let Some(RawBody::Delta(delta)) = frame.raw().unwrap().body else { panic!("no delta") };
        assert_eq!((delta.to_rev, delta.more), (*to, *more));
        (delta.changes.into_iter().map(|c| (c.key, c.version)).collect(), *to, *more)
    }

    #[test]
    fn hands_out_one_cut_without_copying_it() {
        let mut ring = Ring::new(10, 1 << 20, true);
        ring.append(11, vec![change("a", 11, 5)]);
        let (Next::Delta { body: one, .. }, Next::Delta { body: two, .. }) = (ring.next(10), ring.next(10))
        else {
            panic!("no delta")
        };
        assert_eq!(one.as_ptr(), two.as_ptr());
        assert_eq!(ring.next(11), Next::Current(11));
    }

    #[test]
    fn merges_cuts_to_the_newest_of_each_key_in_order_of_version() {
        let mut ring = Ring::new(0, 1 << 20, true);
        ring.append(2, vec![change("a", 1, 1), change("b", 2, 1)]);
        ring.append(4, vec![change("c", 3, 1), change("a", 4, 1)]);
        let expected = [("b", 2), ("c", 3), ("a", 4)].map(|(k, v)| (k.to_owned(), v)).to_vec();
        assert_eq!(read(&ring.next(0)), (expected, 4, false));
    }

    #[test]
    fn keeps_every_version_of_a_view_that_is_never_conflated() {
        let mut ring = Ring::new(0, 1 << 20, false);
        ring.append(1, vec![change("a", 1, 1)]);
        ring.append(2, vec![change("a", 2, 1)]);
        assert_eq!(read(&ring.next(0)).0.len(), 2);
    }

    #[test]
    fn sends_a_position_inside_a_cut_only_what_is_newer() {
        let mut ring = Ring::new(0, 1 << 20, true);
        ring.append(4, vec![change("a", 2, 1), change("b", 4, 1)]);
        assert_eq!(read(&ring.next(3)), (vec![("b".to_owned(), 4)], 4, false));
    }

    #[test]
    fn moves_its_head_without_a_frame_when_others_changed() {
        let mut ring = Ring::new(5, 1 << 20, true);
        assert!(!ring.append(9, Vec::new()));
        assert_eq!(ring.next(5), Next::Current(9));
        ring.append(10, vec![change("a", 10, 1)]);
        assert_eq!(read(&ring.next(5)).1, 10);
    }

    #[test]
    fn sends_those_older_than_its_oldest_cut_to_the_database() {
        let mut ring = Ring::new(0, 2_000, true);
        for rev in 1..=10 {
            ring.append(rev, vec![change("a", rev, 500)]);
        }
        assert_eq!(ring.next(0), Next::Behind);
        assert!(matches!(ring.next(9), Next::Delta { to: 10, .. }));
        ring.restart(20);
        assert_eq!((ring.next(10), ring.next(20)), (Next::Behind, Next::Current(20)));
    }

    #[test]
    fn splits_a_large_delta_between_revisions_only() {
        let mut ring = Ring::new(0, 1 << 20, true);
        let keys: Vec<String> = (0..12).map(|i| format!("k{i}")).collect();
        // Three revisions of four 10 kB rows each: 40 kB a revision, 64 kB a frame.
        let rows = keys.iter().zip(0..).map(|(k, i)| change(k, 1 + i / 4, 10_000)).collect();
        ring.append(3, rows);
        let (mut rev, mut parts) = (0, Vec::new());
        loop {
            let (changes, to, more) = read(&ring.next(rev));
            parts.push((changes.len(), to, more));
            rev = to;
            if !more {
                break;
            }
        }
        assert_eq!(parts, [(4, 1, true), (4, 2, true), (4, 3, false)]);
    }
}
