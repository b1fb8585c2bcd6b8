//! Where the reader of one watch leaves what its stream takes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use tokio::sync::Notify;
use tonic::Status;

use super::budget::Held;
use crate::permission::Judgement;
use crate::ready_queue::ReadyQueue;
use crate::topic::{Lease, Track};

/// Bytes that are read ahead of a caller that does not read.
const READ_AHEAD: usize = 64 * 1024;
/// What a frame costs beside its body.
const FRAME_COST: usize = 64;

/// A body on its way, and the position of its receiver before and after it.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) body: Bytes,
    /// Only a hello says where it begins; all others go on from what was sent.
    pub(crate) from: Option<i64>,
    pub(crate) at: i64,
    /// Its bytes, as long as nobody takes it.
    pub(crate) _held: Held,
}

impl Item {
    /// What the edge says itself, which makes its receiver start over.
    pub(crate) fn own(body: Bytes) -> Self {
        Self { body, from: None, at: 0, _held: Held::default() }
    }

    /// What it costs to keep.
    pub(crate) fn cost(body: &Bytes) -> usize {
        body.len() + FRAME_COST
    }
}

/// A place among the readers of a topic.
#[derive(Debug)]
pub(crate) struct Membership {
    pub(crate) lease: Lease,
    pub(crate) generation: u64,
    pub(crate) track: Track,
}

/// What the stream finds.
#[derive(Debug)]
pub(crate) enum ReadAhead {
    Item(Item),
    /// From here on the topic is read; no item follows.
    Membership(Box<Membership>),
    /// The watch is over.
    End(Status),
    Nothing,
}

/// The meeting place of a reader and its stream.
#[derive(Debug)]
pub(crate) struct Slot {
    sub_id: u32,
    ready: Arc<ReadyQueue>,
    state: Mutex<State>,
    room: Notify,
}

#[derive(Debug, Default)]
struct State {
    items: VecDeque<Item>,
    bytes: usize,
    then: Option<ReadAhead>,
    judgement: Option<Judgement>,
}

impl Slot {
    pub(crate) fn new(sub_id: u32, ready: Arc<ReadyQueue>) -> Self {
        Self { sub_id, ready, state: Mutex::default(), room: Notify::new() }
    }

    /// The number of its watch.
    pub(crate) fn sub_id(&self) -> u32 {
        self.sub_id
    }

    /// The turns of its stream.
    pub(crate) fn ready(&self) -> &Arc<ReadyQueue> {
        &self.ready
    }

    /// Leaves an item.
    pub(crate) fn put(&self, item: Item) {
        let mut state = self.lock();
        state.bytes += Item::cost(&item.body);
        state.items.push_back(item);
        drop(state);
        self.ready.call(self.sub_id);
    }

    /// Leaves what follows the items.
    pub(crate) fn finish(&self, then: ReadAhead) {
        self.lock().then = Some(then);
        self.ready.call(self.sub_id);
    }

    /// The owner allows the watch, as far as this epoch knows, or does not.
    pub(crate) fn judge(&self, judgement: Judgement) {
        self.lock().judgement = Some(judgement);
        self.ready.call(self.sub_id);
    }

    /// What the owner said since the last look.
    pub(crate) fn take_judgement(&self) -> Option<Judgement> {
        self.lock().judgement.take()
    }

    /// Takes what is next.
    pub(crate) fn take(&self) -> ReadAhead {
        let mut state = self.lock();
        let Some(item) = state.items.pop_front() else {
            return state.then.take().unwrap_or(ReadAhead::Nothing);
        };
        state.bytes = state.bytes.saturating_sub(Item::cost(&item.body));
        if state.bytes <= READ_AHEAD / 2 {
            self.room.notify_one();
        }
        ReadAhead::Item(item)
    }

    /// Whether enough was read ahead.
    pub(crate) fn is_full(&self) -> bool {
        self.lock().bytes >= READ_AHEAD
    }

    /// Completes when half of the room is free.
    pub(crate) async fn has_room(&self) {
        while self.lock().bytes > READ_AHEAD / 2 {
            self.room.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change leaves it whole.
        foundry_core::lock(&self.state)
    }
}
