//! Stores a credential for a repository or for all of an organization at a host.

use foundry_authn::Caller;
use foundry_core::{Error, OrganizationId, RepositoryCredentialId, RepositoryId, Result};
use foundry_git::RemoteUrl;
use foundry_proto::common::v1::{Condition, Role};
use foundry_proto::repo::v1::create_repository_credential_request::Target;
use foundry_proto::repo::v1::{CreateRepositoryCredentialRequest, CreateRepositoryCredentialResponse};
use foundry_server::RequestContext;
use foundry_service::{RequestKey, audit};
use foundry_store::{Scope, WriteSet};

use crate::broker;
use crate::context::Context;
use crate::domain::credential::{self, Credential, Kind, State};
use crate::domain::repository::State as RepositoryState;
use crate::flow::check;
use crate::store::credentials;

/// Validates, then writes the row with the encrypted secret, and what brings it into use.
///
/// # Errors
/// `INVALID_ARGUMENT` naming the field, `ALREADY_EXISTS` without `replace`, `RESOURCE_EXHAUSTED`, `NOT_FOUND`.
pub async fn create_repository_credential(
    cx: &Context,
    caller: &Caller,
    request: CreateRepositoryCredentialRequest,
) -> Result<CreateRepositoryCredentialResponse> {
    let organization: OrganizationId = request.organization_id.parse()?;
    caller.require(&organization, Role::Admin)?;
    let method = "CreateRepositoryCredential";
    let key = RequestKey::new(organization.as_str(), caller, method, &request.request_id, &request)?;
    if let Some((answer, rev)) = key.first_answer::<CreateRepositoryCredentialResponse>(&cx.store).await? {
        return Ok(revised(answer, rev));
    }
    let scope = Scope::organization(&organization);
    let decided = cx
        .store
        .retry_on_conflict(|| async {
            let (mut ws, answer) = decide(cx, caller, &organization, &request).await?;
            key.remember_create(&mut ws, &answer);
            Ok((ws, answer))
        })
        .await;
    let (answer, rev) = key.settle(&cx.store, Some(&scope), decided).await?;
    Ok(revised(answer, rev))
}

async fn decide(
    cx: &Context,
    caller: &Caller,
    organization: &OrganizationId,
    request: &CreateRepositoryCredentialRequest,
) -> Result<(WriteSet, CreateRepositoryCredentialResponse)> {
    let kind = Kind::of_request(request.kind)?;
    let (repository_id, origin) = target(cx, caller, organization, kind, request).await?;
    let secret = request.secret.as_ref().map_or("", |secret| secret.value.as_str());
    let accepted = credential::accept(kind, &request.username, secret)?;
    if kind != Kind::SshKey && !request.host_keys.trim().is_empty() {
        return Err(Error::invalid_field("host_keys", "are for deploy keys only"));
    }
    let now = cx.env.clock.now();
    let mut new = Credential {
        credential_id: RepositoryCredentialId::generate(&cx.env),
        organization_id: organization.clone(),
        rev: 0,
        repository_id,
        origin,
        kind,
        username: accepted.username,
        hint: accepted.hint,
        public_key: accepted.public_key,
        host_keys: credential::given_host_keys(&request.host_keys, now)?,
        state: State::Testing,
        condition: Condition { since_time: Some(now.to_proto()), ..Condition::default() },
        test_time: None,
        create_time: now,
        sealed: bytes::Bytes::new(),
    };
    new.sealed = broker::seal(cx, &new, &accepted.secret)?;
    let mut ws = WriteSet::new();
    let rev = ws.scope(Scope::organization(organization));
    if let Some(old) = credentials::find_for(&cx.store, organization, new.target()).await? {
        if !request.replace {
            return Err(Error::already_exists("repository credential", new.target())
                .next_action("replace it, or remove it first"));
        }
        // The host is the same one: a new key for it is no reason to trust another host.
        if new.host_keys.is_empty() && old.kind == new.kind && old.origin == new.origin {
            new.host_keys = old.host_keys.clone();
        }
        credentials::delete(&mut ws, &old);
    }
    credentials::insert(&mut ws, rev, &new)?;
    let id = new.credential_id.as_str();
    check::enqueue(cx, &mut ws, &new, (&caller.actor(), &RequestContext::current_traceparent()));
    ws.audit(audit(organization, caller, "", "repository_credential.create", id, &request.request_id));
    Ok((ws, CreateRepositoryCredentialResponse { repository_credential: Some(new.to_proto()), rev: 0 }))
}

/// The repository if it is for one, and the origin that it is sent to.
async fn target(
    cx: &Context,
    caller: &Caller,
    organization: &OrganizationId,
    kind: Kind,
    request: &CreateRepositoryCredentialRequest,
) -> Result<(Option<RepositoryId>, String)> {
    match &request.target {
        None => Err(Error::invalid_field("target", "must be a repository or a host")),
        Some(Target::RepositoryId(id)) => {
            let repository = cx.repository(caller, id, Role::Admin).await?;
            if repository.organization_id != *organization {
                return Err(Error::not_found("repository", id));
            }
            if repository.state == RepositoryState::Deleting {
                return Err(Error::precondition(
                    "REPOSITORY_DELETING",
                    id,
                    "the repository is being deleted",
                ));
            }
            let url = RemoteUrl::parse(&repository.url, &cx.urls)?;
            let origin = url.origin().ok_or_else(|| {
                Error::invalid_field("repository_id", "is at a local path, which needs no credential")
            })?;
            kind.check_origin("repository_id", &origin)?;
            Ok((Some(repository.repository_id), origin))
        }
        Some(Target::Host(host)) => {
            let scheme = if kind == Kind::SshKey { "ssh://git@" } else { "https://" };
            let text = match host.split_once("://") {
                None => format!("{scheme}{host}/x"),
                Some(("ssh", host)) if !host.contains('@') => format!("ssh://git@{host}/x"),
                Some(_) => format!("{host}/x"),
            };
            if host.contains(['/', '@']) && !host.contains("://") {
                return Err(Error::invalid_field("host", "must be a host with an optional port"));
            }
            let url = RemoteUrl::parse(&text, &cx.urls)
                .map_err(|e| Error::invalid_field("host", e.to_string()).with("url_reason", e.reason()))?;
            let origin = url.origin().ok_or_else(|| Error::invalid_field("host", "must be a host"))?;
            kind.check_origin("host", &origin)?;
            Ok((None, origin))
        }
    }
}

fn revised(mut answer: CreateRepositoryCredentialResponse, rev: i64) -> CreateRepositoryCredentialResponse {
    answer.rev = rev;
    if let Some(credential) = &mut answer.repository_credential {
        credential.rev = rev;
    }
    answer
}
