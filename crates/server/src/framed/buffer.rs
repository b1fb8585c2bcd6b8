//! What a stream has encoded and not sent yet. Nothing of it stays allocated once it is sent.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes};
use tonic::Status;

use super::Framed;

/// Length of what stands before each message: whether it is compressed, and its length.
const PREFIX: usize = 5;
/// Shared bytes that are sent as they are from this length on. Shorter ones are copied: that costs less than a frame of
/// HTTP/2 of their own, and the small one that would precede them is dear to its receiver.
const SHARED_FROM: usize = 16 * 1024;
/// Room for what a large message says besides the bytes that it shares.
const HEAD: usize = 64;
/// Length after which no further message is added.
const FULL: usize = 32 * 1024;

/// Encoded messages of one stream, in pieces: its own bytes, and between them large ones that it shares.
#[derive(Debug, Default)]
pub struct FrameBuffer {
    pieces: VecDeque<Bytes>,
    open: Vec<u8>,
}

impl FrameBuffer {
    /// Where the message's own bytes are written.
    pub fn own(&mut self) -> &mut impl BufMut {
        &mut self.open
    }

    /// Writes bytes that other streams send too; large ones are not copied.
    pub fn share(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARED_FROM {
            self.open.extend_from_slice(bytes);
            return;
        }
        if !self.open.is_empty() {
            self.pieces.push_back(std::mem::take(&mut self.open).into());
        }
        self.pieces.push_back(bytes.clone());
    }

    /// Adds a message with its prefix.
    ///
    /// # Errors
    /// Those of tonic, in its words, for a message of 4 GiB.
    pub(super) fn push(&mut self, message: impl Framed) -> Result<(), Status> {
        let length = message.encoded_len();
        let prefix = u32::try_from(length).map_err(|_| {
            let text = format!("Cannot return body with more than 4GB of data but got {length} bytes");
            Status::resource_exhausted(text)
        })?;
        if self.open.is_empty() {
            // A message alone gets exactly what it needs.
            self.open.reserve_exact(PREFIX + if length < SHARED_FROM { length } else { HEAD });
        }
        self.open.put_u8(0);
        self.open.put_u32(prefix);
        message.encode(self);
        Ok(())
    }

    /// The next piece to send.
    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        match self.pieces.pop_front() {
            Some(piece) => {
                if self.pieces.is_empty() {
                    self.pieces = VecDeque::new();
                }
                Some(piece)
            }
            None => (!self.open.is_empty()).then(|| std::mem::take(&mut self.open).into()),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.open.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.pieces.iter().map(Bytes::len).sum::<usize>() + self.open.len() >= FULL
    }

    /// Bytes that are allocated, those that are shared not counted.
    #[cfg(test)]
    pub(super) fn allocated(&self) -> usize {
        self.pieces.capacity() * size_of::<Bytes>() + self.open.capacity()
    }
}
