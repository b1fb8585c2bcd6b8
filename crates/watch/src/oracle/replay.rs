//! Replays what one client received, frame by frame.

use std::collections::HashSet;

use foundry_frame::{Frame, RawBody, RawDelta, RawOp};
use foundry_proto::watch::v1 as wire;
use prost::Message as _;

use super::history::{Held, Replayed, fingerprint};
use super::{ClientLog, Fault, Property, StreamLog, Summary};

pub(crate) fn client(truth: &Replayed<'_>, log: &ClientLog, summary: &mut Summary) -> Vec<Fault> {
    let mut faults = Vec::new();
    // Positions this client was shown, at which it may resume.
    let mut shown = HashSet::new();
    let mut last = None;
    for (index, stream) in log.streams.iter().enumerate() {
        let mut replay = Replay::new(truth, stream, &mut shown, summary);
        if let Some(at) = stream.resumed_at
            && !replay.shown.contains(&at)
        {
            replay.fault(Property::Resumable, format!("the client never was at {at}"));
        }
        replay.run(stream);
        last = replay.visible.or(last);
        for (property, frame, detail) in replay.faults {
            faults.push(Fault { property, client: log.name.clone(), stream: index, frame, detail });
        }
    }
    if !log.cut_short && last != Some(truth.last_digest()) {
        let detail = format!("the last state shown is not that of revision {}", truth.history.head());
        let stream = log.streams.len().saturating_sub(1);
        faults.push(Fault { property: Property::Final, client: log.name.clone(), stream, frame: 0, detail });
    }
    faults
}

struct Replay<'a> {
    truth: &'a Replayed<'a>,
    shown: &'a mut HashSet<i64>,
    summary: &'a mut Summary,
    faults: Vec<(Property, u64, String)>,
    seq: u64,
    /// The position after the last frame.
    at: i64,
    /// The position of the state that was last shown.
    cut: i64,
    held: Held,
    staging: Option<(Held, i64, u64)>,
    last_version: i64,
    expects_snapshot: bool,
    /// Digest of the state that was last shown on this stream.
    visible: Option<u64>,
}

impl<'a> Replay<'a> {
    fn new(
        truth: &'a Replayed<'a>,
        stream: &StreamLog,
        shown: &'a mut HashSet<i64>,
        summary: &'a mut Summary,
    ) -> Self {
        let cut = stream.resumed_at.unwrap_or(0);
        let held = stream.resumed_at.map(|rev| truth.state_at(rev)).unwrap_or_default();
        Self {
            truth,
            shown,
            summary,
            faults: Vec::new(),
            seq: 0,
            at: 0,
            cut,
            visible: stream.resumed_at.map(|_| held.digest()),
            held,
            staging: None,
            last_version: cut,
            expects_snapshot: stream.resumed_at.is_none(),
        }
    }

    fn fault(&mut self, property: Property, detail: String) {
        self.faults.push((property, self.seq, detail));
    }

    fn run(&mut self, stream: &StreamLog) {
        self.summary.streams += 1;
        if stream.revoked_after.is_some_and(|n| stream.frames.len() > n) {
            let n = stream.frames.len() - stream.revoked_after.unwrap_or(0);
            self.fault(Property::Revoked, format!("{n} frames came after the permission had ended"));
        }
        for frame in &stream.frames {
            self.summary.frames += 1;
            self.seq += 1;
            if frame.seq != self.seq {
                self.fault(Property::Enveloped, format!("its number is {}", frame.seq));
            }
            let body = frame.raw().ok().and_then(|raw| raw.body);
            let Some(body) = body else {
                self.fault(Property::Enveloped, "it does not decode".into());
                continue;
            };
            if self.seq == 1 {
                self.hello(stream, frame, &body);
                continue;
            }
            if frame.from_rev != self.at {
                let (from, at) = (frame.from_rev, self.at);
                self.fault(Property::Enveloped, format!("it continues {from}, the position is {at}"));
            }
            self.body(body);
        }
    }

    fn hello(&mut self, stream: &StreamLog, frame: &Frame, body: &RawBody) {
        let RawBody::Hello(bytes) = body else {
            return self.fault(Property::Enveloped, "the first frame is no hello".into());
        };
        let resumed = wire::Hello::decode(bytes.clone()).is_ok_and(|hello| hello.resumed);
        self.at = frame.from_rev;
        if resumed {
            self.summary.resumed += 1;
            if stream.resumed_at != Some(frame.from_rev) {
                let asked = stream.resumed_at;
                self.fault(
                    Property::Resumable,
                    format!("asked for {asked:?}, resumed at {}", frame.from_rev),
                );
            }
        } else {
            self.expects_snapshot = true;
        }
    }

    fn body(&mut self, body: RawBody) {
        match body {
            RawBody::SnapshotBegin(bytes) => {
                let rev = wire::SnapshotBegin::decode(bytes).map_or(-1, |b| b.rev);
                if !self.expects_snapshot {
                    self.fault(Property::Resumable, "a snapshot came without a reset".into());
                }
                self.staging = Some((Held::default(), rev, 0));
            }
            RawBody::SnapshotChunk(chunk) => self.chunk(chunk),
            RawBody::SnapshotEnd(bytes) => {
                self.snapshot_end(&wire::SnapshotEnd::decode(bytes).unwrap_or_default())
            }
            RawBody::Delta(delta) => self.delta(delta),
            RawBody::Bookmark(bytes) => self.bookmark(&wire::Bookmark::decode(bytes).unwrap_or_default()),
            RawBody::Reset(_) => {
                self.summary.resets += 1;
                (self.expects_snapshot, self.at, self.staging) = (true, 0, None);
            }
            RawBody::Hello(_) => self.fault(Property::Enveloped, "a second hello".into()),
            RawBody::AuthExpiring(_) | RawBody::Drain(_) => {}
        }
    }

    fn chunk(&mut self, chunk: RawDelta) {
        let Some((mut held, rev, mut count)) = self.staging.take() else {
            return self.fault(Property::Enveloped, "a chunk outside a snapshot".into());
        };
        for change in chunk.changes {
            count += 1;
            if change.version > rev {
                self.fault(Property::Atomic, format!("{} is newer than its snapshot", change.key));
            }
            if held.version(&change.key).is_some() {
                self.fault(Property::Unique, format!("{} is twice in a snapshot", change.key));
            }
            self.apply(&mut held, &change);
        }
        self.staging = Some((held, rev, count));
    }

    fn snapshot_end(&mut self, end: &wire::SnapshotEnd) {
        self.summary.snapshots += 1;
        let Some((held, rev, count)) = self.staging.take() else {
            return self.fault(Property::Enveloped, "the end of no snapshot".into());
        };
        if rev != end.rev || i64::try_from(count) != Ok(end.count) {
            self.fault(
                Property::Reliable,
                format!("{count} rows at {rev}, announced {} at {}", end.count, end.rev),
            );
        }
        (self.held, self.expects_snapshot) = (held, false);
        self.show(rev, Property::Reliable);
    }

    fn delta(&mut self, delta: RawDelta) {
        if self.expects_snapshot {
            self.fault(Property::Resumable, "a delta came before the snapshot".into());
        }
        let mut held = std::mem::take(&mut self.held);
        for change in &delta.changes {
            self.summary.changes += 1;
            let (key, version) = (&change.key, change.version);
            if held.version(key) == Some(version) {
                self.fault(Property::Unique, format!("{key} at {version} came before"));
            } else if version <= self.cut {
                let property = if version == self.cut { Property::Atomic } else { Property::Ordered };
                self.fault(
                    property,
                    format!("{key} at {version} came after the state at {} was shown", self.cut),
                );
            }
            if version < self.last_version || version > delta.to_rev {
                let (last, to) = (self.last_version, delta.to_rev);
                self.fault(Property::Ordered, format!("{key} at {version} is not between {last} and {to}"));
            }
            self.last_version = version;
            self.apply(&mut held, change);
        }
        self.held = held;
        if delta.more {
            self.at = delta.to_rev;
        } else {
            self.show(delta.to_rev, Property::Reliable);
        }
    }

    fn bookmark(&mut self, bookmark: &wire::Bookmark) {
        if bookmark.resume_token.is_empty() {
            return;
        }
        self.summary.bookmarks += 1;
        if bookmark.rev < self.at {
            self.fault(Property::Bookmarkable, format!("it goes back from {} to {}", self.at, bookmark.rev));
        }
        self.show(bookmark.rev, Property::Bookmarkable);
    }

    fn apply(&mut self, held: &mut Held, change: &foundry_frame::RawChange) {
        let (key, version) = (&change.key, change.version);
        match &change.op {
            Some(RawOp::Upsert(item)) => {
                match self.truth.history.at(version, key) {
                    Some(Some(known)) if known == item => {}
                    Some(Some(_)) => {
                        self.fault(Property::Reliable, format!("{key} at {version} has other content"))
                    }
                    Some(None) => self.fault(Property::Filtered, format!("{key} had left at {version}")),
                    None if self.truth.history.has(version) => {
                        self.fault(Property::Filtered, format!("{key} is not in the view at {version}"));
                    }
                    None => self.fault(Property::Reliable, format!("nothing was committed at {version}")),
                }
                held.put(key, Some((version, fingerprint(key, version, item))));
            }
            Some(RawOp::Tombstone(_)) => held.put(key, None),
            None => self.fault(Property::Enveloped, format!("{key} has no operation")),
        }
    }

    /// Shows what the receiver holds, as the state at a revision.
    fn show(&mut self, rev: i64, property: Property) {
        (self.at, self.cut, self.last_version) = (rev, rev, rev);
        self.shown.insert(rev);
        self.visible = Some(self.held.digest());
        if self.held.digest() != self.truth.digest_at(rev) {
            let differences = self.held.differences(&self.truth.state_at(rev));
            self.fault(property, format!("the state shown is not that of revision {rev}: {differences}"));
        }
    }
}
