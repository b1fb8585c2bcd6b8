//! The whole first prompt of a task.

use foundry_authn::Caller;
use foundry_core::{Error, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::task::v1::{GetTaskPromptRequest, GetTaskPromptResponse};

use crate::context::Context;
use crate::store::prompts;

/// # Errors
/// `NOT_FOUND`.
pub async fn get_task_prompt(
    cx: &Context,
    caller: &Caller,
    request: GetTaskPromptRequest,
) -> Result<GetTaskPromptResponse> {
    let aggregate = cx.task(caller, &request.task_id, Role::Viewer).await?;
    let prompt = prompts::find(&cx.store, &aggregate.task.task_id).await?;
    let prompt = prompt.ok_or_else(|| Error::not_found("task", &request.task_id))?;
    Ok(GetTaskPromptResponse { prompt })
}
