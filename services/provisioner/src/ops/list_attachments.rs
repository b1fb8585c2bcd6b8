//! ListAttachments: newest first, by pages, with what they take.

use foundry_authn::Caller;
use foundry_core::{AttachmentId, Error, OrganizationId, PageRequest, PageToken, Result, Timestamp};
use foundry_proto::common::v1::Role;
use foundry_proto::provisioner::v1::{ListAttachmentsRequest, ListAttachmentsResponse, StoredAttachment};

use crate::domain::attachment::Attachment;
use crate::shared::Shared;
use crate::store::attachments;

/// Lists the stored files of an organization.
///
/// # Errors
/// `INVALID_ARGUMENT` for a page token of somewhere else.
pub async fn list_attachments(
    shared: &Shared,
    caller: &Caller,
    request: ListAttachmentsRequest,
) -> Result<ListAttachmentsResponse> {
    let organization: OrganizationId = request.organization_id.parse()?;
    caller.require(&organization, Role::Viewer)?;
    let page = PageRequest::parse(request.page_size, &request.page_token)?;
    let before = match &page.after {
        None => (i64::MAX, String::new()),
        Some(token) => position(&token.0)?,
    };
    let limit = page.size + 1;
    let before = (before.0, before.1.as_str());
    let mut found = attachments::list(&shared.store, &organization, before, limit).await?;
    let size = page.size as usize;
    let more = found.len() > size;
    found.truncate(size);
    let at = |f: &Attachment| format!("{}/{}", f.create_time.as_micros(), f.attachment_id);
    let next = found.last().filter(|_| more).map(|f| PageToken(at(f)).encode());
    let total = attachments::total(&shared.store, &organization).await?;
    let bytes = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    Ok(ListAttachmentsResponse {
        attachments: found.iter().map(stored).collect(),
        next_page_token: next.unwrap_or_default(),
        total_bytes: bytes(total),
        maximum_bytes: bytes(shared.config.attachments.organization_bytes),
    })
}

fn position(token: &str) -> Result<(i64, String)> {
    let parse = || {
        let (time, id) = token.split_once('/')?;
        Some((time.parse().ok()?, id.parse::<AttachmentId>().ok()?.to_string()))
    };
    parse().ok_or_else(|| Error::invalid_field("page_token", "is not a page token returned by this method"))
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
