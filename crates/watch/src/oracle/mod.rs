//! The watch oracle, for tests: compares what clients received with what was committed.
//!
//! It shares no code with the serving or the consuming side, and depends only on the wire contract.

mod history;
mod replay;

use std::fmt;

use foundry_frame::Frame;

pub use history::History;

/// The guarantees of the contract.
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
    /// The state after each frame equals the true state at its revision.
    Reliable,
    /// A stream opened at a position continues from exactly there, or reports that it cannot.
    Resumable,
    /// Everything up to a bookmark's revision was received.
    Bookmarkable,
    /// Nothing outside the view is shown.
    Filtered,
    /// Nothing comes after the permission has ended.
    Revoked,
    /// All clients end with the final state.
    Final,
}

/// A violation of a guarantee.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The violated guarantee.
    pub property: Property,
    /// Name of the client.
    pub client: String,
    /// Index of the stream among the client's.
    pub stream: usize,
    /// Number of the frame on it; 0 for the stream as a whole.
    pub frame: u64,
    /// What was observed instead.
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
    /// The frames in the order they arrived.
    pub frames: Vec<Frame>,
    /// How many frames had arrived when the permission ended, if it did.
    pub revoked_after: Option<usize>,
}

/// What one client received.
#[derive(Clone, Debug, Default)]
pub struct ClientLog {
    /// Name of the client.
    pub name: String,
    /// Its streams, in order.
    pub streams: Vec<StreamLog>,
    /// Whether the client was stopped before the end, so that its final state is not checked.
    pub cut_short: bool,
}

/// What was checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Number of streams that were replayed.
    pub streams: u64,
    /// Streams that resumed from a position.
    pub resumed: u64,
    /// Number of frames that were replayed.
    pub frames: u64,
    /// Changes in deltas.
    pub changes: u64,
    /// Number of complete snapshots.
    pub snapshots: u64,
    /// Number of resets to a snapshot.
    pub resets: u64,
    /// Bookmarks with a position.
    pub bookmarks: u64,
}

/// Checks every frame of every client against the history.
///
/// # Errors
/// All violations, at most twenty of each client.
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
