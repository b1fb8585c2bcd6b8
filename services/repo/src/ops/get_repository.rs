//! Returns a repository.

use foundry_authn::Caller;
use foundry_core::Result;
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::{GetRepositoryRequest, GetRepositoryResponse};

use crate::context::Context;

/// A stored read.
///
/// # Errors
/// `NOT_FOUND`.
pub async fn get_repository(
    cx: &Context,
    caller: &Caller,
    request: GetRepositoryRequest,
) -> Result<GetRepositoryResponse> {
    let repository = cx.repository(caller, &request.repository_id, Role::Viewer).await?;
    Ok(GetRepositoryResponse { repository: Some(repository.to_proto()) })
}
