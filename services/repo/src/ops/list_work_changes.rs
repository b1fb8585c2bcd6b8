//! Lists the changed files of a work.

use foundry_authn::Caller;
use foundry_core::{PageRequest, PageToken, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::{ListWorkChangesRequest, ListWorkChangesResponse};

use crate::context::Context;
use crate::store::changes;

/// A stored read of the newest complete version.
///
/// # Errors
/// `NOT_FOUND`.
pub async fn list_work_changes(
    cx: &Context,
    caller: &Caller,
    request: ListWorkChangesRequest,
) -> Result<ListWorkChangesResponse> {
    let work = cx.work(caller, &request.task_id, Role::Viewer).await?;
    let page = PageRequest::parse(request.page_size, &request.page_token)?;
    let (found, next) = changes::list(&cx.store, &work.task_id, work.version, &page).await?;
    Ok(ListWorkChangesResponse {
        work: Some(work.to_proto()),
        changes: found,
        next_page_token: next.as_ref().map(PageToken::encode).unwrap_or_default(),
    })
}
