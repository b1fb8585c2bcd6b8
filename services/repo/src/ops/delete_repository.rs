//! Schedules the deletion of a repository and its mirror.

use foundry_authn::Caller;
use foundry_core::{FlowId, Result};
use foundry_flow::NewFlow;
use foundry_proto::common::v1::{Condition, Role};
use foundry_proto::repo::v1::{DeleteRepositoryRequest, DeleteRepositoryResponse};
use foundry_server::RequestContext;
use foundry_service::{RequestKey, audit};
use foundry_store::{Scope, WriteSet};

use crate::context::Context;
use crate::domain::repository::State;
use crate::flow::{delete, sync};
use crate::store::repositories;

/// Marks the repository, cancels its synchronization and schedules the deletion.
///
/// # Errors
/// `NOT_FOUND`.
pub async fn delete_repository(
    cx: &Context,
    caller: &Caller,
    request: DeleteRepositoryRequest,
) -> Result<DeleteRepositoryResponse> {
    let first = cx.repository(caller, &request.repository_id, Role::Admin).await?;
    let key = RequestKey::new(
        first.organization_id.as_str(),
        caller,
        "DeleteRepository",
        &request.request_id,
        &request,
    )?;
    if let Some((answer, _)) = key.first_answer::<DeleteRepositoryResponse>(&cx.store).await? {
        return Ok(answer);
    }
    let decided = cx
        .store
        .retry_on_conflict(|| async {
            let mut repository = cx.repository(caller, &request.repository_id, Role::Admin).await?;
            let id = repository.repository_id.to_string();
            let mut ws = WriteSet::new();
            let rev = ws.scope(Scope::organization(&repository.organization_id));
            repository.state = State::Deleting;
            repository.condition = Condition { waiting_on: "deletion".to_owned(), ..Condition::default() };
            let set = vec![
                ("state", repository.state.as_str().into()),
                ("condition", repositories::condition(&repository.condition)),
            ];
            repositories::update(&mut ws, rev, &repository, set);
            for flow in foundry_flow::unfinished(&cx.store, &sync::SYNC, &id).await? {
                foundry_flow::request_cancel(&mut ws, &flow);
            }
            // After a failed deletion, a new request starts another one.
            if foundry_flow::unfinished(&cx.store, &delete::DELETE, &id).await?.is_empty() {
                let flow = NewFlow::new(&delete::DELETE, FlowId::generate(&cx.env), &id, &id)
                    .organization(&repository.organization_id)
                    .on_behalf_of(caller.actor())
                    .traced(RequestContext::current_traceparent());
                foundry_flow::enqueue(&mut ws, flow);
            }
            ws.audit(audit(
                &repository.organization_id,
                caller,
                "",
                "repository.delete",
                &id,
                &request.request_id,
            ));
            let answer = DeleteRepositoryResponse { repository: Some(repository.to_proto()) };
            key.remember(&mut ws, &answer, &cx.env);
            Ok((ws, answer))
        })
        .await;
    Ok(key.settle(&cx.store, None, decided).await?.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Fixture;

    #[tokio::test]
    async fn removes_mirror_and_rows_and_leaves_a_tombstone() {
        let f = Fixture::new().await;
        let repository = f.mirrored().await;
        let id: foundry_core::RepositoryId = repository.repository_id.parse().unwrap();
        assert!(f.cx.mirror_path(&id).exists());
        let request = DeleteRepositoryRequest {
            request_id: String::new(),
            repository_id: repository.repository_id.clone(),
        };
        let refused = delete_repository(&f.cx, &f.stranger, request.clone()).await.unwrap_err();
        assert_eq!(refused.code(), foundry_core::Code::NotFound);
        delete_repository(&f.cx, &f.member, request).await.unwrap();
        f.engine.run_until_idle().await.unwrap();
        assert!(!f.cx.mirror_path(&id).exists());
        assert!(repositories::find(&f.cx.store, &id).await.unwrap().is_none());
        let scope = Scope::organization(&f.organization);
        let snapshot = f.cx.store.snapshot().await.unwrap();
        let gone = snapshot.tombstones_after(&scope, Some("repository"), 0, 10).await.unwrap();
        assert_eq!(gone.len(), 1);
    }
}
