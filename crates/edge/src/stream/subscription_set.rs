//! The set of watches of one stream and its numbered changes, shared by the stream and the calls
//! that change it.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, MutexGuard};

use foundry_core::{Error, Result};
use foundry_proto::edge::v1::Subscription;
use tokio::sync::Notify;

use crate::watch_request::MAX_REQUEST_BYTES;

/// Most watches of one stream at a time.
pub(crate) const MAX_WATCHES: usize = 256;
/// Most stretches of used numbers that are remembered of one stream.
const MAX_STRETCHES: usize = 4_096;

/// The set of one stream.
#[derive(Debug, Default)]
pub(crate) struct SubscriptionSet {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Newest change that is taken, and newest that is in force.
    taken: u64,
    in_force: u64,
    used: Numbers,
    /// Watches that have not ended.
    open: HashSet<u32>,
    add: Vec<Subscription>,
    remove: Vec<u32>,
}

/// What the stream has to do.
#[derive(Debug, PartialEq)]
pub(crate) struct Changes {
    pub(crate) add: Vec<Subscription>,
    pub(crate) remove: Vec<u32>,
    /// The numbers of the changes that are in force by it.
    pub(crate) versions: std::ops::RangeInclusive<u64>,
}

impl SubscriptionSet {
    /// The set to begin with.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`, or `RESOURCE_EXHAUSTED` when it is too large, for the request as a whole.
    pub(crate) fn new(subscriptions: Vec<Subscription>) -> Result<Self> {
        let set = Self::default();
        {
            let mut state = set.lock();
            check(&subscriptions, &state.used, "subscriptions")?;
            bound(0, subscriptions.len())?;
            state.enter(subscriptions)?;
        }
        Ok(set)
    }

    /// Takes a change; returns the newest that is taken.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` when one before it is missing, `INVALID_ARGUMENT`, or `RESOURCE_EXHAUSTED` when the set
    /// were too large.
    pub(crate) fn modify(&self, version: u64, add: Vec<Subscription>, remove: &[u32]) -> Result<u64> {
        let mut state = self.lock();
        if version <= state.taken {
            return if version == 0 {
                Err(Error::invalid_field("version", "must be above 0"))
            } else {
                Ok(state.taken)
            };
        }
        if version != state.taken + 1 {
            return Err(gap(state.taken));
        }
        check(&add, &state.used, "add")?;
        if remove.len() > MAX_WATCHES {
            return Err(Error::invalid_field("remove", format!("has more than {MAX_WATCHES} entries")));
        }
        let leaving: HashSet<u32> = remove.iter().copied().filter(|id| state.open.contains(id)).collect();
        bound(state.open.len() - leaving.len(), add.len())?;
        state.enter(add)?;
        state.leave(&leaving);
        state.taken = version;
        drop(state);
        self.changed.notify_one();
        Ok(version)
    }

    /// Completes when there are changes. Safe to drop at any time.
    pub(crate) async fn wait(&self) {
        while !self.lock().has_news() {
            self.changed.notified().await;
        }
    }

    /// What is to be done; it counts as in force.
    pub(crate) fn take(&self) -> Changes {
        let mut state = self.lock();
        let versions = state.in_force + 1..=state.taken;
        state.in_force = state.taken;
        Changes { add: std::mem::take(&mut state.add), remove: std::mem::take(&mut state.remove), versions }
    }

    /// A watch has ended by itself.
    pub(crate) fn ended(&self, sub_id: u32) {
        self.lock().open.remove(&sub_id);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change leaves it whole.
        foundry_core::lock(&self.state)
    }
}

impl State {
    fn has_news(&self) -> bool {
        self.taken != self.in_force || !self.add.is_empty()
    }

    fn enter(&mut self, subscriptions: Vec<Subscription>) -> Result<()> {
        if self.used.stretches() + subscriptions.len() > MAX_STRETCHES {
            let have = self.used.stretches() as u64;
            let limit = Error::quota("sub_id_stretches", "stream", have, MAX_STRETCHES as u64);
            return Err(limit.next_action("open a new stream and number its watches from 1"));
        }
        for subscription in &subscriptions {
            self.used.insert(subscription.sub_id);
            self.open.insert(subscription.sub_id);
        }
        self.add.extend(subscriptions);
        Ok(())
    }
}

impl State {
    fn leave(&mut self, leaving: &HashSet<u32>) {
        self.open.retain(|id| !leaving.contains(id));
        let mut begun = leaving.clone();
        // What the stream has not begun yet needs no end.
        self.add.retain(|subscription| !begun.remove(&subscription.sub_id));
        self.remove.extend(begun);
    }
}

fn bound(open: usize, more: usize) -> Result<()> {
    if open + more <= MAX_WATCHES {
        return Ok(());
    }
    let limit = Error::quota("watches_per_stream", "stream", (open + more) as u64, MAX_WATCHES as u64);
    Err(limit.next_action("remove watches you no longer need"))
}

fn check(subscriptions: &[Subscription], used: &Numbers, field: &str) -> Result<()> {
    let mut seen = HashSet::new();
    for Subscription { sub_id, request, .. } in subscriptions {
        if *sub_id == 0 {
            return Err(Error::invalid_field(format!("{field}.sub_id"), "must be above 0"));
        }
        if used.contains(*sub_id) || !seen.insert(*sub_id) {
            let text = format!("{sub_id} was already used on this stream");
            return Err(Error::invalid_field(format!("{field}.sub_id"), text));
        }
        if request.len() > MAX_REQUEST_BYTES {
            let text = format!("is longer than {MAX_REQUEST_BYTES} bytes");
            return Err(Error::invalid_field(format!("{field}.request"), text));
        }
    }
    Ok(())
}

fn gap(taken: u64) -> Error {
    let text = format!("the last accepted change is {taken}");
    Error::precondition("WATCH_SET_GAP", "stream", text)
        .with("version", taken.to_string())
        .next_action("send the following changes in order, or open a new stream with the full set")
}

/// Numbers as stretches without a hole: start and end.
#[derive(Debug, Default)]
struct Numbers(BTreeMap<u32, u32>);

impl Numbers {
    fn contains(&self, number: u32) -> bool {
        self.0.range(..=number).next_back().is_some_and(|(_, end)| *end >= number)
    }

    /// Adds a number that it does not contain.
    fn insert(&mut self, number: u32) {
        let end = number.checked_add(1).and_then(|next| self.0.remove(&next)).unwrap_or(number);
        match self.0.range_mut(..number).next_back() {
            Some((_, before)) if *before + 1 == number => *before = end,
            _ => {
                self.0.insert(number, end);
            }
        }
    }

    fn stretches(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use foundry_core::Code;

    use super::*;

    fn of(sub_ids: &[u32]) -> Vec<Subscription> {
        sub_ids.iter().map(|id| Subscription { sub_id: *id, ..Default::default() }).collect()
    }

    fn ids(subscriptions: &[Subscription]) -> Vec<u32> {
        subscriptions.iter().map(|s| s.sub_id).collect()
    }

    #[test]
    fn changes_are_taken_once_and_in_order() {
        let subscriptions = SubscriptionSet::new(of(&[1, 2])).unwrap();
        assert_eq!(ids(&subscriptions.take().add), [1, 2]);
        assert_eq!(subscriptions.modify(1, of(&[3]), &[1]).unwrap(), 1);
        assert_eq!(subscriptions.modify(1, of(&[4]), &[2]).unwrap(), 1, "a repeat changes nothing");
        let gap = subscriptions.modify(3, of(&[4]), &[]).unwrap_err();
        assert_eq!((gap.code(), gap.reason()), (Code::FailedPrecondition, "WATCH_SET_GAP"));
        assert_eq!(subscriptions.modify(2, of(&[4]), &[3, 99]).unwrap(), 2);
        let changes = subscriptions.take();
        assert_eq!((ids(&changes.add), changes.versions), (vec![4], 1..=2), "3 was removed before it began");
        assert_eq!(changes.remove, [1]);
        assert!(subscriptions.take().versions.is_empty());
    }

    #[test]
    fn a_number_is_used_once_also_after_its_watch_has_ended() {
        for bad in [&[0][..], &[5, 5]] {
            assert_eq!(SubscriptionSet::new(of(bad)).unwrap_err().code(), Code::InvalidArgument);
        }
        let subscriptions = SubscriptionSet::new(of(&[7])).unwrap();
        subscriptions.ended(7);
        assert_eq!(subscriptions.modify(1, of(&[7]), &[]).unwrap_err().code(), Code::InvalidArgument);
        assert_eq!(subscriptions.modify(1, of(&[8]), &[]).unwrap(), 1, "what was refused took no number");
    }

    #[test]
    fn the_set_is_bounded_by_what_is_open() {
        let all: Vec<u32> = (1..=256).collect();
        let too_many = SubscriptionSet::new(of(&(1..=257).collect::<Vec<_>>())).unwrap_err();
        assert_eq!(too_many.code(), Code::ResourceExhausted);
        let subscriptions = SubscriptionSet::new(of(&all)).unwrap();
        assert_eq!(subscriptions.modify(1, of(&[300]), &[]).unwrap_err().code(), Code::ResourceExhausted);
        subscriptions.modify(1, of(&[300]), &[1]).unwrap();
        subscriptions.ended(2);
        subscriptions.modify(2, of(&[301]), &[]).unwrap();
    }

    #[test]
    fn used_numbers_are_remembered_as_stretches() {
        let mut numbers = Numbers::default();
        for number in [5, 7, 6, u32::MAX, 1, 2, 4, 3] {
            assert!(!numbers.contains(number));
            numbers.insert(number);
        }
        assert_eq!(numbers.0, BTreeMap::from([(1, 7), (u32::MAX, u32::MAX)]));
        let scattered: Vec<u32> = (1..=100).map(|n| n * 2).collect();
        let subscriptions = SubscriptionSet::default();
        let mut refused = false;
        for version in 1..200 {
            let at = u32::try_from(version).unwrap() * 1_000;
            let add: Vec<_> = scattered.iter().map(|n| at + n).collect();
            let before: Vec<_> = scattered.iter().map(|n| at - 1_000 + n).collect();
            refused |= subscriptions.modify(version, of(&add), &before).is_err();
        }
        assert!(refused, "it would grow for ever");
    }
}
