//! Files that agents show: stored before the transcript mentions them, under an id that is derived from their
//! position in the log, so that a repetition stores them once.

use foundry_core::{AttachmentId, Error};
use foundry_proto::common::v1::transcript_part::Body;
use foundry_store::WriteSet;
use sha2::{Digest as _, Sha256};

use super::INTENT;
use crate::domain::Session;
use crate::domain::attachment::{Attachment, AttachmentState, MAX_FILES_OF_AGENT, MAX_OF_AGENT};
use crate::domain::fold::{Folded, ShownFile};
use crate::shared::Shared;
use crate::store::attachments;

/// The reason of a file that the store did not accept.
const UNAVAILABLE: &str = "ATTACHMENT_STORE_UNAVAILABLE";

/// Stores the files of a stretch of the log and fills in their ids in its parts; a file that cannot be stored gets
/// the reason instead. Returns the ids that the stretch's write set must mark as ready.
pub async fn keep(
    shared: &Shared,
    session: &Session,
    folded: &mut Folded,
) -> Result<Vec<AttachmentId>, Error> {
    let mut kept = Vec::new();
    let mut unavailable = false;
    for file in std::mem::take(&mut folded.files) {
        let part = folded.parts.get_mut(file.part).and_then(|p| p.body.as_mut());
        let Some(Body::AgentFile(shown)) = part else { continue };
        let Some(attachment) = &mut shown.attachment else { continue };
        // After one failed transfer the others are not tried, so that the transcript waits for one only.
        let stored = if unavailable {
            Err(Refusal::Reason(UNAVAILABLE))
        } else {
            store(shared, session, &file, attachment).await
        };
        match stored {
            Ok(id) => {
                attachment.attachment_id = id.to_string();
                kept.push(id);
            }
            Err(Refusal::Reason(reason)) => {
                unavailable |= reason == UNAVAILABLE;
                reason.clone_into(&mut attachment.reason);
            }
            Err(Refusal::Failed(e)) => return Err(e),
        }
    }
    Ok(kept)
}

enum Refusal {
    Reason(&'static str),
    Failed(Error),
}

impl From<Error> for Refusal {
    fn from(e: Error) -> Self {
        Self::Failed(e)
    }
}

async fn store(
    shared: &Shared,
    session: &Session,
    file: &ShownFile,
    shown: &foundry_proto::common::v1::Attachment,
) -> Result<AttachmentId, Refusal> {
    let (organization, size) = (&session.organization_id, shown.size.unsigned_abs());
    let mut id = [0; 16];
    let hash = Sha256::digest(format!("{}/{}", session.session_id, file.place));
    id.copy_from_slice(&hash[..16]);
    let id = AttachmentId::from_bytes(id);
    let now = shared.env.clock.now();
    if attachments::find(&shared.store, &id).await?.is_none() {
        let _admitted = shared.attachments.admission.lock().await;
        let (files, bytes) = attachments::of_agent(&shared.store, &session.session_id).await?;
        let total = attachments::total(&shared.store, organization).await?;
        if files >= MAX_FILES_OF_AGENT
            || bytes.saturating_add(size) > MAX_OF_AGENT
            || total.saturating_add(size) > shared.config.attachments.organization_bytes
        {
            return Err(Refusal::Reason("LIMIT_REACHED"));
        }
        let row = Attachment {
            attachment_id: id.clone(),
            organization_id: organization.clone(),
            name: shown.name.clone(),
            media_type: shown.media_type.clone(),
            size: shown.size,
            sha256: hex::encode(Sha256::digest(&file.bytes)),
            state: AttachmentState::Pending,
            user_id: String::new(),
            session_id: session.session_id.to_string(),
            create_time: now,
            expire_time: Some(now.plus(INTENT)),
        };
        let mut ws = WriteSet::new();
        attachments::insert(&mut ws, &row);
        match shared.store.commit(ws).await {
            Ok(_) => {}
            // Another replica has added it: it reads the same log.
            Err(e) if e.is_concurrent_change() => {}
            Err(e) => return Err(Error::from(e).into()),
        }
    }
    match shared.attachments.put(organization, &id, file.bytes.clone()).await {
        Ok(()) => Ok(id),
        Err(e) => {
            // The conversation goes on: the sweep removes the row, and the transcript mentions the missing file.
            tracing::warn!(session = %session.session_id, error = ?e, "a file from an agent was not stored");
            Err(Refusal::Reason(UNAVAILABLE))
        }
    }
}
