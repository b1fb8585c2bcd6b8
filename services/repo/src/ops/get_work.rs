//! Returns the work of a task.

use foundry_authn::Caller;
use foundry_core::Result;
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::{GetWorkRequest, GetWorkResponse};

use crate::context::Context;

/// A stored read.
///
/// # Errors
/// `NOT_FOUND` also before the first import.
pub async fn get_work(cx: &Context, caller: &Caller, request: GetWorkRequest) -> Result<GetWorkResponse> {
    let work = cx.work(caller, &request.task_id, Role::Viewer).await?;
    Ok(GetWorkResponse { work: Some(work.to_proto()) })
}
