//! ListAttachments: newest first, by pages, with the space in use.

use foundry_authn::Caller;
use foundry_core::{AttachmentId, OrganizationId, PageRequest, PageToken, Result, Timestamp};
use foundry_proto::common::v1::Role;
use foundry_proto::provisioner::v1::{ListAttachmentsRequest, ListAttachmentsResponse, StoredAttachment};

use crate::domain::attachment::Attachment;
use crate::shared::Shared;
use crate::store::attachments;

/// Lists the stored files of an organization.
///
/// # Errors
/// `INVALID_ARGUMENT` for a page token that is not of this list.
pub async fn list_attachments(
    shared: &Shared,
    caller: &Caller,
    request: ListAttachmentsRequest,
) -> Result<ListAttachmentsResponse> {
    let organization: OrganizationId = request.organization_id.parse()?;
    caller.require(&organization, Role::Viewer)?;
    let page = PageRequest::parse(request.page_size, &request.page_token)?;
    let (time, id) = page.begins_after((i64::MAX, String::new()), position)?;
    let found = attachments::list(&shared.store, &organization, (time, &id), page.limit()).await?;
    let (found, next) = page.cut(found, |f| format!("{}/{}", f.create_time.as_micros(), f.attachment_id));
    let total = attachments::total(&shared.store, &organization).await?;
    let bytes = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    Ok(ListAttachmentsResponse {
        attachments: found.iter().map(stored).collect(),
        next_page_token: PageToken::encode_next(next),
        total_bytes: bytes(total),
        maximum_bytes: bytes(shared.config.attachments.organization_bytes),
    })
}

fn position(text: &str) -> Option<(i64, String)> {
    let (time, id) = text.split_once('/')?;
    Some((time.parse().ok()?, id.parse::<AttachmentId>().ok()?.to_string()))
}

fn stored(file: &Attachment) -> StoredAttachment {
    StoredAttachment {
        attachment: Some(file.to_proto()),
        user_id: file.user_id.clone(),
        session_id: file.session_id.clone(),
        create_time: Some(file.create_time.to_proto()),
        expire_time: file.expire_time.map(Timestamp::to_proto),
    }
}
