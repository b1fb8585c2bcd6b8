//! The service's watched views. They are stored as they are sent, so showing one only wraps it in its item message.

pub mod files;
pub mod organization;
pub mod session;
pub mod task;
pub mod user_state;

use bytes::{BufMut, Bytes};
use foundry_watch::{Change, Op};
use prost::encoding::{WireType, encode_key, encode_varint};

/// An encoded message as one field of the item that carries it.
fn wrapped(field: u32, key: String, version: i64, message: &Bytes) -> Change {
    let mut item = Vec::with_capacity(message.len() + 8);
    encode_key(field, WireType::LengthDelimited, &mut item);
    encode_varint(message.len() as u64, &mut item);
    item.put_slice(message);
    Change { key, version, op: Op::Upsert(item.into()) }
}
