//! PutAttachment: writes the row, then the bytes, then marks the row as stored. A repeated request continues what a
//! crash left unfinished.

use foundry_authn::Caller;
use foundry_core::{AttachmentId, Code, Error, OrganizationId, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::provisioner::v1::{PutAttachmentRequest, PutAttachmentResponse};
use foundry_store::{CommitError, WriteSet};
use sha2::{Digest as _, Sha256};

use super::{Command, audit};
use crate::attachments::INTENT;
use crate::domain::attachment::{Attachment, AttachmentState, MAX_FILE, check_name, media_type};
use crate::shared::Shared;
use crate::store::attachments;

/// Stores a file.
///
/// # Errors
/// `INVALID_ARGUMENT` for a bad name or no bytes, `ATTACHMENT_TOO_LARGE`, `LIMIT_REACHED` when the organization's
/// space is used up, `ATTACHMENT_STORE_UNAVAILABLE`.
pub async fn put_attachment(
    shared: &Shared,
    caller: &Caller,
    request: PutAttachmentRequest,
) -> Result<PutAttachmentResponse> {
    let organization: OrganizationId = request.organization_id.parse()?;
    caller.require(&organization, Role::Member)?;
    check_name(&request.name)?;
    check_size(request.content.len())?;
    let sha256 = Sha256::digest(&request.content);
    let body = PutAttachmentRequest {
        request_id: String::new(),
        content: sha256.to_vec().into(),
        ..request.clone()
    };
    let command = Command::new(shared, caller, &organization, "PutAttachment", &request.request_id, &body)?;
    let file = Attachment {
        attachment_id: AttachmentId::generate(&shared.env),
        organization_id: organization.clone(),
        name: request.name.clone(),
        media_type: media_type(&request.content).to_owned(),
        size: i64::try_from(request.content.len()).unwrap_or(i64::MAX),
        sha256: hex::encode(sha256),
        state: AttachmentState::Pending,
        user_id: caller.on_behalf_of().map_or_else(|| caller.actor(), ToString::to_string),
        session_id: String::new(),
        create_time: shared.env.clock.now(),
        expire_time: Some(shared.env.clock.now().plus(INTENT)),
    };
    let answer = intend(shared, caller, &command, &file, &request.request_id).await?;
    let id: AttachmentId = match &answer.attachment {
        Some(attachment) => attachment.attachment_id.parse()?,
        None => return Err(Error::internal("the response to PutAttachment contains no file")),
    };
    arrive(shared, &organization, &id, request.content).await?;
    Ok(answer)
}

fn check_size(size: usize) -> Result<()> {
    match size {
        0 => Err(Error::invalid_field("content", "must have at least 1 byte")),
        1..=MAX_FILE => Ok(()),
        _ => {
            let text = format!("the file is {size} bytes; the limit is {MAX_FILE}");
            Err(Error::new(Code::InvalidArgument, "ATTACHMENT_TOO_LARGE", text)
                .with("limit", "attachment_bytes")
                .with("current", size.to_string())
                .with("maximum", MAX_FILE.to_string())
                .next_action("send a smaller file, or commit it to the repository"))
        }
    }
}

async fn intend(
    shared: &Shared,
    caller: &Caller,
    command: &Command<'_>,
    file: &Attachment,
    request_id: &str,
) -> Result<PutAttachmentResponse> {
    let organization = &file.organization_id;
    let _admitted = shared.attachments.admission.lock().await;
    command
        .run(|| async {
            let used = attachments::total(&shared.store, organization).await?;
            let maximum = shared.config.attachments.organization_bytes;
            if used.saturating_add(file.size.unsigned_abs()) > maximum {
                return Err(Error::quota("attachment_total_bytes", organization.as_str(), used, maximum)
                    .next_action(
                        "remove files you no longer need: `foundry attachment list`, \
                         `foundry attachment remove`",
                    ));
            }
            let mut ws = WriteSet::new();
            attachments::insert(&mut ws, file);
            let id = file.attachment_id.as_str();
            ws.audit(audit(organization, caller, "", "attachment.put", id, request_id));
            Ok((ws, PutAttachmentResponse { attachment: Some(file.to_proto()), rev: 0 }))
        })
        .await
}

/// Writes the bytes of a recorded file, unless they are stored already.
async fn arrive(
    shared: &Shared,
    organization: &OrganizationId,
    id: &AttachmentId,
    content: bytes::Bytes,
) -> Result<()> {
    let state = attachments::find(&shared.store, id).await?.map(|f| f.state);
    match state {
        Some(AttachmentState::Ready) => return Ok(()),
        Some(AttachmentState::Pending) => {}
        // A repeated request that came too late.
        Some(AttachmentState::Removing) | None => return Err(Error::not_found("attachment", id.as_str())),
    }
    shared.attachments.put(organization, id, content).await?;
    let unused = shared.env.clock.now().plus(shared.config.attachments.unused_retention);
    let mut ws = WriteSet::new();
    attachments::ready(&mut ws, id, Some(unused));
    match shared.store.commit(ws).await {
        Ok(_) => Ok(()),
        Err(CommitError::GuardFailed { .. }) => {
            // The same request, sent at the same time, or the sweep got in between.
            match attachments::find(&shared.store, id).await? {
                Some(file) if file.is_ready() => Ok(()),
                _ => Err(Error::not_found("attachment", id.as_str())),
            }
        }
        Err(e) => Err(e.into()),
    }
}
