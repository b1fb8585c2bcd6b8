//! Files of messages. The provisioner stores them and returns their metadata when a message that names one is recorded.

use std::time::Duration;

use foundry_core::{AttachmentId, Error, OrganizationId, Result, SessionId};
use foundry_proto::common::v1::Attachment;
use foundry_proto::provisioner::v1::HoldAttachmentsRequest;

use crate::context::{Context, UpstreamError};
use crate::domain::validate::MAX_ATTACHMENTS;

/// How long a handler waits for the provisioner's response.
const LIMIT: Duration = Duration::from_secs(3);

/// Asks the provisioner to keep files for a message of a session. Makes no call for a message without files.
///
/// # Errors
/// `INVALID_ARGUMENT` for too many, a malformed id or one named twice; `NOT_FOUND` for one that is not there or belongs
/// to another organization; `PROVISIONER_UNAVAILABLE`.
pub async fn hold(
    cx: &Context,
    organization: &OrganizationId,
    session: &SessionId,
    ids: &[String],
) -> Result<Vec<Attachment>> {
    const FIELD: &str = "attachment_ids";
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    if ids.len() > MAX_ATTACHMENTS {
        return Err(Error::invalid_field(FIELD, format!("must contain at most {MAX_ATTACHMENTS} files")));
    }
    for (n, id) in ids.iter().enumerate() {
        id.parse::<AttachmentId>()
            .map_err(|_| Error::invalid_field(FIELD, "must look like att_<32 hex digits>"))?;
        if ids[..n].contains(id) {
            return Err(Error::invalid_field(FIELD, "must not contain duplicates"));
        }
    }
    let request = HoldAttachmentsRequest {
        organization_id: organization.to_string(),
        session_id: session.to_string(),
        attachment_ids: ids.to_vec(),
    };
    let mut client = cx.attachments.clone();
    let answer = tokio::select! {
        biased;
        answer = client.hold_attachments(request) => answer.map_err(UpstreamError::from),
        () = cx.env.clock.sleep(LIMIT) => {
            Err(UpstreamError::from(tonic::Status::deadline_exceeded("no answer in time")))
        }
    };
    match answer {
        Ok(answer) => Ok(answer.into_inner().attachments),
        Err(e) if e.is_transient() => {
            let text = "the provisioner, which stores attachments, does not respond";
            Err(Error::unavailable("PROVISIONER_UNAVAILABLE", text, Duration::from_secs(1))
                .next_action("try again; messages without files can still be sent")
                .with("upstream_reason", e.reason))
        }
        Err(e) if e.code == tonic::Code::NotFound => {
            Err(Error::new(e.code, "NOT_FOUND", e.message).next_action("attach the file again"))
        }
        Err(e) => Err(Error::invalid_field(FIELD, e.message)),
    }
}
