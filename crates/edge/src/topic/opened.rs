//! A stream of an owner, opened in the gateway's own name.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use foundry_core::proto_duration;
use foundry_frame::Frame;
use foundry_proto::watch::v1 as wire;
use foundry_watch::MIN_HEARTBEAT;
use http::uri::PathAndQuery;
use prost::DecodeError;
use prost::encoding::{DecodeContext, WireType};
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;

use super::frames::broken;
use super::link::Link;
use crate::owners::Owners;
use crate::watch_request::{Watchable, with_options};

/// How long the first frame of a watch is waited for: longer than an owner waits for a position.
const HELLO_LIMIT: Duration = Duration::from_secs(10);

/// How often owners say where a stream is: as often as any caller may ask for, since all readers of a topic share its
/// stream.
const PACE: Duration = MIN_HEARTBEAT;

/// A stream of an owner after its first frame.
pub(crate) struct Opened {
    pub(crate) stream: Streaming<Frame>,
    pub(crate) link: Link,
    pub(crate) hello: wire::Hello,
}

impl Owners {
    /// Opens a watch by its owner's own request.
    ///
    /// # Errors
    /// As the owner refuses it, or cannot be reached; `UNAVAILABLE` when no first frame comes.
    pub(crate) async fn open(
        &self,
        method: Watchable,
        request: &Bytes,
        mut options: wire::WatchOptions,
    ) -> Result<Opened, Status> {
        options.heartbeat = Some(proto_duration(PACE));
        let mut client = tonic::client::Grpc::new(self.owner(method)?.as_gateway.clone());
        let codec = ProstCodec::<RawRequest, Frame>::default();
        let request = tonic::Request::new(RawRequest(with_options(request, options)));
        let opening = async {
            client.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
            let path = PathAndQuery::from_static(method.path);
            let mut stream = client.server_streaming(request, path, codec).await?.into_inner();
            let none = || Status::unavailable("the stream ended before its first frame");
            let first = stream.message().await?.ok_or_else(none)?;
            let (link, hello) = Link::open(&first).map_err(broken)?;
            Ok(Opened { stream, link, hello })
        };
        tokio::select! {
            opened = opening => opened,
            () = self.clock().sleep(HELLO_LIMIT) => Err(Status::unavailable("the stream did not open in time")),
        }
    }
}

/// A request that is encoded already.
#[derive(Clone, Debug, Default)]
struct RawRequest(Bytes);

impl prost::Message for RawRequest {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.0);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        // It is only ever sent.
        prost::encoding::skip_field(wire_type, tag, buf, ctx)
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}
