//! What a frame says, read from its head alone: entities stay encoded.

use bytes::{Buf as _, Bytes};
use foundry_frame::{Frame, RawBody, RawFrame};
use foundry_proto::watch::v1 as wire;
use prost::Message as _;
use prost::encoding::{WireType, decode_key, decode_varint};
use tonic::Status;

/// A frame that is not of the watch contract.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken(pub(crate) &'static str);

impl From<prost::DecodeError> for Broken {
    fn from(_: prost::DecodeError) -> Self {
        Self("a frame that does not decode")
    }
}

/// The status of a stream that broke the contract.
pub(crate) fn broken(Broken(what): Broken) -> Status {
    Status::data_loss(what)
}

/// What a frame says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    Hello(wire::Hello),
    SnapshotBegin,
    SnapshotChunk,
    SnapshotEnd(wire::SnapshotEnd),
    Delta { to: i64, more: bool },
    Bookmark(wire::Bookmark),
    Reset,
    AuthExpiring,
    Drain(wire::Drain),
}

/// A delta without its changes.
#[derive(Clone, PartialEq, prost::Message)]
struct DeltaHead {
    #[prost(int64, tag = "1")]
    to_rev: i64,
    #[prost(bool, tag = "3")]
    more: bool,
}

impl Kind {
    /// Reads the kind of a body and what its position depends on.
    pub(crate) fn of(body: &Bytes) -> Result<Self, Broken> {
        let mut rest = body.clone();
        let (tag, wire_type) = decode_key(&mut rest)?;
        let length = decode_varint(&mut rest)?;
        if wire_type != WireType::LengthDelimited || length != rest.remaining() as u64 {
            return Err(Broken("a frame whose body is not one field"));
        }
        Ok(match tag {
            10 => Self::Hello(wire::Hello::decode(rest)?),
            11 => Self::SnapshotBegin,
            12 => Self::SnapshotChunk,
            13 => Self::SnapshotEnd(wire::SnapshotEnd::decode(rest)?),
            14 => {
                let head = DeltaHead::decode(rest)?;
                Self::Delta { to: head.to_rev, more: head.more }
            }
            15 => Self::Bookmark(wire::Bookmark::decode(rest)?),
            16 => Self::Reset,
            17 => Self::AuthExpiring,
            18 => Self::Drain(wire::Drain::decode(rest)?),
            _ => return Err(Broken("unknown frame type")),
        })
    }
}

/// A delta without the changes that its receiver has: those up to `position`. What is left may be
/// nothing; it moves the position all the same.
pub(crate) fn without_known(body: &Bytes, position: i64) -> Result<Bytes, Broken> {
    let frame = Frame { seq: 0, from_rev: 0, body: body.clone() };
    let Some(RawBody::Delta(mut delta)) = frame.raw()?.body else { return Err(Broken("no delta")) };
    delta.changes.retain(|change| change.version > position);
    Ok(encode(RawBody::Delta(delta)))
}

/// The body of a hello.
pub(crate) fn hello(hello: &wire::Hello) -> Bytes {
    encode(RawBody::Hello(hello.encode_to_vec().into()))
}

/// The body of a reset that the edge itself says.
pub(crate) fn reset() -> Bytes {
    let reason = wire::ResetReason::Unspecified.into();
    encode(RawBody::Reset(wire::Reset { reason }.encode_to_vec().into()))
}

fn encode(body: RawBody) -> Bytes {
    // Numbers that are zero are not written: the body alone is left.
    RawFrame { seq: 0, from_rev: 0, body: Some(body) }.encode_to_vec().into()
}

/// The encoded body of a delta, for tests.
#[cfg(test)]
pub(crate) fn delta(to_rev: i64, versions: &[i64], more: bool) -> Bytes {
    let change = |version: &i64| foundry_frame::RawChange {
        key: format!("k{version}"),
        version: *version,
        op: Some(foundry_frame::RawOp::Upsert(Bytes::from_static(b"x"))),
    };
    encode(RawBody::Delta(foundry_frame::RawDelta {
        to_rev,
        changes: versions.iter().map(change).collect(),
        more,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_position_of_a_delta_and_not_its_changes() {
        assert_eq!(Kind::of(&delta(9, &[8, 9], true)), Ok(Kind::Delta { to: 9, more: true }));
        assert_eq!(Kind::of(&delta(9, &[], false)), Ok(Kind::Delta { to: 9, more: false }));
    }

    #[test]
    fn refuses_what_is_no_single_field_of_the_contract() {
        let two = [delta(9, &[9], false), delta(10, &[10], false)].concat();
        for body in
            [Bytes::new(), two.into(), Bytes::from_static(b"\x7a"), Bytes::from_static(b"\xff\xff\xff")]
        {
            assert!(Kind::of(&body).is_err(), "{body:?}");
        }
        assert!(Kind::of(&Bytes::from_static(b"\xa2\x06\x00")).is_err(), "field 100");
    }

    #[test]
    fn leaves_out_what_a_receiver_has_and_keeps_the_position() {
        let left = without_known(&delta(9, &[6, 7, 8, 9], false), 7).unwrap();
        assert_eq!(left, delta(9, &[8, 9], false));
        assert_eq!(without_known(&left, 9).unwrap(), delta(9, &[], false));
    }
}
