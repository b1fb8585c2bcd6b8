//! The summary of an organization, from the summary rows alone.

use foundry_authn::Caller;
use foundry_core::{OrganizationId, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::task::v1::organization_item::Item;
use foundry_proto::task::v1::{GetOrganizationSummaryRequest, GetOrganizationSummaryResponse};
use foundry_store::Scope;

use crate::context::Context;
use crate::store::summary;

/// # Errors
/// `NOT_FOUND` for a foreign organization, `UNAVAILABLE` when its repositories were never received and cannot be now.
pub async fn get_organization_summary(
    cx: &Context,
    caller: &Caller,
    request: GetOrganizationSummaryRequest,
) -> Result<GetOrganizationSummaryResponse> {
    let organization: OrganizationId = request.organization_id.parse()?;
    caller.require(&organization, Role::Viewer)?;
    cx.follow(&organization).await?;
    let snapshot = cx.store.snapshot().await?;
    let mut answer = GetOrganizationSummaryResponse {
        rev: snapshot.head(&Scope::organization(&organization)).await?,
        ..GetOrganizationSummaryResponse::default()
    };
    for item in summary::listed(&snapshot, &organization).await? {
        match item {
            Item::Task(task) => answer.tasks.push(task),
            Item::Repository(repository) => answer.repositories.push(repository),
        }
    }
    answer.repositories.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use foundry_core::RepositoryId;

    use super::*;
    use crate::store::upstream;
    use crate::testing::{Running, Tenant, World};

    async fn summary(running: &Running, tenant: &Tenant) -> Result<GetOrganizationSummaryResponse> {
        let request = GetOrganizationSummaryRequest { organization_id: tenant.organization.to_string() };
        get_organization_summary(&running.cx, &tenant.caller, request).await
    }

    #[tokio::test]
    async fn the_first_answer_in_an_organization_that_nobody_watched_has_its_repositories() {
        let world = World::new().await;
        let (tenant, running) = (world.tenant(Role::Viewer).await, world.start().await);
        let first = summary(&running, &tenant).await.unwrap();
        let ids: Vec<_> = first.repositories.iter().map(|r| r.repository_id.as_str()).collect();
        assert_eq!(ids, [tenant.repository.as_str()]);
        running.stop().await;
    }

    #[tokio::test]
    async fn an_organization_that_was_looked_at_once_is_followed_after_a_restart() {
        let world = World::new().await;
        let (tenant, running) = (world.tenant(Role::Viewer).await, world.start().await);
        summary(&running, &tenant).await.unwrap();
        running.stop().await;
        let added = RepositoryId::generate(&world.env);
        world.repo.add(&tenant.organization, &added).await;
        let running = world.start().await;
        let mut hint = running.cx.store.subscribe(&Scope::organization(&tenant.organization));
        let arrives = async {
            while upstream::repository(&running.cx.store, &added).await.unwrap().is_none() {
                let _ = tokio::time::timeout(Duration::from_millis(50), hint.changed()).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), arrives).await.expect("nobody follows it");
        running.stop().await;
    }

    #[tokio::test]
    async fn what_was_never_received_is_unavailable_and_not_empty() {
        let world = World::new().await;
        let (tenant, running) = (world.tenant(Role::Viewer).await, world.start().await);
        world.repo.down.store(true, Ordering::SeqCst);
        assert_eq!(summary(&running, &tenant).await.unwrap_err().reason(), "REPO_UNAVAILABLE");
        running.stop().await;
    }
}
