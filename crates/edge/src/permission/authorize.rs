//! The question to the owner of a watch: may this caller see it, and by which view.

use std::str::FromStr as _;
use std::time::Duration;

use bytes::Bytes;
use foundry_core::OrganizationId;
use foundry_proto::watch::v1 as wire;
use foundry_proto::watch::v1::watch_authorization_service_client::WatchAuthorizationServiceClient;
use http::header::{AUTHORIZATION, HeaderValue};
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

use crate::owners::Owners;
use crate::watch_request::WatchRequest;

/// Deadline of the question whether a watch may be seen.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// A watch that its owner allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) view: String,
    pub(crate) request: Bytes,
    /// The organization whose membership allows it.
    pub(crate) organization: Option<OrganizationId>,
}

impl Owners {
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
            () = self.clock().sleep(ANSWER_LIMIT) => return Err(Status::deadline_exceeded("no answer in time")),
        };
        let organization = match answer.organization_id.as_str() {
            "" => None,
            id => Some(OrganizationId::from_str(id)?),
        };
        Ok(Grant { view: answer.view, request: answer.request, organization })
    }
}

/// Whether an owner does not let the caller see what it asks for, as it knows the caller.
pub(crate) fn is_refusal(status: &Status) -> bool {
    matches!(status.code(), Code::NotFound | Code::PermissionDenied)
}
