//! Watches a session, its queue and its transcript after an offset.

use foundry_authn::Caller;
use foundry_core::{Error, Result, SessionId};
use foundry_proto::common::v1::Role;
use foundry_proto::task::v1::WatchSessionRequest;
use foundry_watch_hub::Granted;

use crate::context::Context;
use crate::view;

/// Authorizes the watch.
///
/// # Errors
/// `NOT_FOUND`, `INVALID_ARGUMENT` for a negative offset.
pub async fn grant(cx: &Context, caller: &Caller, request: &mut WatchSessionRequest) -> Result<Granted> {
    let aggregate = cx.task_of_session(caller, &request.session_id, Role::Viewer).await?;
    if request.after_offset < 0 {
        return Err(Error::invalid_field("after_offset", "must not be negative"));
    }
    let session: SessionId = request.session_id.parse()?;
    let view = view::session::of_session(&session, request.after_offset);
    Ok(Granted::of_member(view, &aggregate.task.organization_id))
}
