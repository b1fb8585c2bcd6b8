//! The one encoding of a change.

use bytes::{BufMut, Bytes};
use foundry_proto::watch::v1::{Tombstone, TombstoneReason};
use foundry_watch::{Change, Op};
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

/// A change with its wire form, encoded once and shared by all streams that send it.
#[derive(Clone, Debug)]
pub(crate) struct EncodedChange {
    pub(crate) key: String,
    pub(crate) version: i64,
    /// Whether the entity has left the view; such a change is not part of a snapshot.
    pub(crate) gone: bool,
    /// Field `changes` of a delta, tag and length included.
    pub(crate) field: Bytes,
}

/// Field number of `changes` in every delta.
const CHANGES: u32 = 2;

impl EncodedChange {
    pub(crate) fn new(change: Change) -> Self {
        let Change { key, version, op } = change;
        let (tag, gone, bytes) = match op {
            Op::Upsert(item) => (3, false, item),
            Op::Deleted => (4, true, tombstone(TombstoneReason::Deleted)),
            Op::LeftView => (4, true, tombstone(TombstoneReason::LeftView)),
        };
        let inner = prost::encoding::string::encoded_len(1, &key)
            + prost::encoding::int64::encoded_len(2, &version)
            + key_len(tag)
            + encoded_len_varint(bytes.len() as u64)
            + bytes.len();
        let mut field = Vec::with_capacity(inner + 8);
        encode_key(CHANGES, WireType::LengthDelimited, &mut field);
        encode_varint(inner as u64, &mut field);
        prost::encoding::string::encode(1, &key, &mut field);
        prost::encoding::int64::encode(2, &version, &mut field);
        encode_key(tag, WireType::LengthDelimited, &mut field);
        encode_varint(bytes.len() as u64, &mut field);
        field.put_slice(&bytes);
        Self { key, version, gone, field: field.into() }
    }
}

fn tombstone(reason: TombstoneReason) -> Bytes {
    Tombstone { reason: reason.into() }.encode_to_vec().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use foundry_frame::{RawChange, RawDelta, RawOp};

    #[test]
    fn encodes_exactly_what_prost_would() {
        for change in [
            Change { key: "task/1".into(), version: 300, op: Op::Upsert(Bytes::from_static(b"\x0a\x01x")) },
            Change { key: "task/2".into(), version: 7, op: Op::Upsert(Bytes::new()) },
            Change::left_view("task/3", 8),
            Change::deleted("task/4", 9),
        ] {
            let op = match &change.op {
                Op::Upsert(item) => RawOp::Upsert(item.clone()),
                Op::Deleted => RawOp::Tombstone(Bytes::from_static(b"\x08\x01")),
                Op::LeftView => RawOp::Tombstone(Bytes::from_static(b"\x08\x02")),
            };
            let raw = RawChange { key: change.key.clone(), version: change.version, op: Some(op) };
            let delta = RawDelta { to_rev: 0, changes: vec![raw], more: false };
            assert_eq!(EncodedChange::new(change).field, delta.encode_to_vec());
        }
    }
}
