//! Lists the jobs of a repository.

use foundry_authn::Caller;
use foundry_core::{PageRequest, PageToken, Result, TaskId};
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::{ListJobsRequest, ListJobsResponse};

use crate::context::Context;
use crate::domain::job::Job;
use crate::store::jobs;

/// A stored read.
///
/// # Errors
/// `NOT_FOUND`.
pub async fn list_jobs(cx: &Context, caller: &Caller, request: ListJobsRequest) -> Result<ListJobsResponse> {
    let repository = cx.repository(caller, &request.repository_id, Role::Viewer).await?;
    if !request.task_id.is_empty() {
        request.task_id.parse::<TaskId>()?;
    }
    let page = PageRequest::parse(request.page_size, &request.page_token)?;
    let (found, next) = jobs::list(&cx.store, &repository.repository_id, &request.task_id, &page).await?;
    Ok(ListJobsResponse {
        jobs: found.iter().map(Job::to_proto).collect(),
        next_page_token: PageToken::encode_next(next),
    })
}
