//! GetSandbox: a stored read.

use foundry_authn::Caller;
use foundry_core::Error;
use foundry_proto::common::v1::Role;
use foundry_proto::provisioner::v1::{GetSandboxRequest, GetSandboxResponse};

use super::sandbox_for;
use crate::shared::Shared;

/// Returns a sandbox.
pub async fn get_sandbox(
    shared: &Shared,
    caller: &Caller,
    request: GetSandboxRequest,
) -> Result<GetSandboxResponse, Error> {
    let sandbox = sandbox_for(shared, caller, &request.sandbox_id, Role::Viewer).await?;
    Ok(GetSandboxResponse { sandbox: Some(sandbox.to_proto()) })
}
