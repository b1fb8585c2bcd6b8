//! The one envelope that every watch response shares on the wire, kept raw: bodies and entities
//! are bytes, so that a change is encoded once and copied behind each subscriber's head, and so
//! that one consumer reads every watch. Field numbers are those of the watch contract.

use bytes::{Buf, BufMut, Bytes};
use prost::encoding::{DecodeContext, WireType};
use prost::{DecodeError, Message};

/// What a watch rpc sends and receives: either pre-encoded bytes or the decoded raw envelope.
///
/// On the wire it equals any `Watch*Response`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Frame {
    /// Contiguous number of the frame on its stream, from 1.
    pub seq: u64,
    /// The subscriber's position before this frame.
    pub from_rev: i64,
    /// One encoded field of the body `oneof` (tag included), shared between subscribers.
    pub body: Bytes,
}

/// The frame as a raw message, to read it without knowing its entity.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RawFrame {
    /// Contiguous number of the frame on its stream, from 1.
    #[prost(uint64, tag = "1")]
    pub seq: u64,
    /// The subscriber's position before this frame.
    #[prost(int64, tag = "2")]
    pub from_rev: i64,
    /// The frame's content; absent in a frame of an unknown kind.
    #[prost(oneof = "RawBody", tags = "10, 11, 12, 13, 14, 15, 16, 17, 18")]
    pub body: Option<RawBody>,
}

/// Body of a raw frame. Messages without entities are kept encoded, as raw bytes.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum RawBody {
    /// An encoded `Hello`, the first frame of a stream.
    #[prost(bytes = "bytes", tag = "10")]
    Hello(Bytes),
    /// An encoded `SnapshotBegin`.
    #[prost(bytes = "bytes", tag = "11")]
    SnapshotBegin(Bytes),
    /// Rows of the snapshot, in the form of a delta.
    #[prost(message, tag = "12")]
    SnapshotChunk(RawDelta),
    /// An encoded `SnapshotEnd`.
    #[prost(bytes = "bytes", tag = "13")]
    SnapshotEnd(Bytes),
    /// Changes since the subscriber's position.
    #[prost(message, tag = "14")]
    Delta(RawDelta),
    /// An encoded `Bookmark`: the position advanced without a change.
    #[prost(bytes = "bytes", tag = "15")]
    Bookmark(Bytes),
    /// An encoded `Reset`: the subscriber must start from a snapshot.
    #[prost(bytes = "bytes", tag = "16")]
    Reset(Bytes),
    /// An encoded `AuthExpiring`.
    #[prost(bytes = "bytes", tag = "17")]
    AuthExpiring(Bytes),
    /// An encoded `Drain`, which ends the stream.
    #[prost(bytes = "bytes", tag = "18")]
    Drain(Bytes),
}

/// A delta without its entity type.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RawDelta {
    /// Position after this delta.
    #[prost(int64, tag = "1")]
    pub to_rev: i64,
    /// The changes, in order of version.
    #[prost(message, repeated, tag = "2")]
    pub changes: Vec<RawChange>,
    /// More pages of the same catch-up follow; show nothing before the last.
    #[prost(bool, tag = "3")]
    pub more: bool,
}

/// A change without its entity type.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RawChange {
    /// Key of the entity, unique in its view.
    #[prost(string, tag = "1")]
    pub key: String,
    /// The row's revision.
    #[prost(int64, tag = "2")]
    pub version: i64,
    /// The change itself; absent in a change of an unknown kind.
    #[prost(oneof = "RawOp", tags = "3, 4")]
    pub op: Option<RawOp>,
}

/// How an entity changed.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum RawOp {
    /// The encoded entity, whole.
    #[prost(bytes = "bytes", tag = "3")]
    Upsert(Bytes),
    /// The encoded `Tombstone`.
    #[prost(bytes = "bytes", tag = "4")]
    Tombstone(Bytes),
}

impl Frame {
    /// Reads the envelope, leaving entities encoded.
    ///
    /// # Errors
    /// When the body is not one well-formed field of the envelope.
    pub fn raw(&self) -> Result<RawFrame, DecodeError> {
        let mut raw = RawFrame::decode(self.body.clone())?;
        raw.seq = self.seq;
        raw.from_rev = self.from_rev;
        Ok(raw)
    }

    /// Writes what is the subscriber's own: the fields before the body.
    pub fn encode_head(&self, buf: &mut impl BufMut) {
        if self.seq != 0 {
            prost::encoding::uint64::encode(1, &self.seq, buf);
        }
        if self.from_rev != 0 {
            prost::encoding::int64::encode(2, &self.from_rev, buf);
        }
    }
}

impl Message for Frame {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        self.encode_head(buf);
        buf.put_slice(&self.body);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        match tag {
            1 => prost::encoding::uint64::merge(wire_type, &mut self.seq, buf, ctx),
            2 => prost::encoding::int64::merge(wire_type, &mut self.from_rev, buf, ctx),
            10..=18 if wire_type == WireType::LengthDelimited => {
                let mut bytes = Bytes::new();
                prost::encoding::bytes::merge(wire_type, &mut bytes, buf, ctx)?;
                let mut body = Vec::with_capacity(bytes.len() + 8);
                prost::encoding::bytes::encode(tag, &bytes, &mut body);
                self.body = body.into();
                Ok(())
            }
            _ => prost::encoding::skip_field(wire_type, tag, buf, ctx),
        }
    }

    fn encoded_len(&self) -> usize {
        let seq = if self.seq == 0 { 0 } else { prost::encoding::uint64::encoded_len(1, &self.seq) };
        let from =
            if self.from_rev == 0 { 0 } else { prost::encoding::int64::encoded_len(2, &self.from_rev) };
        seq + from + self.body.len()
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_the_raw_message_on_the_wire_and_back() {
        let raw = RawFrame {
            seq: 7,
            from_rev: 41,
            body: Some(RawBody::Delta(RawDelta {
                to_rev: 42,
                changes: vec![RawChange {
                    key: "task/1".into(),
                    version: 42,
                    op: Some(RawOp::Upsert(Bytes::from_static(b"\x0a\x01x"))),
                }],
                more: false,
            })),
        };
        let wire = raw.encode_to_vec();
        let frame = Frame::decode(wire.as_slice()).unwrap();
        assert_eq!(frame.raw().unwrap(), raw);
        assert_eq!(frame.encode_to_vec(), wire);
        assert_eq!(frame.encoded_len(), wire.len());
    }
}
