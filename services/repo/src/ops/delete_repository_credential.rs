//! Deletes a credential with its secret.

use foundry_authn::Caller;
use foundry_core::Result;
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::{DeleteRepositoryCredentialRequest, DeleteRepositoryCredentialResponse};
use foundry_service::{RequestKey, audit};
use foundry_store::{Scope, WriteSet};

use crate::context::Context;
use crate::store::credentials;

/// Deletes the row. A synchronization that uses it ends with it.
///
/// # Errors
/// `NOT_FOUND`.
pub async fn delete_repository_credential(
    cx: &Context,
    caller: &Caller,
    request: DeleteRepositoryCredentialRequest,
) -> Result<DeleteRepositoryCredentialResponse> {
    // A repeat finds no row that would name the organization.
    let key = RequestKey::new("", caller, "DeleteRepositoryCredential", &request.request_id, &request)?;
    if let Some((_, rev)) = key.first_answer::<DeleteRepositoryCredentialResponse>(&cx.store).await? {
        return Ok(DeleteRepositoryCredentialResponse { rev });
    }
    let id = &request.repository_credential_id;
    let first = cx.credential(caller, id, Role::Admin).await?;
    let scope = Scope::organization(&first.organization_id);
    let decided = cx
        .store
        .retry_on_conflict(|| async {
            let credential = cx.credential(caller, id, Role::Admin).await?;
            let mut ws = WriteSet::new();
            credentials::delete(&mut ws, &credential);
            let organization = &credential.organization_id;
            ws.audit(audit(
                organization,
                caller,
                "",
                "repository_credential.delete",
                id,
                &request.request_id,
            ));
            let answer = DeleteRepositoryCredentialResponse { rev: 0 };
            key.remember(&mut ws, &answer, &cx.env);
            Ok((ws, answer))
        })
        .await;
    let (_, rev) = key.settle(&cx.store, Some(&scope), decided).await?;
    Ok(DeleteRepositoryCredentialResponse { rev })
}
