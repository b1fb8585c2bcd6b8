//! Deletes a webhook with its secret.

use foundry_authn::Caller;
use foundry_core::Result;
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::{DeleteRepositoryWebhookRequest, DeleteRepositoryWebhookResponse};
use foundry_service::{RequestKey, audit};
use foundry_store::{Scope, WriteSet};

use crate::context::Context;
use crate::store::webhooks;

/// Deletes the row. Deliveries to its address are refused from then on.
///
/// # Errors
/// `NOT_FOUND`.
pub async fn delete_repository_webhook(
    cx: &Context,
    caller: &Caller,
    request: DeleteRepositoryWebhookRequest,
) -> Result<DeleteRepositoryWebhookResponse> {
    // A repeat finds no row that would name the organization.
    let key = RequestKey::new("", caller, "DeleteRepositoryWebhook", &request.request_id, &request)?;
    if let Some((_, rev)) = key.first_answer::<DeleteRepositoryWebhookResponse>(&cx.store).await? {
        return Ok(DeleteRepositoryWebhookResponse { rev });
    }
    let id = &request.repository_webhook_id;
    let scope = Scope::organization(&cx.webhook(caller, id, Role::Admin).await?.organization_id);
    let decided = cx
        .store
        .retry_on_conflict(|| async {
            let webhook = cx.webhook(caller, id, Role::Admin).await?;
            let organization = &webhook.organization_id;
            let mut ws = WriteSet::new();
            ws.scope(Scope::organization(organization));
            webhooks::delete(&mut ws, &webhook.webhook_id);
            ws.audit(audit(organization, caller, "", "repository_webhook.delete", id, &request.request_id));
            let answer = DeleteRepositoryWebhookResponse { rev: 0 };
            key.remember(&mut ws, &answer, &cx.env);
            Ok((ws, answer))
        })
        .await;
    let (_, rev) = key.settle(&cx.store, Some(&scope), decided).await?;
    Ok(DeleteRepositoryWebhookResponse { rev })
}
