//! Returns the stored patch of one file of a work.

use foundry_authn::Caller;
use foundry_core::{Error, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::{GetWorkPatchRequest, GetWorkPatchResponse};

use crate::comparison::Comparison;
use crate::context::Context;
use crate::store::changes::{self, Against};

/// A stored read, or a comparison with an earlier version.
///
/// # Errors
/// `NOT_FOUND` for the work or the file; `FAILED_PRECONDITION` when a newer version has replaced the requested one, or the
/// earlier one is not kept.
pub async fn get_work_patch(
    cx: &Context,
    caller: &Caller,
    request: GetWorkPatchRequest,
) -> Result<GetWorkPatchResponse> {
    let (work, moment) = cx.work_and_moment(caller, &request.task_id, Role::Viewer).await?;
    if request.version != 0 && request.version != work.version {
        return Err(changes::replaced(&work.task_id, request.version, work.version));
    }
    let found = if request.since_version == 0 {
        changes::find(&moment, Against::of(&work, request.whole), &work.task_id, work.version, &request.path)
            .await?
    } else {
        // Git may take seconds.
        drop(moment);
        let compared = Comparison::since(cx, &work, request.since_version, request.whole);
        compared.await?.file(&request.path, &request.old_path).await?
    };
    let (change, patch) = found.ok_or_else(|| Error::not_found("changed file", &request.path))?;
    Ok(GetWorkPatchResponse { change: Some(change), patch, version: work.version })
}
