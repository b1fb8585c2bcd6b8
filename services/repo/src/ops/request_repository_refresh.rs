//! Schedules a synchronization of a mirror.

use foundry_authn::Caller;
use foundry_core::{Error, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::{RequestRepositoryRefreshRequest, RequestRepositoryRefreshResponse};
use foundry_service::{RequestKey, audit};
use foundry_store::{Scope, WriteSet};

use super::scheduling;
use crate::context::Context;
use crate::domain::base::Refresh;
use crate::domain::pull_request::REQUEST;
use crate::domain::repository::{Repository, State};
use crate::flow::pulls;

/// Schedules one synchronization, or one more after the running one.
///
/// # Errors
/// `NOT_FOUND`; `FAILED_PRECONDITION` while the repository is being deleted.
pub async fn request_repository_refresh(
    cx: &Context,
    caller: &Caller,
    request: RequestRepositoryRefreshRequest,
) -> Result<RequestRepositoryRefreshResponse> {
    let first = cx.repository(caller, &request.repository_id, Role::Member).await?;
    let organization = first.organization_id.clone();
    let key = RequestKey::new(
        organization.as_str(),
        caller,
        "RequestRepositoryRefresh",
        &request.request_id,
        &request,
    )?;
    if let Some((answer, rev)) = key.first_answer::<RequestRepositoryRefreshResponse>(&cx.store).await? {
        return Ok(RequestRepositoryRefreshResponse { rev, ..answer });
    }
    let scope = Scope::organization(&organization);
    let decided = cx
        .store
        .retry_on_conflict(|| async {
            let repository = cx.repository(caller, &request.repository_id, Role::Member).await?;
            let (mut ws, answer) = decide(cx, caller, repository, &request.request_id).await?;
            key.remember(&mut ws, &answer, &cx.env);
            Ok((ws, answer))
        })
        .await;
    let (answer, rev) = key.settle(&cx.store, Some(&scope), decided).await?;
    Ok(RequestRepositoryRefreshResponse { rev, ..answer })
}

async fn decide(
    cx: &Context,
    caller: &Caller,
    mut repository: Repository,
    request_id: &str,
) -> Result<(WriteSet, RequestRepositoryRefreshResponse)> {
    let id = repository.repository_id.to_string();
    if repository.state == State::Deleting {
        return Err(Error::precondition("REPOSITORY_DELETING", &id, "the repository is being deleted"));
    }
    let running = scheduling::syncs(cx, &repository).await?.iter().any(|s| !s.status.is_finished());
    let mut ws = WriteSet::new();
    let refresh = if running { Refresh::Another } else { Refresh::Start };
    scheduling::refresh(cx, caller, &mut ws, &repository, refresh)?;
    if repository.pulls.sync.is_some() {
        pulls::want(cx, &mut ws, &repository, REQUEST);
    }
    ws.audit(audit(&repository.organization_id, caller, "", "repository.refresh", &id, request_id));
    repository.refresh_wanted = running;
    Ok((ws, RequestRepositoryRefreshResponse { repository: Some(repository.to_proto()), rev: 0 }))
}
