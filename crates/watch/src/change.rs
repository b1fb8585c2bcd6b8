//! A change of a view, and its one encoding.

use bytes::{BufMut, Bytes};
use foundry_proto::watch::v1::{Tombstone, TombstoneReason};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

/// What happened to an entity of a view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op<T = Bytes> {
    /// The entity's whole new state: the item message of the view, encoded where it is served.
    Upsert(T),
    /// The entity was deleted.
    Deleted,
    /// The entity exists, but no longer belongs to the view.
    LeftView,
}

/// One entity's newest state in a view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change<T = Bytes> {
    /// Key of the entity, unique in its view.
    pub key: String,
    /// Revision of the entity's last change in the view's scope.
    pub version: i64,
    /// What happened.
    pub op: Op<T>,
}

impl Change<Bytes> {
    /// The entity's whole new state.
    pub fn upsert(key: impl Into<String>, version: i64, item: &impl Message) -> Self {
        Self { key: key.into(), version, op: Op::Upsert(item.encode_to_vec().into()) }
    }

    /// The entity no longer matches the view's filter.
    pub fn left_view(key: impl Into<String>, version: i64) -> Self {
        Self { key: key.into(), version, op: Op::LeftView }
    }

    /// The entity was deleted.
    pub fn deleted(key: impl Into<String>, version: i64) -> Self {
        Self { key: key.into(), version, op: Op::Deleted }
    }
}

/// A change with its wire form, encoded once and shared by all who send it.
#[derive(Clone, Debug)]
pub(crate) struct EncodedChange {
    pub(crate) key: String,
    pub(crate) version: i64,
    /// Whether the entity is gone from the view; such a change is no part of a snapshot.
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

/// What a row adds to a snapshot's digest: FNV-1a-64 of key, 0x00 and the version little-endian.
pub fn row_digest(key: &str, version: i64) -> u64 {
    use std::hash::Hasher as _;
    let mut hasher = fnv::FnvHasher::default();
    hasher.write(key.as_bytes());
    hasher.write(&[0]);
    hasher.write(&version.to_le_bytes());
    hasher.finish()
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

    #[test]
    fn digests_key_and_version_with_fnv_1a() {
        // FNV-1a-64 of b"a\0" followed by 1 as eight little-endian bytes.
        let expected = [b'a', 0, 1, 0, 0, 0, 0, 0, 0, 0]
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3));
        assert_eq!(row_digest("a", 1), expected);
    }
}
