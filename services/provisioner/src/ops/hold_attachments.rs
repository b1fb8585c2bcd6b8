//! HoldAttachments: keeps files for a message that the task service is about to record. All of them or none.

use foundry_authn::Caller;
use foundry_core::{Error, OrganizationId, Result, SessionId};
use foundry_proto::provisioner::v1::{HoldAttachmentsRequest, HoldAttachmentsResponse};
use foundry_store::WriteSet;

use super::attachment_ids;
use crate::attachments::HELD;
use crate::domain::attachment::Attachment;
use crate::shared::Shared;
use crate::store::attachments;

/// Keeps files, and returns their descriptions.
///
/// # Errors
/// `NOT_FOUND` for one that does not exist or belongs to another organization, `INVALID_ARGUMENT`.
pub async fn hold_attachments(
    shared: &Shared,
    _: &Caller,
    request: HoldAttachmentsRequest,
) -> Result<HoldAttachmentsResponse> {
    let organization: OrganizationId = request.organization_id.parse()?;
    let session: SessionId = request.session_id.parse()?;
    let ids = attachment_ids(&request.attachment_ids)?;
    let until = shared.env.clock.now().plus(HELD);
    let decide = || async {
        let mut ws = WriteSet::new();
        let mut held = Vec::new();
        for id in &ids {
            let found = attachments::find(&shared.store, id).await?;
            let ours = |f: &Attachment| f.organization_id == organization && f.is_ready();
            let file = found.filter(ours).ok_or_else(|| Error::not_found("attachment", id.as_str()))?;
            // A file that was sent to an agent already is kept for good.
            if file.expire_time.is_some_and(|expires| expires < until) {
                attachments::keep(&mut ws, &file, session.as_str(), Some(until));
            }
            held.push(file.to_proto());
        }
        Ok((ws, held))
    };
    let (_, attachments) = shared.store.retry_on_conflict(decide).await?;
    Ok(HoldAttachmentsResponse { attachments })
}
