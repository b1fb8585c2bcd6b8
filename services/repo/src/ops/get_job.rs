//! Returns a job with its plan and state.

use foundry_authn::Caller;
use foundry_core::Result;
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::{GetJobRequest, GetJobResponse};

use crate::context::Context;

/// A stored read.
///
/// # Errors
/// `NOT_FOUND`.
pub async fn get_job(cx: &Context, caller: &Caller, request: GetJobRequest) -> Result<GetJobResponse> {
    let job = cx.job(caller, &request.job_id, Role::Viewer).await?;
    Ok(GetJobResponse { job: Some(job.to_whole_proto()) })
}
