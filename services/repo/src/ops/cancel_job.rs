//! Cancels a job.

use foundry_authn::Caller;
use foundry_core::Result;
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::{CancelJobRequest, CancelJobResponse};
use foundry_service::{RequestKey, audit};
use foundry_store::WriteSet;

use crate::context::Context;

/// Requests the end of its flow; does nothing for a job that has ended.
///
/// # Errors
/// `NOT_FOUND`.
pub async fn cancel_job(
    cx: &Context,
    caller: &Caller,
    request: CancelJobRequest,
) -> Result<CancelJobResponse> {
    let job = cx.job(caller, &request.job_id, Role::Member).await?;
    let organization = &job.organization_id;
    let key = RequestKey::new(organization.as_str(), caller, "CancelJob", &request.request_id, &request)?;
    if let Some((answer, _)) = key.first_answer::<CancelJobResponse>(&cx.store).await? {
        return Ok(answer);
    }
    let answer = CancelJobResponse { job: Some(job.to_proto()) };
    let mut ws = WriteSet::new();
    if !job.state.is_finished() {
        foundry_flow::request_cancel(&mut ws, &job.flow_id);
        ws.audit(audit(organization, caller, "", "job.cancel", job.job_id.as_str(), &request.request_id));
    }
    key.remember(&mut ws, &answer, &cx.env);
    let committed = cx.store.commit(ws).await.map(|committed| (committed, answer));
    Ok(key.settle(&cx.store, None, committed).await?.0)
}
