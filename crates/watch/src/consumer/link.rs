//! The receiver of one stream, which checks every frame before any of it is shown.

use std::time::Duration;

use bytes::Bytes;
use foundry_core::Timestamp;
use foundry_frame::{Frame, RawBody, RawChange, RawDelta, RawOp};
use foundry_proto::watch::v1 as wire;
use prost::Message;

use crate::{Change, Op, Position, row_digest};

/// How a stream broke the watch contract.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A frame was lost, repeated or out of order.
    #[error("received frame {got}, expected {expected}")]
    Sequence {
        /// The expected frame number.
        expected: u64,
        /// The received frame number.
        got: u64,
    },
    /// A frame does not continue the position that was reached.
    #[error("a frame continues revision {got}, the position is {expected}")]
    Position {
        /// The position that was reached.
        expected: i64,
        /// The position that the frame continues from.
        got: i64,
    },
    /// A change lies outside the revisions that its delta spans.
    #[error("{key} at revision {version} lies outside its delta")]
    Version {
        /// The key of the change.
        key: String,
        /// The revision of the change.
        version: i64,
    },
    /// The rows received are not those that the snapshot's end declares.
    #[error("the snapshot's count or digest is wrong: {got} rows came, {expected} were sent")]
    Snapshot {
        /// Number of rows declared by the server.
        expected: i64,
        /// Number of rows received.
        got: i64,
    },
    /// A frame of a kind that is not allowed here.
    #[error("a frame is out of place: {0}")]
    OutOfPlace(&'static str),
    /// Bytes that cannot be decoded.
    #[error("malformed frame: {0}")]
    Malformed(#[from] prost::DecodeError),
}

/// The effect of a frame.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step<T> {
    /// Part of something that is not shown yet, or only a heartbeat.
    Nothing,
    Hello {
        server: String,
        heartbeat: Option<Duration>,
        resumed: bool,
    },
    Snapshot {
        rows: Vec<Change<T>>,
        position: Position,
    },
    Delta {
        changes: Vec<Change<T>>,
        to: i64,
    },
    Bookmark {
        position: Position,
        caught_up: bool,
    },
    Reset(wire::ResetReason),
    AuthExpiring(Timestamp),
    Drain {
        reconnect_after: Duration,
    },
}

pub(crate) struct Link<T> {
    /// The position in the request.
    asked: Option<i64>,
    opened: bool,
    seq: u64,
    at: i64,
    /// The snapshot being received: its revision, rows and digest so far.
    staging: Option<(i64, Vec<Change<T>>, u64)>,
    /// Deltas of a catch-up whose end has not come yet.
    chain: Vec<Change<T>>,
}

impl<T: Message + Default> Link<T> {
    pub(crate) fn new(asked: Option<i64>) -> Self {
        Self { asked, opened: false, seq: 0, at: 0, staging: None, chain: Vec::new() }
    }

    pub(crate) fn accept(&mut self, frame: &Frame) -> Result<Step<T>, Violation> {
        self.seq += 1;
        if frame.seq != self.seq {
            return Err(Violation::Sequence { expected: self.seq, got: frame.seq });
        }
        let body = frame.raw()?.body.ok_or(Violation::OutOfPlace("a frame without a body"))?;
        if !self.opened {
            let RawBody::Hello(hello) = body else { return Err(Violation::OutOfPlace("no hello")) };
            return self.open(frame.from_rev, &wire::Hello::decode(hello)?);
        }
        if frame.from_rev != self.at {
            return Err(Violation::Position { expected: self.at, got: frame.from_rev });
        }
        match body {
            RawBody::Hello(_) => Err(Violation::OutOfPlace("a second hello")),
            RawBody::SnapshotBegin(bytes) => {
                let rev = wire::SnapshotBegin::decode(bytes)?.rev;
                self.chain.clear();
                self.staging = Some((rev, Vec::new(), 0));
                Ok(Step::Nothing)
            }
            RawBody::SnapshotChunk(chunk) => self.stage(chunk),
            RawBody::SnapshotEnd(bytes) => self.finish(wire::SnapshotEnd::decode(bytes)?),
            RawBody::Delta(delta) => self.delta(delta),
            RawBody::Bookmark(bytes) => self.bookmark(wire::Bookmark::decode(bytes)?),
            RawBody::Reset(bytes) => {
                (self.at, self.staging) = (0, None);
                self.chain.clear();
                Ok(Step::Reset(wire::Reset::decode(bytes)?.reason()))
            }
            RawBody::AuthExpiring(bytes) => {
                let at = wire::AuthExpiring::decode(bytes)?.expire_time.unwrap_or_default();
                Ok(Step::AuthExpiring(Timestamp::from_proto(&at)))
            }
            RawBody::Drain(bytes) => {
                let after = wire::Drain::decode(bytes)?.reconnect_after.unwrap_or_default();
                Ok(Step::Drain { reconnect_after: Duration::try_from(after).unwrap_or_default() })
            }
        }
    }

    fn open(&mut self, from_rev: i64, hello: &wire::Hello) -> Result<Step<T>, Violation> {
        let expected = if hello.resumed { self.asked.unwrap_or(0) } else { 0 };
        if from_rev != expected {
            return Err(Violation::Position { expected, got: from_rev });
        }
        (self.opened, self.at) = (true, from_rev);
        let heartbeat = hello.heartbeat.and_then(|d| Duration::try_from(d).ok());
        Ok(Step::Hello { server: hello.server.clone(), heartbeat, resumed: hello.resumed })
    }

    fn stage(&mut self, chunk: RawDelta) -> Result<Step<T>, Violation> {
        let Some((rev, rows, digest)) = &mut self.staging else {
            return Err(Violation::OutOfPlace("a chunk outside a snapshot"));
        };
        for raw in chunk.changes {
            let row = decode::<T>(raw)?;
            if row.version > *rev || !matches!(row.op, Op::Upsert(_)) {
                return Err(Violation::Version { key: row.key, version: row.version });
            }
            *digest ^= row_digest(&row.key, row.version);
            rows.push(row);
        }
        Ok(Step::Nothing)
    }

    fn finish(&mut self, end: wire::SnapshotEnd) -> Result<Step<T>, Violation> {
        let Some((rev, rows, digest)) = self.staging.take() else {
            return Err(Violation::OutOfPlace("the end of no snapshot"));
        };
        let got = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        if (end.rev, end.count, end.digest) != (rev, got, digest) {
            return Err(Violation::Snapshot { expected: end.count, got });
        }
        self.at = rev;
        Ok(Step::Snapshot { rows, position: Position { rev, resume_token: end.resume_token } })
    }

    fn delta(&mut self, delta: RawDelta) -> Result<Step<T>, Violation> {
        if self.staging.is_some() {
            return Err(Violation::OutOfPlace("a delta inside a snapshot"));
        }
        if delta.to_rev < self.at {
            return Err(Violation::Position { expected: self.at, got: delta.to_rev });
        }
        let mut last = self.at + 1;
        for raw in delta.changes {
            let change = decode::<T>(raw)?;
            if !(last..=delta.to_rev).contains(&change.version) {
                return Err(Violation::Version { key: change.key, version: change.version });
            }
            last = change.version;
            self.chain.push(change);
        }
        self.at = delta.to_rev;
        if delta.more {
            return Ok(Step::Nothing);
        }
        Ok(Step::Delta { changes: std::mem::take(&mut self.chain), to: delta.to_rev })
    }

    fn bookmark(&mut self, bookmark: wire::Bookmark) -> Result<Step<T>, Violation> {
        if bookmark.resume_token.is_empty() {
            // Only a heartbeat; it confirms our position.
            return if bookmark.rev == self.at {
                Ok(Step::Nothing)
            } else {
                Err(Violation::Position { expected: self.at, got: bookmark.rev })
            };
        }
        if self.staging.is_some() || !self.chain.is_empty() {
            return Err(Violation::OutOfPlace("a bookmark before the end of a catch-up"));
        }
        if bookmark.rev < self.at {
            return Err(Violation::Position { expected: self.at, got: bookmark.rev });
        }
        self.at = bookmark.rev;
        let position = Position { rev: bookmark.rev, resume_token: bookmark.resume_token };
        Ok(Step::Bookmark { position, caught_up: bookmark.caught_up })
    }
}

fn decode<T: Message + Default>(raw: RawChange) -> Result<Change<T>, Violation> {
    let op = match raw.op {
        Some(RawOp::Upsert(item)) => Op::Upsert(T::decode(item)?),
        Some(RawOp::Tombstone(bytes)) => gone(bytes)?,
        None => return Err(Violation::OutOfPlace("a change without an operation")),
    };
    Ok(Change { key: raw.key, version: raw.version, op })
}

fn gone<T>(bytes: Bytes) -> Result<Op<T>, Violation> {
    Ok(match wire::Tombstone::decode(bytes)?.reason() {
        wire::TombstoneReason::LeftView => Op::LeftView,
        _ => Op::Deleted,
    })
}
