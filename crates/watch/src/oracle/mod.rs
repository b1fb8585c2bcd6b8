//! The watch oracle, for tests: what clients received, held against what was committed.
//!
//! It shares no code with the serving or the consuming side: it knows the wire contract only.

mod history;
mod replay;

use std::fmt;

use foundry_frame::Frame;

pub use history::History;

/// What the contract promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Property {
    /// Frames are numbered without a hole, continue the position, and decode.
    Enveloped,
    /// Versions never go back.
    Ordered,
    /// No version of a key comes twice.
    Unique,
    /// No commit is shown in part.
    Atomic,
    /// The state after each frame is the state that was, at its revision.
    Reliable,
    /// A stream that was opened at a position goes on from exactly there, or says that it cannot.
    Resumable,
    /// A bookmark's revision is one up to which everything was received.
    Bookmarkable,
    /// Nothing outside the view is shown.
    Filtered,
    /// Nothing comes after the permission has ended.
    Revoked,
    /// All clients end with the final state.
    Final,
}

/// One broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What was promised.
    pub property: Property,
    /// Name of the client.
    pub client: String,
    /// Index of the stream among the client's.
    pub stream: usize,
    /// Number of the frame on it; 0 for the stream as a whole.
    pub frame: u64,
    /// What was seen instead.
    pub detail: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { property, client, stream, frame, detail } = self;
        write!(f, "{client}, stream {stream}, frame {frame}: not {property:?}: {detail}")
    }
}

/// What one client received on one stream.
#[derive(Clone, Debug, Default)]
pub struct StreamLog {
    /// The position it was opened at; none = from a snapshot.
    pub resumed_at: Option<i64>,
    /// The frames in the order they came.
    pub frames: Vec<Frame>,
    /// How many frames had come when the permission ended, if it did.
    pub revoked_after: Option<usize>,
}

/// What one client received.
#[derive(Clone, Debug, Default)]
pub struct ClientLog {
    /// Name of the client.
    pub name: String,
    /// Its streams, one after the other.
    pub streams: Vec<StreamLog>,
    /// Whether the client was stopped before the end, so that its final state says nothing.
    pub cut_short: bool,
}

/// How much was checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Streams replayed.
    pub streams: u64,
    /// Streams that went on from a position.
    pub resumed: u64,
    /// Frames replayed.
    pub frames: u64,
    /// Changes in deltas.
    pub changes: u64,
    /// Snapshots.
    pub snapshots: u64,
    /// Resets.
    pub resets: u64,
    /// Bookmarks with a position.
    pub bookmarks: u64,
}

/// Checks every frame of every client against the history.
///
/// # Errors
/// All promises that were broken, at most twenty of each client.
pub fn check(history: &History, clients: &[ClientLog]) -> Result<Summary, Vec<Fault>> {
    let replayed = history.replay();
    let mut summary = Summary::default();
    let mut faults = Vec::new();
    for client in clients {
        let mut found = replay::client(&replayed, client, &mut summary);
        found.truncate(20);
        faults.append(&mut found);
    }
    if faults.is_empty() { Ok(summary) } else { Err(faults) }
}
