//! One stream of an owner as the edge reads it: each frame continues the one before.

use bytes::Bytes;
use foundry_frame::Frame;
use foundry_proto::watch::v1 as wire;

use super::frames::{Broken, Kind};

/// Numbers and positions of one stream.
#[derive(Debug)]
pub(crate) struct Link {
    seq: u64,
    at: i64,
}

impl Link {
    /// Takes the first frame.
    pub(crate) fn open(frame: &Frame) -> Result<(Self, wire::Hello), Broken> {
        match Kind::of(&frame.body)? {
            Kind::Hello(hello) if frame.seq == 1 => Ok((Self { seq: 1, at: frame.from_rev }, hello)),
            _ => Err(Broken("the stream does not start with a hello")),
        }
    }

    /// The position reached.
    pub(crate) fn at(&self) -> i64 {
        self.at
    }

    /// Takes the next frame.
    pub(crate) fn accept(&mut self, frame: &Frame) -> Result<Kind, Broken> {
        if frame.seq != self.seq + 1 {
            return Err(Broken("a frame was lost or repeated"));
        }
        if frame.from_rev != self.at {
            return Err(Broken("a frame does not continue the position"));
        }
        self.seq = frame.seq;
        let kind = Kind::of(&frame.body)?;
        let at = match &kind {
            Kind::Hello(_) => return Err(Broken("a second hello")),
            Kind::SnapshotEnd(end) => end.rev,
            Kind::Delta { to, .. } => *to,
            Kind::Bookmark(bookmark) => bookmark.rev,
            Kind::Reset => 0,
            _ => self.at,
        };
        if at < self.at && kind != Kind::Reset {
            return Err(Broken("a frame moves the position backwards"));
        }
        self.at = at;
        Ok(kind)
    }
}

/// Where a subscriber stands by what was read for it, over all its streams.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Track {
    /// The last position at which it can show everything.
    cut: i64,
    /// Token to resume with; empty = only a snapshot helps.
    token: String,
    /// Inside a snapshot or a chain of deltas.
    between: Between,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Between {
    #[default]
    Nothing,
    Snapshot,
    Chain,
}

impl Track {
    /// From the position that the subscriber asked for.
    pub(crate) fn asked(options: &wire::WatchOptions) -> Self {
        Self { cut: options.after_rev, token: options.resume_token.clone(), between: Between::Nothing }
    }

    /// The position that can be shown.
    pub(crate) fn cut(&self) -> i64 {
        self.cut
    }

    /// Whether everything up to the position can be shown, and resumed from.
    pub(crate) fn is_whole(&self) -> bool {
        self.between == Between::Nothing && !self.token.is_empty()
    }

    /// Where the next stream starts.
    pub(crate) fn options(&self, heartbeat: Option<prost_types::Duration>) -> wire::WatchOptions {
        let after_rev = if self.token.is_empty() { 0 } else { self.cut };
        wire::WatchOptions { resume_token: self.token.clone(), after_rev, heartbeat }
    }

    /// The stream goes on from this position.
    pub(crate) fn resumed(&mut self, at: i64) {
        self.cut = at;
    }

    /// A group or bookmark took it further.
    pub(crate) fn advance(&mut self, to: i64) {
        self.cut = self.cut.max(to);
    }

    /// A newer token for this position.
    pub(crate) fn take_token(&mut self, token: &str) {
        token.clone_into(&mut self.token);
    }

    /// What one frame does to it.
    pub(crate) fn apply(&mut self, kind: &Kind) {
        match kind {
            Kind::SnapshotBegin => self.between = Between::Snapshot,
            Kind::SnapshotEnd(end) => {
                *self = Self { cut: end.rev, token: end.resume_token.clone(), between: Between::Nothing };
            }
            Kind::Delta { more: true, .. } => self.between = Between::Chain,
            Kind::Delta { to, more: false } => (self.cut, self.between) = (*to, Between::Nothing),
            Kind::Bookmark(bookmark) if !bookmark.resume_token.is_empty() => {
                (self.cut, self.token) = (bookmark.rev, bookmark.resume_token.clone());
            }
            Kind::Reset => *self = Self::default(),
            _ => {}
        }
    }

    /// The stream is gone. Some = the subscriber holds part of a chain that no other stream can
    /// complete: this body makes it start over.
    pub(crate) fn cut_off(&mut self) -> Option<Bytes> {
        match std::mem::take(&mut self.between) {
            Between::Chain => {
                *self = Self::default();
                Some(super::frames::reset())
            }
            // The next snapshot replaces the one that was begun.
            Between::Snapshot | Between::Nothing => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic::frames::delta;

    fn frame(seq: u64, from_rev: i64, body: Bytes) -> Frame {
        Frame { seq, from_rev, body }
    }

    #[test]
    fn a_frame_that_does_not_continue_breaks_the_stream() {
        let at_seven = || Link { seq: 1, at: 7 };
        assert!(at_seven().accept(&frame(2, 7, delta(8, &[8], false))).is_ok());
        for (seq, from, to) in [(3, 7, 8), (1, 7, 8), (2, 6, 8), (2, 8, 9), (2, 7, 6)] {
            assert!(
                at_seven().accept(&frame(seq, from, delta(to, &[to], false))).is_err(),
                "{seq} {from} {to}"
            );
        }
    }

    #[test]
    fn one_that_is_cut_off_in_a_chain_starts_over_and_one_between_chains_goes_on() {
        let mut track = Track { cut: 5, token: "t".into(), between: Between::Nothing };
        track.apply(&Kind::Delta { to: 8, more: false });
        assert_eq!((track.cut_off(), track.options(None).after_rev), (None, 8));
        track.apply(&Kind::Delta { to: 9, more: true });
        assert!(!track.is_whole());
        assert!(track.cut_off().is_some());
        assert_eq!(track, Track::default());
    }
}
