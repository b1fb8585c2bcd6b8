//! GetAttachment: the bytes of a stored file, also when its task has ended.

use foundry_authn::Caller;
use foundry_core::{Error, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::provisioner::v1::{GetAttachmentRequest, GetAttachmentResponse};

use super::attachment_for;
use crate::shared::Shared;

/// Returns a stored file.
///
/// # Errors
/// `NOT_FOUND`, also while it is not stored yet or is being removed; `ATTACHMENT_STORE_UNAVAILABLE`.
pub async fn get_attachment(
    shared: &Shared,
    caller: &Caller,
    request: GetAttachmentRequest,
) -> Result<GetAttachmentResponse> {
    let file = attachment_for(shared, caller, &request.attachment_id, Role::Viewer).await?;
    let content = shared.attachments.get(&file.organization_id, &file.attachment_id).await?;
    let content = content.ok_or_else(|| Error::not_found("attachment", &request.attachment_id))?;
    Ok(GetAttachmentResponse { attachment: Some(file.to_proto()), content, sha256: file.sha256 })
}
