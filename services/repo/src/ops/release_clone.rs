//! Forgets the clone of a sandbox that was destroyed.

use foundry_authn::Caller;
use foundry_core::{Result, SandboxId};
use foundry_proto::repo::v1::{ReleaseCloneRequest, ReleaseCloneResponse};
use foundry_store::WriteSet;

use crate::context::Context;
use crate::store::base_requests::BASE_REQUESTS;
use crate::store::clones::{self, CLONES};

/// Does nothing for a sandbox without a recorded clone, so that it can be repeated.
///
/// # Errors
/// `INVALID_ARGUMENT` for an id that is none.
pub async fn release_clone(
    cx: &Context,
    _caller: &Caller,
    request: ReleaseCloneRequest,
) -> Result<ReleaseCloneResponse> {
    let sandbox: SandboxId = request.sandbox_id.parse()?;
    let mut ws = WriteSet::new();
    if let Some(repository) = clones::works_in(&cx.store, &sandbox).await? {
        // Its task may not be shown any more as the owner of the branch.
        crate::flow::overview::want(cx, &mut ws, &repository);
    }
    ws.delete_where(&CLONES, &[("sandbox_id", sandbox.as_str().into())]);
    ws.delete_where(&BASE_REQUESTS, &[("sandbox_id", sandbox.as_str().into())]);
    cx.store.commit(ws).await?;
    Ok(ReleaseCloneResponse {})
}
