//! Bodies of frames: one encoded field of the envelope's `oneof` each.

use bytes::{BufMut, Bytes, BytesMut};
use foundry_core::{Timestamp, proto_duration};
use foundry_proto::watch::v1 as wire;
use foundry_watch::DrainNotice;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use crate::encoded::EncodedChange;

const HELLO: u32 = 10;
const SNAPSHOT_BEGIN: u32 = 11;
const SNAPSHOT_CHUNK: u32 = 12;
const SNAPSHOT_END: u32 = 13;
const DELTA: u32 = 14;
const BOOKMARK: u32 = 15;
const RESET: u32 = 16;
const AUTH_EXPIRING: u32 = 17;
const DRAIN: u32 = 18;

pub(crate) fn hello(hello: &wire::Hello) -> Bytes {
    message(HELLO, hello)
}

pub(crate) fn snapshot_begin(rev: i64) -> Bytes {
    message(SNAPSHOT_BEGIN, &wire::SnapshotBegin { rev })
}

pub(crate) fn snapshot_chunk(rev: i64, changes: &[EncodedChange]) -> Bytes {
    changes_body(SNAPSHOT_CHUNK, rev, changes.iter(), false)
}

pub(crate) fn snapshot_end(rev: i64, count: i64, digest: u64, resume_token: String) -> Bytes {
    message(SNAPSHOT_END, &wire::SnapshotEnd { rev, count, digest, resume_token })
}

pub(crate) fn delta<'a>(
    to_rev: i64,
    changes: impl Iterator<Item = &'a EncodedChange> + Clone,
    more: bool,
) -> Bytes {
    changes_body(DELTA, to_rev, changes, more)
}

pub(crate) fn bookmark(rev: i64, caught_up: bool, resume_token: String) -> Bytes {
    message(BOOKMARK, &wire::Bookmark { rev, caught_up, resume_token })
}

pub(crate) fn reset(reason: wire::ResetReason) -> Bytes {
    message(RESET, &wire::Reset { reason: reason.into() })
}

pub(crate) fn auth_expiring(at: Timestamp) -> Bytes {
    message(AUTH_EXPIRING, &wire::AuthExpiring { expire_time: Some(at.to_proto()) })
}

pub(crate) fn drain(notice: DrainNotice) -> Bytes {
    let drain = wire::Drain {
        reconnect_after: Some(proto_duration(notice.reconnect_after)),
        deadline_time: Some(notice.deadline.to_proto()),
    };
    message(DRAIN, &drain)
}

fn message(tag: u32, message: &impl Message) -> Bytes {
    let mut out = BytesMut::with_capacity(message.encoded_len() + 8);
    prost::encoding::message::encode(tag, message, &mut out);
    out.freeze()
}

/// The body of a delta or snapshot chunk with encoded changes.
fn changes_body<'a>(
    tag: u32,
    to_rev: i64,
    changes: impl Iterator<Item = &'a EncodedChange> + Clone,
    more: bool,
) -> Bytes {
    let rev_len = if to_rev == 0 { 0 } else { prost::encoding::int64::encoded_len(1, &to_rev) };
    let more_len = if more { prost::encoding::bool::encoded_len(3, &more) } else { 0 };
    let inner = rev_len + more_len + changes.clone().map(|c| c.field.len()).sum::<usize>();
    let mut out = BytesMut::with_capacity(inner + key_len(tag) + encoded_len_varint(inner as u64));
    encode_key(tag, WireType::LengthDelimited, &mut out);
    encode_varint(inner as u64, &mut out);
    if to_rev != 0 {
        prost::encoding::int64::encode(1, &to_rev, &mut out);
    }
    for change in changes {
        out.put_slice(&change.field);
    }
    if more {
        prost::encoding::bool::encode(3, &more, &mut out);
    }
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use foundry_frame::{Frame, RawBody};
    use foundry_watch::Change;

    #[test]
    fn a_delta_of_shared_changes_reads_back_as_one_frame() {
        let changes: Vec<_> = [Change::left_view("a", 4), Change::upsert("b", 5, &wire::Reset { reason: 1 })]
            .map(EncodedChange::new)
            .into();
        let frame = Frame { seq: 1, from_rev: 3, body: delta(5, changes.iter(), true) };
        let Some(RawBody::Delta(raw)) = frame.raw().unwrap().body else { panic!("no delta") };
        assert_eq!((raw.to_rev, raw.more, raw.changes.len()), (5, true, 2));
        assert_eq!(raw.changes[1].key, "b");
        let decoded = Frame::decode(frame.encode_to_vec().as_slice()).unwrap();
        assert_eq!(decoded, frame);
    }

    #[test]
    fn an_empty_delta_is_still_a_delta() {
        let frame = Frame { seq: 1, from_rev: 0, body: delta(0, [].iter(), false) };
        assert!(matches!(frame.raw().unwrap().body, Some(RawBody::Delta(_))));
    }
}
