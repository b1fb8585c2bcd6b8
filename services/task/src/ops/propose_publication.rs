//! Proposes the texts of a publication from what the agent has said.

use foundry_authn::Caller;
use foundry_core::Result;
use foundry_proto::common::v1::Role;
use foundry_proto::common::v1::transcript_part::Body;
use foundry_proto::task::v1::{ProposePublicationRequest, ProposePublicationResponse, TranscriptEntry};

use crate::context::Context;
use crate::domain::{fix, proposal};
use crate::store::transcript;

/// Newest entries of the transcript that are looked at.
const LOOKED_AT: u32 = 300;

/// A stored read: the last message of the agent in the session of the newest turn. No model is asked.
///
/// # Errors
/// `NOT_FOUND`.
pub async fn propose_publication(
    cx: &Context,
    caller: &Caller,
    request: ProposePublicationRequest,
) -> Result<ProposePublicationResponse> {
    let found = cx.task(caller, &request.task_id, Role::Viewer).await?;
    let (mut said, mut agent_title) = (String::new(), String::new());
    if let Some(session) = fix::session(&found) {
        agent_title.clone_from(&session.view.agent_title);
        let first = session.view.last_offset.saturating_sub(i64::from(LOOKED_AT)) + 1;
        let entries = transcript::page(&cx.store, &session.session_id, first.max(1), LOOKED_AT).await?;
        said = last_said(&entries);
    }
    let (title, body) = proposal::texts(&said, &agent_title, &found.task.view.title);
    Ok(ProposePublicationResponse { title, body })
}

/// The last message of the agent: the texts of its block in order.
fn last_said(entries: &[TranscriptEntry]) -> String {
    let texts = entries.iter().filter_map(|entry| match entry.part.as_ref()?.body.as_ref()? {
        Body::AgentMessage(message) => Some((entry.part.as_ref()?.block_id.as_str(), message.text.as_str())),
        _ => None,
    });
    let Some((last, text)) = texts.clone().next_back() else { return String::new() };
    if last.is_empty() {
        return text.to_owned();
    }
    texts.filter(|(block, _)| *block == last).map(|(_, text)| text).collect()
}
