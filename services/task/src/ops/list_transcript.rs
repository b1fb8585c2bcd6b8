//! Transcript entries from an offset on.

use foundry_authn::Caller;
use foundry_core::{PageRequest, Result, SessionId};
use foundry_proto::common::v1::Role;
use foundry_proto::task::v1::{ListTranscriptRequest, ListTranscriptResponse};

use crate::context::Context;
use crate::store::transcript;

/// # Errors
/// `NOT_FOUND`, `INVALID_ARGUMENT` for a negative page size.
pub async fn list_transcript(
    cx: &Context,
    caller: &Caller,
    request: ListTranscriptRequest,
) -> Result<ListTranscriptResponse> {
    let aggregate = cx.task_of_session(caller, &request.session_id, Role::Viewer).await?;
    let page = PageRequest::parse(request.page_size, "")?;
    let session: SessionId = request.session_id.parse()?;
    let last_offset = aggregate.session(session.as_str()).map_or(0, |s| s.view.last_offset);
    let from = match request.from_offset {
        0 => 1,
        from if from < 0 => last_offset.saturating_add(1).saturating_add(from).max(1),
        from => from,
    };
    let entries = transcript::page(&cx.store, &session, from, page.size).await?;
    let next_offset = entries.last().map_or(from, |e| e.offset + 1);
    // Entries may have been added since the session was read.
    let last_offset = entries.last().map_or(last_offset, |e| e.offset.max(last_offset));
    Ok(ListTranscriptResponse { entries, next_offset, last_offset })
}
