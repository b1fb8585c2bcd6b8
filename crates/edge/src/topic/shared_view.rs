//! One view of one rpc, watched once for all who look at it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::frames::Broken;
use super::link::Track;
use super::ring::{Group, Place, Ring};
use crate::ready_queue::ReadyQueue;
use crate::watch_request::Watchable;

/// Bytes of the newest changes that are kept.
const RING_BYTES: usize = 256 * 1024;

/// What makes a topic: equal keys show equal frames.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) method: Watchable,
    pub(crate) view: String,
}

/// One view of one rpc.
pub(crate) struct Topic {
    pub(crate) key: Key,
    /// The owner's own form of the request, without options.
    pub(crate) request: Bytes,
    /// Ends its upstream.
    pub(crate) stop: CancellationToken,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Whether somebody reads its upstream, or is about to again.
    live: bool,
    /// Grows when positions before are of no use with what comes.
    generation: u64,
    incarnation: String,
    ring: Ring,
    bookmark: Option<Mark>,
    readers: HashMap<u64, (Arc<ReadyQueue>, u32)>,
    next_reader: u64,
}

/// A bookmark of the upstream.
#[derive(Clone, Debug)]
pub(crate) struct Mark {
    pub(crate) body: Bytes,
    pub(crate) rev: i64,
    pub(crate) token: String,
}

/// Whether a private stream may end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Join {
    /// It is the first to be caught up: it becomes the upstream.
    Adopted { generation: u64 },
    /// The ring goes on where it is.
    Member { generation: u64 },
    /// Not yet.
    Apart,
}

/// What a member finds.
#[derive(Debug)]
pub(crate) enum Next {
    Group {
        group: Arc<Group>,
        inside: bool,
    },
    Current(Option<Mark>),
    /// It must catch up by a stream of its own.
    Behind,
}

impl Topic {
    pub(crate) fn new(key: Key, request: Bytes, stop: CancellationToken) -> Self {
        let state = State {
            live: false,
            generation: 0,
            incarnation: String::new(),
            ring: Ring::at(0, RING_BYTES),
            bookmark: None,
            readers: HashMap::new(),
            next_reader: 0,
        };
        Self { key, request, stop, state: Mutex::new(state) }
    }

    /// Asks to become a member at this position of this incarnation of the owner's store.
    pub(crate) fn join(&self, track: &Track, incarnation: &str, mark: Mark) -> Join {
        let mut state = self.lock();
        if !state.live {
            state.live = true;
            incarnation.clone_into(&mut state.incarnation);
            state.ring = Ring::at(track.cut(), RING_BYTES);
            state.bookmark = Some(mark);
            return Join::Adopted { generation: state.generation };
        }
        if state.incarnation != incarnation || state.ring.place(track.cut()) == Place::Below {
            return Join::Apart;
        }
        Join::Member { generation: state.generation }
    }

    /// What comes next for a member.
    pub(crate) fn next(&self, generation: u64, position: i64) -> Next {
        let state = self.lock();
        if state.generation != generation {
            return Next::Behind;
        }
        match state.ring.place(position) {
            Place::Below => Next::Behind,
            Place::Next { group, inside } => Next::Group { group, inside },
            Place::Current => Next::Current(state.bookmark.clone()),
        }
    }

    /// Hands out what the upstream said.
    pub(crate) fn publish(&self, group: Group) -> Result<(), Broken> {
        let mut state = self.lock();
        state.ring.push(group)?;
        state.call();
        Ok(())
    }

    /// Hands out the upstream's position.
    pub(crate) fn mark(&self, mark: Mark) {
        let mut state = self.lock();
        if mark.rev >= state.ring.head() {
            state.ring.advance(mark.rev);
            state.bookmark = Some(mark);
            state.call();
        }
    }

    /// What came up to this position is too large to be kept.
    pub(crate) fn skip_to(&self, to: i64) {
        let mut state = self.lock();
        state.ring.skip_to(to);
        state.call();
    }

    /// Where the next upstream goes on: position and token.
    pub(crate) fn position(&self) -> (i64, String) {
        let state = self.lock();
        let token = state.bookmark.as_ref().map(|mark| mark.token.clone()).unwrap_or_default();
        (state.ring.head(), token)
    }

    /// Whether the upstream goes on with the same history.
    pub(crate) fn is_of(&self, incarnation: &str) -> bool {
        self.lock().incarnation == incarnation
    }

    /// Bytes that one group may have.
    pub(crate) fn most_bytes(&self) -> usize {
        self.lock().ring.most_bytes()
    }

    /// There is no upstream any more, or none that goes on: everybody sees for itself.
    pub(crate) fn disband(&self) {
        let mut state = self.lock();
        state.live = false;
        state.generation += 1;
        state.bookmark = None;
        state.call();
    }

    /// Whether an upstream is read.
    pub(crate) fn is_live(&self) -> bool {
        self.lock().live
    }

    /// Whether nobody reads it.
    pub(crate) fn is_unread(&self) -> bool {
        self.lock().readers.is_empty()
    }

    pub(crate) fn enter(&self, ready: &Arc<ReadyQueue>, sub_id: u32) -> u64 {
        let mut state = self.lock();
        let reader = state.next_reader;
        state.next_reader += 1;
        state.readers.insert(reader, (Arc::clone(ready), sub_id));
        reader
    }

    /// True when it was the last.
    pub(crate) fn leave(&self, reader: u64) -> bool {
        let mut state = self.lock();
        state.readers.remove(&reader);
        state.readers.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change leaves it whole.
        foundry_core::lock(&self.state)
    }
}

impl State {
    fn call(&self) {
        for (ready, sub_id) in self.readers.values() {
            ready.call(*sub_id);
        }
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topic").field("key", &self.key).finish_non_exhaustive()
    }
}
