//! DeleteAttachment: the file can no longer be read; the sweep removes its bytes.

use foundry_authn::Caller;
use foundry_core::Result;
use foundry_proto::common::v1::Role;
use foundry_proto::provisioner::v1::{DeleteAttachmentRequest, DeleteAttachmentResponse};
use foundry_store::WriteSet;

use super::{Command, attachment_for, audit};
use crate::shared::Shared;
use crate::store::attachments;

/// Removes a stored file.
///
/// # Errors
/// `NOT_FOUND`.
pub async fn delete_attachment(
    shared: &Shared,
    caller: &Caller,
    request: DeleteAttachmentRequest,
) -> Result<DeleteAttachmentResponse> {
    const METHOD: &str = "DeleteAttachment";
    let id = &request.attachment_id;
    let body = DeleteAttachmentRequest { request_id: String::new(), ..request.clone() };
    if let Some(first) = Command::answered(shared, caller, METHOD, &request.request_id, &body).await? {
        return Ok(first);
    }
    let organization = attachment_for(shared, caller, id, Role::Member).await?.organization_id;
    let command = Command::new(shared, caller, &organization, METHOD, &request.request_id, &body)?;
    let answer = command
        .run(|| async {
            let file = attachment_for(shared, caller, id, Role::Member).await?;
            let mut ws = WriteSet::new();
            attachments::remove(&mut ws, &file, shared.env.clock.now());
            ws.audit(audit(&organization, caller, "", "attachment.delete", id, &request.request_id));
            Ok((ws, DeleteAttachmentResponse { rev: 0 }))
        })
        .await?;
    shared.attachments.sweep_requested.notify_one();
    Ok(answer)
}
