//! The fake provisioner's store of attachments.

use super::*;

#[async_trait::async_trait]
impl AttachmentService for FakeProvisioner {
    async fn hold_attachments(
        &self,
        request: Request<HoldAttachmentsRequest>,
    ) -> Answer<HoldAttachmentsResponse> {
        self.answer().await;
        let HoldAttachmentsRequest { organization_id, attachment_ids, .. } = request.into_inner();
        let state = self.state.lock().unwrap();
        let found: Result<Vec<Attachment>, Status> = attachment_ids
            .iter()
            .map(|id| match state.files.get(id).filter(|(owner, _)| *owner == organization_id) {
                Some((_, file)) => Ok(file.clone()),
                None => Err(foundry_core::Error::not_found("attachment", id).into()),
            })
            .collect();
        Ok(Response::new(HoldAttachmentsResponse { attachments: found? }))
    }

    not_needed! {
        put_attachment: PutAttachmentRequest => PutAttachmentResponse;
        get_attachment: GetAttachmentRequest => GetAttachmentResponse;
        list_attachments: ListAttachmentsRequest => ListAttachmentsResponse;
        delete_attachment: DeleteAttachmentRequest => DeleteAttachmentResponse;
    }
}
