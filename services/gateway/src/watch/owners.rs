//! The services that own watches, as the edge calls them: asked under the caller's token whether
//! one may be seen, and watched in the gateway's own name.

use std::collections::BTreeMap;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use foundry_core::{Clock, OrganizationId, proto_duration};
use foundry_frame::Frame;
use foundry_proto::watch::v1 as wire;
use foundry_proto::watch::v1::watch_authorization_service_client::WatchAuthorizationServiceClient;
use foundry_server::Upstream;
use foundry_watch::MIN_HEARTBEAT;
use http::header::{AUTHORIZATION, HeaderValue};
use http::uri::PathAndQuery;
use prost::DecodeError;
use prost::encoding::{DecodeContext, WireType};
use tonic::metadata::MetadataValue;
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt as _;

use super::frames::Broken;
use super::link::Link;
use super::watch_request::{WatchRequest, Watchable, with_options};

/// Deadline of the question whether a watch may be seen.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// How long the first frame of a watch is waited for: longer than an owner waits for a position.
const HELLO_LIMIT: Duration = Duration::from_secs(10);

/// How often owners say where a stream is: as often as any caller may ask for, since all readers of a topic share its
/// stream.
const PACE: Duration = MIN_HEARTBEAT;

/// A service under both names: as it is, and in the gateway's own name.
pub(crate) struct Owner {
    pub(crate) plain: Upstream,
    pub(crate) as_gateway: Upstream,
}

/// All owners, by name.
pub(crate) struct Owners {
    owners: BTreeMap<&'static str, Owner>,
    clock: Arc<dyn Clock>,
}

/// A watch that its owner allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) view: String,
    pub(crate) request: Bytes,
    /// The organization whose membership allows it.
    pub(crate) organization: Option<OrganizationId>,
}

/// A stream of an owner after its first frame.
pub(crate) struct Opened {
    pub(crate) stream: Streaming<Frame>,
    pub(crate) link: Link,
    pub(crate) hello: wire::Hello,
}

impl Owners {
    pub(crate) fn new(owners: BTreeMap<&'static str, Owner>, clock: Arc<dyn Clock>) -> Self {
        Self { owners, clock }
    }

    /// Asks whether the caller may see a watch.
    ///
    /// # Errors
    /// As the owner refuses it, or cannot be reached.
    pub(crate) async fn authorize(
        &self,
        wanted: &WatchRequest,
        authorization: &HeaderValue,
    ) -> Result<Grant, Status> {
        let owner = self.owner(wanted.method)?;
        let mut client = WatchAuthorizationServiceClient::new(owner.plain.clone());
        let mut request = tonic::Request::new(wire::AuthorizeWatchRequest {
            method: wanted.method.path.to_owned(),
            request: wanted.request.clone(),
        });
        let value = MetadataValue::try_from(authorization.as_bytes())
            .map_err(|e| foundry_core::Error::internal(e).into_status())?;
        request.metadata_mut().insert(AUTHORIZATION.as_str(), value);
        request.set_timeout(ANSWER_LIMIT);
        let answer = tokio::select! {
            answer = client.authorize_watch(request) => answer?.into_inner(),
            () = self.clock.sleep(ANSWER_LIMIT) => return Err(Status::deadline_exceeded("no answer in time")),
        };
        let organization = match answer.organization_id.as_str() {
            "" => None,
            id => Some(OrganizationId::from_str(id)?),
        };
        Ok(Grant { view: answer.view, request: answer.request, organization })
    }

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
            () = self.clock.sleep(HELLO_LIMIT) => Err(Status::unavailable("the stream did not open in time")),
        }
    }

    fn owner(&self, method: Watchable) -> Result<&Owner, Status> {
        let unknown = || crate::forward::unreachable(method.service).into_status();
        self.owners.get(method.service).ok_or_else(unknown)
    }
}

/// The status of a stream that broke the contract.
pub(crate) fn broken(Broken(what): Broken) -> Status {
    Status::data_loss(what)
}

/// Whether a watch cannot be had, whatever is tried: then its caller is told.
pub(crate) fn is_final(status: &Status) -> bool {
    use tonic::Code;
    matches!(
        status.code(),
        Code::NotFound
            | Code::PermissionDenied
            | Code::InvalidArgument
            | Code::Unimplemented
            | Code::FailedPrecondition
            | Code::OutOfRange
    )
}

/// Whether an owner does not let the caller see what it asks for, as it knows the caller.
pub(crate) fn is_refusal(status: &Status) -> bool {
    matches!(status.code(), tonic::Code::NotFound | tonic::Code::PermissionDenied)
}

/// Whether the owner does not have the position that it was asked to go on from.
pub(crate) fn is_ahead(status: &Status) -> bool {
    let details = status.get_error_details();
    details.error_info().is_some_and(|info| info.reason == "POSITION_AHEAD")
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
