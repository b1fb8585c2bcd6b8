//! The newest changes of one topic, and the rule by which a reader joins them.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::frames::{Broken, without_known};

/// One delta of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// Its body, shared by all who send it.
    pub(crate) body: Bytes,
    /// The position after it.
    pub(crate) to: i64,
}

/// Deltas that are shown together: one, or a chain up to the first without `more`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    /// The position that it continues: its changes are newer.
    from: i64,
    to: i64,
    pages: Vec<Page>,
    bytes: usize,
}

impl Group {
    /// The deltas that follow a position; none when there are none.
    pub(crate) fn new(from: i64, pages: Vec<Page>) -> Option<Self> {
        let to = pages.last()?.to;
        let bytes = pages.iter().map(|page| page.body.len()).sum();
        Some(Self { from, to, pages, bytes })
    }

    /// Its deltas in order.
    pub(crate) fn pages(&self) -> &[Page] {
        &self.pages
    }

    /// The same for one who has everything up to `position` already.
    pub(crate) fn beyond(&self, position: i64) -> Result<Self, Broken> {
        let mut pages = Vec::new();
        for page in &self.pages {
            let last = page.to == self.to;
            // A page that is wholly known says nothing, unless it ends the chain.
            if page.to > position || last {
                pages.push(Page { body: without_known(&page.body, position)?, to: page.to });
            }
        }
        let bytes = pages.iter().map(|page| page.body.len()).sum();
        Ok(Self { from: position, to: self.to, pages, bytes })
    }
}

/// Where a position stands to a ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// What followed it is forgotten: the owner must be asked.
    Below,
    /// This group comes next.
    Next {
        group: Arc<Group>,
        /// The position lies inside the group: changes up to it are known to the reader.
        inside: bool,
    },
    /// Nothing newer is known; the position may also be ahead of this ring.
    Current,
}

/// Groups without a hole between `start` and `head`, as many as the bytes allow.
#[derive(Debug)]
pub(crate) struct Ring {
    groups: VecDeque<Arc<Group>>,
    start: i64,
    head: i64,
    bytes: usize,
    most_bytes: usize,
}

impl Ring {
    /// An empty ring at a position.
    pub(crate) fn at(position: i64, most_bytes: usize) -> Self {
        Self { groups: VecDeque::new(), start: position, head: position, bytes: 0, most_bytes }
    }

    /// Up to where everything is known.
    pub(crate) fn head(&self) -> i64 {
        self.head
    }

    /// Bytes that its groups may have.
    pub(crate) fn most_bytes(&self) -> usize {
        self.most_bytes
    }

    /// Adds what came next. A group that is known is left out, one that is known in part is cut.
    pub(crate) fn push(&mut self, group: Group) -> Result<(), Broken> {
        if group.to <= self.head {
            return Ok(());
        }
        let group = if group.from < self.head { group.beyond(self.head)? } else { group };
        self.head = group.to;
        self.bytes += group.bytes;
        self.groups.push_back(Arc::new(group));
        while self.bytes > self.most_bytes
            && let Some(oldest) = self.groups.pop_front()
        {
            self.bytes -= oldest.bytes;
            self.start = oldest.to;
        }
        Ok(())
    }

    /// There is nothing between the head and this position.
    pub(crate) fn advance(&mut self, to: i64) {
        // The start stays: a reader that is there has everything as well.
        self.head = self.head.max(to);
    }

    /// What came up to this position is not kept.
    pub(crate) fn skip_to(&mut self, to: i64) {
        if to > self.head {
            *self = Self::at(to, self.most_bytes);
        }
    }

    /// What comes next for one who has everything up to `position`.
    pub(crate) fn place(&self, position: i64) -> Place {
        if position < self.start {
            return Place::Below;
        }
        let next = self.groups.partition_point(|group| group.to <= position);
        match self.groups.get(next) {
            Some(group) => Place::Next { group: Arc::clone(group), inside: group.from < position },
            None => Place::Current,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic::frames::delta;

    fn group(from: i64, versions: &[i64]) -> Group {
        let to = *versions.last().unwrap();
        Group::new(from, vec![Page { body: delta(to, versions, false), to }]).unwrap()
    }

    /// Groups 10..=12 and 13..=15; nothing was changed at 16 to 19; then 20.
    fn ring() -> Ring {
        let mut ring = Ring::at(9, 1 << 20);
        ring.push(group(9, &[10, 11, 12])).unwrap();
        ring.push(group(12, &[13, 15])).unwrap();
        ring.advance(19);
        ring.push(group(19, &[20])).unwrap();
        ring
    }

    fn next(place: &Place) -> Option<(i64, bool)> {
        match place {
            Place::Next { group, inside } => Some((group.to, *inside)),
            _ => None,
        }
    }

    #[test]
    fn a_reader_joins_at_the_first_group_that_is_news_to_it() {
        let ring = ring();
        assert_eq!(ring.place(8), Place::Below);
        assert_eq!(next(&ring.place(9)), Some((12, false)));
        assert_eq!(next(&ring.place(11)), Some((12, true)), "part of the group is known");
        assert_eq!(next(&ring.place(12)), Some((15, false)));
        assert_eq!(next(&ring.place(15)), Some((20, false)), "a bookmark at 19 is no hole");
        assert_eq!(next(&ring.place(17)), Some((20, false)));
        assert_eq!(ring.place(20), Place::Current);
        assert_eq!(ring.place(25), Place::Current, "it waits for the head");
    }

    #[test]
    fn one_that_is_ahead_is_given_only_what_it_lacks_once_the_head_has_passed_it() {
        let mut ring = ring();
        ring.push(group(20, &[21, 24, 26])).unwrap();
        let Place::Next { group, inside: true } = ring.place(25) else { panic!("it lies inside") };
        assert_eq!(group.beyond(25).unwrap().pages(), [Page { body: delta(26, &[26], false), to: 26 }]);
    }

    #[test]
    fn what_is_over_its_bytes_is_forgotten_from_the_oldest_on() {
        let one = group(9, &[10]).bytes;
        let mut ring = Ring::at(9, 2 * one);
        for version in 10..20 {
            ring.push(group(version - 1, &[version])).unwrap();
        }
        assert_eq!(ring.place(16), Place::Below);
        assert_eq!(next(&ring.place(17)), Some((18, false)));
        ring.skip_to(30);
        assert_eq!((ring.place(29), ring.place(30), ring.head()), (Place::Below, Place::Current, 30));
    }

    #[test]
    fn a_stream_that_replaces_another_repeats_nothing() {
        let mut ring = ring();
        ring.push(group(12, &[13, 15])).unwrap();
        ring.push(group(15, &[20, 22])).unwrap();
        let Place::Next { group: last, inside: false } = ring.place(20) else { panic!("22 is news") };
        assert_eq!(last.pages(), [Page { body: delta(22, &[22], false), to: 22 }]);
    }

    #[test]
    fn a_chain_is_cut_to_the_pages_that_are_news_and_always_ends() {
        let page = |versions: &[i64], more| {
            let to = *versions.last().unwrap();
            Page { body: delta(to, versions, more), to }
        };
        let chain = Group::new(0, vec![page(&[1, 2], true), page(&[4, 6], true), page(&[8], false)]).unwrap();
        assert_eq!(chain.beyond(4).unwrap().pages(), [page(&[6], true), page(&[8], false)]);
        let end = chain.beyond(8).unwrap();
        assert_eq!(end.pages(), [Page { body: delta(8, &[], false), to: 8 }]);
    }
}
