//! A frame of the edge's stream. It is encoded where it is sent: what watches share is copied once, or not at all.

use foundry_frame::Frame;
use foundry_proto::edge::v1 as wire;
use foundry_proto::edge::v1::watch_response::Body;
use foundry_server::{FrameBuffer, Framed};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

// Field numbers of `foundry.edge.v1`.
const SEQ: u32 = 1;
const FRAMES: u32 = 11;
const FRAMES_FRAMES: u32 = 1;
const SUB_ID: u32 = 1;
const RESPONSE: u32 = 2;

/// A `WatchResponse`.
#[derive(Clone, Debug)]
pub(crate) struct StreamFrame {
    pub(crate) seq: u64,
    pub(crate) content: Content,
}

/// What a frame of the stream says.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// Frames of watches, each with the number of its watch.
    Watches(Vec<(u32, Frame)>),
    /// Anything else.
    Edge(Body),
}

/// Length of a field with these many bytes of content.
fn field_len(tag: u32, content: usize) -> usize {
    key_len(tag) + encoded_len_varint(content as u64) + content
}

fn encode_field_head(tag: u32, content: usize, buffer: &mut FrameBuffer) {
    encode_key(tag, WireType::LengthDelimited, buffer.own());
    encode_varint(content as u64, buffer.own());
}

/// Length of a `SubscriptionFrame`. Its fields are never empty: watches and frames are numbered from 1.
fn entry_len(sub_id: u32, frame: &Frame) -> usize {
    prost::encoding::uint32::encoded_len(SUB_ID, &sub_id) + field_len(RESPONSE, Message::encoded_len(frame))
}

fn frames_len(frames: &[(u32, Frame)]) -> usize {
    frames.iter().map(|(sub_id, frame)| field_len(FRAMES_FRAMES, entry_len(*sub_id, frame))).sum()
}

impl Framed for StreamFrame {
    type Message = wire::WatchResponse;

    fn into_message(self) -> wire::WatchResponse {
        let body = match self.content {
            Content::Edge(body) => body,
            Content::Watches(frames) => {
                let frames = frames.into_iter().map(|(sub_id, frame)| wire::SubscriptionFrame {
                    sub_id,
                    response: frame.encode_to_vec().into(),
                });
                Body::Frames(wire::Frames { frames: frames.collect() })
            }
        };
        wire::WatchResponse { seq: self.seq, body: Some(body) }
    }

    fn encoded_len(&self) -> usize {
        let content = match &self.content {
            Content::Edge(body) => body.encoded_len(),
            Content::Watches(frames) => field_len(FRAMES, frames_len(frames)),
        };
        prost::encoding::uint64::encoded_len(SEQ, &self.seq) + content
    }

    fn encode(self, buffer: &mut FrameBuffer) {
        prost::encoding::uint64::encode(SEQ, &self.seq, buffer.own());
        match self.content {
            Content::Edge(body) => body.encode(buffer.own()),
            Content::Watches(frames) => {
                encode_field_head(FRAMES, frames_len(&frames), buffer);
                for (sub_id, frame) in &frames {
                    encode_field_head(FRAMES_FRAMES, entry_len(*sub_id, frame), buffer);
                    prost::encoding::uint32::encode(SUB_ID, sub_id, buffer.own());
                    encode_field_head(RESPONSE, Message::encoded_len(frame), buffer);
                    frame.encode_head(buffer.own());
                    buffer.share(&frame.body);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use foundry_server::testing::encoded;

    use super::*;

    #[test]
    fn is_on_the_wire_what_prost_makes_of_the_message() {
        let frame = |seq, size: usize| Frame { seq, from_rev: 300, body: vec![b'x'; size].into() };
        let modified = Body::Modified(wire::Modified { version: 9 });
        for content in [
            Content::Edge(Body::Heartbeat(wire::Heartbeat {})),
            Content::Edge(modified),
            Content::Watches(vec![(1, frame(1, 0))]),
            Content::Watches(vec![
                (1, frame(1, 3)),
                (4_000_000_000, frame(200, 100_000)),
                (2, frame(7, 130)),
            ]),
        ] {
            let frame = StreamFrame { seq: 5, content };
            let expected = frame.clone().into_message().encode_to_vec();
            assert_eq!(frame.encoded_len(), expected.len());
            assert!(encoded(frame).concat() == expected);
        }
    }

    #[test]
    fn large_bytes_of_a_watch_are_those_of_its_topic() {
        let body = Bytes::from(vec![b'x'; 64 << 10]);
        let watches = vec![(1, Frame { seq: 1, from_rev: 0, body: body.clone() })];
        let pieces = encoded(StreamFrame { seq: 1, content: Content::Watches(watches) });
        assert!(pieces.iter().any(|piece| piece.as_ptr() == body.as_ptr()));
    }
}
