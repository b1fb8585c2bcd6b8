//! A change of a view.

use bytes::Bytes;
use prost::Message;

/// How an entity of a view changed.
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
    /// The change itself.
    pub op: Op<T>,
}

impl Change<Bytes> {
    /// The entity's whole new state.
    pub fn upsert(key: impl Into<String>, version: i64, item: &impl Message) -> Self {
        Self { key: key.into(), version, op: Op::Upsert(item.encode_to_vec().into()) }
    }

    /// A change for an entity that no longer matches the view's filter.
    pub fn left_view(key: impl Into<String>, version: i64) -> Self {
        Self { key: key.into(), version, op: Op::LeftView }
    }

    /// A change for an entity that was deleted.
    pub fn deleted(key: impl Into<String>, version: i64) -> Self {
        Self { key: key.into(), version, op: Op::Deleted }
    }
}

/// A row's part of a snapshot's digest: FNV-1a-64 of key, 0x00 and the version little-endian.
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

    #[test]
    fn digests_key_and_version_with_fnv_1a() {
        // FNV-1a-64 of b"a\0" followed by 1 as eight little-endian bytes.
        let expected = [b'a', 0, 1, 0, 0, 0, 0, 0, 0, 0]
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3));
        assert_eq!(row_digest("a", 1), expected);
    }
}
