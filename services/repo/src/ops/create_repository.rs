//! Registers a repository; the mirror follows in the background.

use foundry_authn::Caller;
use foundry_core::{Error, FlowId, OrganizationId, RepositoryId, Result};
use foundry_flow::NewFlow;
use foundry_git::RemoteUrl;
use foundry_proto::common::v1::{Condition, Role};
use foundry_proto::repo::v1::{CreateRepositoryRequest, CreateRepositoryResponse};
use foundry_server::RequestContext;
use foundry_store::{CommitError, Scope, WriteSet};
use prost::Message as _;

use crate::context::{Context, RequestKey, audit};
use crate::domain::name::RepositoryName;
use crate::domain::repository::{Repository, State};
use crate::flow::sync;
use crate::store::repositories;

/// Validates, then writes the row and its first synchronization.
///
/// # Errors
/// `INVALID_ARGUMENT` for a URL that is malformed or not allowed, `ALREADY_EXISTS` for a name that is taken.
pub async fn create_repository(
    cx: &Context,
    caller: &Caller,
    request: CreateRepositoryRequest,
) -> Result<CreateRepositoryResponse> {
    let organization: OrganizationId = request.organization_id.parse()?;
    caller.require(&organization, Role::Member)?;
    let key = RequestKey::new(&organization, caller, "CreateRepository", &request.request_id, &request);
    if let Some((answer, rev)) = key.first_answer::<CreateRepositoryResponse>(&cx.store).await? {
        return Ok(CreateRepositoryResponse { rev, ..answer });
    }
    let url = RemoteUrl::parse(&request.url, &cx.urls)
        .map_err(|e| Error::invalid_field("url", e.to_string()).with("url_reason", e.reason()))?;
    let name = RepositoryName::choose(&request.name, &url.short_name())?;
    let now = cx.env.clock.now();
    let repository = Repository {
        repository_id: RepositoryId::generate(&cx.env),
        organization_id: organization.clone(),
        rev: 0,
        name: name.as_str().to_owned(),
        url: request.url.clone(),
        state: State::Pending,
        condition: Condition {
            waiting_on: "mirroring".to_owned(),
            since_time: Some(now.to_proto()),
            ..Condition::default()
        },
        default_branch: String::new(),
        branch_count: 0,
        sync_time: None,
        create_time: now,
        refresh_wanted: false,
    };
    let id = repository.repository_id.as_str();
    let mut ws = WriteSet::new();
    let rev = ws.scope(Scope::organization(&organization));
    repositories::insert(&mut ws, rev, &repository, &name);
    let flow = NewFlow::new(&sync::SYNC, FlowId::generate(&cx.env), id, id)
        .organization(&organization)
        .on_behalf_of(caller.actor())
        .traced(RequestContext::current_traceparent());
    foundry_flow::enqueue(&mut ws, flow);
    ws.audit(audit(&organization, caller, "repository.create", id, &request.request_id));
    let answer = CreateRepositoryResponse { repository: Some(repository.to_proto()), rev: 0 };
    ws.idempotency(key.key, key.hash, answer.encode_to_vec(), None);
    match cx.store.commit(ws).await {
        Ok(committed) => Ok(CreateRepositoryResponse { rev: committed.rev(rev), ..answer }),
        Err(CommitError::Conflict { .. }) => Err(Error::already_exists("repository", name.as_str())
            .next_action("choose another name, or use the repository that is there")),
        Err(CommitError::Replayed { response, rev }) => {
            let first = CreateRepositoryResponse::decode(response).map_err(Error::internal)?;
            Ok(CreateRepositoryResponse { rev, ..first })
        }
        Err(e) => Err(e.into()),
    }
}
